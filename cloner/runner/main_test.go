package runner_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		os.Exit(workAsChild(url))
	}
	os.Exit(dbtest.Main(m))
}

// A test binary that finds these in its environment is a worker, and runs no tests.
const (
	childURL = "CALCO_RUNNER_CHILD"
	childKey = "CALCO_RUNNER_KEY"
)

// workAsChild works the jobs of a state database until SIGTERM, as calco worker does.
func workAsChild(url string) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	key, err := db.ParseKey(os.Getenv(childKey))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	store, err := db.Open(ctx, url, key)
	if err == nil {
		defer store.Close()
		err = runner.New(store, runner.Options{}).Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// library is a small source; broken adds a foreign key that its rows do not keep.
const (
	library = `CREATE TABLE book (id int PRIMARY KEY, title text); INSERT INTO book SELECT g, 'Book ' || g FROM generate_series(1, 1000) g;`
	broken  = `CREATE TABLE loan (book_id int REFERENCES book); SET session_replication_role = replica; INSERT INTO loan VALUES (-1);`
	// slow adds an index that takes ten minutes to build again: its function has changed since it was built.
	slow = `CREATE TABLE note (a int); INSERT INTO note VALUES (1);
		CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
		CREATE INDEX ON note (slow(a));
		CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
		BEGIN IF EXISTS (SELECT FROM _calco.job WHERE term = 1) THEN PERFORM pg_sleep(600); END IF; RETURN $1; END $$;`
)

// fixture is an installation with a user, a source and a target, without a worker.
type fixture struct {
	*testing.T
	url, sourceURL, targetURL string
	key                       db.Key
	store                     *db.Store
	user                      jobs.User
	source, target            int64
}

func newFixture(t *testing.T, sql string) *fixture {
	t.Helper()
	return newFixtureAt(t, dbtest.Database(t), sql)
}

func newFixtureAt(t *testing.T, url, sql string) *fixture {
	t.Helper()
	f := &fixture{T: t, url: url, sourceURL: dbtest.Database(t), targetURL: dbtest.Database(t)}
	_, _ = rand.Read(f.key[:])
	dbtest.Exec(t, f.sourceURL, sql)
	f.store = f.open()
	var err error
	if f.user, err = f.store.AddUser(t.Context(), "ana@example.org", jobs.RoleAdmin, ""); err != nil {
		t.Fatal(err)
	}
	f.source, f.target = f.save("source", f.sourceURL), f.save("target", f.targetURL)
	return f
}

func (f *fixture) open() *db.Store {
	f.Helper()
	store, err := db.Open(f.Context(), f.url, f.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(store.Close)
	return store
}

// people does what people ask for.
func (f *fixture) people() *jobs.Service { return jobs.New(f.store, jobs.Options{}) }

func (f *fixture) save(name, url string) int64 {
	f.Helper()
	id, err := f.store.AddConnection(f.Context(), jobs.Connection{OwnerID: f.user.ID, Name: name, Environment: jobs.OtherUse}, dsn.URL(url))
	if err != nil {
		f.Fatal(err)
	}
	return id
}

func (f *fixture) create(change ...func(*jobs.NewTask)) string {
	f.Helper()
	n := jobs.NewTask{SourceID: f.source, TargetID: f.target}
	for _, c := range change {
		c(&n)
	}
	id, err := f.people().Start(f.Context(), f.user, n)
	if err != nil {
		f.Fatal(err)
	}
	return id
}

// work runs a worker until it is stopped, or the test ends.
func (f *fixture) work(store runner.Store, o runner.Options) (stop func()) {
	f.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.New(store, o).Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Errorf("the worker: %v", err)
		}
	})
	f.Cleanup(stop)
	return stop
}

// child starts a worker in a process of its own.
func (f *fixture) child() *exec.Cmd {
	f.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childURL+"="+f.url, childKey+"="+base64.StdEncoding.EncodeToString(f.key[:]))
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if child.ProcessState == nil {
			_ = child.Process.Kill()
			_ = child.Wait() // killed
		}
	})
	return child
}

// awaitTask waits until a job is as a test wants it.
func (f *fixture) awaitTask(id, what string, holds func(jobs.Task) bool) (task jobs.Task) {
	f.Helper()
	f.eventually(what, func() bool {
		got, err := f.store.Task(f.Context(), id)
		if err == nil {
			task = got
		}
		return err == nil && holds(got)
	})
	return task
}

func (f *fixture) awaitEnd(id string) jobs.Task {
	f.Helper()
	return f.awaitTask(id, "the job ends", func(t jobs.Task) bool { return t.Status.Ended() })
}

func (f *fixture) eventually(what string, holds func() bool) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Fatalf("never: %s", what)
		}
	}
}

// hold locks a table of the source, so that a clone waits for it until let go.
func (f *fixture) hold(table string) (release func()) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.sourceURL)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := conn.Exec(f.Context(), "BEGIN; LOCK TABLE "+table); err != nil {
		f.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	f.Cleanup(release)
	return release
}

// awaitWaiting waits until a clone waits for what hold holds.
func (f *fixture) awaitWaiting() {
	f.Helper()
	f.eventually("the clone waits for the lock", func() bool {
		return dbtest.Query(f, f.sourceURL, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE NOT granted AND datname = current_database())`)[0][0] == "t"
	})
}

// awaitQuiet waits until no session of a clone is left on source and target.
func (f *fixture) awaitQuiet() {
	f.Helper()
	for _, url := range []string{f.sourceURL, f.targetURL} {
		f.eventually("no session is left", func() bool {
			return dbtest.Query(f, url, `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'calco/%' AND datname = current_database()`)[0][0] == "0"
		})
	}
}

// agrees compares the books of source and target.
func (f *fixture) agrees() {
	f.Helper()
	const books = `SELECT count(*), md5(string_agg(b::text, ',' ORDER BY id)) FROM book b`
	if got, want := fmt.Sprint(dbtest.Query(f, f.targetURL, books)), fmt.Sprint(dbtest.Query(f, f.sourceURL, books)); got != want {
		f.Errorf("the target has %s, want %s", got, want)
	}
}
