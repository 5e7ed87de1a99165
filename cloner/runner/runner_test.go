package runner_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
	"calco/db/state"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		source string
		before func(*fixture) // of the start of the job
		after  func(*fixture) // while it is queued
		want   state.Status
		reason cloner.ReasonCode
	}{
		{name: "completed", source: library, want: state.Completed},
		{name: "differences", source: library + broken, want: state.Differences},
		{
			name: "the target is the source", source: library, want: state.Refused, reason: cloner.ReasonSameDatabase,
			before: func(f *fixture) {
				f.target = f.save("alias", strings.Replace(f.sourceURL, "127.0.0.1", "localhost", 1))
			},
		},
		{
			name: "the target is the state database", source: library, want: state.Refused, reason: runner.ReasonStateDatabase,
			before: func(f *fixture) { f.target = f.save("state", strings.Replace(f.url, "127.0.0.1", "localhost", 1)) },
		},
		{
			name: "the target is protected meanwhile", source: library, want: state.Refused, reason: runner.ReasonProtected,
			after: func(f *fixture) {
				err := f.store.ChangeConnection(f.Context(), state.Connection{ID: f.target, Name: "t", Environment: state.Production, Protected: true}, "")
				if err != nil {
					f.Fatal(err)
				}
			},
		},
		{
			name: "the source is gone meanwhile", source: library, want: state.Refused, reason: runner.ReasonGone,
			after: func(f *fixture) {
				dbtest.Exec(f, f.url, fmt.Sprintf(`DELETE FROM connections WHERE id = %d`, f.source))
			},
		},
		{
			name: "nobody answers", source: library, want: state.Refused, reason: cloner.ReasonHost,
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
			if c.want == state.Refused {
				return
			}
			if got.Report.Rows < 1000 || got.Progress.Rows != got.Report.Rows || got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) {
				t.Errorf("the job: %+v\n%+v", got, got.Report)
			}
			if c.want == state.Differences && len(got.Report.Ledger) == 0 {
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
	begun := time.Now()
	if err := f.store.CancelTask(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	got := f.awaitEnd(id)
	if took := time.Since(begun); took > 2*time.Second { // what the product promises
		t.Errorf("cancelled after %v", took)
	}
	if got.Status != state.Cancelled || got.Error == "" {
		t.Errorf("the job: %+v", got)
	}
	f.awaitQuiet()
}

// Many jobs and two workers: each job is claimed once, and at most as many run at a time as a worker may.
func TestEachJobRunsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	counted := &counter{Store: f.store, claims: map[string]int{}}
	var ids []string
	for i := range 6 {
		f.target = f.save(fmt.Sprint("target ", i), dbtest.Database(t))
		ids = append(ids, f.create())
	}
	f.work(counted, runner.Options{Jobs: 1})
	f.work(counted, runner.Options{Jobs: 2})
	for _, id := range ids {
		if got := f.awaitEnd(id); got.Status != state.Completed {
			t.Errorf("%s: %s", got.Status, got.Error)
		}
	}
	counted.mu.Lock()
	defer counted.mu.Unlock()
	for _, id := range ids {
		if counted.claims[id] != 1 {
			t.Errorf("job %s was claimed %d times, want once", id, counted.claims[id])
		}
	}
}

type counter struct {
	runner.Store
	mu     sync.Mutex
	claims map[string]int
}

func (c *counter) Claim(ctx context.Context, r runner.Run, worker string) (runner.Job, error) {
	job, err := c.Store.Claim(ctx, r, worker)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.claims[r.Task]++
	}
	return job, err
}

// A process that stops interrupts what runs, and leaves what is queued to the next one.
func TestStop(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	letGo := f.hold("book")
	stop := f.work(f.store, runner.Options{Jobs: 1})
	running := f.create()
	f.awaitWaiting()
	f.target = f.save("other", dbtest.Database(t))
	queued := f.create()
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("stopped after %v", took)
	}
	got := f.awaitEnd(running)
	if got.Status != state.Failed || !got.Interrupted || got.Error != runner.Interrupted {
		t.Errorf("the one that ran: %+v", got)
	}
	if got, err := f.store.Task(t.Context(), queued); err != nil || got.Status != state.Queued {
		t.Errorf("the one that waited: %s, %v", got.Status, err)
	}
	f.awaitQuiet()
	letGo()
	f.work(f.store, runner.Options{})
	if got := f.awaitEnd(queued); got.Status != state.Completed {
		t.Errorf("the one that waited, in the next process: %s, %s", got.Status, got.Error)
	}
}

