package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/dsn"
	"calco/db"
	"calco/db/embedded"
)

const (
	// stateDatabase is the database of the private server in which the state is.
	stateDatabase = "calco"
	// serverPatience is how long the private server has to stop.
	serverPatience = 10 * time.Second
	// keyVariable may have the key, in base64.
	keyVariable = "CALCO_KEY"
)

// stateFlags say where the state is. All commands of an installation take the same ones.
type stateFlags struct {
	DatabaseURL dsn.URL `env:"CALCO_DATABASE_URL" placeholder:"URL" help:"PostgreSQL database for Calco's own state. Without one, Calco runs a private server."`
	DataDir     string  `env:"CALCO_DATA_DIR" placeholder:"DIR" type:"path" help:"Folder of the private server, and of the key that connection URLs are kept under unless CALCO_KEY is set."`
}

// open opens the state database, after starting the private server if that is where it is. The function it returns
// closes both.
func (f stateFlags) open(ctx context.Context) (*db.Store, func() error, error) {
	url, stop, err := f.locate(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	key, err := f.key()
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return openStore(ctx, url, key, stop)
}

// join is open for a command that works beside calco serve: it uses the private server that runs already, and needs
// no key.
func (f stateFlags) join(ctx context.Context) (*db.Store, func() error, error) {
	url, stop, err := f.locate(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	return openStore(ctx, url, db.Key{}, stop)
}

// attach is open for a process that works beside calco serve, here or on another machine: the private server runs already,
// if that is where the state is, and there is a key.
func (f stateFlags) attach(ctx context.Context) (*db.Store, func() error, error) {
	url, err := f.runningURL()
	if err != nil {
		return nil, nil, err
	}
	if err := f.hasKey(); err != nil {
		return nil, nil, err
	}
	key, err := f.key()
	if err != nil {
		return nil, nil, err
	}
	return openStore(ctx, url, key, func() error { return nil })
}

// runningURL is the URL of the state database, without starting anything.
func (f stateFlags) runningURL() (string, error) {
	if f.DatabaseURL != "" {
		return string(f.DatabaseURL), nil
	}
	dir, err := f.dir()
	if err != nil {
		return "", err
	}
	url, err := embedded.RunningURL(filepath.Join(dir, "state"), stateDatabase)
	if err != nil {
		err = fmt.Errorf("%w: start calco serve first, or say with --database-url where its state is", err)
	}
	return url, err
}

// hasKey refuses where key would make a new one, which is worth nothing to an installation that is there.
func (f stateFlags) hasKey() error {
	if _, ok := os.LookupEnv(keyVariable); ok {
		return nil
	}
	dir, err := f.dir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "key")); err != nil {
		return usageError{fmt.Errorf("the installation's key is not here (%w): set %s to it, or --data-dir to the folder that has it", err, keyVariable)}
	}
	return nil
}

// dir is the folder of all that is kept on this machine.
func (f stateFlags) dir() (string, error) {
	if f.DataDir != "" {
		return f.DataDir, nil
	}
	return embedded.DefaultDir()
}

// key reads the key under which connection URLs are kept. It is no flag: those are in process lists.
func (f stateFlags) key() (db.Key, error) {
	if text, ok := os.LookupEnv(keyVariable); ok {
		key, err := db.ParseKey(text)
		if err != nil {
			err = usageError{fmt.Errorf("%s: %w", keyVariable, err)}
		}
		// Programs that this one starts have no use for it.
		return key, errors.Join(err, os.Unsetenv(keyVariable))
	}
	dir, err := f.dir()
	if err != nil {
		return db.Key{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return db.Key{}, fmt.Errorf("make the data folder: %w", err)
	}
	return db.KeyFile(filepath.Join(dir, "key"))
}

func openStore(ctx context.Context, url string, key db.Key, stop func() error) (*db.Store, func() error, error) {
	store, err := db.Open(ctx, url, key)
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return store, func() error {
		store.Close()
		return stop()
	}, nil
}

// locate returns the URL of the state database, and what ends its server if this process has started it.
func (f stateFlags) locate(ctx context.Context, beside bool) (url string, stop func() error, err error) {
	nothing := func() error { return nil }
	if f.DatabaseURL != "" {
		return string(f.DatabaseURL), nothing, nil
	}
	dir, err := f.dir()
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(dir, "state")
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir})
	if errors.Is(err, embedded.ErrInUse) && beside {
		url, err = embedded.RunningURL(dir, stateDatabase)
		return url, nothing, err
	}
	if err != nil {
		return "", nil, err
	}
	stop = func() error { return stopServer(ctx, server) }
	if err := ensureDatabase(ctx, server, stateDatabase); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return server.URL(stateDatabase), stop, nil
}

// stopServer stops a private server, even when ctx has ended.
func stopServer(ctx context.Context, server *embedded.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverPatience)
	defer cancel()
	return server.Stop(ctx)
}

// ensureDatabase makes a database of a private server, unless it is there.
func ensureDatabase(ctx context.Context, server *embedded.Server, name string) error {
	conn, err := pgx.Connect(ctx, server.URL(""))
	if err != nil {
		return fmt.Errorf("make the database %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what it did is done
	var there bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there)
	if err == nil && !there {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("make the database %s: %w", name, err)
	}
	return nil
}

type migrateCommand struct {
	stateFlags
}

// Run brings the schema of the state database up to date, which calco serve also does.
func (c *migrateCommand) Run(ctx context.Context, tty terminal) error {
	_, done, err := c.join(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(tty.err, "The state database is up to date.")
	return done()
}
