package runner_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db/dbtest"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		source string
		before func(*fixture) // of the start of the job
		after  func(*fixture) // while it is queued
		want   jobs.Status
		reason report.ReasonCode
	}{
		{name: "completed", source: library, want: jobs.Completed},
		{name: "differences", source: library + broken, want: jobs.Differences},
		{
			name: "the target is the source", source: library, want: jobs.Refused, reason: report.ReasonSameDatabase,
			before: func(f *fixture) {
				f.target = f.save("alias", strings.Replace(f.sourceURL, "127.0.0.1", "localhost", 1))
			},
		},
		{
			name: "the target is the state database", source: library, want: jobs.Refused, reason: runner.ReasonStateDatabase,
			before: func(f *fixture) { f.target = f.save("state", strings.Replace(f.url, "127.0.0.1", "localhost", 1)) },
		},
		{
			name: "the target is protected meanwhile", source: library, want: jobs.Refused, reason: runner.ReasonProtected,
			after: func(f *fixture) {
				err := f.people().ChangeDatabase(f.Context(), f.user, f.target, jobs.DatabaseRequest{Name: "t", Environment: jobs.Production})
				if err != nil {
					f.Fatal(err)
				}
			},
		},
		{
			name: "the source is gone meanwhile", source: library, want: jobs.Refused, reason: runner.ReasonGone,
			after: func(f *fixture) {
				dbtest.Exec(f, f.url, fmt.Sprintf(`DELETE FROM connections WHERE id = %d`, f.source))
			},
		},
		{
			name: "the source is withdrawn meanwhile", source: library, want: jobs.Refused, reason: runner.ReasonWithdrawn,
			after: func(f *fixture) {
				f.user, _ = f.store.AddUser(f.Context(), "bob@example.org", jobs.RoleAdmin, "")
				dbtest.Exec(f, f.url, fmt.Sprintf(`UPDATE connections SET owner_id = %d WHERE id = %d`, f.user.ID, f.source))
			},
		},
		{
			name: "the target leads elsewhere meanwhile", source: library, want: jobs.Refused, reason: runner.ReasonMoved,
			after: func(f *fixture) {
				dbtest.Exec(f, f.url, fmt.Sprintf(`UPDATE connections SET database = 'precious' WHERE id = %d`, f.target))
			},
		},
		{
			name:   "the target is protected under an address that nobody knows to be the same",
			source: library, want: jobs.Refused, reason: runner.ReasonProtected,
			before: func(f *fixture) {
				guarded := f.targetURL
				c := jobs.Connection{OwnerID: f.user.ID, Name: "prod", Environment: jobs.Production, Protected: true}
				if _, err := f.store.AddConnection(f.Context(), c, dsn.URL(guarded)); err != nil {
					f.Fatal(err)
				}
				f.target = f.save("not prod", dbtest.Tap(f, guarded, func(string) dbtest.Cut { return dbtest.Pass }))
			},
		},
		{
			name: "the target's owner is no admin any more, and it is on this machine", source: library, want: jobs.Refused, reason: report.ReasonHostForbidden,
			after: func(f *fixture) {
				dbtest.Exec(f, f.url, `UPDATE users SET role = 'member'`)
			},
		},
		{
			name: "the target was saved with a file", source: library, want: jobs.Refused, reason: report.ReasonURL,
			before: func(f *fixture) {
				f.target = f.save("file", "postgres://u:pw@127.0.0.1:1/d?sslrootcert=/dev/zero")
			},
		},
		{
			name: "nobody answers", source: library, want: jobs.Refused, reason: report.ReasonHost,
			before: func(f *fixture) { f.target = f.save("nowhere", "postgres://u:pw@127.0.0.1:1/d") },
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, c.source)
			if c.before != nil {
				c.before(f)
			}
			id := f.create()
			if c.after != nil {
				c.after(f)
			}
			f.work(f.store, runner.Options{})
			got := f.awaitEnd(id)
			if got.Status != c.want || got.Report == nil || string(got.Report.Status) != string(c.want) {
				t.Fatalf("%s, want %s: %+v, %s", got.Status, c.want, got.Report, got.Error)
			}
			if c.reason != "" && got.Report.Reasons[0].Code != c.reason {
				t.Errorf("reason %+v, want %s", got.Report.Reasons, c.reason)
			}
			if left := dbtest.Query(t, f.targetURL, `SELECT count(*) FROM pg_class WHERE relnamespace >= 16384`); c.want == jobs.Refused && left[0][0] != "0" {
				t.Errorf("%s relations are on the target of a job that was refused", left[0][0])
			}
			if c.want == jobs.Refused {
				return
			}
			if got.Report.Rows < 1000 || got.Progress.Rows != got.Report.Rows || got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) {
				t.Errorf("the job: %+v\n%+v", got, got.Report)
			}
			if c.want == jobs.Differences && len(got.Report.Ledger) == 0 {
				t.Error("the ledger does not say what could not be made")
			}
			f.agrees()
			if gone := dbtest.Query(t, f.targetURL, `SELECT to_regclass('_calco.job') IS NULL`); gone[0][0] != "t" {
				t.Error("the marks are still on the target")
			}
		})
	}
}

