package web

import (
	"fmt"
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// Clean target and retry of a job that was cancelled leads to one that completes.
func TestRetryToTheEnd(t *testing.T) {
	t.Parallel()
	a := newClones(t, library)
	stop := a.work()
	release := a.hold("book")
	id := a.create()
	a.awaitWaiting()
	stop() // which puts the job back into the queue
	release()
	v := a.as(a.owner)
	want(t, "cancel", v.post(clonePath(id)+"/cancel"), "303 "+clonePath(id))
	page := v.get(clonePath(id) + "/retry")
	want(t, "the confirmation", page, "200")
	says(t, page, "<code>"+a.target.Database+"</code>")
	wrong := v.post(clonePath(id)+"/retry", "confirm", "another")
	want(t, "a wrong name", wrong, "422")
	says(t, wrong, `value="another"`)
	says(t, wrong, "Type the name of the database exactly as it is shown.")

	got := v.post(clonePath(id)+"/retry", "confirm", a.target.Database, "shown", shown(t, wrong))
	newest := a.task(id).Newest
	want(t, "the right name", got, "303 "+clonePath(newest))
	if next := a.task(newest); next.RetryOf != id || !next.Clean || next.UserID != a.owner.ID {
		t.Errorf("the next one: %+v", next)
	}
	want(t, "the old URL", a.as(a.colleague).get(clonePath(id)), "303 "+clonePath(newest))
	want(t, "the old attempt itself", a.as(a.colleague).get(clonePath(id)+"?attempt"), "200")
	want(t, "once more", v.post(clonePath(id)+"/retry", "confirm", a.target.Database), "303 "+clonePath(id))
	a.work()
	if done := a.awaitEnd(newest); done.Status != jobs.Completed {
		t.Errorf("%s: %s", done.Status, done.Error)
	}
}

// Cancel and restart leads from a job that runs to the confirmation, once nothing of it is left.
func TestCancelAndRestart(t *testing.T) {
	t.Parallel()
	a := newClones(t, library)
	a.work()
	a.hold("book")
	id := a.create()
	a.awaitWaiting()
	v := a.as(a.owner)
	page := v.get(clonePath(id) + "/retry")
	says(t, page, "The clone in progress will be cancelled.")
	says(t, page, `<button class="btn btn-error">Cancel and restart</button>`)
	want(t, "cancel and restart", v.post(clonePath(id)+"/retry"), "303 "+clonePath(id)+"/retry")
	a.eventually("the confirmation is there", func() bool {
		page := v.get(clonePath(id) + "/retry").body
		return strings.Contains(page, `id="confirm"`) || !strings.Contains(page, "Waiting for the old run to end") && a.task(id).Status.Ended()
	})
	says(t, v.get(clonePath(id)+"/retry"), "<code>"+a.target.Database+"</code>")
}

func TestCancelRunning(t *testing.T) {
	t.Parallel()
	a := newClones(t, library)
	a.work()
	a.hold("book")
	id := a.create()
	a.awaitWaiting()
	v := a.as(a.boss)
	want(t, "cancel", v.post(clonePath(id)+"/cancel"), "303 "+clonePath(id))
	if got := a.awaitEnd(id); got.Status != jobs.Cancelled {
		t.Errorf("the job is %s", got.Status)
	}
	want(t, "once more", v.post(clonePath(id)+"/cancel"), "303 "+clonePath(id))
	page := v.get(clonePath(id))
	says(t, page, "The clone was cancelled.")
	says(t, page, "Clean target and retry")
	says(t, page, "New clone")
}

// What was confirmed is dropped, and nothing that came later: neither before the form was posted, nor while the job was
// queued. It was dropped unseen.
func TestCleansOnlyWhatWasShown(t *testing.T) {
	t.Parallel()
	c := newClones(t, library)
	dbtest.Exec(t, c.targetURL, `CREATE TABLE old (id int)`)
	v := c.as(c.owner)
	form := []string{"source", idOf(c.source), "target", idOf(c.target), "clean", "yes", "verify", "contents"}
	page := v.post("/clones", form...)
	want(t, "before a confirmation", page, "422")
	dbtest.Exec(t, c.targetURL, `CREATE TABLE late (id int)`)
	now := v.post("/clones", append(form, "confirm", c.target.Database, "shown", shown(t, page))...)
	want(t, "a table more", now, "422")
	for _, text := range []string{"What would be dropped has changed.", "public.<wbr>late", `id="confirm-error"`} {
		says(t, now, text)
	}
	lacks(t, now, `value="`+c.target.Database+`"`) // it is typed for what is shown now
	got := v.post("/clones", append(form, "confirm", c.target.Database, "shown", shown(t, now))...)
	first := c.query(`SELECT id FROM background_tasks`)[0][0]
	want(t, "confirmed", got, "303 "+clonePath(first))
	dbtest.Exec(t, c.targetURL, `CREATE TABLE later AS SELECT 1 AS n`)
	c.work()
	c.refusedFor(first, report.ReasonNotShown, "table public.later")

	page = v.get(clonePath(first))
	says(t, page, `<a class="btn btn-primary" href="`+clonePath(first)+`/retry">Clean target and retry</a>`)
	lacks(t, page, "Try again")
	retry := v.get(clonePath(first) + "/retry")
	says(t, retry, "public.<wbr>later")
	want(t, "confirmed again", v.post(clonePath(first)+"/retry", "confirm", c.target.Database, "shown", shown(t, retry)), "303 "+clonePath(c.task(first).Newest))
	done := c.awaitEnd(c.task(first).Newest)
	if done.Status != jobs.Completed || done.Report.Contents.Verify != report.VerifyContents {
		t.Errorf("%s: %s %+v", done.Status, done.Error, done.Report)
	}
	page = v.get(clonePath(done.ID))
	says(t, page, "compares every row")
	says(t, page, "What every row of ")
	says(t, page, "--verify contents")
}

// refusedFor waits until a job is refused for one reason, about one object, and wants the tables of the target as they
// were made.
func (c *clones) refusedFor(id string, code report.ReasonCode, object string) {
	c.t.Helper()
	before := dbtest.Query(c.t, c.targetURL, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1`)
	task := c.awaitEnd(id)
	if task.Status != jobs.Refused || len(task.Report.Reasons) != 1 || task.Report.Reasons[0].Code != code || fmt.Sprint(task.Report.Reasons[0].Objects) != "["+object+"]" {
		c.t.Errorf("%s: %s %+v, want it refused for %s", task.Status, task.Error, task.Report, object)
	}
	if after := dbtest.Query(c.t, c.targetURL, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1`); fmt.Sprint(after) != fmt.Sprint(before) {
		c.t.Errorf("the target had %v and has %v", before, after)
	}
}

// A clone that was cancelled while it cleaned, and is resumed days later, drops nothing of what came meanwhile. It cleaned
// anew, whatever was there.
func TestResumeOfCleanDropsNothingNew(t *testing.T) {
	t.Parallel()
	c := newClones(t, library)
	dbtest.Exec(t, c.targetURL, `CREATE TABLE old (id int)`)
	release := c.holding(c.targetURL, `BEGIN; LOCK TABLE old IN ACCESS SHARE MODE`)
	c.work()
	id := c.create(c.confirm)
	c.eventually("it waits for the table", func() bool {
		return dbtest.Query(t, c.targetURL, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'old'::regclass`)[0][0] != "0"
	})
	v := c.as(c.owner)
	want(t, "cancel", v.post(clonePath(id)+"/cancel"), "303 "+clonePath(id))
	if task := c.awaitEnd(id); task.Status != jobs.Cancelled || !task.Resumable {
		t.Fatalf("%s, resumable %t", task.Status, task.Resumable)
	}
	release()
	dbtest.Exec(t, c.targetURL, `CREATE TABLE newdata AS SELECT 1 AS n`)
	want(t, "resume", v.post(clonePath(id)+"/resume"), "303 "+clonePath(id))
	c.refusedFor(id, report.ReasonNotShown, "table public.newdata")
	says(t, v.get(clonePath(id)), `<a class="btn btn-primary" href="`+clonePath(id)+`/retry">Clean target and retry</a>`)
}

// Who uses what clean drops is ended where that is chosen, in the form and with a retry, and waited for where it is not.
func TestBlockersAreEndedByChoice(t *testing.T) {
	t.Parallel()
	c := newClones(t, library)
	c.work()
	v := c.as(c.owner)
	var last string
	for _, name := range []string{"old", "older"} {
		dbtest.Exec(t, c.targetURL, `DROP TABLE IF EXISTS author, book CASCADE; CREATE TABLE `+name+` (id int)`)
		c.holding(c.targetURL, `SET application_name = 'idle'; BEGIN; LOCK TABLE `+name+` IN ACCESS SHARE MODE`)
		path, form := "/clones", []string{"source", idOf(c.source), "target", idOf(c.target), "clean", "yes", "end", "yes"}
		if last != "" {
			path, form = clonePath(last)+"/retry", []string{"end", "yes"}
		}
		page := v.post(path, form...) // not confirmed yet
		want(t, name, page, "422")
		says(t, page, `name="end" value="yes" checked`)
		got := v.post(path, append(form, "confirm", c.target.Database, "shown", shown(t, page))...)
		last = c.query(`SELECT id FROM background_tasks ORDER BY created_at DESC LIMIT 1`)[0][0]
		want(t, name, got, "303 "+clonePath(last))
		if task := c.awaitEnd(last); task.Status != jobs.Completed || !strings.Contains(fmt.Sprint(task.Report.Warnings), "(idle, role postgres)") {
			t.Errorf("%s: %s %s, warnings %q", name, task.Status, task.Error, task.Report.Warnings)
		}
	}
}
