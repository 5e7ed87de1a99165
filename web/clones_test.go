package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/views"
)

// cloneFixture is an app with an owner of jobs, somebody else, and an admin. Its databases need not be there: the tests
// are the workers of most jobs.
type cloneFixture struct {
	*app
	owner, other, admin jobs.User
	pairs               int // of databases that were saved
}

func newCloneFixture(t testing.TB, configure ...func(*Config)) *cloneFixture {
	t.Helper()
	a := newApp(t, configure...)
	return &cloneFixture{app: a, owner: a.add(bob, jobs.RoleMember), other: a.add(eve, jobs.RoleMember), admin: a.add(ada, jobs.RoleAdmin)}
}

// nowhere is a URL where nobody answers, at once.
func nowhere(database string) string { return "postgres://app:" + secret + "@127.0.0.1:1/" + database }

// pair saves a source and a target of a user that no other job has.
func (f *cloneFixture) pair(of jobs.User) (source, target jobs.Connection) {
	f.t.Helper()
	f.pairs++
	end := func(name string) jobs.Connection {
		name = fmt.Sprint(name, f.pairs)
		return f.save(jobs.Connection{OwnerID: of.ID, Name: name}, nowhere(name))
	}
	return end("source"), end("target")
}

// start queues a job of the owner between databases of its own.
func (f *cloneFixture) start(change ...func(*jobs.NewTask)) (id string) {
	f.t.Helper()
	source, target := f.pair(f.owner)
	return f.startBetween(source, target, change...)
}

func (f *cloneFixture) startBetween(source, target jobs.Connection, change ...func(*jobs.NewTask)) (id string) {
	f.t.Helper()
	n := jobs.NewTask{SourceID: source.ID, TargetID: target.ID}
	for _, c := range change {
		c(&n)
	}
	id, err := f.server.jobs.Start(f.t.Context(), jobs.User{ID: source.OwnerID}, n)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// confirmation is for all that a database holds.
func confirmation(t testing.TB, url string) *report.Confirmation {
	t.Helper()
	p, err := cloner.PreviewClean(t.Context(), cloner.Spec{Target: dsn.URL(url), Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	return &p.Confirmation
}

// shown is the digest of what a page says that clean would drop.
func shown(t *testing.T, page answer) string {
	t.Helper()
	found := regexp.MustCompile(`name="shown" value="([0-9a-f]{64})"`).FindStringSubmatch(page.body)
	if found == nil {
		t.Fatalf("the page shows nothing to confirm: %.3000s", page.body)
	}
	return found[1]
}

// cleaning asks for clean.
func cleaning(n *jobs.NewTask) { n.Clean = &report.Confirmation{} }

// claim has a job run, until the test says more of it.
func (f *cloneFixture) claim(id string) runner.Run {
	f.t.Helper()
	r := runner.Run{Task: id, Term: 1}
	if _, err := f.store.Claim(f.t.Context(), r, "a worker"); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// beat says how far a job is that was claimed.
func (f *cloneFixture) beat(b runner.Beat) {
	f.t.Helper()
	if _, err := f.store.Beat(f.t.Context(), b); err != nil {
		f.t.Fatal(err)
	}
}

// end ends a job in one of the states that a page shows.
func (f *cloneFixture) end(id, status string) {
	f.t.Helper()
	if status == "cancelled" {
		if err := f.server.jobs.Cancel(f.t.Context(), jobs.Operator(), id); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	result := report.Report{Status: report.Status(status)}
	switch status {
	case "failed":
		result.Error = "the disk of the target is full"
	case "resumable":
		result.Status, result.Error, result.Resumable = report.StatusFailed, "the disk of the target is full", true
	case "refused":
		result.Reasons = []report.Reason{{Code: report.ReasonNotEmpty, Side: report.Target, Text: report.Said("The target is not empty."), Hint: report.Said("Choose clean.")}}
	}
	f.finish(id, result)
}

// finish ends a job with a report.
func (f *cloneFixture) finish(id string, report report.Report) {
	f.t.Helper()
	if err := f.store.Finish(f.t.Context(), runner.Beat{Run: f.claim(id)}, report); err != nil {
		f.t.Fatal(err)
	}
}

// ended returns a job of the owner in one of the states that a page shows.
func (f *cloneFixture) ended(status string, change ...func(*jobs.NewTask)) (id string) {
	f.t.Helper()
	id = f.start(change...)
	f.end(id, status)
	return id
}

// newest is the job that was made last.
func (f *cloneFixture) newest() string {
	f.t.Helper()
	return f.query(`SELECT id FROM background_tasks ORDER BY created_at DESC, id DESC LIMIT 1`)[0][0]
}

// lacks fails the test if a page says a text.
func lacks(t testing.TB, got answer, text string) {
	t.Helper()
	if strings.Contains(got.body, text) {
		t.Errorf("the page says %q:\n%.3000s", text, got.body)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	running := f.start()
	f.claim(running)
	want(t, "running", v.post("/clones/"+running+"/cancel"), "303 /clones/"+running)
	page := v.get("/clones/" + running)
	says(t, page, "Cancelling…")
	lacks(t, page, `action="/clones/`+running+`/cancel"`)
	for _, status := range []string{"completed", "failed", "cancelled"} {
		id := f.ended(status)
		want(t, status, v.post("/clones/"+id+"/cancel"), "303 /clones/"+id)
		page := v.get("/clones/" + id)
		says(t, page, "The clone had ended already: there was nothing to cancel.")
		if task := f.task(id); string(task.Status) != status {
			t.Errorf("it is %s now, and was %s", task.Status, status)
		}
	}
}

// The report is a file, for everybody who sees the job, once there is one.
func TestReport(t *testing.T) {
	t.Parallel()
	c := newClones(t, library+broken)
	id := c.create()
	v := c.as(c.colleague)
	path := "/clones/" + id + "/report.json"
	want(t, "while it is queued", v.get(path), "404")
	lacks(t, v.get("/clones/"+id), path)
	c.work()
	task := c.awaitEnd(id)
	got := v.get(path)
	want(t, "at the end", got, "200")
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Content-Disposition": `attachment; filename="calco-` + id + `.json"`,
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if is := got.header.Get(name); is != value {
			t.Errorf("%s is %q, want %q", name, is, value)
		}
	}
	var result report.Report
	if err := json.Unmarshal([]byte(got.body), &result); err != nil {
		t.Fatal(err)
	}
	whole, _ := json.Marshal(result)
	stored, _ := json.Marshal(task.Report)
	if result.Status != report.StatusDifferences || len(result.Ledger) != 1 || !strings.Contains(result.Ledger[0].Object, "loan") || !bytes.Equal(whole, stored) {
		t.Errorf("the report is %s, want %s", whole, stored)
	}
	if hint := result.Ledger[0].Hint; hint.IsZero() || !strings.Contains(got.body, `"text": "`+views.Say(t.Context(), hint)+`"`) {
		t.Errorf("the hint %q has no sentence: %s", hint, got.body)
	}
	page := v.get("/clones/" + id)
	says(t, page, path)
	says(t, page, "loan_book_id_fkey")

	f := newCloneFixture(t)
	want(t, "of one that never ran", f.as(f.owner).get("/clones/"+f.ended("cancelled")+"/report.json"), "404")
}