func TestCancelRunning(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	f.hold("book")
	f.work(f.store, runner.Options{})
	id := f.create()
	f.awaitWaiting()
	if err := f.people().Cancel(t.Context(), f.user, id); err != nil {
		t.Fatal(err)
	}
	got := f.awaitEnd(id)
	if got.Status != jobs.Cancelled || got.Error == "" {
		t.Errorf("the job: %+v", got)
	}
	f.awaitQuiet()
}

// Many jobs and two workers: each job is claimed once, and at most as many run at a time as a worker may.
func TestEachJobRunsOnce(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, library)
	counted := &counter{Store: f.store, claims: map[runner.Run]int{}}
	var ids []string
	for i := range 6 {
		f.target = f.save(fmt.Sprint("target ", i), dbtest.Database(t))
		ids = append(ids, f.create())
	}
	f.work(counted, runner.Options{Jobs: 1})
	f.work(counted, runner.Options{Jobs: 2})
	for _, id := range ids {
		if got := f.awaitEnd(id); got.Status != jobs.Completed {
			t.Errorf("%s: %s", got.Status, got.Error)
		}
		if n := counted.of(id, 1); n != 1 {
			t.Errorf("job %s was claimed %d times, want once", id, n)
		}
	}
}

// counter counts the claims of jobs.
type counter struct {
	runner.Store
	mu     sync.Mutex
	claims map[runner.Run]int
}

func (c *counter) Claim(ctx context.Context, r runner.Run, worker string) (runner.Job, error) {
	job, err := c.Store.Claim(ctx, r, worker)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.claims[r]++
	}
	return job, err
}

func (c *counter) of(task string, term int64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims[runner.Run{Task: task, Term: term}]
}

// The state database may go away for a while. The clone does not mind, and what there is to say is said afterwards.
func TestStateDatabaseRestarts(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	f := newFixtureAt(t, server.URL("postgres"), library)
	release := f.hold("book")
	f.work(f.store, runner.Options{Log: slog.New(slog.DiscardHandler)})
	id := f.create()
	f.awaitWaiting()
	revision := f.awaitTask(id, "a beat", func(t jobs.Task) bool { return len(t.Progress.Phases) > 0 }).Revision
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitTask(id, "a beat after the restart", func(t jobs.Task) bool { return t.Revision > revision })
	release()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := f.awaitEnd(id)
	if got.Status != jobs.Completed {
		t.Errorf("%s: %s", got.Status, got.Error)
	}
	f.agrees()
	// Jobs that come later are heard of too.
	f.target = f.save("other", dbtest.Database(t))
	if got := f.awaitEnd(f.create()); got.Status != jobs.Completed {
		t.Errorf("the next one: %s: %s", got.Status, got.Error)
	}
}

func TestSpeeds(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, library)
	release := f.hold("book")
	f.work(f.store, runner.Options{})
	id := f.create()
	got := f.awaitTask(id, "some seconds", func(t jobs.Task) bool { return len(t.Speeds) >= 3 })
	if slices.Max(got.Speeds) != 0 || got.Progress.Elapsed < 2*time.Second || got.Silence > 10*time.Second {
		t.Errorf("while nothing moves: %+v", got)
	}
	release()
	f.awaitEnd(id)
}
