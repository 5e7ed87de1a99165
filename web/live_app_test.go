package web_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"calco/static"
	"calco/views"
	"calco/web"
	"calco/web/webtest"
)

// liveApp is a page with a stream, and a server for it that can be stopped and started again at the same address. The
// text of the world is the job on the page.
type liveApp struct {
	world
	t       *testing.T
	feed    web.Feed[string]
	replace []string // in the page, as of strings.NewReplacer
	address string
	server  *httptest.Server
	hub     *web.Hub[string]

	status   atomic.Int64 // that the stream answers with, instead of the stream
	requests atomic.Int64 // for the stream
	over     atomic.Int64 // streams that were
	gate     sync.RWMutex // locked, it keeps streams waiting

	end atomic.Pointer[context.CancelFunc] // of the newest stream
}

func newLiveApp(t *testing.T, feed web.Feed[string], replace ...string) *liveApp {
	t.Helper()
	webtest.Require(t)
	a := &liveApp{t: t, feed: feed, replace: replace}
	a.feed.Snapshot, a.feed.Log = a.snapshot, slog.New(slog.DiscardHandler)
	a.set("10 %", false, nil)
	a.start()
	t.Cleanup(a.stop)
	return a
}

func (a *liveApp) start() {
	a.t.Helper()
	a.hub = web.NewHub(a.feed)
	if a.address == "" {
		a.address = "127.0.0.1:0"
	}
	var listener net.Listener
	until(a.t, "the address is free", func() (ok bool) {
		var err error
		listener, err = net.Listen("tcp", a.address)
		return err == nil
	})
	a.address = listener.Addr().String()
	e := echo.New()
	e.GET(static.Prefix+"*", a.asset)
	e.GET("/page", a.page)
	e.GET("/other", func(c echo.Context) error { return c.HTML(http.StatusOK, `<link rel="icon" href="data:,">`) })
	e.GET("/events", a.events)
	e.GET("/background.js", func(c echo.Context) error {
		return c.Blob(http.StatusOK, "text/javascript", []byte(`Object.defineProperty(document, "hidden", {value: true, configurable: true});`))
	})
	a.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: e}}
	a.server.Config.RegisterOnShutdown(a.hub.Close)
	a.server.Start()
}

// stop stops the server like the app does.
func (a *liveApp) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := a.server.Config.Shutdown(ctx); err != nil {
		a.t.Errorf("stop: %v", err)
	}
	a.server.Close()
	a.hub.Close()
}

// asset serves the files. hx-sse comes late, as over a slow network.
func (a *liveApp) asset(c echo.Context) error {
	if strings.Contains(c.Request().URL.Path, "hx-sse") {
		<-time.After(150 * time.Millisecond)
	}
	static.Handler().ServeHTTP(c.Response(), c.Request())
	return nil
}

func (a *liveApp) page(c echo.Context) error {
	text, _, _ := a.snapshot(c.Request().Context(), "") // the page is drawn from the state, too
	content := templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, `<h1>Live</h1>`+job(text)+`<label>Filter <input id="filter"></label>`); err != nil {
			return err
		}
		if err := views.LiveStream("/events").Render(ctx, w); err != nil {
			return err
		}
		return views.ConnectionBanner().Render(ctx, w)
	})
	ctx := templ.WithChildren(views.WithLanguage(c.Request().Context(), views.MatchLanguage("", c.Request().Header.Get("Accept-Language"))), content)
	var buf bytes.Buffer
	if err := views.Layout(views.Page{Title: "Live", Theme: "auto", Path: "/page", User: &views.User{Email: "ada@example.com"}}).Render(ctx, &buf); err != nil {
		return err
	}
	replace := a.replace
	if c.QueryParam("background") != "" {
		replace = append([]string{"<head>", `<head><script src="/background.js"></script>`}, replace...)
	}
	c.Response().Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; "+
		"img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	return c.HTML(http.StatusOK, strings.NewReplacer(replace...).Replace(buf.String()))
}

func job(text string) string {
	return `<section id="job"><p id="done">` + text + `</p><label>Note <input id="note"></label></section>`
}

