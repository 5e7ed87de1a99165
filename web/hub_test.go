package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"calco/web"
)

// never is a time that no test waits for.
const never = time.Hour

// world is what the viewers of a test watch: a text.
type world struct {
	mu    sync.Mutex
	text  string
	final bool
	err   error

	looks, renders, streams atomic.Int64
}

func (w *world) set(text string, final bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text, w.final, w.err = text, final, err
}

func (w *world) snapshot(context.Context, string) (text string, final bool, err error) {
	w.looks.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text, w.final, w.err
}

func (w *world) render(_ context.Context, text string) ([]byte, error) {
	w.renders.Add(1)
	return []byte(text), nil
}

// show serves a hub at /topic/variant.
func (w *world) show(t testing.TB, feed web.Feed[string]) (*web.Hub[string], *httptest.Server) {
	t.Helper()
	if feed.Snapshot == nil {
		feed.Snapshot = w.snapshot
	}
	if feed.Log == nil {
		feed.Log = slog.New(slog.DiscardHandler)
	}
	hub := web.NewHub(feed)
	server := httptest.NewServer(w.handler(hub))
	t.Cleanup(func() {
		hub.Close()
		server.Close()
	})
	return hub, server
}

func (w *world) handler(hub *web.Hub[string]) http.Handler {
	e := echo.New()
	e.GET("/:topic/:variant", func(c echo.Context) error {
		w.streams.Add(1)
		defer w.streams.Add(-1)
		return hub.Serve(c, c.Param("topic"), c.Param("variant"), w.render)
	})
	return e
}

// event is one of a stream.
type event struct{ id, kind, data string }

// reader reads a stream.
type reader struct {
	t    testing.TB
	body io.ReadCloser
	scan *bufio.Reader
}

func watch(t testing.TB, url string, header ...string) *reader {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %s, %s", response.Status, response.Header.Get("Content-Type"))
	}
	if got := response.Header.Get("Cache-Control") + response.Header.Get("X-Accel-Buffering"); got != "no-store, no-transformno" {
		t.Errorf("the headers for proxies are %q", got)
	}
	return &reader{t, response.Body, bufio.NewReader(response.Body)}
}

// next returns the next event, and false at the end of the stream.
func (r *reader) next() (event, bool) {
	r.t.Helper()
	var e event
	var lines []string
	for {
		line, err := r.scan.ReadString('\n')
		if err != nil {
			return e, false
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "":
			e.data = strings.Join(lines, "\n")
			return e, true
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			lines = append(lines, value)
		default:
			r.t.Errorf("a line that is no field: %q", line)
		}
	}
}

// want reads the next event, which must be this one. Before a frame there may be pings: on a slow machine the time for one
// can come first.
func (r *reader) want(kind, data string) event {
	r.t.Helper()
	e, ok := r.next()
	for ok && kind == "" && e.kind == "ping" {
		e, ok = r.next()
	}
	if !ok || e.kind != kind || e.data != data {
		r.t.Fatalf("got event %q %.60q (%v), want %q %.60q", e.kind, e.data, ok, kind, data)
	}
	return e
}

func (r *reader) wantEnd() {
	r.t.Helper()
	if e, ok := r.next(); ok {
		r.t.Fatalf("got event %q %.60q, want the end", e.kind, e.data)
	}
}

// stall opens a stream that nobody reads.
func stall(t testing.TB, server *httptest.Server, path string) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4096) // only so that less data is needed
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

func TestHubShowsTheStateAtOnceAndEachChange(t *testing.T) {
	t.Parallel()
	w := &world{text: "one\ntwo\r\nevent: evil\rdata: x"}
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: 1})
	// What the browser claims about the stream counts for nothing, even if it makes no sense.
	r := watch(t, server.URL+"/job/en?stream=other", "Last-Event-ID", "no number")
	first := r.want("", "one\ntwo\nevent: evildata: x")
	if first.id == "" || strings.Trim(first.id, "0123456789") != "" {
		t.Errorf("the id %q is no number", first.id)
	}
	w.set("changed", false, nil)
	hub.Kick("another")
	hub.Kick("job")
	if e := r.want("", "changed"); e.id == first.id {
		t.Errorf("two frames with the id %s", e.id)
	}
	w.set("changed again", false, nil)
	hub.Kick("")
	r.want("", "changed again")
}

func TestHubPollsWithoutKicks(t *testing.T) {
	t.Parallel()
	w := &world{text: "before"}
	_, server := w.show(t, web.Feed[string]{Poll: 5 * time.Millisecond, Gap: 1})
	r := watch(t, server.URL+"/job/en")
	r.want("", "before")
	w.set("after", false, nil)
	r.want("", "after")
}

