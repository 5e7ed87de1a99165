package runner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db/dbtest"
)

// again waits until a job has begun a second run, at most as long as the product promises.
func (f *fixture) again(id string, counted *counter) {
	f.Helper()
	f.eventually("another worker has it", func() bool { return counted.of(id, 2) > 0 })
	if n := counted.of(id, 2); n != 1 {
		f.Errorf("the second run was claimed %d times", n)
	}
}

// halfFull waits until a clone of slow builds the index on the target.
func (f *fixture) halfFull() {
	f.Helper()
	f.eventually("the target is half full", func() bool {
		return dbtest.Query(f, f.targetURL, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database())`)[0][0] == "t"
	})
}

// A worker that is killed leaves a job that nobody speaks for. Another one has it within 30 seconds, with a higher term,
// and brings it to its end.
func TestKill(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, library+slow)
	child := f.child()
	id := f.create()
	f.halfFull()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	before, err := f.store.Task(t.Context(), id)
	if err != nil || before.Status != jobs.Running || before.Term != 1 {
		t.Errorf("after the kill: %s, %v", before.Status, err)
	}
	counted := &counter{Store: f.store, claims: map[runner.Run]int{}}
	f.work(counted, runner.Options{})
	f.work(counted, runner.Options{Idle: true}) // which reaps too
	f.again(id, counted)
	got, err := f.store.Task(t.Context(), id)
	if err != nil || got.Term != 2 || !got.Touched || !got.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the second run: %+v, %v", got, err)
	}
	if got := f.awaitEnd(id); got.Status != jobs.Completed || got.Term != 2 {
		t.Errorf("%s with term %d, %s, %+v", got.Status, got.Term, got.Error, got.Report)
	}
	f.agrees()
}

// A worker that is killed before it has changed the target leaves that as it was when the cleaning was confirmed: the next
// one does what was asked for. It took the missing marks for marks that somebody had dropped.
func TestKillBeforeBegin(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, library)
	dbtest.Exec(t, f.targetURL, `CREATE TABLE old (id int)`)
	release := f.hold("book")
	child := f.child()
	p, err := cloner.PreviewClean(t.Context(), cloner.Spec{Target: dsn.URL(f.targetURL), Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	id := f.create(func(n *jobs.NewTask) { n.Clean = &p.Confirmation })
	f.awaitWaiting()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	release()
	f.work(f.store, runner.Options{})
	if got := f.awaitEnd(id); got.Status != jobs.Completed || got.Term != 2 {
		t.Errorf("%s with term %d: %s", got.Status, got.Term, got.Error)
	}
	f.agrees()
}

// A process that stops puts what runs back into the queue, and leaves what is queued there; the next one has both.
func TestStop(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	release := f.hold("book")
	stop := f.work(f.store, runner.Options{Jobs: 1})
	running := f.create()
	f.awaitWaiting()
	f.target = f.save("other", dbtest.Database(t))
	queued := f.create()
	stop()
	for id, term := range map[string]int64{running: 2, queued: 1} {
		if got, err := f.store.Task(t.Context(), id); err != nil || got.Status != jobs.Queued || got.Term != term {
			t.Errorf("%s with term %d, want it queued with %d: %v", got.Status, got.Term, term, err)
		}
	}
	f.awaitQuiet()
	release()
	f.work(f.store, runner.Options{})
	for _, id := range []string{running, queued} {
		if got := f.awaitEnd(id); got.Status != jobs.Completed {
			t.Errorf("in the next process: %s, %s", got.Status, got.Error)
		}
	}
	f.agrees()
	events, err := f.store.TaskEvents(t.Context(), running, 1000)
	if err != nil {
		t.Fatal(err)
	}
	count := map[report.EventKind]int{}
	for _, e := range events {
		if e.Phase == report.PhasePreflight || e.Phase == "" {
			count[e.Kind]++
		}
	}
	if count[report.EventPhaseBegun] != 2 || count[report.EventRetry] != 1 { // one in each run, and what was between
		t.Errorf("the log has %v: %+v", count, events)
	}
}

// The same with a clone that has filled half of its target, by SIGTERM.
func TestTerminate(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, library+slow)
	child := f.child()
	id := f.create()
	f.halfFull()
	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if got, err := f.store.Task(t.Context(), id); err != nil || got.Status != jobs.Queued || got.Term != 2 || !got.Touched {
		t.Errorf("the job: %+v, %v", got, err)
	}
	f.awaitQuiet()
	counted := &counter{Store: f.store, claims: map[runner.Run]int{}}
	f.work(counted, runner.Options{})
	f.again(id, counted)
	if got := f.awaitEnd(id); got.Status != jobs.Completed {
		t.Errorf("%s, %s, %+v", got.Status, got.Error, got.Report)
	}
	f.agrees()
}

// Somebody cancels while the process stops: that wins.
func TestStopCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	f.hold("book")
	deaf := &gate{Store: f.store}
	stop := f.work(deaf, runner.Options{Log: slog.New(slog.DiscardHandler)})
	id := f.create()
	f.awaitWaiting()
	deaf.shut.Store(true) // it does not hear of the cancel
	if err := f.people().Cancel(t.Context(), f.user, id); err != nil {
		t.Fatal(err)
	}
	deaf.opens.Store(true) // with the first call that is no beat
	stop()
	if got, err := f.store.Task(t.Context(), id); err != nil || got.Status != jobs.Cancelled || got.Term != 1 || got.Report == nil {
		t.Errorf("the job: %+v, %v", got, err)
	}
}

// A cancel reaches a worker in another process.
func TestCancelElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	f.hold("book")
	f.child()
	id := f.create()
	f.awaitWaiting()
	if err := f.people().Cancel(t.Context(), f.user, id); err != nil {
		t.Fatal(err)
	}
	got := f.awaitEnd(id)
	if got.Status != jobs.Cancelled {
		t.Errorf("the job: %+v", got)
	}
	f.awaitQuiet()
}

// gate is a way to the state database that can be shut for one process.
type gate struct {
	runner.Store
	shut  atomic.Bool
	opens atomic.Bool // for what is no beat
	wrote atomic.Int64
}

var errShut = errors.New("no way to the state database")

func (g *gate) pass(beat bool, do func() error) error {
	if g.shut.Load() && (beat || !g.opens.Load()) {
		return errShut
	}
	err := do()
	if err == nil {
		g.wrote.Add(1)
	}
	return err
}

func (g *gate) Beat(ctx context.Context, b runner.Beat) (cancel bool, err error) {
	err = g.pass(true, func() error {
		cancel, err = g.Store.Beat(ctx, b)
		return err
	})
	return cancel, err
}

func (g *gate) Finish(ctx context.Context, b runner.Beat, report report.Report) error {
	return g.pass(false, func() error { return g.Store.Finish(ctx, b, report) })
}

func (g *gate) Requeue(ctx context.Context, b runner.Beat) (cancel bool, err error) {
	err = g.pass(false, func() error {
		cancel, err = g.Store.Requeue(ctx, b)
		return err
	})
	return cancel, err
}

func (g *gate) Reap(ctx context.Context, mine []runner.Run) error {
	return g.pass(true, func() error { return g.Store.Reap(ctx, mine) })
}

// A worker that is cut off from the state database goes on, until it hears that its term was taken: then it ends its
// clone, and writes nothing more.
func TestTermTaken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	f.hold("book")
	cut := &gate{Store: f.store}
	f.work(cut, runner.Options{Jobs: 1, Log: slog.New(slog.DiscardHandler)}) // so that it has no room for the next run
	id := f.create()
	f.awaitWaiting()
	f.awaitTask(id, "a beat", func(t jobs.Task) bool { return len(t.Progress.Phases) > 0 })
	cut.shut.Store(true)
	sessions := func() string {
		return dbtest.Query(t, f.sourceURL, fmt.Sprintf(`SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'calco/%s/1%%'`, id))[0][0]
	}
	if sessions() != "t" {
		t.Error("the clone does not go on without the state database")
	}

	// The lease is over, and another process has the job.
	other := f.open()
	f.eventually("the job is taken", func() bool {
		dbtest.Exec(t, f.url, `UPDATE background_tasks SET updated_at = now() - interval '21 s' WHERE status = 'running' AND term = 1`)
		if err := other.Reap(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		got, err := f.store.Task(t.Context(), id)
		return err == nil && got.Term == 2
	})
	if _, err := f.store.Claim(t.Context(), runner.Run{Task: id, Term: 2}, "another worker"); err != nil {
		t.Fatal(err)
	}
	if sessions() != "t" {
		t.Error("the clone of the old worker has ended before that can know")
	}
	before := dbtest.Query(t, f.url, `SELECT revision, worker, updated_at, (SELECT count(*) FROM task_events) FROM background_tasks`)
	cut.wrote.Store(0)
	cut.shut.Store(false)
	f.eventually("the old worker ends its clone", func() bool { return sessions() == "f" })
	f.awaitQuiet()
	after := dbtest.Query(t, f.url, `SELECT revision, worker, updated_at, (SELECT count(*) FROM task_events) FROM background_tasks`)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the row was %v, and is %v", before, after)
	}
}

// A process that runs no jobs looks after those of dead workers.
func TestIdle(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	f := newFixture(t, library)
	id := f.create()
	if _, err := f.store.Claim(t.Context(), runner.Run{Task: id, Term: 1}, "a worker"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, f.url, `UPDATE background_tasks SET updated_at = now() - interval '21 s'`)
	stop := f.work(f.store, runner.Options{Idle: true})
	f.awaitTask(id, "the job is queued again", func(t jobs.Task) bool { return t.Status == jobs.Queued && t.Term == 2 })
	stop()
	f.work(f.store, runner.Options{})
	if got := f.awaitEnd(id); got.Status != jobs.Completed {
		t.Errorf("%s: %s", got.Status, got.Error)
	}
}
