package web

import (
	"fmt"
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/db/dbtest"
	"calco/web/webtest"
)

// chooseBoth chooses source and target in the form.
func (c *clones) chooseBoth(p *webtest.Page) {
	c.t.Helper()
	p.Select("#source", fmt.Sprint(c.source.ID))
	p.Select("#target", fmt.Sprint(c.target.ID))
}

// startClone goes the way of a user from the start page to the job's, and returns its id.
func (c *clones) startClone(p *webtest.Page) (id string) {
	c.t.Helper()
	p.Open("/")
	c.chooseBoth(p)
	p.Follow("button", "Start clone")
	return c.jobOf(p)
}

// jobOf is the job whose page is open.
func (c *clones) jobOf(p *webtest.Page) string {
	c.t.Helper()
	p.WaitFor("#job")
	id, ok := strings.CutPrefix(p.Path(), "/clones/")
	if !ok {
		c.t.Fatalf("the page is %s", p.Path())
	}
	return id
}

// waitStatus waits until the page shows the job in a state.
func waitStatus(p *webtest.Page, status string) {
	p.Wait(fmt.Sprintf(`document.querySelector("#job")?.dataset.status === %q`, status))
}

func percentShown(p *webtest.Page) int {
	return webtest.Eval[int](p, `Number(document.querySelector("#job").dataset.percent)`)
}

// Start a clone, go elsewhere, come back: it is there, and has moved on; and it ends before one's eyes.
func TestFlowReconnected(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library+slow)
	c.serve()
	c.work()
	letRead, letEnd := c.hold("book"), c.holdViews()
	p := c.openAs(c.owner)
	id := c.startClone(p)
	waitStatus(p, "running")
	before := percentShown(p)

	p.Follow("a", "History")
	p.WaitText("#" + id)
	letRead()
	c.eventually("the rows are there", func() bool { return c.task(id).Progress.Rows == 1010 })
	p.Follow("a", "Clones")
	p.WaitText("Reconnected to the clone in progress")
	waitStatus(p, "running")
	if after := percentShown(p); after <= before {
		t.Errorf("%d %% when it was left, and %d %% now", before, after)
	}

	letEnd()
	p.WaitText("The target agrees with the source")
	if got := c.task(id); got.Status != jobs.Completed {
		t.Errorf("the page says completed, and the job is %s", got.Status)
	}
	p.WaitText("The row counts of all 2 tables: 1,010 rows")
	p.Wait(`[...document.querySelectorAll("#tables tbody tr")].filter((r) => r.innerText.includes("done")).length === 2`)
	p.WaitText("Verify ended") // in the log, which follows the job to its end
	p.Follow("a", "New clone")
	p.Wait(fmt.Sprintf(`document.querySelector("#source").value === "%d" && document.querySelector("#target").value === "%d"`, c.source.ID, c.target.ID))
}

// The tab is closed. A colleague opens the link, and follows the clone to its end without a say in it; the owner's next
// visit shows the same.
func TestFlowColleague(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library+slow)
	c.serve()
	c.work()
	letEnd := c.holdViews()
	p := c.openAs(c.owner)
	id := c.startClone(p)
	waitStatus(p, "running")
	p.WaitFor("#job-cancel")
	p.Click("button", "Copy link")
	p.WaitFor("button", "Copied")
	link := webtest.Eval[string](p, `document.querySelector("#job-copy [data-copy]").dataset.copy`)
	if link != "/clones/"+id { // the browser makes it whole
		t.Errorf("the link is %s", link)
	}
	p.Close()

	colleague := c.openAs(c.colleague)
	colleague.Open(link)
	waitStatus(colleague, "running")
	colleague.WaitText("Started by " + bob)
	colleague.WaitGone("#job-cancel")
	letEnd()
	colleague.WaitText("The target agrees with the source")
	admin := c.openAs(c.boss)
	admin.Open(link)
	admin.WaitText("The target agrees with the source")
}

// The server stops and starts again: the page says so at once, and then what is true: the same clone goes on.
func TestFlowServerRestarts(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	stopServing, stopWorking := c.serve(), c.work()
	release := c.hold("book")
	p := c.openAs(c.owner)
	id := c.startClone(p)
	waitStatus(p, "running")
	c.awaitWaiting()
	stopServing()
	p.WaitText("Connection lost. Reconnecting…")
	stopWorking()
	c.serve()
	waitStatus(p, "queued")
	p.WaitGone(".conn-lost")
	p.WaitText("The server that ran the clone stopped. The clone goes on in the next one.") // in the log
	c.work()
	waitStatus(p, "running")
	release()
	p.WaitText("The target agrees with the source")
	if got := c.jobOf(p); got != id {
		t.Errorf("it is another job, %s", got)
	}
	p.Faults() // of the requests that found no server
}

