package db

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
)

const (
	// ownPatience bounds how long OwnsDatabase looks.
	ownPatience = 5 * time.Second
	// probePatience bounds how long Admit looks whether two connections lead to one database.
	probePatience = 20 * time.Second
	// learnPatience bounds how long Admit waits for protected databases that nobody has tested yet.
	learnPatience = 5 * time.Second
	learnAtATime  = 20
)

// identitySQL asks a database what it is.
const identitySQL = `
	SELECT system_identifier::text, (SELECT oid::bigint FROM pg_database WHERE datname = current_database())
	FROM   pg_control_system()`

// counts asks whether a protected connection says something of the database at its address. One that nobody but a member
// sees, and that has never let anybody in, does not: with no more than an address it would take the database from all others.
func counts(connection string) string {
	return `(` + connection + `.shared OR ` + connection + `.answered OR ` + savedByAdmin(connection) + `)`
}

// isProtected tells whether a target is protected: itself, or under whatever name, by whomever, the database is saved too.
// Where identities alone are equal it is kin, and Admit looks whether it is a fork.
func isProtected(ctx context.Context, tx pgx.Tx, target jobs.Connection) (protected, kin bool, err error) {
	rows, _ := tx.Query(ctx, `
		SELECT p.address, p.database, p.id = t.id OR `+counts("p")+`,
		       coalesce((p.system_identifier, p.database_oid) = (t.system_identifier, t.database_oid), false)
		FROM   connections p, connections t
		WHERE  p.protected
		AND    t.id = $1`, target.ID)
	var place jobs.Place
	var known, equal bool
	_, err = pgx.ForEachRow(rows, []any{&place.Address, &place.Database, &known, &equal}, func() error {
		protected = protected || known && place.Meets(target.Place())
		kin = kin || equal
		return nil
	})
	return protected, kin, err
}

