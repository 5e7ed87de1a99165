package db_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/db"
	"calco/db/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// bg is for what goes on whatever becomes of a test.
var bg = context.Background()

// newKey is a key of the test's own.
func newKey() (key db.Key) {
	_, _ = rand.Read(key[:])
	return key
}

// open makes a state database for the test, and opens it.
func open(t *testing.T) *db.Store {
	t.Helper()
	store, _ := openAt(t)
	return store
}

func openAt(t *testing.T) (store *db.Store, url string) {
	t.Helper()
	url = dbtest.Database(t)
	return openKey(t, url, newKey()), url
}

func openKey(t *testing.T, url string, key db.Key) *db.Store {
	t.Helper()
	store, err := db.Open(t.Context(), url, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	store.Limit(dsn.LoopbackPolicy())
	return store
}

// people does what people ask for, and says no where they may not: the store leaves that to it.
func people(store *db.Store) *jobs.Service { return jobs.New(store, jobs.Options{}) }

// anybody may do it.
func anybody(jobs.Connection) error { return nil }

// change saves a database as it is now.
func change(t *testing.T, store *db.Store, c jobs.Connection, url dsn.URL) error {
	t.Helper()
	return store.ChangeConnection(t.Context(), c.ID, url, func(jobs.Connection) (jobs.Connection, error) { return c, nil })
}

var users atomic.Int64

func addUser(t *testing.T, store *db.Store, role jobs.Role) jobs.User {
	t.Helper()
	u, err := store.AddUser(t.Context(), fmt.Sprintf("user%d@example.org", users.Add(1)), role, "")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// save saves a database that need not exist.
func save(t *testing.T, store *db.Store, owner jobs.User, name string, change ...func(*jobs.Connection)) jobs.Connection {
	t.Helper()
	return saveURL(t, store, owner, name, dsn.URL("postgres://u:pw@db.example.org/"+name), change...)
}

func saveURL(t *testing.T, store *db.Store, owner jobs.User, name string, url dsn.URL, change ...func(*jobs.Connection)) jobs.Connection {
	t.Helper()
	c := jobs.Connection{OwnerID: owner.ID, Name: name, Environment: jobs.OtherUse}
	for _, f := range change {
		f(&c)
	}
	id, err := store.AddConnection(t.Context(), c, url)
	if err != nil {
		t.Fatal(err)
	}
	c, err = store.Connection(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shared(c *jobs.Connection)    { c.Shared = true }
func protected(c *jobs.Connection) { c.Protected = true }