// The target's server ends the clone's connections. What is known of that is on the page, and retry brings it home.
func TestFlowFailedAndRetried(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library+slow)
	c.serve()
	c.work()
	letEnd := c.holdViews()
	p := c.openAs(c.owner)
	id := c.startClone(p)
	c.eventually("the clone fills its views", func() bool {
		return dbtest.Query(t, c.targetURL, `SELECT count(pg_cancel_backend(pid)) > 0 FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'advisory' AND application_name LIKE 'calco%'`)[0][0] == "t"
	})
	waitStatus(p, "failed")
	letEnd()
	p.WaitText("57014")
	p.WaitText("The target holds 2 of 2 tables, complete; nothing is duplicated.")
	p.Look("clones/failed")

	p.Follow("a", "Clean target and retry")
	p.WaitText("This will be dropped from Shop staging")
	p.Look("clones/retry")
	p.Type("#confirm", "something else")
	p.Follow("button", "Clean target and retry")
	p.WaitText("Type the name of the database exactly as it is shown.")
	if got := c.task(id).Newest; got != "" {
		t.Errorf("a wrong name has started %s", got)
	}
	p.Type("#confirm", c.target.Database)
	p.Follow("button", "Clean target and retry")
	p.WaitText("The target agrees with the source")
	newest := c.jobOf(p)
	p.Look("clones/completed")

	other := c.openAs(c.colleague)
	other.Open("/clones/" + id)
	other.WaitPath("/clones/" + newest)
	other.Follow("#attempts a", "#"+id)
	waitStatus(other, "failed")
	other.WaitText("This clone was tried again.")
}

