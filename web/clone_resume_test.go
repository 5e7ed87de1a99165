package web

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db/dbtest"
	"calco/views/viewstest"
	"calco/web/webtest"
)

// resumable ends a job of the owner early, with something to go on with on its target.
func (c *clones) resumable(status report.Status) (id string) {
	c.t.Helper()
	id = c.create()
	c.claim(id)
	beat := runner.Beat{Run: runner.Run{Task: id, Term: 1}, Touched: true}
	report := report.Report{Status: status, Error: "the disk of the target is full", Resumable: true}
	if err := c.store.Finish(c.t.Context(), beat, report); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// Resume is there where a job can go on, before the other ways out; and it is the same job that goes on.
func TestResume(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	for _, status := range []string{"failed", "cancelled"} {
		id := f.ended(status)
		page := v.get(clonePath(id))
		lacks(t, page, clonePath(id)+"/resume")
		says(t, page, `<a class="btn btn-primary" href="`+clonePath(id)+`/retry">Clean target and retry</a>`)

		f.change(id, `touched = true, started_at = now(), report = jsonb_build_object('status', status, 'resumable', true)`)
		page = v.get(clonePath(id))
		resume := strings.Index(page.body, `<button class="btn btn-primary">Resume</button>`)
		retry := strings.Index(page.body, `<a class="btn btn-soft" href="`+clonePath(id)+`/retry">Clean target and retry</a>`)
		if resume < 0 || retry < resume {
			t.Errorf("%s: Resume is at %d, and Clean target and retry at %d", status, resume, retry)
		}
		says(t, page, "Resume goes on from what is on the target. What the source has changed since, or cannot prove to be unchanged, is copied again.")
		lacks(t, f.as(f.other).get(clonePath(id)), clonePath(id)+"/resume")

		want(t, "resume", v.post(clonePath(id)+"/resume"), "303 "+clonePath(id))
		page = v.get(clonePath(id))
		says(t, page, `data-status="queued"`)
		says(t, page, "Waiting for a free worker. It goes on by itself.")
		if got := f.task(id); got.Term != 2 || got.Newest != "" {
			t.Errorf("resumed: %+v", got)
		}
		want(t, "resume twice", v.post(clonePath(id)+"/resume"), "303 "+clonePath(id))
		says(t, v.get(clonePath(id)), "This clone goes on already, or cannot be resumed any more.")
	}
}

// A job that cannot go on now says why, where it is.
func TestResumeRefused(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	source, target := f.pair(f.owner)
	id := f.startBetween(source, target)
	f.end(id, "resumable")
	refused := func(text string) {
		t.Helper()
		got := v.post(clonePath(id) + "/resume")
		want(t, text, got, "422")
		for _, s := range []string{"The clone cannot be resumed now.", text, `data-status="failed"`, ">Resume<"} {
			says(t, got, s)
		}
	}
	other := f.startBetween(source, target)
	refused("Another clone is writing to this target. Wait for it, or cancel it.")
	want(t, "cancel the other one", v.post(clonePath(other)+"/cancel"), "303 "+clonePath(other))
	target.Protected = true
	if err := f.resave(target, ""); err != nil {
		t.Fatal(err)
	}
	refused("This database is protected: it can never be a target.")
	if err := f.forget(target); err != nil {
		t.Fatal(err)
	}
	refused("This database is no longer there.")
}

// A job that was refused when it was to go on has lost nothing: Try again has the same one go on.
func TestTryAgainGoesOn(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	id := f.ended("refused", cleaning)
	f.change(id, `touched = true`)
	page := v.get(clonePath(id))
	says(t, page, "The clone does not go on yet.")
	says(t, page, "Clean target and retry")
	lacks(t, page, "The clone was not begun.")
	want(t, "again", v.post(clonePath(id)+"/again"), "303 "+clonePath(id))
	if got := f.task(id); got.Status != jobs.Queued || got.Term != 2 {
		t.Errorf("the job is %s with term %d", got.Status, got.Term)
	}
}

// What an earlier life has left on the target is not forgotten when a later one never comes there.
func TestRemains(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	id := f.ended("failed")
	says(t, v.get(clonePath(id)), "Nothing was changed on the target.")
	f.change(id, `touched = true`)
	says(t, v.get(clonePath(id)), "What was copied before is still on the target.")
}

// Reconnect gives a job whose worker is gone to another one.
func TestReconnect(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	dbtest.StartedAgo(t, f.database, "1 hour") // workers have some grace after that
	id := f.start()
	f.claim(id)
	want(t, "while it is heard of", v.post(clonePath(id)+"/reconnect"), "303 "+clonePath(id))
	if got := f.task(id); got.Status != jobs.Running || got.Term != 1 {
		t.Errorf("a job that is heard of is %s with term %d", got.Status, got.Term)
	}
	f.change(id, `updated_at = now() - '31 seconds'::interval`)
	says(t, v.get(clonePath(id)), `data-status="stalled"`)
	want(t, "when it is silent", v.post(clonePath(id)+"/reconnect"), "303 "+clonePath(id))
	if got := f.task(id); got.Status != jobs.Queued || got.Term != 2 {
		t.Errorf("a job that is silent is %s with term %d", got.Status, got.Term)
	}
}

// A queued job does nothing, whatever it did when its worker went.
func TestQueuedAgainRests(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	id := f.start()
	beat := runner.Beat{Run: f.claim(id), Touched: true, Speeds: []int64{7_000_000, 8_000_000}}
	beat.Progress.Phases = []report.PhaseProgress{{Name: report.PhasePreData, Ended: true}, {Name: report.PhaseCopy, Running: true}}
	beat.Progress.Active = []report.TableProgress{{Relation: "app.orders"}}
	beat.Progress.Waiting = &report.Wait{Text: report.Said("the target does not answer")}
	beat.Progress.Done, beat.Progress.Left = 0.4, time.Minute
	if _, err := f.store.Requeue(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	page := f.as(f.owner).get(clonePath(id))
	says(t, page, `data-percent="40"`)
	says(t, page, "goes on later")
	for _, text := range []string{"app.<wbr>orders", "the target does not answer", "8 MB/s", "in progress<", "left<"} {
		lacks(t, page, text)
	}
}

// By real clicks: a job that failed goes on, and comes to its end at the same URL, which a colleague has open all the time.
func TestFlowResume(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	for _, c := range []struct {
		language, resume, ends string
		status                 report.Status
	}{
		{"en", "Resume", "The target agrees with the source", report.StatusFailed},
		{"es", "Reanudar", "El destino coincide con el origen", report.StatusCancelled},
	} {
		t.Run(c.language, func(t *testing.T) {
			t.Parallel()
			a := newClones(t, library)
			a.serve()
			id := a.resumable(c.status)
			p, colleague := a.openAs(a.owner), a.openAs(a.colleague)
			colleague.Language(c.language)
			colleague.Open(clonePath(id))
			waitStatus(colleague, string(c.status))
			p.Language(c.language)
			p.Open("/") // where it is the current job
			waitStatus(p, string(c.status))
			p.Follow("button", c.resume)
			waitStatus(p, "queued")
			waitStatus(colleague, "queued")
			a.work()
			p.WaitText(c.ends)
			colleague.WaitText(c.ends)
			if got := a.jobOf(p); got != id {
				t.Errorf("it is another job, %s", got)
			}
			if got := a.task(id); got.Status != jobs.Completed || got.Term != 2 {
				t.Errorf("the job is %s with term %d", got.Status, got.Term)
			}
		})
	}
}

// What a clone waits for is on its page while it does, live.
func TestFlowWaiting(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library)
	c.serve()
	id := c.create()
	c.claim(id)
	beat := func(trouble *report.Wait) {
		t.Helper()
		b := runner.Beat{Run: runner.Run{Task: id, Term: 1}}
		b.Progress.Phases, b.Progress.Waiting = []report.PhaseProgress{{Name: report.PhaseCopy, Running: true}}, trouble
		if _, err := c.store.Beat(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	beat(nil)
	p := c.openAs(c.owner)
	p.Open(clonePath(id))
	p.WaitFor("#job .badge", "Copying")
	now := time.Now()
	beat(&report.Wait{Text: report.Said("The target does not answer: connection refused"), Since: now.Add(-2 * time.Minute), Until: now.Add(8 * time.Minute), Tries: 3})
	p.WaitFor("#job .badge", "Waiting")
	p.WaitText("It last got something done 2 minutes ago.")
	p.WaitText("The target does not answer: connection refused")
	p.WaitText("until " + now.Add(8*time.Minute).UTC().Format("15:04:05 UTC"))
	beat(nil)
	p.WaitFor("#job .badge", "Copying")
	p.WaitNoText("The target does not answer")
}

// The process that serves a page need not be the one that runs its clone. When it restarts, the page says so, and then
// what has become of the clone meanwhile.
func TestFlowTwoProcesses(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	c := newClones(t, library+slow)
	c.work() // process A, which serves nothing here
	letRead, letEnd := c.hold("book"), c.holdViews()
	stop := c.serveFrom(c.openStore()) // process B
	p := c.openAs(c.owner)
	id := c.startClone(p)
	waitStatus(p, "running")
	before := percentShown(p)
	letRead()
	p.Wait(fmt.Sprintf(`Number(document.querySelector("#job").dataset.percent) > %d`, before))
	stop()
	p.WaitText("Connection lost. Reconnecting…")
	letEnd()
	if got := c.awaitEnd(id); got.Status != jobs.Completed {
		t.Errorf("the clone is %s: %s", got.Status, got.Error)
	}
	c.serveFrom(c.openStore())
	p.WaitText("The target agrees with the source")
	p.WaitGone(".conn-lost")
	p.Faults() // of the requests that found no server
}

// TestPagesGoOn looks at the pages of jobs that wait, go on, or could, in both languages.
func TestPagesGoOn(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	server := httptest.NewServer(viewstest.Handler())
	t.Cleanup(server.Close)
	for _, language := range []string{"en", "es"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			p := webtest.New(t, server.URL)
			for _, name := range []string{
				"requeued", "waiting", "hostile-waiting", "failed", "failed-again", "resume-refused", "refused-resumed", "completed-epochs",
			} {
				p.Open("/" + name + "?lang=" + language)
				if name == "completed-epochs" {
					p.Click("#epochs summary")
				}
				p.Look("goon/" + language + "-" + name)
			}
		})
	}
}
