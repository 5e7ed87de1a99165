package db_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

// deed is something that can be done to a row: by the rules of the model, and by the store.
type deed struct {
	name  string
	rules func(row, bool) (row, answer)
	store func(*db.Store, string) (asked bool, err error)
}

// deeds are all that the store can be asked to do, for each worker that there may be.
func deeds(u jobs.User, now row) []deed {
	all := []deed{
		{
			"cancel", func(r row, _ bool) (row, answer) { return r.cancelling() },
			func(s *db.Store, id string) (bool, error) { return false, people(s).Cancel(bg, jobs.Operator(), id) },
		},
		{
			"resume", func(r row, _ bool) (row, answer) { return r.resumed() },
			func(s *db.Store, id string) (bool, error) { return false, people(s).Resume(bg, u, id) },
		},
		{
			"reap", func(r row, carried bool) (row, answer) { return r.reaped(carried), done },
			func(s *db.Store, _ string) (bool, error) { return false, s.Reap(bg, nil) },
		},
		{
			"reconnect", func(r row, _ bool) (row, answer) { return r.reconnected(), done },
			func(s *db.Store, id string) (bool, error) { return false, people(s).Reconnect(bg, jobs.Operator(), id) },
		},
	}
	for term := max(now.term-1, 1); term <= now.term; term++ {
		all = append(all, deedsOf(term, now.touched)...)
		if !now.touched {
			all = append(all, deedsOf(term, true)...)
		}
	}
	return all
}

// deedsOf are those of a worker.
func deedsOf(term int8, touched bool) []deed {
	name := func(what string) string { return fmt.Sprintf("%s by %d, touched %t", what, term, touched) }
	beat := func(id string) runner.Beat {
		return runner.Beat{Run: runner.Run{Task: id, Term: int64(term)}, Touched: touched}
	}
	all := []deed{
		{
			name("claim"), func(r row, _ bool) (row, answer) { return r.claimBy(term) },
			func(s *db.Store, id string) (bool, error) {
				_, err := s.Claim(bg, beat(id).Run, "a worker")
				return false, err
			},
		},
		{
			name("beat"), func(r row, _ bool) (row, answer) { return r.beatBy(term, touched) },
			func(s *db.Store, id string) (bool, error) { return s.Beat(bg, beat(id)) },
		},
		{
			name("requeue"), func(r row, _ bool) (row, answer) { return r.requeueBy(term, touched) },
			func(s *db.Store, id string) (bool, error) { return s.Requeue(bg, beat(id)) },
		},
	}
	for _, outcome := range []jobs.Status{jobs.Completed, jobs.Failed, jobs.Cancelled} {
		all = append(all, deed{
			name("finish as " + string(outcome)), func(r row, _ bool) (row, answer) { return r.finishBy(term, touched, outcome) },
			func(s *db.Store, id string) (bool, error) {
				return false, s.Finish(bg, beat(id), ended(outcome, touched))
			},
		})
	}
	return all
}

// ended is the report of a job that can go on if it has touched its target.
func ended(status jobs.Status, touched bool) report.Report {
	report := report.Report{Status: report.Status(status)}
	if status != jobs.Completed {
		report.Error, report.Resumable = "it had to be", touched
	}
	return report
}

// leaseRow is the row of a job, as a test sets and reads it.
type leaseRow struct {
	t    *testing.T
	conn *pgx.Conn
	id   string
}

// set makes the row, and River's, what a world of the model has.
func (l leaseRow) set(r row, carried bool) {
	l.t.Helper()
	var report []byte
	if r.report {
		report, _ = json.Marshal(ended(r.status, r.touched))
	}
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM river_job`)
	batch.Queue(`
		UPDATE background_tasks
		SET    status = $2, term = $3, touched = $4, report = $5, started_at = now(),
		       worker              = CASE WHEN $2 <> 'queued' THEN 'a worker' END,
		       error               = CASE WHEN $2 IN ('failed', 'cancelled') THEN 'it had to be' ELSE '' END,
		       finished_at         = CASE WHEN $2 NOT IN ('queued', 'running') THEN now() END,
		       cancel_requested_at = CASE WHEN $6 THEN now() END,
		       updated_at          = CASE WHEN $7 THEN now() ELSE now() - interval '31 s' END
		WHERE  id = $1`, l.id, r.status, r.term, r.touched, report, r.cancel, r.fresh)
	if carried {
		batch.Queue(`INSERT INTO river_job (kind, args, max_attempts) VALUES ($1, jsonb_build_object('task', $2::text, 'term', $3::int), 1)`,
			runner.Args{}.Kind(), l.id, r.term)
	}
	if err := l.conn.SendBatch(bg, batch).Close(); err != nil {
		l.t.Fatalf("set %+v: %v", r, err)
	}
}

// get returns the row, and how many jobs River has for its term.
func (l leaseRow) get() (r row, carried int) {
	l.t.Helper()
	err := l.conn.QueryRow(bg, `
		SELECT status, term, status = 'running' AND updated_at > now() - interval '20 s', status = 'running' AND cancel_requested_at IS NOT NULL,
		       touched, report IS NOT NULL,
		       (SELECT count(*) FROM river_job WHERE args @> jsonb_build_object('task', t.id, 'term', t.term))
		FROM   background_tasks t
		WHERE  id = $1`, l.id).Scan(&r.status, &r.term, &r.fresh, &r.cancel, &r.touched, &r.report, &carried)
	if err != nil {
		l.t.Fatal(err)
	}
	return r, carried
}

// heard is what the store has said.
func heard(asks bool, err error) answer {
	switch {
	case errors.Is(err, runner.ErrLost):
		return lost
	case errors.Is(err, jobs.ErrConflict):
		return conflict
	case err != nil:
		return answer(err.Error())
	case asks:
		return asked
	}
	return done
}

// The store does what the model does: to each row that there can be, whoever comes.
func TestLeaseOfStore(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(bg) })
	job := leaseRow{t, conn, create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))}
	dbtest.StartedAgo(t, url, "1 hour") // there is no grace

	type situation struct {
		row     row
		carried bool
	}
	seen := map[situation]bool{}
	worlds, _ := explore(t)
	count := 0
	for _, w := range worlds {
		now := situation{w.row, w.carried&(1<<w.row.term) != 0}
		if seen[now] || w.row.term == modelTerms { // which is like the one before
			continue
		}
		seen[now] = true
		for _, d := range deeds(ana, now.row) {
			count++
			job.set(now.row, now.carried)
			want, wantAnswer := d.rules(now.row, now.carried)
			gotAnswer := heard(d.store(store, job.id))
			got, carried := job.get()
			wantCarried := 0
			if now.carried || want.term > now.row.term {
				wantCarried = 1
			}
			if got != want || gotAnswer != wantAnswer || carried != wantCarried {
				t.Errorf("%s of %+v:\n got %+v, %q, carried %d times\nwant %+v, %q, carried %d times", d.name, now, got, gotAnswer, carried, want, wantAnswer, wantCarried)
			}
		}
	}
	t.Logf("%d deeds in %d situations", count, len(seen))
}
