// Package db keeps Calco's state in PostgreSQL: users, sessions and one-time links, saved databases and jobs. All of its
// SQL is here, each statement beside its method. It knows nothing of HTTP and of pages, does none of the jobs, and decides
// nothing that a person may or may not: it asks a rule of cloner/jobs in the transaction that changes something.
package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is the state database. It is safe for concurrent use.
type Store struct {
	pool  *pgxpool.Pool
	key   Key
	queue *river.Client[pgx.Tx] // inserts, and works none
	hosts dsn.HostPolicy
}

// Limit says which servers the saved databases may lead to; before that the zero policy holds. It must be called before
// anything else.
func (s *Store) Limit(hosts dsn.HostPolicy) { s.hosts = hosts }

// HostsOf are those that a database may lead to which a user is about to save.
func (s *Store) HostsOf(u jobs.User) *dsn.Hosts { return s.hosts.Of(u.Admin()) }

// Open connects to the state database and brings its schema up to date, under a lock, so that several processes may start
// at once. The error for a key that is not the installation's is ErrWrongKey; with the zero Key the Store does all that
// needs none. Whoever opens it closes it.
func Open(ctx context.Context, url string, key Key) (_ *Store, err error) {
	config, err := readURL(url)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, config); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the state database: %w", err)
	}
	s := &Store{pool: pool, key: key}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.queue, err = s.Queue(&river.Config{}); err != nil {
		return nil, fmt.Errorf("open the state database: %w", err)
	}
	if key != (Key{}) {
		if err := s.checkKey(ctx); err != nil {
			return nil, fmt.Errorf("open the state database: %w", err)
		}
	}
	return s, nil
}

// Queue makes a River client on the state database. Whoever starts it stops it, before Close.
func (s *Store) Queue(config *river.Config) (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(s.pool), config)
}

// Close waits for the statements that run and ends all connections.
func (s *Store) Close() { s.pool.Close() }

// Ping tells whether the state database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ask the state database: %w", err)
	}
	return nil
}

// readURL reads the URL of the state database. The error quotes nothing of it, as that of pgx would: where a password has
// a character that means something, it is not known which part of the URL the password is.
func readURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil || strings.Contains(config.ConnConfig.Database, "@") {
		return nil, errors.New("the URL of the state database cannot be read: special characters of its password, such as @ : / ? # %, must be percent-encoded, " +
			"its port and its settings must be valid, and the files that it names must be there")
	}
	return config, nil
}

// Migrate brings the schema of the state database up to date, ours and River's. Migrations only go forward.
func Migrate(ctx context.Context, url string) error {
	config, err := readURL(url)
	if err != nil {
		return err
	}
	return migrate(ctx, config)
}

func migrate(ctx context.Context, config *pgxpool.Config) (err error) {
	conns := stdlib.OpenDB(*config.ConnConfig)
	defer func() { err = errors.Join(err, conns.Close()) }()
	// Tried once a second, for as long as a migration of another process may take.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	locked, err := conns.Conn(ctx)
	if err != nil {
		return fmt.Errorf("migrate the state database: %w", err)
	}
	defer locked.Close() //nolint:errcheck // the lock is given back, and it goes with the others
	if err := locker.SessionLock(ctx, locked); err != nil {
		return fmt.Errorf("migrate the state database: %w", err)
	}
	defer func() { err = errors.Join(err, locker.SessionUnlock(context.WithoutCancel(ctx), locked)) }()
	if err := errors.Join(migrateRiver(ctx, config), migrateOurs(ctx, conns)); err != nil {
		return fmt.Errorf("migrate the state database: %w", err)
	}
	return nil
}

func migrateOurs(ctx context.Context, conns *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, conns, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	_, err = provider.Up(ctx)
	return err
}

func migrateRiver(ctx context.Context, config *pgxpool.Config) error {
	pool, err := pgxpool.NewWithConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("read River's migrations: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate River: %w", err)
	}
	return nil
}

// inTx runs f in a transaction, which is committed if f returns no error.
func (s *Store) inTx(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, f)
}

// explain turns the answers of PostgreSQL that mean something to a person into the errors of jobs, and names the act.
func explain(act string, err error) error {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		err = jobs.ErrNotFound
	case errors.As(err, &pgErr) && pgErr.Code == "23505": // unique_violation
		err = fmt.Errorf("%w: %w", jobs.ErrTaken, err)
	}
	return fmt.Errorf("%s: %w", act, err)
}
