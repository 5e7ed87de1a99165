package web

import (
	"strings"
	"testing"

	"calco/db/state"
)

// Clean target and retry of a job that was cancelled leads to one that completes.
func TestRetryToTheEnd(t *testing.T) {
	t.Parallel()
	a := newClones(t, library)
	stop := a.work()
	letGo := a.hold("book")
	id := a.create()
	a.awaitWaiting()
	stop() // which puts the job back into the queue
	letGo()
	v := a.as(a.owner)
	want(t, "cancel", v.post(clonePath(id)+"/cancel"), "303 "+clonePath(id))
	page := v.get(clonePath(id) + "/retry")
	want(t, "the confirmation", page, "200")
	says(t, page, "<code>"+a.target.Database+"</code>")
	wrong := v.post(clonePath(id)+"/retry", "confirm", "another")
	want(t, "a wrong name", wrong, "422")
	says(t, wrong, `value="another"`)
	says(t, wrong, "Type the name of the database exactly as it is shown.")

	got := v.post(clonePath(id)+"/retry", "confirm", a.target.Database)
	newest := a.task(id).Newest
	want(t, "the right name", got, "303 "+clonePath(newest))
	if next := a.task(newest); next.RetryOf != id || !next.Clean || next.UserID != a.owner.ID {
		t.Errorf("the next one: %+v", next)
	}
	want(t, "the old URL", a.as(a.colleague).get(clonePath(id)), "303 "+clonePath(newest))
	want(t, "the old attempt itself", a.as(a.colleague).get(clonePath(id)+"?attempt"), "200")
	want(t, "once more", v.post(clonePath(id)+"/retry", "confirm", a.target.Database), "303 "+clonePath(id))
	a.work()
	if done := a.awaitEnd(newest); done.Status != state.Completed {
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
	if got := a.awaitEnd(id); got.Status != state.Cancelled {
		t.Errorf("the job is %s", got.Status)
	}
	want(t, "once more", v.post(clonePath(id)+"/cancel"), "303 "+clonePath(id))
	page := v.get(clonePath(id))
	says(t, page, "The clone was cancelled.")
	says(t, page, "Clean target and retry")
	says(t, page, "New clone")
}