// KeepIdentity keeps what a saved database has been found to be, and that it has answered, unless it leads elsewhere by now.
// One that does not say what it is has no System.
func (s *Store) KeepIdentity(ctx context.Context, id int64, is report.Identity) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE connections
		SET    answered = true, system_identifier = coalesce(nullif($2::text, ''), system_identifier), database_oid = coalesce(nullif($3::bigint, 0), database_oid)
		WHERE  id = $1
		AND    address || '/' || database = $4
		AND    (NOT answered OR $2::text <> '' AND (system_identifier, database_oid) IS DISTINCT FROM ($2, $3))`, id, clean(is.System), is.Database, clean(is.Address))
	return explain("keep what the saved database is", err)
}

// Admit implements runner.Store.
func (s *Store) Admit(ctx context.Context, r runner.Run, source, target report.Identity) (runner.Admission, error) {
	refused, err := s.admit(ctx, r, source, target)
	return refused, explain("look whether the target is protected", err)
}

func (s *Store) admit(ctx context.Context, r runner.Run, source, target report.Identity) (runner.Admission, error) {
	var sourceID, targetID int64
	var sealed []byte
	var place jobs.Place
	var fork, byAdmin bool
	err := s.pool.QueryRow(ctx, `
		SELECT t.fork, coalesce(t.source_id, 0), c.id, c.url_sealed, c.address, c.database, `+savedByAdmin("c")+`
		FROM   background_tasks t
		JOIN   connections c ON c.id = t.target_id
		WHERE  t.id = $1
		AND    t.term = $2
		AND    t.status = 'running'`, r.Task, r.Term).
		Scan(&fork, &sourceID, &targetID, &sealed, &place.Address, &place.Database, &byAdmin)
	if err != nil {
		return runner.Admitted, lostIfNone(err)
	}
	if err := errors.Join(s.KeepIdentity(ctx, sourceID, source), s.KeepIdentity(ctx, targetID, target)); err != nil {
		return runner.Admitted, err
	}
	url, err := s.openURL(targetID, sealed)
	if err != nil {
		return runner.Admitted, err
	}
	to := destination{url, s.hosts.Of(byAdmin)}
	if answer, err := s.admitBesideState(ctx, to, target); err != nil || answer != runner.Admitted {
		return answer, err
	}
	return s.admitBesideProtected(ctx, to, target, place, fork)
}

// admitBesideState refuses the state database, and what cannot be told from it.
func (s *Store) admitBesideState(ctx context.Context, to destination, target report.Identity) (runner.Admission, error) {
	var own report.Identity
	err := s.pool.QueryRow(ctx, identitySQL).Scan(&own.System, &own.Database)
	if err != nil || own.System != target.System || own.Database != target.Database {
		return runner.Admitted, err
	}
	probing, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	there, err := to.dial(probing)
	if err != nil {
		return runner.MayBeState, nil //nolint:nilerr // in doubt it is
	}
	defer there.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only asked
	answer := runner.MayBeState
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if found, err := compare(probing, tx, there); err == nil {
			answer = map[kinship]runner.Admission{one: runner.IsState, standby: runner.IsState, fork: runner.Admitted}[found]
		}
		return nil
	})
	if probing.Err() != nil && ctx.Err() == nil { // it took too long, and broke the transaction
		return runner.MayBeState, nil
	}
	return answer, err
}

// protectedConnection is a protected database with the identity of a target.
type protectedConnection struct {
	ID      int64
	URL     []byte
	ByAdmin bool
	Place   jobs.Place
	Counts  bool // see counts
	Equals  bool
}

// admitBesideProtected refuses what is protected under whatever name, what cannot be told from it, and a fork that the job's
// user has not called one.
func (s *Store) admitBesideProtected(ctx context.Context, to destination, target report.Identity, place jobs.Place, fork bool) (runner.Admission, error) {
	if err := s.learn(ctx); err != nil {
		return runner.Admitted, err
	}
	rows, _ := s.pool.Query(ctx, `
		SELECT c.id, c.url_sealed, `+savedByAdmin("c")+`, c.address, c.database, `+counts("c")+`, coalesce((c.system_identifier, c.database_oid) = ($1, $2), false)
		FROM   connections c
		WHERE  protected`, target.System, target.Database)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p protectedConnection, err error) {
		err = row.Scan(&p.ID, &p.URL, &p.ByAdmin, &p.Place.Address, &p.Place.Database, &p.Counts, &p.Equals)
		return p, err
	})
	if err != nil {
		return runner.Admitted, err
	}
	for _, p := range all {
		if p.Counts && p.Place.Meets(place) {
			return runner.IsProtected, nil
		}
		if !p.Equals {
			continue
		}
		guarded, err := s.openURL(p.ID, p.URL)
		if err != nil {
			return runner.Admitted, err
		}
		if answer := besideProtected(ctx, destination{guarded, s.hosts.Of(p.ByAdmin)}, to); answer != runner.IsFork || !fork {
			return answer, nil
		}
	}
	return runner.Admitted, nil
}

// Learn asks a saved database what it is, and keeps that. That it does not answer soon is no error.
func (s *Store) Learn(ctx context.Context, id int64) error {
	url, hosts, err := s.ConnectionURL(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, learnPatience)
	defer cancel()
	return explain("keep what the saved database is", s.learnOne(ctx, id, destination{url, hosts}))
}

// learn asks the protected databases what they are of which nobody knows it yet. One that does not answer soon is known by
// its address alone: a clone that has nothing to do with it must not wait for it.
func (s *Store) learn(ctx context.Context) error {
	rows, _ := s.pool.Query(ctx, `
		SELECT   c.id, c.url_sealed, `+savedByAdmin("c")+`
		FROM     connections c
		WHERE    c.protected
		AND      c.system_identifier IS NULL
		ORDER BY `+counts("c")+` DESC, id`)
	unknown, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p protectedConnection, err error) {
		err = row.Scan(&p.ID, &p.URL, &p.ByAdmin)
		return p, err
	})
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, learnPatience)
	defer cancel()
	var asked errgroup.Group
	asked.SetLimit(learnAtATime)
	for _, p := range unknown {
		asked.Go(func() error {
			url, err := s.openURL(p.ID, p.URL)
			if err != nil {
				return err
			}
			return s.learnOne(asking, p.ID, destination{url, s.hosts.Of(p.ByAdmin)})
		})
	}
	return asked.Wait()
}

// learnOne asks a saved database what it is until ctx ends, and keeps that.
func (s *Store) learnOne(ctx context.Context, id int64, to destination) error {
	there, err := to.dial(ctx)
	if err != nil {
		return nil //nolint:nilerr // whoever uses the database will be told
	}
	defer there.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only asked
	at := to.url.Endpoint()
	is := report.Identity{Address: at.Address + "/" + at.Database}
	if err := there.QueryRow(ctx, identitySQL).Scan(&is.System, &is.Database); err != nil {
		is.System, is.Database = "", 0 // its role may not know
	}
	return s.KeepIdentity(context.WithoutCancel(ctx), id, is)
}

// besideProtected tells a target from a protected database with its identity.
func besideProtected(ctx context.Context, guarded, target destination) runner.Admission {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	here, err := guarded.dial(ctx)
	if err != nil {
		return runner.MayBeProtected
	}
	defer here.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only asked
	there, err := target.dial(ctx)
	if err != nil {
		return runner.MayBeProtected
	}
	defer there.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only asked
	answer := runner.MayBeProtected
	err = pgx.BeginFunc(ctx, here, func(tx pgx.Tx) error {
		found, err := compare(ctx, tx, there)
		if err == nil {
			answer = map[kinship]runner.Admission{one: runner.IsProtected, standby: runner.IsProtected, fork: runner.IsFork}[found]
		}
		return err
	})
	if err != nil {
		return runner.MayBeProtected
	}
	return answer
}

// kinship is how two connections to databases with one identity stand to each other.
type kinship int

const (
	one     kinship = iota + 1
	standby         // one is the other's, and shows what is written there
	fork            // a branch, or a snapshot that was restored: they part
)

// compare tells how two databases with one identity stand to each other.
func compare(ctx context.Context, here pgx.Tx, there *pgx.Conn) (kinship, error) {
	same, err := meets(ctx, here, there)
	if err != nil {
		return 0, err
	}
	if same {
		return one, nil
	}
	const inRecovery = `SELECT pg_is_in_recovery()`
	var hereFollows, thereFollows bool
	if err := errors.Join(here.QueryRow(ctx, inRecovery).Scan(&hereFollows), there.QueryRow(ctx, inRecovery).Scan(&thereFollows)); err != nil {
		return 0, err
	}
	if hereFollows || thereFollows {
		return standby, nil
	}
	return fork, nil
}

// meets tells whether two connections lead to one database. An advisory lock is seen only within one database of one
// server. One with random keys that is held here and cannot be had there is proof, and needs no privilege.
func meets(ctx context.Context, here pgx.Tx, there *pgx.Conn) (bool, error) {
	k1, k2 := rand.Int32(), rand.Int32()
	if _, err := here.Exec(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, k1, k2); err != nil {
		return false, err
	}
	var free bool
	err := there.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1, $2)`, k1, k2).Scan(&free)
	return !free, err
}

// destination is where a saved database leads, and may lead.
type destination struct {
	url   dsn.URL
	hosts *dsn.Hosts
}

func (d destination) dial(ctx context.Context) (*pgx.Conn, error) {
	config, err := d.url.Config("calco", d.hosts)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// OwnsDatabase tells whether a URL leads to the state database itself, under whatever name. It is for people and for an
// early refusal: a database that does not answer soon is not found to be, since a clone waits for that. What holds back
// the first write is Admit.
func (s *Store) OwnsDatabase(ctx context.Context, url dsn.URL, hosts *dsn.Hosts) (owns bool, err error) {
	if err := url.Check(); err != nil {
		return false, fmt.Errorf("look whether it is the state database: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, ownPatience)
	defer cancel()
	there, err := destination{url, hosts}.dial(ctx)
	if err != nil {
		return false, nil //nolint:nilerr // whoever uses the database will be told
	}
	defer there.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only asked
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		same, err := meets(ctx, tx, there)
		owns = err == nil && same
		return nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	return owns, err
}
