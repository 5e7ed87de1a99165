package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"calco/web"
	"calco/web/webtest"
)

func TestLivePageFollowsTheJob(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	p := webtest.New(t, a.url())
	p.Open("/page")
	a.change("20 %", false)
	p.WaitText("20 %")
	if webtest.Eval[bool](p, `document.querySelector(".conn").innerText !== ""`) {
		t.Error("a banner, and nothing is lost")
	}
	// What somebody writes stays, beside the job and within it.
	p.Type("#note", "checked")
	p.Type("#filter", "ord")
	a.change("30 %", false)
	p.WaitText("30 %")
	p.Press("ers")
	a.change("40 %", false)
	p.WaitText("40 %")
	if got := webtest.Eval[string](p, `filter.value + " " + note.value + " " + document.activeElement.id`); got != "orders checked filter" {
		t.Errorf("typed and focused: %q", got)
	}
	// The end is shown, and nobody asks any more.
	requests := a.requests.Load()
	a.change("Completed", true)
	p.WaitText("Completed")
	p.Wait(`!document.querySelector("[hx-sse\\:connect]")._htmx.sse`)
	p.Hidden(true)
	p.Hidden(false)
	if got := a.requests.Load(); got != requests {
		t.Errorf("%d more requests after the end", got-requests)
	}
	p.WaitGone(".conn > .note")
}

func TestLiveServerRestarts(t *testing.T) {
	t.Parallel()
	// No time of the page's own brings the banner: only what the server's end does.
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1},
		"<html", `<html data-conn-doubt="3600000" data-conn-silence="3600000"`, "connectTimeout:5s", "connectTimeout:3600s")
	p := a.visit()
	a.stop()
	p.WaitFor(".conn-lost")
	p.WaitText("Connection lost. Reconnecting…")
	a.set("70 %", false, nil)
	a.start()
	p.WaitText("70 %")
	p.WaitGone(".conn > .note")
	a.change("80 %", false)
	p.WaitText("80 %")
	expectLost(t, p)
}

// On a busy machine a stream of a fixed life was too young in the eyes of the page, or the next one took too long: here the
// page's clock says when a stream is old, and the next one may take its time.
func TestLiveStreamThatWasOldIsOpenedAgainWithoutAWord(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1},
		"<html", `<html data-conn-steady="100" data-conn-doubt="3600000" data-conn-silence="3600000"`, "connectTimeout:5s", "connectTimeout:3600s")
	p := a.visit()
	for i := range 3 {
		p.Wait(fmt.Sprintf(`Date.now() > %d + 100`, webtest.Eval[int64](p, `Date.now()`)))
		a.endStream()
		text := fmt.Sprint(90+i, " %")
		a.change(text, false)
		p.WaitText(text) // by the next stream
	}
	if got := a.requests.Load(); got != 4 {
		t.Errorf("%d requests, want 4", got)
	}
	wantQuiet(t, p)
}

func TestLiveConnectionGoesSilent(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1, Ping: 100 * time.Millisecond},
		"<html", `<html data-conn-silence="600" data-conn-check="50"`, "connectTimeout:5s", "connectTimeout:300ms")
	a.server.Config.SetKeepAlivesEnabled(false) // or the browser tries the other silent connections first
	between := newProxy(t, a.address)
	p := webtest.New(t, between.url())
	p.Open("/page")
	p.Wait(`document.documentElement.dataset.conn === "ok"`)
	a.observe(p)
	between.freeze()
	p.Wait(`conns.some((c) => c === "lost")`) // for as long as a new one takes
	// The old connection stays silent for ever; a new one works.
	a.change("50 %", false)
	p.WaitText("50 %")
	p.WaitGone(".conn > .note")
	expectLost(t, p)
}

