package db_test

import (
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
	if err := db.Migrate(t.Context(), "postgres://calco:s3cret@[/calco"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error of a URL that is none: %v", err)
	}
}
