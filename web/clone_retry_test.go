package web

import (
	"fmt"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
)

// The old URL of a job that was tried again leads to the newest attempt, from where the old ones can still be opened.
func TestAttempts(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.other)
	source, target := f.pair(f.owner)
	chain := []string{f.startBetween(source, target)}
	for range 2 {
		f.end(chain[len(chain)-1], "failed")
		again, err := f.server.jobs.Retry(t.Context(), f.owner, chain[len(chain)-1], jobs.Again{})
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, again)
	}
	f.end(chain[2], "failed")
	newest := chain[2]
	for _, old := range chain[:2] {
		want(t, "the old URL", v.get("/clones/"+old), "303 /clones/"+newest)
		for _, query := range []string{"?attempt", "?attempt=1", "?table=x&state="} {
			page := v.get("/clones/" + old + query)
			want(t, query, page, "200")
			says(t, page, "This clone was tried again.")
			says(t, page, `href="/clones/`+newest+`"`)
		}
	}
	page := v.get("/clones/" + newest)
	want(t, "the newest", page, "200")
	lacks(t, page, "This clone was tried again.")
	for _, old := range chain[:2] {
		says(t, page, `href="/clones/`+old+`?attempt"`)
	}
}

// Clean target and retry: the confirmation says what would be dropped, and the name is typed. An admin may do it with
// databases that the admin sees.
func TestRetry(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, _ := f.pair(f.owner)
	target, _ := f.real("Staging", shop)
	for _, d := range []jobs.Connection{source, target} {
		d.Shared = true
		if err := f.resave(d, ""); err != nil {
			t.Fatal(err)
		}
	}
	onlyApp := func(n *jobs.NewTask) { n.Schemas = []string{"app"} }
	first := f.startBetween(source, target, onlyApp)
	f.end(first, "failed")
	path := "/clones/" + first + "/retry"
	owner, admin := f.as(f.owner), f.as(f.admin)
	for _, v := range []*visitor{owner, admin} {
		page := v.get(path)
		want(t, "the confirmation", page, "200")
		for _, text := range []string{"app.<wbr>orders", "1,234", "<code>" + target.Database + "</code>", `name="confirm"`} {
			says(t, page, text)
		}
		lacks(t, page, "public.<wbr>a")
		got := v.post(path, "confirm", "staging")
		want(t, "the wrong name", got, "422")
		says(t, got, `value="staging"`)
		says(t, got, "Type the name of the database exactly as it is shown.")
	}

	got := admin.post(path, "confirm", target.Database, "shown", shown(t, admin.get(path)))
	again := f.newest()
	want(t, "the right name", got, "303 /clones/"+again)
	if task := f.task(again); task.RetryOf != first || !task.Clean || task.UserID != f.admin.ID || fmt.Sprint(task.Schemas) != "[app]" {
		t.Errorf("tried again is %+v", task)
	}

	// Once is enough: whoever is late is led to the newest attempt, and told why.
	for what, got := range map[string]answer{
		"the late confirmation": owner.get(path), "a second retry": owner.post(path, "confirm", target.Database),
		"a second retry, wrong": owner.post(path, "confirm", ""), "a second again": owner.post("/clones/" + first + "/again"),
	} {
		want(t, what, got, "303 /clones/"+first)
	}
	want(t, "then", owner.get("/clones/"+first), "303 /clones/"+again)
	says(t, owner.get("/clones/"+again), "This clone was tried again already: this is its newest attempt.")
	lacks(t, owner.get("/clones/"+again), "This clone was tried again already")
	if n := f.query(`SELECT count(*) FROM background_tasks`)[0][0]; n != "2" {
		t.Errorf("there are %s jobs", n)
	}
}

// The page showed the contents of whatever the saved database led to by now, though its reader might not see it any more,
// and the retry dropped them.
func TestRetryShowsNothingElse(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, _ := f.pair(f.other)
	target, _ := f.real("Staging", shop)
	_, elsewhere := f.real("Precious", shop)
	change := func(shared bool, url dsn.URL) {
		t.Helper()
		target.Shared = shared
		if err := f.resave(target, url); err != nil {
			t.Fatal(err)
		}
	}
	change(true, "")
	failed := f.startBetween(source, target)
	f.end(failed, "failed")
	v, path := f.as(f.other), "/clones/"+failed+"/retry"
	says(t, v.get(path), "app.<wbr>orders")

	change(false, "")
	page := v.get(path)
	lacks(t, page, "app.<wbr>orders")
	says(t, page, "This database is no longer there.")
	want(t, "withdrawn", v.post(path, "confirm", target.Database), "422")

	change(true, dsn.URL(elsewhere))
	page = v.get(path)
	lacks(t, page, "app.<wbr>orders")
	says(t, page, "leads to another place")
	want(t, "moved", v.post(path, "confirm", target.Database), "422")
}