func TestLiveGivesUpWhenTheAnswerWillNotChange(t *testing.T) {
	t.Parallel()
	cases := []struct {
		status              int
		state, text, button string
	}{
		{http.StatusUnauthorized, "signedout", "You are signed out. This page is no longer live.", "Sign in again"},
		{http.StatusForbidden, "gone", "This page is no longer live.", "Reload"},
		{http.StatusNotFound, "gone", "This page is no longer live.", "Reload"},
		{http.StatusGone, "gone", "This page is no longer live.", "Reload"},
	}
	for _, c := range cases {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprint(c.status, " at first ", first), func(t *testing.T) {
				t.Parallel()
				a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
				var p *webtest.Page
				if first {
					a.status.Store(int64(c.status))
					p = webtest.New(t, a.url())
					p.Open("/page")
				} else {
					p = a.visit()
					a.status.Store(int64(c.status))
					a.cutStreams()
				}
				p.WaitFor(".conn-" + c.state)
				p.WaitText(c.text)
				p.WaitText("10 %") // the error has not replaced it
				requests := a.requests.Load()
				p.Wait(`!document.querySelector("[hx-sse\\:connect]")._htmx.sse`)
				if got := webtest.Eval[string](p, `document.documentElement.dataset.conn`); got != c.state {
					t.Errorf("the state is %q, want %q", got, c.state)
				}
				if got := a.requests.Load(); got != requests {
					t.Errorf("%d more requests", got-requests)
				}
				expectLost(t, p)
				a.status.Store(0)
				if c.status == http.StatusUnauthorized && !first {
					p.Hidden(true) // to sign in in another tab
					p.Hidden(false)
				} else {
					p.Follow(".conn a", c.button)
				}
				p.Wait(`document.documentElement.dataset.conn === "ok"`)
				p.WaitGone(".conn > .note")
			})
		}
	}
}

func TestLiveFirstConnectionFails(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	a.status.Store(http.StatusServiceUnavailable)
	p := webtest.New(t, a.url())
	p.Open("/page")
	p.WaitFor(".conn-lost")
	until(t, "it is tried again", func() bool { return a.requests.Load() >= 2 })
	a.set("60 %", false, nil)
	a.status.Store(0)
	p.WaitText("60 %")
	p.WaitGone(".conn > .note")
	if got := a.streams.Load(); got != 1 {
		t.Errorf("%d streams, want 1", got)
	}
	expectLost(t, p)
}

func TestLiveAnswersThatAreNoStream(t *testing.T) {
	t.Parallel()
	// A proxy's page with status 200 is no success, and is asked for less and less often.
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	p := a.visit()
	a.status.Store(http.StatusOK)
	a.cutStreams()
	p.WaitFor(".conn-lost")
	p.Wait(`document.querySelector("[hx-sse\\:connect]")._htmx.sse.attempt > 1`)
	p.WaitText("10 %")
	a.status.Store(0)
	p.WaitGone(".conn > .note")
	expectLost(t, p)
}

func TestLiveHiddenTab(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	p := a.visit()
	for i := range 3 {
		p.Hidden(true)
		until(t, "the stream is closed", func() bool { return a.streams.Load() == 0 })
		text := fmt.Sprint(40+i, " %")
		a.change(text, false)
		p.Hidden(false)
		p.WaitText(text)
	}
	wantQuiet(t, p)
	if got := a.requests.Load(); got != 4 {
		t.Errorf("%d requests, want 4", got)
	}
	p.Close()
	// A tab that is opened in the background.
	p = webtest.New(t, a.url())
	p.Open("/page?background=1")
	p.Wait(`document.readyState === "complete" && document.querySelector("[hx-sse\\:connect]")._htmx`)
	if got := a.requests.Load(); got != 4 {
		t.Error("a tab that nobody sees has a connection")
	}
	a.change("45 %", false)
	p.Hidden(false)
	p.WaitText("45 %")
	// A tab that is hidden while the server is gone.
	a.stop()
	p.WaitFor(".conn-lost")
	p.Hidden(true)
	a.set("46 %", false, nil)
	a.start()
	p.Hidden(false)
	p.WaitText("46 %")
	p.WaitGone(".conn > .note")
	expectLost(t, p)
}