func (a *liveApp) events(c echo.Context) error {
	a.requests.Add(1)
	if got := c.Request().Header.Get("Accept"); got != "text/event-stream" {
		a.t.Errorf("the stream is asked for with Accept: %q, and an error would be a page", got)
	}
	if status := int(a.status.Load()); status != 0 {
		return c.String(status, "<p id=job>no stream</p>")
	}
	a.gate.RLock()
	a.streams.Add(1)
	a.gate.RUnlock()
	defer func() { a.streams.Add(-1); a.over.Add(1) }()
	ctx, end := context.WithCancel(c.Request().Context())
	defer end()
	a.end.Store(&end)
	c.SetRequest(c.Request().WithContext(ctx))
	return a.hub.Serve(c, "job", "", func(_ context.Context, text string) ([]byte, error) {
		return []byte(`<hx-partial hx-target="#job" hx-swap="outerMorph">` + job(text) + `</hx-partial>`), nil
	})
}

// change changes the job and says so.
func (a *liveApp) change(text string, final bool) {
	a.set(text, final, nil)
	a.hub.Kick("job")
}

func (a *liveApp) url() string { return "http://" + a.address }

// cutStreams hangs up on everybody.
func (a *liveApp) cutStreams() { a.server.CloseClientConnections() }

// endStream ends the newest stream as its Lifetime does, and waits until it is over.
func (a *liveApp) endStream() {
	a.t.Helper()
	over := a.over.Load()
	(*a.end.Load())()
	until(a.t, "the stream is over", func() bool { return a.over.Load() > over })
}

// visit opens the page in a browser, and waits until it is live.
func (a *liveApp) visit() *webtest.Page {
	a.t.Helper()
	p := webtest.New(a.t, a.url())
	p.Open("/page")
	p.Wait(`document.documentElement.dataset.conn === "ok"`)
	a.observe(p)
	return p
}

// observe has the page note each state of the connection.
func (a *liveApp) observe(p *webtest.Page) {
	a.t.Helper()
	webtest.Eval[bool](p, `(() => {
		window.conns = [];
		new MutationObserver(() => conns.push(document.documentElement.dataset.conn))
			.observe(document.documentElement, {attributeFilter: ["data-conn"]});
		return true;
	})()`)
}

func observed(p *webtest.Page) []string { return webtest.Eval[[]string](p, `window.conns`) }

// wantQuiet fails the test if the page has said that it was not live.
func wantQuiet(t *testing.T, p *webtest.Page) {
	t.Helper()
	for _, c := range observed(p) {
		if c != "ok" {
			t.Errorf("the page said %q, and nothing was lost", c)
		}
	}
}

// expectLost takes what htmx writes to the console about a connection that was meant to be lost.
func expectLost(t *testing.T, p *webtest.Page) {
	t.Helper()
	for _, f := range p.Faults() {
		// Chromium asks for the icon when it likes.
		if !strings.Contains(f, "htmx: htmx:") && !strings.Contains(f, "ERR_CONNECTION_REFUSED") {
			t.Errorf("the page did wrong: %s", f)
		}
	}
}

// proxy stands between the browser and the server, and can forget the connections that are open without closing them.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	frozen   map[*atomic.Bool]bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &proxy{listener: listener, frozen: map[*atomic.Bool]bool{}}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	running.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _ = in.Close(); _ = out.Close() })
			frozen := new(atomic.Bool)
			x.mu.Lock()
			x.frozen[frozen] = true
			x.mu.Unlock()
			running.Go(func() { carry(out, in, frozen) })
			running.Go(func() { carry(in, out, frozen) })
		}
	})
	return x
}

// carry copies until the end, and throws away what comes when frozen.
func carry(to, from net.Conn, frozen *atomic.Bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !frozen.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
			if err != nil {
				_ = to.Close()
			}
		}
		if err != nil {
			return
		}
	}
}

func (x *proxy) freeze() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for f := range x.frozen {
		f.Store(true)
	}
}

func (x *proxy) url() string { return "http://" + x.listener.Addr().String() }
