package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/static"
)

// brief is long for a machine, and short for a test.
const brief = 500 * time.Millisecond

// listening serves an app at a real listener, with limits of the test's own, and returns its address.
func listening(t *testing.T, a *app, change func(*limits)) (address string) {
	t.Helper()
	change(&a.server.limits)
	a.server.waiting.most = a.server.limits.waiting
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.server.Run(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return listener.Addr().String()
}

// line is a connection on which a test says what it likes.
type line struct {
	net.Conn
	t    *testing.T
	read *bufio.Reader
}

func dial(t *testing.T, address string) *line {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil { // what does not come is a failure, and no wait for ever
		t.Fatal(err)
	}
	return &line{conn, t, bufio.NewReader(conn)}
}

// say sends something. That the server listens no more is no failure.
func (l *line) say(text string) *line {
	_, _ = io.WriteString(l, text)
	return l
}

// status is that of the next answer, whose body it reads.
func (l *line) status() int {
	l.t.Helper()
	res, err := http.ReadResponse(l.read, nil)
	if err != nil {
		l.t.Fatalf("no answer: %v", err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		l.t.Fatalf("the answer is cut off: %v", err)
	}
	return res.StatusCode
}

// ended waits until the server has closed the connection, and returns what came before.
func (l *line) ended() string {
	l.t.Helper()
	rest, err := io.ReadAll(l.read)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		l.t.Fatalf("the connection is not closed; it says %.300q", rest)
	}
	return string(rest)
}

const signInHead = "POST /signin HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"

// A connection over which a request comes byte by byte was held for ever.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.as(a.add(bob, jobs.RoleMember))
	address := listening(t, a, func(l *limits) { l.header, l.body, l.idle = brief, brief, brief })
	const (
		told    = signInHead + "Content-Length: 100\r\n\r\n" + "email=b"
		untold  = signInHead + "Transfer-Encoding: chunked\r\n\r\n" + "7\r\nemail=b\r\n"
		nowhere = "POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n" + "a"
	)
	for name, c := range map[string]struct {
		said, answer string
	}{
		"a body of a known length":      {told, "HTTP/1.1 408 "},
		"a body in chunks":              {untold, "HTTP/1.1 408 "},
		"a body after another request":  {"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + told, "HTTP/1.1 200 "},
		"a body that nobody reads":      {nowhere, "HTTP/1.1 404 "},
		"a body of somebody signed in":  {strings.Replace(told, "\r\n", "\r\nCookie: "+sessionCookie+"="+v.cookie(sessionCookie)+"\r\n", 1), "HTTP/1.1 408 "},
		"a body that is never sent for": {strings.Replace(told, "\r\n", "\r\nExpect: 100-continue\r\n", 1), "HTTP/1.1 100 "},
		"headers":                       {"POST /signin HTTP/1.1\r\nHost: 127", ""},
		"nothing":                       {"", ""},
		"nothing more":                  {"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 200 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := dial(t, address).say(c.said).ended(); !strings.HasPrefix(got, c.answer) || c.answer == "" && got != "" {
				t.Errorf("the server says %.300q before it hangs up, want %q", got, c.answer)
			}
		})
	}
}

func TestUsualLimits(t *testing.T) {
	l := usualLimits()
	for _, c := range []struct {
		name       string
		got, limit int64
	}{
		{"header", int64(l.header), int64(10 * time.Second)},
		{"body", int64(l.body), int64(10 * time.Second)},
		{"write", int64(l.write), int64(30 * time.Second)},
		{"idle", int64(l.idle), int64(2 * time.Minute)},
		{"headers", int64(l.headers), 64 << 10},
		{"waiting", int64(l.waiting), 1000},
	} {
		if c.got <= 0 || c.got > c.limit {
			t.Errorf("the limit %s is %d, want at most %d", c.name, c.got, c.limit)
		}
	}
}

func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	address := listening(t, a, func(*limits) {})
	l := dial(t, address).say("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")
	if got := l.status(); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %d", got)
	}
}