func TestLiveTabThatIsHiddenWhileItConnects(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	a.gate.Lock()
	p := webtest.New(t, a.url())
	p.Open("/page")
	until(t, "the stream is asked for", func() bool { return a.requests.Load() == 1 })
	p.Hidden(true)
	a.gate.Unlock()
	until(t, "the stream is closed", func() bool { return a.over.Load() == 1 })
	p.Wait(`document.querySelector("[hx-sse\\:connect]")._htmx.sse === undefined`)
	a.change("35 %", false)
	p.Hidden(false)
	p.WaitText("35 %")
	if got := a.requests.Load(); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
}

func TestLiveReconnectsAtOnceWhenAsked(t *testing.T) {
	t.Parallel()
	// By itself the page would wait an hour.
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1}, "sse.reconnectMaxDelay:5s", "sse.reconnectDelay:3600s sse.reconnectMaxDelay:3600s")
	p := a.visit()
	cases := []struct {
		name string
		ask  func()
	}{
		{"button", func() { p.Click(".conn button", "Reconnect") }},
		{"online", func() { webtest.Eval[bool](p, `dispatchEvent(new Event("online"))`) }},
		{"shown", func() { p.Hidden(true); p.Hidden(false) }},
	}
	for _, c := range cases {
		a.status.Store(http.StatusServiceUnavailable)
		a.cutStreams()
		p.WaitFor(".conn-lost")
		p.Wait(`document.querySelector("[hx-sse\\:connect]")._htmx.sse.delayCanceller`)
		a.set("by "+c.name, false, nil)
		a.status.Store(0)
		c.ask()
		p.WaitText("by " + c.name)
		p.WaitGone(".conn > .note")
	}
	if webtest.Eval[bool](p, `dispatchEvent(new Event("offline"))`) {
		p.WaitFor(".conn-lost")
	}
	webtest.Eval[bool](p, `dispatchEvent(new Event("online"))`)
	p.WaitGone(".conn > .note")
	expectLost(t, p)
}

func TestLiveComesBackFromHistory(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	p := a.visit()
	p.Open("/other")
	until(t, "the stream is closed", func() bool { return a.streams.Load() == 0 })
	a.change("99 %", false)
	p.Leads(func() { webtest.Eval[bool](p, `history.back() || true`) })
	p.WaitText("99 %")
	until(t, "there is one stream", func() bool { return a.streams.Load() == 1 })
	a.change("100 %", false)
	p.WaitText("100 %")
}

func TestLiveStateIsAway(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: 20 * time.Millisecond, Gap: 1, Ping: 50 * time.Millisecond})
	p := a.visit()
	a.set("", false, errors.New("the database is away"))
	p.WaitFor(".conn-stale")
	p.WaitText("What you see may be out of date.")
	a.set("55 %", false, nil)
	p.WaitText("55 %")
	p.WaitGone(".conn > .note")
}

func TestLiveBannerLooksRight(t *testing.T) {
	t.Parallel()
	a := newLiveApp(t, web.Feed[string]{Poll: never, Gap: 1})
	p := a.visit()
	show := func(language, state string) string {
		p.Language(language)
		p.Open("/page")
		p.Wait(`document.documentElement.dataset.conn === "ok"`)
		webtest.Eval[string](p, fmt.Sprintf(`document.documentElement.dataset.conn = %q`, state))
		p.WaitFor(".conn-" + state)
		return "conn-" + state + "-" + language
	}
	p.Look(show("en", "lost"))
	p.Look(show("es", "signedout"))
	p.SetWidth(390)
	for _, state := range []string{"lost", "stale", "gone"} {
		name := show("es", state)
		p.NoOverflow()
		p.Screenshot(name)
	}
}
