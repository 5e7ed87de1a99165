package jobs_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// fixture is an installation without a worker: the tests are the workers.
type fixture struct {
	*testing.T
	*jobs.Service
	store *db.Store
	url   string // of the state database
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, url: dbtest.Database(t)}
	var key db.Key
	_, _ = rand.Read(key[:])
	var err error
	if f.store, err = db.Open(t.Context(), f.url, key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.store.Close)
	f.store.Limit(dsn.LoopbackPolicy())
	f.Service = jobs.New(f.store, jobs.Options{})
	return f
}

var users atomic.Int64

func (f *fixture) user(role jobs.Role) jobs.User {
	f.Helper()
	u, err := f.store.AddUser(f.Context(), fmt.Sprintf("user%d@example.org", users.Add(1)), role, "")
	if err != nil {
		f.Fatal(err)
	}
	return u
}

// save saves a database that need not exist.
func (f *fixture) save(owner jobs.User, name string, change ...func(*jobs.Connection)) jobs.Connection {
	f.Helper()
	return f.saveURL(owner, name, dsn.URL("postgres://u:pw@db.example.org/"+name), change...)
}

func (f *fixture) saveURL(owner jobs.User, name string, url dsn.URL, change ...func(*jobs.Connection)) jobs.Connection {
	f.Helper()
	c := jobs.Connection{OwnerID: owner.ID, Name: name, Environment: jobs.OtherUse}
	for _, set := range change {
		set(&c)
	}
	id, err := f.store.AddConnection(f.Context(), c, url)
	if err != nil {
		f.Fatal(err)
	}
	return f.saved(id)
}

func (f *fixture) saved(id int64) jobs.Connection {
	f.Helper()
	c, err := f.store.Connection(f.Context(), id)
	if err != nil {
		f.Fatal(err)
	}
	return c
}

// resave saves a database as it is now.
func (f *fixture) resave(c jobs.Connection, url dsn.URL) error {
	f.Helper()
	return f.store.ChangeConnection(f.Context(), c.ID, url, func(jobs.Connection) (jobs.Connection, error) { return c, nil })
}

func shared(c *jobs.Connection)    { c.Shared = true }
func protected(c *jobs.Connection) { c.Protected = true }

// start starts a job that must begin.
func (f *fixture) start(by jobs.User, source, target jobs.Connection) string {
	f.Helper()
	id, err := f.Start(f.Context(), by, jobs.NewTask{SourceID: source.ID, TargetID: target.ID})
	if err != nil {
		f.Fatal(err)
	}
	return id
}

// end claims a job of the first term and ends it.
func (f *fixture) end(id string, touched bool, r report.Report) {
	f.Helper()
	run := runner.Run{Task: id, Term: 1}
	if _, err := f.store.Claim(f.Context(), run, "test"); err != nil {
		f.Fatal(err)
	}
	if err := f.store.Finish(f.Context(), runner.Beat{Run: run, Touched: touched}, r); err != nil {
		f.Fatal(err)
	}
}

// resumable is the end of a job that can go on.
func resumable() report.Report {
	return report.Report{Status: report.StatusFailed, Error: "the disk is full", Resumable: true}
}

func (f *fixture) task(id string) jobs.Task {
	f.Helper()
	task, err := f.store.Task(f.Context(), id)
	if err != nil {
		f.Fatal(err)
	}
	return task
}
