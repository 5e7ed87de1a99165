package runner_test

import (
	"context"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

// blind is a store whose early look finds nothing, as when a target is away just then.
type blind struct{ *db.Store }

func (blind) OwnsDatabase(context.Context, dsn.URL, *dsn.Hosts) (bool, error) {
	return false, nil
}

// The early look may have failed. What holds back the first write is what the target says that it is.
func TestStateDatabaseIsHeldBack(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, `CREATE SCHEMA app; CREATE TABLE app.book (id int)`)
	f.target = f.save("state", dbtest.Tap(t, f.url, func(string) dbtest.Cut { return dbtest.Pass }))
	id := f.create(func(n *jobs.NewTask) { n.Schemas = []string{"app"} })
	f.work(blind{f.store}, runner.Options{})
	got := f.awaitEnd(id)
	if got.Status != jobs.Refused || got.Report.Reasons[0].Code != runner.ReasonStateDatabase {
		t.Errorf("%s: %+v", got.Status, got.Report)
	}
	if left := dbtest.Query(t, f.url, `SELECT nspname FROM pg_namespace WHERE nspname IN ('app', '_calco')`); len(left) > 0 {
		t.Errorf("the state database has %v", left)
	}
}