func TestHubSharesTheWork(t *testing.T) {
	t.Parallel()
	w := &world{text: "0"}
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: time.Millisecond})
	const viewers, changes = 40, 5
	var readers []*reader
	for i := range viewers {
		r := watch(t, fmt.Sprintf("%s/job/%s", server.URL, []string{"en", "es"}[i%2]))
		r.want("", "0")
		readers = append(readers, r)
	}
	looks, renders := w.looks.Load(), w.renders.Load()
	for i := range changes {
		w.set(fmt.Sprint(i+1), false, nil)
		hub.Kick("job")
		for _, r := range readers {
			r.want("", fmt.Sprint(i+1))
		}
	}
	// A look for the last viewer who came may have been on its way.
	if got := w.looks.Load() - looks; got > changes+1 {
		t.Errorf("%d looks for %d changes", got, changes)
	}
	if got := w.renders.Load() - renders; got > 2*(changes+1) {
		t.Errorf("%d drawings for %d changes and two variants", got, changes)
	}
}

func TestHubManyKicksAreOneLook(t *testing.T) {
	t.Parallel()
	w := &world{text: "a"}
	begun, finish := make(chan bool, 10), make(chan bool)
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: 1, Snapshot: func(ctx context.Context, topic string) (string, bool, error) {
		begun <- true
		<-finish
		return w.snapshot(ctx, topic)
	}})
	t.Cleanup(func() { close(finish) })
	r := watch(t, server.URL+"/job/en")
	<-begun
	for range 1000 {
		hub.Kick("job")
	}
	finish <- true
	r.want("", "a")
	<-begun // the thousand
	w.set("b", false, nil)
	finish <- true
	r.want("", "b")
	hub.Kick("job")
	<-begun // the one
	w.set("c", false, nil)
	finish <- true
	r.want("", "c")
	if got := w.looks.Load(); got != 3 {
		t.Errorf("%d looks, want 3", got)
	}
}

func TestHubSendsNothingTwice(t *testing.T) {
	t.Parallel()
	w := &world{text: "same"}
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: 1, Ping: 50 * time.Millisecond})
	r := watch(t, server.URL+"/job/en")
	r.want("", "same")
	for range 3 {
		looks := w.looks.Load()
		hub.Kick("job")
		until(t, "another look", func() bool { return w.looks.Load() > looks })
	}
	r.want("ping", "ok")
	r.want("ping", "ok")
}

func TestHubEndsWithWhatIsFinal(t *testing.T) {
	t.Parallel()
	w := &world{text: "99 %"}
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: 1})
	r := watch(t, server.URL+"/job/en")
	r.want("", "99 %")
	w.set("done", true, nil)
	hub.Kick("job")
	r.want("", "done")
	if e := r.want("done", "done"); e.id == "" {
		t.Error("the event done has no id")
	}
	r.wantEnd()

	late := watch(t, server.URL+"/job/en")
	late.want("", "done")
	late.want("done", "done")
	late.wantEnd()
}

func TestHubKeepsItsViewersWhileTheStateIsAway(t *testing.T) {
	t.Parallel()
	w := &world{text: "before"}
	var log lockedBuffer
	_, server := w.show(t, web.Feed[string]{
		Poll: time.Millisecond, Gap: 1, Ping: 30 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	r := watch(t, server.URL+"/job/en")
	r.want("", "before")
	w.set("after", false, errors.New("the database is away"))
	for {
		if e, _ := r.next(); e.kind != "ping" {
			t.Fatalf("got event %q %q, want pings", e.kind, e.data)
		} else if e.data == "stale" {
			break
		}
	}
	watch(t, server.URL+"/job/en").want("", "before") // the last that is known
	w.set("after", false, nil)
	r.want("", "after")
	until(t, "both turns are logged", func() bool { return strings.Contains(log.String(), "can be read again") })
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d lines in the log, want 2:\n%s", got, log.String())
	}
}

func TestHubDoesNotSendWhatIsNoFrame(t *testing.T) {
	t.Parallel()
	w := &world{text: "small"}
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: 1, MaxFrame: 100})
	r := watch(t, server.URL+"/job/en")
	r.want("", "small")
	for i, bad := range []string{"", strings.Repeat("x", 101), "\r"} {
		renders := w.renders.Load()
		w.set(bad, false, nil)
		hub.Kick("")
		until(t, "it was drawn", func() bool { return w.renders.Load() > renders })
		good := fmt.Sprint("small ", i)
		w.set(good, false, nil)
		hub.Kick("")
		r.want("", good)
	}
}

