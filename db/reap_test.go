package db_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

// silence makes jobs that run unheard of for a time, on a server so old that this counts.
func silence(t *testing.T, url, seconds string, ids ...string) {
	t.Helper()
	dbtest.StartedAgo(t, url, "1 hour")
	for _, id := range ids {
		dbtest.Exec(t, url, fmt.Sprintf(`UPDATE background_tasks SET updated_at = now() - interval '%s s' WHERE id = '%s'`, seconds, id))
	}
}

// carried is how often River has a job for a term that may still come.
func carried(t *testing.T, url, id string, term int) string {
	t.Helper()
	return dbtest.Query(t, url, fmt.Sprintf(`SELECT count(*) FROM river_job WHERE args ->> 'task' = '%s' AND (args ->> 'term')::int = %d AND state = 'available'`, id, term))[0][0]
}

func TestReap(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source := save(t, store, ana, "source")
	ids := map[string]string{}
	for _, name := range []string{"dead", "dead and cancelled", "alive", "mine", "mine no more", "stranded", "waiting"} {
		ids[name] = create(t, store, ana, source, save(t, store, ana, name))
	}
	for _, name := range []string{"dead", "dead and cancelled", "alive", "mine", "mine no more"} {
		claim(t, store, ids[name])
	}
	if err := people(store).Cancel(t.Context(), jobs.Operator(), ids["dead and cancelled"]); err != nil {
		t.Fatal(err)
	}
	silence(t, url, "21", ids["dead"], ids["dead and cancelled"], ids["mine"], ids["mine no more"])
	// River gave it to a worker that died at once.
	dbtest.Exec(t, url, fmt.Sprintf(`UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '21 s' WHERE args ->> 'task' = '%s'`, ids["stranded"]))
	// Of a process whose own term was taken nothing is spared.
	if err := store.Reap(t.Context(), []runner.Run{{Task: ids["mine"], Term: 1}, {Task: ids["mine no more"], Term: 7}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"dead": "queued 2", "dead and cancelled": "cancelled 1", "alive": "running 1", "mine": "running 1", "mine no more": "queued 2",
		"stranded": "queued 2", "waiting": "queued 1",
	} {
		if got := lifeOf(task(t, store, ids[name])); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"dead", "stranded"} {
		if n := carried(t, url, ids[name], 2); n != "1" {
			t.Errorf("River carries the %s one %s times, want once", name, n)
		}
	}
	if got := task(t, store, ids["dead and cancelled"]); !strings.HasPrefix(got.Error, report.ErrCancelled.Error()) || got.FinishedAt.IsZero() || got.Cancelling {
		t.Errorf("the cancelled one: %+v", got)
	}
	events, err := store.TaskEvents(t.Context(), ids["dead"], 10)
	if err != nil || len(events) != 1 || events[0].Kind != report.EventRetry {
		t.Errorf("the log: %+v, %v", events, err)
	}
}

// While the state database was away no worker could speak for its job: after its start they have 10 s to.
func TestGraceAfterStart(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	reaped := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	reconnected := create(t, store, ana, save(t, store, ana, "another source"), save(t, store, ana, "another target"))
	claim(t, store, reaped)
	claim(t, store, reconnected)
	silence(t, url, "31", reaped, reconnected)
	for _, step := range []struct{ started, want string }{
		{"9 s", "running 1"},
		{"11 s", "queued 2"},
	} {
		dbtest.StartedAgo(t, url, step.started)
		if err := people(store).Reconnect(t.Context(), jobs.Operator(), reconnected); err != nil {
			t.Fatal(err)
		}
		if got := lifeOf(task(t, store, reconnected)); got != step.want {
			t.Errorf("reconnected %s after the start: %s, want %s", step.started, got, step.want)
		}
		if err := store.Reap(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := lifeOf(task(t, store, reaped)); got != step.want {
			t.Errorf("reaped %s after the start: %s, want %s", step.started, got, step.want)
		}
	}
}

// lifeOf tells the state of a job and which of its lives it is.
func lifeOf(t jobs.Task) string { return fmt.Sprintf("%s %d", t.Status, t.Term) }

// Many processes look after a dead worker's job at once: it gets one new term, and one River job.
func TestReapRace(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	silence(t, url, "31", id)
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() {
			if i%2 == 0 {
				errs[i] = store.Reap(t.Context(), nil)
			} else {
				errs[i] = people(store).Reconnect(t.Context(), jobs.Operator(), id)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if got := task(t, store, id); got.Status != jobs.Queued || got.Term != 2 {
		t.Errorf("the job is %s with term %d", got.Status, got.Term)
	}
	if n := carried(t, url, id, 2); n != "1" {
		t.Errorf("River carries it %s times, want once", n)
	}
}

// Somebody presses Reconnect: a job that is silent goes to another worker, and one that is heard of stays.
func TestReconnectTask(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	for _, c := range []struct{ silence, want string }{{"0", "running 1"}, {"21", "running 1"}, {"31", "queued 2"}} {
		silence(t, url, c.silence, id)
		if err := people(store).Reconnect(t.Context(), jobs.Operator(), id); err != nil {
			t.Fatal(err)
		}
		got := task(t, store, id)
		if s := fmt.Sprintf("%s %d", got.Status, got.Term); s != c.want {
			t.Errorf("after %s s of silence: %s, want %s", c.silence, s, c.want)
		}
	}
	if _, err := store.Beat(t.Context(), runner.Beat{Run: runner.Run{Task: id, Term: 1}}); !errors.Is(err, runner.ErrLost) {
		t.Errorf("a beat of the old worker: %v", err)
	}
}

// The log of a job and its first start stay over all its lives, and the numbers of its lines go on.
func TestLivesOfATask(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	line := func(text string) []report.Event {
		return []report.Event{{At: time.Now(), Kind: report.EventResumed, Text: report.Said(text)}}
	}
	first := runner.Beat{
		Run: runner.Run{Task: id, Term: 1}, Event: 1, Events: line("one"), Touched: true,
		Tables: []report.TableState{{Relation: "app.a", Status: report.TableCopying, Rows: 5}, {Relation: "app.b", Status: report.TableDone}},
	}
	first.Progress.Done = 0.25
	for range 2 { // the first answer may have been lost
		if _, err := store.Beat(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	started := task(t, store, id).StartedAt
	first.Event, first.Events = 2, line("two")
	if cancel, err := store.Requeue(t.Context(), first); cancel || err != nil {
		t.Fatal(cancel, err)
	}
	got := task(t, store, id)
	dbtest.Same(t, "queued again", lifeOf(got), "queued 2")
	dbtest.Same(t, "queued again, touched", got.Touched, true)
	dbtest.Same(t, "queued again, done", got.Progress.Done, 0.25)
	dbtest.Same(t, "queued again, first start", got.StartedAt.String(), started.String())
	if n := carried(t, url, id, 2); n != "1" {
		t.Errorf("River carries it %s times, want once", n)
	}

	second := runner.Run{Task: id, Term: 2}
	job, err := store.Claim(t.Context(), second, "other")
	if err != nil || job.Events != 3 || !job.Touched || job.Spec.Term != 2 {
		t.Fatalf("claimed again: %+v, %v", job, err)
	}
	if tables, _, err := store.TaskTables(t.Context(), id, jobs.TableFilter{Status: report.TableCopying}); err != nil || len(tables) != 0 {
		t.Errorf("on its way before it has begun: %v, %v", tables, err)
	}
	if _, err := store.Beat(t.Context(), runner.Beat{Run: second, Event: job.Events + 1, Events: line("four"), Touched: true}); err != nil {
		t.Fatal(err)
	}
	events, err := store.TaskEvents(t.Context(), id, 10)
	if err != nil || len(events) != 4 {
		t.Fatalf("the log: %+v, %v, want four lines", events, err)
	}
	dbtest.Same(t, "last line", events[0].Text.String(), "four")
	dbtest.Same(t, "kind of the line before", events[1].Kind, report.EventRetry)
	dbtest.Same(t, "second line", events[2].Text.String(), "two")
	dbtest.Same(t, "first line", events[3].Text.String(), "one")
	if got := task(t, store, id); !got.StartedAt.Equal(started) {
		t.Errorf("started at %v, and at first %v", got.StartedAt, started)
	}
}

// A line of the log keeps its code and parameters. One of an older version has a text alone.
func TestEventsHaveTexts(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	texts := []report.Text{
		report.T("wait.lost.silent", "Side", report.Source, "Waited", time.Minute), report.T("a", "Names", []string{"a zero\x00byte"}), report.Said("disk full"), {},
	}
	beat := runner.Beat{Run: runner.Run{Task: id, Term: 1}, Event: 1}
	for _, text := range texts {
		beat.Events = append(beat.Events, report.Event{At: time.Now(), Kind: report.EventWarning, Text: text})
	}
	if _, err := store.Beat(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, url, fmt.Sprintf(`INSERT INTO task_events (task_id, number, at, kind, phase, object, text) VALUES ('%s', 5, now(), 'warning', '', '', 'It "was" so.')`, id))
	texts[1] = report.T("a", "Names", []string{"a zero\ufffdbyte"})
	texts = append(texts, report.Said(`It "was" so.`))
	events, err := store.TaskEvents(t.Context(), id, 10)
	if err != nil || len(events) != len(texts) {
		t.Fatalf("the log: %+v, %v", events, err)
	}
	for i, e := range events {
		if want := texts[len(texts)-1-i]; !e.Text.Same(want) {
			t.Errorf("line %d says %#v, want %#v", i, e.Text, want)
		}
	}
}

// A process that stops does not put a job back that somebody wants cancelled.
func TestRequeueCancelled(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	if err := people(store).Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	if cancel, err := store.Requeue(t.Context(), runner.Beat{Run: runner.Run{Task: id, Term: 1}}); !cancel || err != nil {
		t.Errorf("it says %v, %v", cancel, err)
	}
	if got := task(t, store, id); got.Status != jobs.Running || got.Term != 1 || !got.Cancelling {
		t.Errorf("the job: %+v", got)
	}
}

// resumableAs ends a job so that it can go on.
func resumableAs(t *testing.T, store *db.Store, id string, status report.Status) {
	t.Helper()
	claim(t, store, id)
	report := report.Report{Status: status, Error: "the disk is full", Resumable: true}
	if err := store.Finish(t.Context(), runner.Beat{Run: runner.Run{Task: id, Term: 1}, Touched: true}, report); err != nil {
		t.Fatal(err)
	}
}

func TestResumeTask(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana, admin := addUser(t, store, jobs.RoleMember), addUser(t, store, jobs.RoleAdmin)
	for i, c := range []struct {
		status report.Status
		user   jobs.User
	}{{report.StatusFailed, ana}, {report.StatusCancelled, admin}} {
		id := create(t, store, ana, save(t, store, ana, fmt.Sprint("source", i), shared), save(t, store, ana, fmt.Sprint("target", i), shared))
		resumableAs(t, store, id, c.status)
		before := task(t, store, id)
		if !before.Resumable {
			t.Fatalf("%s, and not to be resumed: %+v", c.status, before)
		}
		if err := people(store).Resume(t.Context(), c.user, id); err != nil {
			t.Fatal(err)
		}
		got := task(t, store, id)
		dbtest.Same(t, "resumed", lifeOf(got), "queued 2")
		dbtest.Same(t, "error", got.Error, "")
		dbtest.Same(t, "a report", got.Report != nil, false)
		dbtest.Same(t, "no time of its end", got.FinishedAt.IsZero(), true)
		dbtest.Same(t, "cancelling", got.Cancelling, false)
		dbtest.Same(t, "resumable", got.Resumable, false)
		dbtest.Same(t, "touched", got.Touched, true)
		dbtest.Same(t, "first start", got.StartedAt.String(), before.StartedAt.String())
		if got.Revision <= before.Revision {
			t.Errorf("revision %d after %d", got.Revision, before.Revision)
		}
		if n := carried(t, url, id, 2); n != "1" {
			t.Errorf("River carries it %s times, want once", n)
		}
		if err := people(store).Resume(t.Context(), c.user, id); !errors.Is(err, jobs.ErrConflict) {
			t.Errorf("twice: %v", err)
		}
		if _, err := store.Claim(t.Context(), runner.Run{Task: id, Term: 2}, "test"); err != nil {
			t.Errorf("claim: %v", err)
		}
	}
}

// Which jobs can go on: those whose worker says so; where none has said the end, those that have touched their target.
func TestResumable(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	for _, c := range []struct {
		status, report string
		touched, want  bool
	}{
		{"failed", `{"status": "failed", "resumable": true}`, true, true},
		{"failed", `{"status": "failed"}`, true, false},
		{"failed", ``, true, true}, // of a version before
		{"failed", ``, false, false},
		{"cancelled", `{"status": "cancelled", "resumable": true}`, true, true},
		{"cancelled", ``, true, true}, // in the queue, after a life
		{"cancelled", ``, false, false},
		{"refused", `{"status": "refused"}`, true, true},
		{"refused", `{"status": "refused"}`, false, false},
		{"completed", `{"status": "completed", "resumable": true}`, true, false},
		{"differences", `{"status": "differences"}`, true, false},
	} {
		dbtest.Exec(t, url, fmt.Sprintf(`UPDATE background_tasks SET status = '%s', report = nullif('%s', '')::jsonb, touched = %t, finished_at = now(),
			error = CASE WHEN '%[1]s' IN ('failed', 'cancelled') THEN 'x' ELSE '' END`, c.status, c.report, c.touched))
		if got := task(t, store, id); got.Resumable != c.want {
			t.Errorf("%+v: %v", c, got.Resumable)
		}
	}
}

// A job that workers die with before they get anything done goes to three of them, and then says so: it went round all that
// there were, for ever. One that gets on goes on.
func TestReapFruitless(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	die := func(achieved int64) {
		t.Helper()
		run := runner.Run{Task: id, Term: task(t, store, id).Term}
		if _, err := store.Claim(t.Context(), run, "worker"); err != nil {
			t.Fatal(err)
		}
		dbtest.Exec(t, url, fmt.Sprintf(`UPDATE river_job SET state = 'running', attempted_at = now() WHERE args ->> 'task' = '%s' AND state = 'available'`, id)) // as River does
		if achieved > 0 {
			if _, err := store.Beat(t.Context(), runner.Beat{Run: run, Progress: report.Progress{Achieved: achieved}, Touched: true}); err != nil {
				t.Fatal(err)
			}
		}
		silence(t, url, "31", id)
		if err := store.Reap(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	lives := []int64{0, 0, 5, 0, 0, 0}
	for i, achieved := range lives {
		die(achieved)
		if got := task(t, store, id); i+1 < len(lives) && (got.Status != jobs.Queued || got.Term != int64(i+2)) {
			t.Fatalf("after life %d it is %s with term %d", i+1, got.Status, got.Term)
		}
	}
	got := task(t, store, id)
	if got.Status != jobs.Failed || !strings.Contains(got.Error, "3 workers in a row have died") || !got.Resumable {
		t.Errorf("%s: %q, resumable %t", got.Status, got.Error, got.Resumable)
	}
	left := dbtest.Query(t, url, `SELECT count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state = 'discarded' AND finalized_at IS NOT NULL) FROM river_job`)[0]
	if fmt.Sprint(left) != "[0 6]" {
		t.Errorf("River has %s running and %s discarded", left[0], left[1])
	}
	// Whoever has looked into it may go on.
	if err := people(store).Resume(t.Context(), ana, id); err != nil {
		t.Fatal(err)
	}
	die(0)
	if got := task(t, store, id); got.Status != jobs.Queued {
		t.Errorf("resumed, and dead once: %s", got.Status)
	}
}

// A worker that lives and does not cancel loses the job, even to its own process: it stayed "running" for ever.
func TestReapStuck(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	if err := people(store).Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	mine := []runner.Run{{Task: id, Term: 1}}
	if err := store.Reap(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	if got := task(t, store, id); got.Status != jobs.Running || !got.Cancelling {
		t.Fatalf("at once: %s", got.Status)
	}
	dbtest.Exec(t, url, `UPDATE background_tasks SET cancel_requested_at = now() - interval '61 s'`)
	if err := store.Reap(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	got := task(t, store, id)
	if got.Status != jobs.Cancelled || !strings.Contains(got.Error, "writes to the target until") {
		t.Errorf("%s: %q", got.Status, got.Error)
	}
	if _, err := store.Beat(t.Context(), runner.Beat{Run: mine[0]}); !errors.Is(err, runner.ErrLost) {
		t.Errorf("its worker is told %v", err)
	}
}