// What has changed since a job ended is said where it is tried again, and what was typed stays.
func TestRetryRefused(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, _ := f.pair(f.owner)
	target, _ := f.real("Staging", shop)
	v := f.as(f.owner)
	failed := f.startBetween(source, target)
	f.end(failed, "failed")
	protect := func(protected bool) {
		t.Helper()
		target.Protected = protected
		if err := f.resave(target, ""); err != nil {
			t.Fatal(err)
		}
	}
	protect(true)
	retry := "/clones/" + failed + "/retry"
	got := v.post(retry, "confirm", target.Database, "shown", shown(t, v.get(retry)))
	want(t, "protected", got, "422")
	says(t, got, "This database is protected: it can never be a target.")
	says(t, got, `value="`+target.Database+`"`)

	protect(false)
	refused := f.startBetween(source, target, func(n *jobs.NewTask) { n.Schemas = []string{"app"} })
	f.end(refused, "refused")
	protect(true)
	got = v.post("/clones/" + refused + "/again")
	want(t, "protected, again", got, "422")
	says(t, got, `id="target-error">This database is protected: it can never be a target.`)
	says(t, got, `name="schema" value="app"`)
	if chosen(got, "source") != idOf(source) || chosen(got, "target") != idOf(target) {
		t.Errorf("from %q into %q", chosen(got, "source"), chosen(got, "target"))
	}

	if err := f.forget(target); err != nil {
		t.Fatal(err)
	}
	got = v.get("/clones/" + failed + "/retry")
	want(t, "gone", got, "200")
	says(t, got, "This database is no longer there.")
	lacks(t, got, `name="confirm"`)
	got = v.post("/clones/"+failed+"/retry", "confirm", target.Database)
	want(t, "gone, and confirmed", got, "422")
	says(t, got, "This database is no longer there.")
}

// Try again makes a job like it; one that cleans is confirmed first.
func TestTryAgain(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	refused := f.ended("refused", func(n *jobs.NewTask) { n.Schemas = []string{"app"} })
	want(t, "again", v.post("/clones/"+refused+"/again"), "303 /clones/"+f.newest())
	if old, task := f.task(refused), f.task(f.newest()); task.RetryOf != refused || task.Clean || task.Source != old.Source || task.Target != old.Target || fmt.Sprint(task.Schemas) != "[app]" {
		t.Errorf("tried again is %+v", task)
	}
	cleans := f.ended("refused", cleaning)
	want(t, "with clean", v.post("/clones/"+cleans+"/again"), "303 /clones/"+cleans+"/retry")
	if f.newest() != cleans {
		t.Error("it was started without a confirmation")
	}
}

// Cancel and restart waits until the worker has ended the old run.
func TestRestart(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	id := f.start()
	run := f.claim(id)
	f.change(id, `updated_at = now() - '31 seconds'::interval`)
	page := v.get("/clones/" + id)
	for _, text := range []string{`data-status="stalled"`, ">Reconnect<", ">Cancel and restart<"} {
		says(t, page, text)
	}
	path := "/clones/" + id + "/retry"
	page = v.get(path)
	says(t, page, ">Cancel and restart<")
	lacks(t, page, `name="confirm"`)
	want(t, "restart", v.post(path), "303 "+path)
	want(t, "restart twice", v.post(path), "303 "+path)
	page = v.get(path)
	says(t, page, "Waiting for the old run to end")
	lacks(t, page, `name="confirm"`)
	err := f.store.Finish(t.Context(), runner.Beat{Run: run}, report.Report{Status: report.StatusCancelled, Error: report.ErrCancelled.Error()})
	if err != nil {
		t.Fatal(err)
	}
	page = v.get(path)
	says(t, page, "Clean target and retry")
	lacks(t, page, "Waiting for the old run to end")
}

// A refusal leads to what helps: the same again would be refused again.
func TestWaysOutOfRefusal(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	again := `<button class="btn btn-primary">Try again</button>`
	for _, tt := range []struct {
		codes []report.ReasonCode
		first string
		lacks []string
	}{
		{[]report.ReasonCode{report.ReasonNotEmpty}, `/retry">Clean target and retry</a>`, []string{"Try again"}},
		{[]report.ReasonCode{report.ReasonNotShown}, `/retry">Clean target and retry</a>`, []string{"Try again"}},
		{[]report.ReasonCode{report.ReasonCredentials}, `">Edit the database target`, []string{again}},
		{[]report.ReasonCode{report.ReasonNotEmpty, report.ReasonTLS}, `">Edit the database target`, []string{"Clean target and retry"}},
		{[]report.ReasonCode{report.ReasonSameDatabase}, `>New clone</a>`, []string{"Try again", "Clean target and retry"}},
		{[]report.ReasonCode{report.ReasonNotEmpty, runner.ReasonProtected}, `>New clone</a>`, []string{"Try again", "Clean target and retry"}},
		{[]report.ReasonCode{report.ReasonNotEmpty, report.ReasonPermission}, again, []string{"Clean target and retry"}},
		{[]report.ReasonCode{report.ReasonNoConnection}, again, nil},
	} {
		id := f.start()
		var reasons []report.Reason
		for _, code := range tt.codes {
			reasons = append(reasons, report.Reason{Code: code, Side: report.Target, Text: report.Said("No."), Hint: report.Said("Then.")})
		}
		f.finish(id, report.Report{Status: report.StatusRefused, Reasons: reasons})
		page := v.get(clonePath(id))
		at := strings.Index(page.body, `<div class="actions">`)
		if first := strings.Index(page.body[max(at, 0):], tt.first); at < 0 || first < 0 || strings.Count(page.body[at:at+first], "btn ") > 1 {
			t.Errorf("%v: %s is not first: %.900s", tt.codes, tt.first, page.body[max(at, 0):])
		}
		for _, text := range tt.lacks {
			lacks(t, page, text)
		}
	}
}
