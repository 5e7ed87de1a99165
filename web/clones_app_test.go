package web

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

const (
	// library is a small source; broken adds a foreign key that its rows do not keep.
	library = `CREATE TABLE book (id int PRIMARY KEY, title text); INSERT INTO book SELECT g, 'Book ' || g FROM generate_series(1, 1000) g;
		CREATE SCHEMA office; CREATE TABLE office.desk (id int PRIMARY KEY); INSERT INTO office.desk SELECT generate_series(1, 10); ANALYZE;`
	broken = `CREATE TABLE loan (book_id int REFERENCES book); SET session_replication_role = replica; INSERT INTO loan VALUES (-1);`
	// slow adds a view that waits, near the end of a clone, for what holdViews holds.
	slow = `CREATE FUNCTION wait() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_xact_lock_shared(42)';
		CREATE MATERIALIZED VIEW waiting AS SELECT wait() AS n;`
)

// clones is an app with a source, an empty target and three people: who has saved both, a colleague, and an admin. It has
// no worker until work.
type clones struct {
	*app

	owner, colleague, boss jobs.User
	sourceURL, targetURL   string
	source, target         jobs.Connection
	listen                 string // the address of serve, once it has one
}

func newClones(t *testing.T, sql string) *clones {
	t.Helper()
	c := &clones{app: newApp(t), sourceURL: dbtest.Database(t), targetURL: dbtest.Database(t)}
	dbtest.Exec(t, c.sourceURL, sql)
	c.owner, c.colleague, c.boss = c.add(bob, jobs.RoleMember), c.add(eve, jobs.RoleMember), c.add(ada, jobs.RoleAdmin)
	c.source = c.save(jobs.Connection{OwnerID: c.owner.ID, Name: "Shop", Environment: jobs.Production, Protected: true, Shared: true}, c.sourceURL)
	c.target = c.save(jobs.Connection{OwnerID: c.owner.ID, Name: "Shop staging", Environment: jobs.Staging, Shared: true}, c.targetURL)
	return c
}

// work runs a worker until it is stopped, or the test ends.
func (c *clones) work() (stop func()) {
	c.t.Helper()
	return c.background(runner.New(c.store, runner.Options{}).Run)
}

func (c *clones) background(run func(context.Context) error) (stop func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("it stopped with %v", err)
		}
	})
	c.t.Cleanup(stop)
	return stop
}

// create queues a job of the owner.
func (c *clones) create(change ...func(*jobs.NewTask)) string {
	c.t.Helper()
	n := jobs.NewTask{SourceID: c.source.ID, TargetID: c.target.ID}
	for _, f := range change {
		f(&n)
	}
	id, err := c.server.jobs.Start(c.t.Context(), c.owner, n)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// confirm has a job drop what its target holds.
func (c *clones) confirm(n *jobs.NewTask) {
	c.t.Helper()
	n.Clean = confirmation(c.t, c.targetURL)
}

// run has a job run to its end.
func (c *clones) run(change ...func(*jobs.NewTask)) jobs.Task {
	c.t.Helper()
	id := c.create(change...)
	defer c.work()()
	return c.awaitEnd(id)
}

func (c *clones) task(id string) jobs.Task {
	c.t.Helper()
	task, err := c.store.Task(c.t.Context(), id)
	if err != nil {
		c.t.Fatal(err)
	}
	return task
}

func (c *clones) awaitEnd(id string) (task jobs.Task) {
	c.t.Helper()
	c.eventually("the job ends", func() bool {
		task = c.task(id)
		return task.Status.Ended()
	})
	return task
}

func (c *clones) eventually(what string, holds func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.t.Fatalf("never: %s", what)
		}
	}
}

// serve serves the app as calco serve does, until it is stopped, or the test ends. Then it may be served again, at the
// same address.
func (c *clones) serve() (stop func()) {
	c.t.Helper()
	return c.serveFrom(c.store)
}

// serveFrom is serve with a way of its own to the state database, as another process has it.
func (c *clones) serveFrom(store *db.Store) (stop func()) {
	c.t.Helper()
	config := c.server.config
	config.Jobs, config.Accounts, config.Ready = jobs.New(store, jobs.Options{Log: config.Log}), store, store.Ping
	server, err := New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.listen == "" {
		c.listen = "127.0.0.1:0"
	}
	var listener net.Listener
	c.eventually("the address is free", func() bool {
		listener, err = net.Listen("tcp", c.listen)
		return err == nil
	})
	c.listen = listener.Addr().String()
	c.url = "http://" + c.listen
	return c.background(func(ctx context.Context) error { return server.Run(ctx, listener) })
}

// hold locks a table of the source, so that a clone waits for it, at its beginning, until let go.
func (c *clones) hold(table string) (release func()) {
	c.t.Helper()
	return c.holding(c.sourceURL, "BEGIN; LOCK TABLE "+table)
}

// holdViews has a clone of slow wait, near its end, until let go.
func (c *clones) holdViews() (release func()) {
	c.t.Helper()
	return c.holding(c.targetURL, "SELECT pg_advisory_lock(42)")
}

func (c *clones) holding(url, sql string) (release func()) {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), url)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := conn.Exec(c.t.Context(), sql); err != nil {
		c.t.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	c.t.Cleanup(release)
	return release
}

// awaitWaiting waits until a clone waits for what hold holds.
func (c *clones) awaitWaiting() {
	c.t.Helper()
	c.eventually("the clone waits for the lock", func() bool {
		return dbtest.Query(c.t, c.sourceURL, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE NOT granted AND datname = current_database())`)[0][0] == "t"
	})
}

// claim has a job run in a worker that says nothing.
func (c *clones) claim(id string) {
	c.t.Helper()
	if _, err := c.store.Claim(c.t.Context(), runner.Run{Task: id, Term: 1}, "a worker"); err != nil {
		c.t.Fatal(err)
	}
}