const (
	childURL = "CALCO_RUNNER_CHILD"
	childKey = "CALCO_RUNNER_KEY"
)

// A worker that is killed leaves a job that nobody speaks for. The next process says so within 30 seconds, and the
// target can be cleaned and filled.
func TestKill(t *testing.T) {
	t.Parallel()
	if url := os.Getenv(childURL); url != "" {
		key, err := db.ParseKey(os.Getenv(childKey))
		if err != nil {
			t.Fatal(err)
		}
		store, err := db.Open(t.Context(), url, key)
		if err != nil {
			t.Fatal(err)
		}
		t.Fatal(runner.New(store, runner.Options{}).Run(t.Context()))
	}
	f := newFixture(t, library+`CREATE TABLE note (a int); INSERT INTO note VALUES (1);
		CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
		CREATE INDEX ON note (slow(a));
		CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN $1; END'`)
	child := exec.Command(os.Args[0], "-test.run=^TestKill$")
	child.Env = append(os.Environ(), childURL+"="+f.url, childKey+"="+base64.StdEncoding.EncodeToString(f.key[:]))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	id := f.create()
	f.eventually("the target is half full", func() bool {
		return dbtest.Query(t, f.targetURL, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database())`)[0][0] == "t"
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	if got, err := f.store.Task(t.Context(), id); err != nil || got.Status != state.Running {
		t.Errorf("after the kill: %s, %v", got.Status, err)
	}
	begun := time.Now()
	f.work(f.store, runner.Options{})
	got := f.awaitEnd(id)
	if took := time.Since(begun); took > 30*time.Second { // what the product promises
		t.Errorf("noticed after %v", took)
	}
	if got.Status != state.Failed || !got.Interrupted || got.Error != runner.Interrupted {
		t.Errorf("the job: %+v", got)
	}
	dbtest.Exec(t, f.sourceURL, `DROP TABLE note; DROP FUNCTION slow`)
	again := f.create(func(n *state.NewTask) { n.Clean, n.RetryOf = true, id })
	if got := f.awaitEnd(again); got.Status != state.Completed {
		t.Errorf("again: %s, %s, %+v", got.Status, got.Error, got.Report)
	}
	f.agrees()
}

// The state database may go away for a while. The clone does not mind, and what there is to say is said afterwards.
func TestStateDatabaseRestarts(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	f := newFixtureAt(t, server.URL("postgres"), library)
	letGo := f.hold("book")
	f.work(f.store, runner.Options{Log: slog.New(slog.DiscardHandler)})
	id := f.create()
	f.awaitWaiting()
	revision := f.awaitTask(id, "a beat", func(t state.Task) bool { return len(t.Progress.Phases) > 0 }).Revision
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitTask(id, "a beat after the restart", func(t state.Task) bool { return t.Revision > revision })
	letGo()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := f.awaitEnd(id)
	if got.Status != state.Completed {
		t.Errorf("%s: %s", got.Status, got.Error)
	}
	f.agrees()
	// Jobs that come later are heard of too.
	f.target = f.save("other", dbtest.Database(t))
	if got := f.awaitEnd(f.create()); got.Status != state.Completed {
		t.Errorf("the next one: %s: %s", got.Status, got.Error)
	}
}

func TestSpeeds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	letGo := f.hold("book")
	f.work(f.store, runner.Options{})
	id := f.create()
	got := f.awaitTask(id, "some seconds", func(t state.Task) bool { return len(t.Speeds) >= 3 })
	if slices.Max(got.Speeds) != 0 || got.Progress.Elapsed < 2*time.Second || got.Silence > 10*time.Second {
		t.Errorf("while nothing moves: %+v", got)
	}
	letGo()
	f.awaitEnd(id)
}
