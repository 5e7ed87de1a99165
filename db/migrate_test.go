package db_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"calco/db"
	"calco/db/dbtest"
)

// Several processes may start at once, on a new database or on one that is there.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	for range 2 {
		errs := make([]error, 4)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { errs[i] = db.Migrate(t.Context(), url) })
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
	}
	if got := dbtest.Query(t, url, "SELECT count(*) FROM goose_db_version WHERE version_id = 1"); got[0][0] != "1" {
		t.Errorf("the first migration ran %s times", got[0][0])
	}
}

func TestMigrateNowhere(t *testing.T) {
	t.Parallel()
	err := db.Migrate(t.Context(), "postgres://calco:s3cret@127.0.0.1:1/calco?connect_timeout=2")
	if err == nil {
		t.Fatal("a server that is not there is migrated")
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error has the password: %v", err)
	}
}

// What cannot be read is quoted nowhere, for nobody knows which part of it the password is.
func TestMigrateQuotesNoURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://calco:canary@[/calco", "postgres://calco:ca/canary@127.0.0.1/calco", "postgres://127.0.0.1:1/canary@h/calco", "postgres://calco:?canary@127.0.0.1/calco",
		"postgres://calco:#canary@127.0.0.1/calco", "postgres://calco:%zzcanary@127.0.0.1/calco", "postgres://calco@127.0.0.1:x/calco?pass%77ord=canary",
		"host=127.0.0.1 port=x password='canary'", "host=127.0.0.1 port=x password=a\\ canary", "host=127.0.0.1 password='a canary", "calco:canary@127.0.0.1:port/calco",
		"postgres://calco:canary@127.0.0.1/calco?sslrootcert=/nowhere/canary", "postgres://calco:canary@127.0.0.1/calco?pool_max_conns=canary",
	} {
		_, opened := db.Open(t.Context(), url, db.Key{})
		for _, err := range []error{db.Migrate(t.Context(), url), opened} {
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), "canary") {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
}