// The connections are pipes, which hold nothing, and time passes only where the test waits for it.
func TestHubStalledReaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{text: "0"}
		hub := web.NewHub(web.Feed[string]{Snapshot: w.snapshot, Log: slog.New(slog.DiscardHandler), Poll: never, Ping: never, Gap: 1, Patience: time.Minute})
		server := &http.Server{Handler: w.handler(hub), ReadHeaderTimeout: never}
		connections := make(pipes)
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(connections) })
		defer func() {
			hub.Close()
			_ = server.Close()
			serving.Wait()
		}()
		visit := func() net.Conn {
			conn := connections.dial()
			if _, err := io.WriteString(conn, "GET /job/en HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		defer visit().Close() //nolint:errcheck // it is never read
		conn := visit()
		defer conn.Close() //nolint:errcheck // it was only read
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close() //nolint:errcheck // as above
		r := &reader{t, response.Body, bufio.NewReader(response.Body)}
		r.want("", "0")
		change := func(text string) {
			t.Helper()
			w.set(text, false, nil)
			hub.Kick("job")
			r.want("", text)
		}
		for i := range 60 {
			change(fmt.Sprint(i, strings.Repeat("0123456789", 2000)))
		}
		if got := w.streams.Load(); got != 2 {
			t.Errorf("%d streams before anybody has lost patience, want 2", got)
		}
		// It is given up in time, while the other goes on.
		until(t, "the stalled stream is ended", func() bool { return w.streams.Load() == 1 })
		change("the end")
	})
}

// pipes is a listener whose connections hold nothing: what is not read is not written.
type pipes chan net.Conn

func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p <- server
	return client
}

// Accept implements net.Listener.
func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// Close implements net.Listener.
func (p pipes) Close() error {
	close(p)
	return nil
}

// Addr implements net.Listener.
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func TestHubSlowReaderSeesTheNewest(t *testing.T) {
	t.Parallel()
	w := &world{text: "0"}
	hub, server := w.show(t, web.Feed[string]{Poll: never, Gap: 1})
	slow, r := watch(t, server.URL+"/job/en"), watch(t, server.URL+"/job/en")
	slow.want("", "0")
	r.want("", "0")
	big := strings.Repeat("0123456789", 20_000)
	const changes = 100
	for i := range changes {
		text := fmt.Sprint(i+1, " ", big)
		w.set(text, false, nil)
		hub.Kick("job")
		r.want("", text)
	}
	seen := 0
	for {
		e, ok := slow.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		seen++
		if strings.HasPrefix(e.data, fmt.Sprint(changes, " ")) {
			break
		}
	}
	if seen >= changes {
		t.Errorf("the reader that slept was sent all %d frames", seen)
	}
}

func TestHubCloseEndsTheStreams(t *testing.T) {
	t.Parallel()
	w := &world{text: strings.Repeat("0123456789", 20_000)}
	hub, server := w.show(t, web.Feed[string]{Poll: time.Millisecond, Gap: 1, Patience: never})
	stall(t, server, "/job/en")
	r := watch(t, server.URL+"/job/en")
	r.want("", w.text)
	// Until the connection of the stalled one is full, its stream would end like any other.
	for i := range 60 {
		text := fmt.Sprint(i, strings.Repeat("0123456789", 20_000))
		w.set(text, false, nil)
		r.want("", text)
	}
	server.Config.RegisterOnShutdown(hub.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Fatalf("shut down with open streams: %v", err)
	}
	r.wantEnd()
	if got := w.streams.Load(); got != 0 {
		t.Errorf("%d streams are left", got)
	}
	hub.Close() // twice is once

	e := echo.New()
	c := e.NewContext(httptest.NewRequest(http.MethodGet, "/", http.NoBody), httptest.NewRecorder())
	var refused *echo.HTTPError
	if err := hub.Serve(c, "job", "en", w.render); !errors.As(err, &refused) || refused.Code != http.StatusServiceUnavailable {
		t.Errorf("a stream after Close: %v, want 503", err)
	}
}

// The time of a bubble stands still while anybody has something to do, so that no machine is too slow for a frame.
func TestHubEndsStreamsThatAreOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{text: "a"}
		hub := web.NewHub(web.Feed[string]{Snapshot: w.snapshot, Log: slog.New(slog.DiscardHandler), Poll: never, Ping: never, Lifetime: 50 * time.Millisecond})
		defer hub.Close()
		answer := httptest.NewRecorder()
		c := echo.New().NewContext(httptest.NewRequest(http.MethodGet, "/", http.NoBody), answer)
		begun := time.Now()
		if err := hub.Serve(c, "job", "en", w.render); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begun); got != 50*time.Millisecond {
			t.Errorf("the stream lived %v, want 50 ms", got)
		}
		if got, want := answer.Body.String(), "id: 1\ndata: a\n\n"; got != want {
			t.Errorf("it said %q, want %q", got, want)
		}
	})
}

// No t.Parallel: it counts goroutines.
func TestHubLeavesNothingBehind(t *testing.T) {
	w := &world{text: "a"}
	hub, server := w.show(t, web.Feed[string]{Poll: time.Millisecond, Gap: 1})
	before := runtime.NumGoroutine()
	for i := range 100 {
		ctx, leave := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/job%d/en", server.URL, i%7), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if _, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		leave()
		_ = response.Body.Close()
		hub.Kick("")
	}
	until(t, "all streams are over", func() bool { return w.streams.Load() == 0 })
	http.DefaultClient.CloseIdleConnections()
	until(t, "their goroutines are gone, and those that look for them", func() bool { return runtime.NumGoroutine() <= before })
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
