package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

// create starts a job that must begin.
func create(t *testing.T, store *db.Store, u jobs.User, source, target jobs.Connection, change ...func(*jobs.NewTask)) string {
	t.Helper()
	n := jobs.NewTask{SourceID: source.ID, TargetID: target.ID}
	for _, f := range change {
		f(&n)
	}
	id, err := people(store).Start(t.Context(), u, n)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// retry tries a job again.
func retry(t *testing.T, store *db.Store, u jobs.User, id string) string {
	t.Helper()
	id, err := people(store).Retry(t.Context(), u, id, jobs.Again{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func task(t *testing.T, store *db.Store, id string) jobs.Task {
	t.Helper()
	got, err := store.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// end claims a job and ends it.
func end(t *testing.T, store *db.Store, id string, status report.Status) {
	t.Helper()
	claim(t, store, id)
	result := report.Report{Status: status}
	if status == report.StatusFailed {
		result.Error = "the disk is full"
	}
	if err := store.Finish(t.Context(), runner.Beat{Run: runner.Run{Task: id, Term: 1}}, result); err != nil {
		t.Fatal(err)
	}
}

func claim(t *testing.T, store *db.Store, id string) runner.Job {
	t.Helper()
	job, err := store.Claim(t.Context(), runner.Run{Task: id, Term: 1}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestCreateTask(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target := save(t, store, ana, "source"), save(t, store, ana, "target")
	confirmed := report.Confirmation{Target: report.Identity{System: "7", Database: 5, Address: "db.example.org:5432/target"}}
	id := create(t, store, ana, source, target, func(n *jobs.NewTask) { n.Schemas, n.Clean = []string{"app"}, &confirmed })
	got := task(t, store, id)
	dbtest.Same(t, "status", got.Status, jobs.Queued)
	dbtest.Same(t, "user", got.UserID, ana.ID)
	dbtest.Same(t, "owner", got.Owner, ana.Email)
	dbtest.Same(t, "source", got.Source, source.Place())
	dbtest.Same(t, "target", got.Target, target.Place())
	dbtest.Same(t, "schemas", fmt.Sprint(got.Schemas), "[app]")
	dbtest.Same(t, "clean", got.Clean, true)
	dbtest.Same(t, "term", got.Term, 1)
	dbtest.Same(t, "no time of creation", got.CreatedAt.IsZero(), false)
	dbtest.Same(t, "no time of start", got.StartedAt.IsZero(), true)
	carried := dbtest.Query(t, url, `SELECT kind, args ->> 'task', args ->> 'term', max_attempts FROM river_job`)
	if want := fmt.Sprintf("[[clone_database %s 1 1]]", id); fmt.Sprint(carried) != want {
		t.Errorf("River carries %v, want %s", carried, want)
	}
	job := claim(t, store, id)
	dbtest.Same(t, "claimed source", string(job.Spec.Source), "postgres://u:pw@db.example.org/source")
	dbtest.Same(t, "claimed target", string(job.Spec.Target), "postgres://u:pw@db.example.org/target")
	dbtest.Same(t, "claimed job", job.Spec.Job, id)
	dbtest.Same(t, "claimed term", job.Spec.Term, 1)
	dbtest.Same(t, "claimed clean", job.Spec.Clean, true)
	dbtest.Same(t, "claimed confirmation", job.Spec.Confirmed.Digest(), confirmed.Digest())
	dbtest.Same(t, "claimed protection", job.Protected, false)
	if _, err := store.Claim(t.Context(), runner.Run{Task: id, Term: 1}, "other"); !errors.Is(err, runner.ErrLost) {
		t.Errorf("claimed twice: %v", err)
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana, admin := addUser(t, store, jobs.RoleMember), addUser(t, store, jobs.RoleAdmin)
	source, target := save(t, store, ana, "source", shared), save(t, store, ana, "target", shared)
	if _, err := store.CurrentTask(t.Context(), ana.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("the current job of nobody: %v", err)
	}
	first := create(t, store, ana, source, target)
	end(t, store, first, report.StatusFailed)
	if got, err := store.CurrentTask(t.Context(), ana.ID); err != nil || got.ID != first || got.Error == "" || got.Report == nil {
		t.Errorf("current after a failure: %+v, %v", got, err)
	}
	// An admin may try a job again that is somebody else's.
	second := retry(t, store, admin, first)
	if _, err := store.CurrentTask(t.Context(), ana.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("current after another attempt: %v", err)
	}
	if _, err := people(store).Retry(t.Context(), ana, first, jobs.Again{}); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("tried again twice: %v", err)
	}
	end(t, store, second, report.StatusRefused)
	third := retry(t, store, admin, second)
	if got, err := store.CurrentTask(t.Context(), admin.ID); err != nil || got.ID != third {
		t.Errorf("current while one is queued: %+v, %v", got, err)
	}
	for id, newest := range map[string]string{first: third, second: third, third: ""} {
		if got := task(t, store, id); got.Newest != newest {
			t.Errorf("the newest of %s is %q, want %q", id, got.Newest, newest)
		}
		attempts, err := store.Attempts(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range attempts {
			got = append(got, a.ID)
		}
		if want := []string{first, second, third}; !slices.Equal(got, want) {
			t.Errorf("attempts of %s: %v, want %v", id, got, want)
		}
	}
	if _, err := store.Attempts(t.Context(), "aaaaaaaaaa"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("attempts of nothing: %v", err)
	}
}

// A job that waits, or that goes on in another process, is claimed with what is true by then.
func TestClaimAsksAgain(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name           string
		meanwhile      string
		source, target runner.Standing
	}{
		{"as it was", `SELECT`, runner.Stands, runner.Stands},
		{"spelled otherwise", `UPDATE connections SET address = 'DB.example.org.:5432'`, runner.Stands, runner.Stands},
		{"shared no more", `UPDATE connections SET shared = false`, runner.Stands, runner.Withdrawn},
		{"the user is gone", `DELETE FROM users WHERE id = (SELECT user_id FROM background_tasks)`, runner.Gone, runner.Withdrawn},
		{"removed", `DELETE FROM connections WHERE shared`, runner.Stands, runner.Gone},
		{"another server", `UPDATE connections SET address = 'db2.example.org:5432' WHERE shared`, runner.Stands, runner.Moved},
		{"another database", `UPDATE connections SET database = 'other' WHERE NOT shared`, runner.Moved, runner.Stands},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store, url := openAt(t)
			ana, bob := addUser(t, store, jobs.RoleMember), addUser(t, store, jobs.RoleMember)
			source, target := save(t, store, bob, "source"), save(t, store, ana, "target", shared)
			id := create(t, store, bob, source, target)
			if c.source == runner.Gone { // as the store does with a user: what nobody else sees goes first
				dbtest.Exec(t, url, `DELETE FROM connections WHERE NOT shared`)
			}
			dbtest.Exec(t, url, c.meanwhile)
			if job := claim(t, store, id); job.SourceStands != c.source || job.TargetStands != c.target {
				t.Errorf("claimed: source %d, target %d, want %d and %d", job.SourceStands, job.TargetStands, c.source, c.target)
			}
		})
	}
}

func TestTaskLists(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target, other := save(t, store, ana, "source"), save(t, store, ana, "target"), save(t, store, ana, "other")
	var ids []string
	for _, status := range []report.Status{report.StatusFailed, report.StatusCompleted, report.StatusFailed} {
		id := create(t, store, ana, source, target)
		end(t, store, id, status)
		ids = append(ids, id)
	}
	queued := create(t, store, ana, source, other)
	dbtest.Exec(t, url, fmt.Sprintf(`UPDATE background_tasks SET report = report || jsonb_build_object('differences', (
		SELECT jsonb_agg(jsonb_build_object('kind', 'rows')) FROM generate_series(1, 200))) WHERE id = '%s'`, ids[2]))
	cases := []struct {
		name   string
		filter jobs.TaskFilter
		want   []string
	}{
		{"all", jobs.TaskFilter{}, []string{queued, ids[2], ids[1], ids[0]}},
		{"failed", jobs.TaskFilter{Status: jobs.Failed}, []string{ids[2], ids[0]}},
		{"of a source", jobs.TaskFilter{ConnectionID: source.ID, Limit: 2}, []string{queued, ids[2]}},
		{"of a target", jobs.TaskFilter{ConnectionID: other.ID}, []string{queued}},
		{"the next page", jobs.TaskFilter{Before: ids[2], Limit: 1}, []string{ids[1]}},
	}
	for _, c := range cases {
		list, err := store.Tasks(t.Context(), c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, task := range list {
			got = append(got, task.ID)
			if task.ID == ids[2] && len(task.Report.Differences) != 50 {
				t.Errorf("%d differences in a list, want 50", len(task.Report.Differences))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := task(t, store, ids[2]); len(got.Report.Differences) != 200 {
		t.Errorf("%d differences on the page of the job, want 200", len(got.Report.Differences))
	}
	running, err := store.RunningTasks(t.Context())
	if err != nil || len(running) != 1 || running[0].ID != queued {
		t.Errorf("running: %v, %v", running, err)
	}
}

func TestCancelQueued(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	if err := people(store).Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	if got := task(t, store, id); got.Status != jobs.Cancelled || got.Error == "" || got.FinishedAt.IsZero() || got.Cancelling {
		t.Errorf("cancelled: %+v", got)
	}
	if err := people(store).Cancel(t.Context(), jobs.Operator(), id); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("cancelled twice: %v", err)
	}
	if err := people(store).Cancel(t.Context(), jobs.Operator(), "aaaaaaaaaa"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("cancelled what never was: %v", err)
	}
	if _, err := store.Claim(t.Context(), runner.Run{Task: id, Term: 1}, "test"); !errors.Is(err, runner.ErrLost) {
		t.Errorf("claimed after that: %v", err)
	}
}

// TestTables has as many tables as a page must be fluent with.
func TestTables(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	const many = 10_000
	beat := runner.Beat{Run: runner.Run{Task: id, Term: 1}, Event: 1, Speeds: []int64{3, 4}}
	beat.Progress.Done, beat.Progress.Rows = 0.25, 7
	for i := range many {
		beat.Tables = append(beat.Tables, report.TableState{Relation: fmt.Sprintf("app.t%05d", i), Status: report.TableWaiting, Size: int64(i), ToBuild: 2})
	}
	for _, text := range []string{"one", "two", "a zero\x00byte and \xff"} {
		beat.Events = append(beat.Events, report.Event{At: time.Now(), Kind: report.EventWarning, Text: report.Said(text)})
	}
	for range 2 { // twice: the first answer may have been lost
		if _, err := store.Beat(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
	}
	beat.Event, beat.Events = 4, []report.Event{{At: time.Now(), Kind: report.EventTrouble, Phase: report.PhaseIndexes, Object: "INDEX app.i", Text: report.Said("four")}}
	beat.Tables = []report.TableState{
		{Relation: "app.t00003", Status: report.TableFailed, Rows: 1, Bytes: 2, Size: 3, Built: 1, ToBuild: 2},
		{Relation: "app.t00004", Status: report.TableIndexing, Size: 4},
		{Relation: "app.t00005", Status: report.TableCopying, Size: 5},
	}
	if cancel, err := store.Beat(t.Context(), beat); cancel || err != nil {
		t.Fatal(cancel, err)
	}
	got := task(t, store, id)
	if got.Progress.Rows != 7 || fmt.Sprint(got.Speeds) != "[3 4]" || got.Revision < 4 {
		t.Errorf("the job: %+v", got)
	}

	cases := []struct {
		name   string
		filter jobs.TableFilter
		want   string
		total  int
	}{
		{"first page", jobs.TableFilter{Limit: 4}, "[app.t00005 app.t00004 app.t00003 app.t09999]", many},
		{"last page", jobs.TableFilter{Offset: many - 2, Limit: 10}, "[app.t00001 app.t00000]", many},
		{"by name", jobs.TableFilter{Name: "T0777", Limit: 2}, "[app.t07779 app.t07778]", 10},
		{"by state", jobs.TableFilter{Status: report.TableFailed}, "[app.t00003]", 1},
		{"by a wildcard that is none", jobs.TableFilter{Name: "%"}, "[]", 0},
	}
	for _, c := range cases {
		tables, total, err := store.TaskTables(t.Context(), id, c.filter)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, table := range tables {
			names = append(names, table.Relation)
		}
		if fmt.Sprint(names) != c.want || total != c.total {
			t.Errorf("%s: %v of %d, want %s of %d", c.name, names, total, c.want, c.total)
		}
	}
	tables, _, err := store.TaskTables(t.Context(), id, jobs.TableFilter{Status: report.TableFailed})
	if want := (report.TableState{Relation: "app.t00003", Status: report.TableFailed, Rows: 1, Bytes: 2, Size: 3, Built: 1, ToBuild: 2}); err != nil || len(tables) != 1 || tables[0] != want {
		t.Errorf("a table: %+v, %v", tables, err)
	}
	events, err := store.TaskEvents(t.Context(), id, 3)
	if err != nil || len(events) != 3 {
		t.Fatalf("events: %+v, %v, want three", events, err)
	}
	dbtest.Same(t, "last line", events[0].Text.String(), "four")
	dbtest.Same(t, "phase of the last line", events[0].Phase, report.PhaseIndexes)
	dbtest.Same(t, "line before", events[1].Text.String(), "a zero�byte and �")
	dbtest.Same(t, "first line", events[2].Text.String(), "two")
}

// A run that lost its job writes nothing more.
func TestLostRun(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana := addUser(t, store, jobs.RoleMember)
	id := create(t, store, ana, save(t, store, ana, "source"), save(t, store, ana, "target"))
	claim(t, store, id)
	old := runner.Beat{Run: runner.Run{Task: id, Term: 7}, Event: 1, Events: []report.Event{{Kind: report.EventWarning, Text: report.Said("late")}}}
	if _, err := store.Beat(t.Context(), old); !errors.Is(err, runner.ErrLost) {
		t.Errorf("beat: %v", err)
	}
	if err := store.Finish(t.Context(), old, report.Report{Status: report.StatusCompleted}); !errors.Is(err, runner.ErrLost) {
		t.Errorf("finish: %v", err)
	}
	if _, err := store.Requeue(t.Context(), old); !errors.Is(err, runner.ErrLost) {
		t.Errorf("requeue: %v", err)
	}
	mine := runner.Beat{Run: runner.Run{Task: id, Term: 1}}
	done := report.Report{Status: report.StatusCompleted}
	for range 2 {
		if err := store.Finish(t.Context(), mine, done); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Finish(t.Context(), mine, report.Report{Status: report.StatusFailed, Error: "x"}); !errors.Is(err, runner.ErrLost) {
		t.Errorf("another outcome: %v", err)
	}
	if events, err := store.TaskEvents(t.Context(), id, 10); err != nil || len(events) != 0 {
		t.Errorf("events: %v, %v", events, err)
	}
}

// The time left is learnt from the last clone like it: of the same schemas, between the same databases, to the end.
func TestClaimKnowsThePast(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target, other := save(t, store, ana, "source"), save(t, store, ana, "target"), save(t, store, ana, "other")
	oneSchema := func(n *jobs.NewTask) { n.Schemas = []string{"app"} }
	ended := func(target jobs.Connection, report report.Report, change ...func(*jobs.NewTask)) {
		t.Helper()
		id := create(t, store, ana, source, target, change...)
		claim(t, store, id)
		if err := store.Finish(t.Context(), runner.Beat{Run: runner.Run{Task: id, Term: 1}}, report); err != nil {
			t.Fatal(err)
		}
	}
	if job := claim(t, store, create(t, store, ana, source, other)); job.Past != nil {
		t.Errorf("the first one has a past: %+v", job.Past)
	}
	ended(target, report.Report{Status: report.StatusCompleted, Seconds: 1})
	ended(target, report.Report{Status: report.StatusDifferences, Seconds: 2, Ledger: []report.LedgerEntry{{Object: "INDEX x"}}})
	ended(target, report.Report{Status: report.StatusFailed, Error: "the disk is full", Seconds: 3})
	ended(target, report.Report{Status: report.StatusCompleted, Seconds: 4}, oneSchema)
	job := claim(t, store, create(t, store, ana, source, target))
	if job.Past == nil || job.Past.Seconds != 2 || len(job.Past.Ledger) != 0 {
		t.Errorf("the past is %+v", job.Past)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target := save(t, store, ana, "source"), save(t, store, ana, "target")
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 100)
	ended := make(chan error, 1)
	go func() { ended <- store.Listen(ctx, func(id string) { heard <- id }) }()
	want := func(id string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != id {
				t.Fatalf("heard %q, want %q", got, id)
			}
		case <-time.After(time.Minute):
			t.Fatalf("never heard %q", id)
		}
	}
	want("")
	id := create(t, store, ana, source, target)
	want(id)
	dbtest.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`)
	want("")
	if err := people(store).Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	want(id)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