func TestFlowCancel(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	c.serve()
	p := c.openAs(c.owner)
	id := c.startClone(p) // without a worker
	waitStatus(p, "queued")
	p.Follow("button", "Cancel")
	waitStatus(p, "cancelled")
	p.WaitText("Nothing was changed on the target.")

	c.work()
	c.hold("book")
	id = c.startClone2(p, id)
	waitStatus(p, "running")
	c.awaitWaiting()
	p.Click("summary", "Cancel")
	p.WaitText("The copy stops.")
	p.Follow("button", "Cancel the clone")
	waitStatus(p, "cancelled")
	p.WaitText("The clone was cancelled.")
	if got := c.task(id); got.Status != jobs.Cancelled {
		t.Errorf("the page says cancelled, and the job is %s", got.Status)
	}
	c.eventually("nothing of it is left on the source", func() bool {
		return dbtest.Query(t, c.sourceURL, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'calco%'`)[0][0] == "0"
	})
}

// startClone2 starts another clone than the last, from the page of that.
func (c *clones) startClone2(p *webtest.Page, last string) (id string) {
	c.t.Helper()
	p.Follow("a", "New clone")
	p.Follow("button", "Start clone")
	if id = c.jobOf(p); id == last {
		c.t.Errorf("it is the same job, %s", id)
	}
	return id
}

// A clone that is refused says why and what to do; then the same again goes well.
func TestFlowRefused(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	dbtest.Exec(t, c.targetURL, `CREATE TABLE old (id int)`)
	c.serve()
	c.work()
	p := c.openAs(c.owner)
	c.startClone(p)
	waitStatus(p, "refused")
	p.WaitText("One thing to fix first")
	p.WaitText("Nothing was dropped or copied.")
	p.Look("clones/refused")
	p.Follow("a", "Clean target and retry")
	p.WaitText("table public.old")
	p.Type("#confirm", c.target.Database)
	p.Follow("button", "Clean target and retry")
	p.WaitText("The target agrees with the source")
}

// Who asks first sees what is in the way, and once that is gone that nothing is. Nothing has been started.
func TestFlowCheck(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	c.serve()
	p := c.openAs(c.owner)
	for language, says := range map[string]struct{ refused, fine string }{
		"en": {"This clone would be refused", "Nothing is in the way of this clone."},
		"es": {"Esta clonación se rechazaría", "Nada impide esta clonación."},
	} {
		dbtest.Exec(t, c.targetURL, `CREATE TABLE old (id int)`)
		p.Language(language)
		p.Open("/")
		c.chooseBoth(p)
		p.Click(`button[hx-get="/clones/check"]`)
		p.WaitText(says.refused)
		p.Look("clones/" + language + "-check-refused")
		dbtest.Exec(t, c.targetURL, `DROP TABLE old`)
		p.Click(`button[hx-get="/clones/check"]`)
		p.WaitText(says.fine)
		p.WaitNoText(says.refused)
		p.Look("clones/" + language + "-check-fine")
		p.Select("#target", "") // it was another clone of which nothing was in the way
		p.WaitNoText(says.fine)
	}
	if n := c.query(`SELECT count(*) FROM background_tasks`)[0][0]; n != "0" {
		t.Errorf("%s jobs", n)
	}
}

// A protected database cannot be chosen; and one that is protected meanwhile is refused.
func TestFlowProtected(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	c.serve()
	p := c.openAs(c.owner)
	p.Open("/")
	p.WaitText("Protected databases can never be a target.")
	if !webtest.Eval[bool](p, fmt.Sprintf(`document.querySelector('#target option[value="%d"]').disabled`, c.source.ID)) {
		t.Error("a protected database can be chosen as the target")
	}
	p.Look("clones/form")
	c.chooseBoth(p)
	dbtest.Exec(t, c.database, fmt.Sprintf(`UPDATE connections SET protected = true WHERE id = %d`, c.target.ID))
	p.Follow("button", "Start clone")
	p.WaitText("This database is protected: it can never be a target.")
	p.Wait(fmt.Sprintf(`document.querySelector("#source").value === "%d"`, c.source.ID)) // what was chosen stays
	p.Look("clones/form-protected")
	if n := c.query(`SELECT count(*) FROM background_tasks`)[0][0]; n != "0" {
		t.Errorf("%s jobs", n)
	}
}

// Chosen schemas, a target that is cleaned first, and its name to be typed.
func TestFlowSchemasAndClean(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	dbtest.Exec(t, c.targetURL, `CREATE SCHEMA office; CREATE TABLE office.chair (id int); CREATE TABLE public.kept (id int)`)
	c.serve()
	c.work()
	p := c.openAs(c.owner)
	p.Open("/")
	c.chooseBoth(p)
	p.Click("input[name=scope][value=chosen]")
	p.WaitFor("input[name=schema][value=office]")
	p.Look("clones/form-schemas")
	p.Click("input[name=schema][value=office]")
	p.Click("#clean")
	p.WaitText("table office.chair")
	p.WaitNoText("public.kept")
	p.Look("clones/form-clean")
	p.Type("#confirm", "not it")
	p.Follow("button", "Start clone")
	p.WaitText("Type the name of the database exactly as it is shown.")
	p.Wait(`document.querySelector("input[name=schema][value=office]").checked && document.querySelector("#confirm").value === "not it"`)
	p.Type("#confirm", c.target.Database)
	p.Follow("button", "Start clone")
	p.WaitText("The target agrees with the source")
	got := dbtest.Query(t, c.targetURL, `SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY c.oid::regclass::text) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE relkind = 'r' AND nspname IN ('public', 'office')`)[0][0]
	if got != "kept office.desk" {
		t.Errorf("the target has %s", got)
	}
}

// Who chooses faster than the databases answer sees what clean would drop by the last choice. The answer was dropped,
// and only the first choice made meanwhile was asked about.
func TestFlowChoosesFaster(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	dbtest.Exec(t, c.targetURL, `CREATE SCHEMA office; CREATE TABLE office.chair (id int); CREATE TABLE public.kept (id int)`)
	c.serve()
	p := c.openAs(c.owner)
	p.Open("/")
	c.chooseBoth(p)
	p.Click("input[name=scope][value=chosen]")
	p.WaitFor("input[name=schema][value=office]")
	letAnswer := holdAnswers(p)
	p.Click("input[name=schema][value=public]")
	p.Click("#clean")
	p.Click("input[name=schema][value=office]")
	p.Click("input[name=schema][value=public]")
	letAnswer()
	p.WaitText("table office.chair")
	p.WaitNoText("public.kept")
}

// holdAnswers makes the page wait for the answers to what it asks from now on, until let go. It asks asked times.
func holdAnswers(p *webtest.Page) (release func()) {
	webtest.Eval[bool](p, `(() => {
		const quick = window.fetch;
		const held = new Promise((release) => { window.letAnswer = release; });
		window.asked = 0;
		window.fetch = async (...args) => { window.asked++; const answer = await quick(...args); await held; return answer; };
		return true;
	})()`)
	return func() { webtest.Eval[bool](p, `(letAnswer(), true)`) }
}

func TestFlowSpanish(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library+slow)
	c.serve()
	c.work()
	letEnd := c.holdViews()
	p := c.openAs(c.owner)
	p.Language("es")
	p.Open("/")
	c.chooseBoth(p)
	p.Follow("button", "Iniciar clonación")
	waitStatus(p, "running")
	p.Open("/")
	p.WaitText("Reconectado a la clonación en progreso")
	letEnd()
	p.WaitText("El destino coincide con el origen") // in a live frame, which is Spanish too
	p.Look("clones/completada")
}

// Without scripts nothing is live, and all the rest works.
func TestFlowWithoutScripts(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library+slow)
	dbtest.Exec(t, c.targetURL, `CREATE TABLE old (id int)`)
	c.serve()
	p := c.openAs(c.owner)
	p.Scripts(false)
	p.Open("/")
	c.chooseBoth(p)
	p.Click("input[name=scope][value=chosen]")
	p.Click("#clean")
	p.Follow("button", "Read the schemas")
	p.Click("input[name=schema][value=public]")
	p.Click("input[name=schema][value=office]")
	p.WaitText("table public.old")
	p.Type("#confirm", c.target.Database)
	letEnd := c.holdViews()
	c.work()
	p.Follow("button", "Start clone")
	id := c.jobOf(p)
	c.eventually("it runs", func() bool { return c.task(id).Progress.Rows > 0 })
	p.Open("/clones/" + id)
	p.Click("summary", "Cancel")
	p.Follow("button", "Cancel the clone")
	c.awaitEnd(id)
	letEnd()
	p.Open("/")
	p.WaitText("The clone was cancelled.")
	p.Follow("a", "Clean target and retry")
	p.Type("#confirm", c.target.Database)
	p.Follow("button", "Clean target and retry")
	c.awaitEnd(c.task(id).Newest)
	p.Open("/clones/" + id)
	p.WaitText("The target agrees with the source")
}

// The list of tables follows a clone of many, filtered and paged, without losing what was typed.
func TestFlowTables(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, slow+`DO $$ BEGIN FOR i IN 1..120 LOOP EXECUTE format('CREATE TABLE many_%s AS SELECT generate_series(1, 10) AS n', i); END LOOP; END $$`)
	c.serve()
	c.work()
	letRead, letEnd := c.hold("many_7"), c.holdViews()
	p := c.openAs(c.owner)
	c.startClone(p)
	waitStatus(p, "running")
	letRead()
	p.WaitText("1–50 of 120")
	p.Type("#tables-name", "many_11")
	p.WaitText("of 11")
	p.Wait(`document.querySelectorAll("#tables tbody tr").length === 11`)
	p.Look("clones/tables")
	letEnd()
	p.WaitText("The target agrees with the source")
	p.Wait(`document.querySelector("#tables-name").value === "many_11" && document.querySelectorAll("#tables tbody tr").length === 11`)
	p.Select("#tables-state", "failed")
	p.WaitText("No table matches.")
	p.Open(p.Path())
	p.Click("a", "Next")
	p.WaitText("51–100 of 120")
	// Who types faster than the server answers sees what was typed last. What was typed third was never asked for: it was
	// dropped, or else forgotten when the answer to the first came.
	letAnswer := holdAnswers(p)
	p.Type("#tables-name", "many_")
	p.Wait(`asked === 1`)
	p.Press("1")
	p.Wait(`asked === 2`)
	p.Press("20")
	letAnswer()
	p.WaitText("1–1 of 1")
	p.Wait(`document.querySelector("#tables-name").value === "many_120"`)
}

// Clone again from the history.
func TestFlowHistory(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	c.run()
	c.serve()
	p := c.openAs(c.colleague)
	p.Open("/history")
	p.Look("clones/history")
	p.Select("select[name=state]", "failed")
	p.Follow("button", "Filter")
	p.WaitText("Nothing matches")
	p.Follow("a", "Show all")
	p.Follow("tbody a", "Clone again")
	p.Wait(fmt.Sprintf(`document.querySelector("#source").value === "%d" && document.querySelector("#target").value === "%d"`, c.source.ID, c.target.ID))
}

// A clone that nobody hears of is shown as stalled, with the ways out.
func TestFlowStalled(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	c.serve()
	id := c.create()
	c.claim(id)
	p := c.openAs(c.owner)
	p.Open("/clones/" + id)
	waitStatus(p, "running")
	dbtest.Exec(t, c.database, `UPDATE background_tasks SET updated_at = now() - interval '31 s'`)
	waitStatus(p, "stalled")
	p.WaitText("Last heard of")
	p.Look("clones/stalled")
	p.Follow("a", "Cancel and restart")
	p.Follow("button", "Cancel and restart")
	p.WaitText("Waiting for the old run to end")
	dbtest.Exec(t, c.database, `UPDATE background_tasks SET updated_at = now() - interval '31 s'`)
	dbtest.StartedAgo(t, c.database, "1 hour") // workers have some grace after that
	c.work()                                   // whose reaper ends it
	p.WaitFor("#confirm")
	if got := c.task(id); got.Status != jobs.Cancelled || got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("the job is %s, started %v, ended %v", got.Status, got.StartedAt, got.FinishedAt)
	}
}