// Somebody who asks again and again over one connection, and reads nothing, is cut off when nothing more goes out.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	address := listening(t, a, func(l *limits) { l.write = brief })
	l := dial(t, address)
	ask := "GET " + static.URL("daisy.css") + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	const asked = 2000 // 250 MB: more than any machine keeps for a connection
	go l.say(strings.Repeat(ask, asked))
	a.server.waiting.until(t, 1)
	a.server.waiting.until(t, 0)
	if got := strings.Count(l.ended(), "HTTP/1.1 200 OK"); got == 0 || got == asked {
		t.Errorf("%d answers to %d requests that nobody reads", got, asked)
	}
}

// until waits until so many connections wait.
func (w *waiting) until(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		w.mu.Lock()
		got := w.conns.Len()
		w.mu.Unlock()
		if got == n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d connections wait, want %d", got, n)
		}
	}
}

// Whoever opens connection after connection closes the oldest of them, and keeps nobody out: neither who comes next nor
// who is signed in and waits for an answer.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	const most = 4
	address := listening(t, f.app, func(l *limits) { l.waiting, l.header, l.body = most, time.Hour, time.Hour })
	f.url = "http://" + address
	stream := f.as(f.owner).watch(t, f.start())
	stream.until("Queued")
	f.server.waiting.until(t, 0)
	first := dial(t, address)
	f.server.waiting.until(t, 1)
	var rest []*line
	for range 5 * most {
		rest = append(rest, dial(t, address).say(signInHead+"Content-Length: 100\r\n\r\n"))
	}
	if got := first.ended(); got != "" {
		t.Errorf("the oldest connection says %q", got)
	}
	rest[0].ended()
	f.server.waiting.until(t, most)
	if got := dial(t, address).say("GET /signin HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").status(); got != http.StatusOK {
		t.Errorf("who comes next gets %d", got)
	}
	if err := f.server.jobs.Cancel(t.Context(), jobs.Operator(), f.newest()); err != nil {
		t.Fatal(err)
	}
	f.server.hub.Kick("")
	stream.until(`data-status="cancelled"`)
}

// One that says something just before it is closed as the oldest took the place of a newer one.
func TestClosedConnectionTakesNoPlace(t *testing.T) {
	t.Parallel()
	w := newWaiting(1)
	oldest, client := net.Pipe()
	newest, _ := net.Pipe()
	w.follow(oldest, http.StateNew)
	w.follow(newest, http.StateNew)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the oldest connection is not closed: %v", err)
	}
	w.follow(oldest, http.StateActive)
	if got := w.conns.Front().Value; got != newest || w.conns.Len() != 1 {
		t.Errorf("%d connections wait, the first of them %v, want the newest alone", w.conns.Len(), got)
	}
	w.follow(oldest, http.StateClosed)
	w.follow(newest, http.StateClosed)
	if len(w.at) > 0 || w.conns.Len() > 0 {
		t.Errorf("what is closed is kept: %v", w.at)
	}
}

// The limits are for what comes and goes: an event stream lives longer than any of them, and so does a request that only
// takes long.
func TestLimitsSpareWhatLasts(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	f.server.hub = NewHub(Feed[jobs.Task]{Snapshot: f.server.readTask, Ping: 100 * time.Millisecond})
	f.server.OnStop(f.server.hub.Close)
	release := make(chan bool)
	f.server.echo.POST("/long", func(c echo.Context) error {
		select {
		case <-release:
			return c.NoContent(http.StatusOK)
		case <-c.Request().Context().Done():
			return errors.New("the request was ended")
		}
	}, f.server.form)
	address := listening(t, f.app, func(l *limits) { l.header, l.body, l.write = brief, brief, brief })
	f.url = "http://" + address
	stream := f.as(f.owner).watch(t, f.start())
	long := []*line{
		dial(t, address).say("POST /long HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
		dial(t, address).say(fmt.Sprintf("POST /long HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\na=b", 3)),
	}
	for pings := 0; pings < 12; { // more than twice as long as any limit
		e, ok := stream.next()
		if !ok {
			t.Fatal("the stream was ended")
		}
		if e.name == "ping" {
			pings++
		}
	}
	close(release)
	for i, l := range long {
		if got := l.status(); got != http.StatusOK {
			t.Errorf("long request %d: %d", i, got)
		}
	}
}
