package web

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// limits are how much time and room the server gives to those it does not know.
type limits struct {
	header, body, write, idle time.Duration // to send headers, to send a body, to take an answer, between two requests
	headers                   int           // bytes
	waiting                   int           // connections on which nobody signed in is being answered
}

func usualLimits() limits {
	return limits{
		header: 10 * time.Second, body: 10 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute,
		headers: 32 << 10, waiting: 500,
	}
}

// httpServer is the server for all connections, with the limits.
func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.limits.header,
		ReadTimeout:       s.limits.header + s.limits.body, // for bodies that no handler reads
		IdleTimeout:       s.limits.idle,
		MaxHeaderBytes:    s.limits.headers,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:         s.waiting.follow,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

type connKey struct{}

// waiting are the connections on which nobody signed in is being answered, the one that has said nothing for longest
// first. When there are too many, that one is closed: whoever holds connections open cannot keep others out. It is safe
// for concurrent use.
type waiting struct {
	mu    sync.Mutex
	most  int
	conns *list.List
	at    map[net.Conn]*list.Element // nil for those that were closed, until net/http knows
}

func newWaiting(most int) *waiting {
	return &waiting{most: most, conns: list.New(), at: map[net.Conn]*list.Element{}}
}

// follow is an http.Server's ConnState.
func (w *waiting) follow(c net.Conn, to http.ConnState) {
	switch to {
	case http.StateNew, http.StateActive, http.StateIdle:
		if oldest := w.add(c); oldest != nil {
			_ = oldest.Close() // its handler, if there is one, sees the request end
		}
	case http.StateClosed, http.StateHijacked:
		w.remove(c)
	}
}

// add puts a connection last, and takes the first one out if that is one too many.
func (w *waiting) add(c net.Conn) (tooMany net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, known := w.at[c]; known {
		if e != nil { // else it has said something just before it was closed, and must not take the place of another one
			w.conns.MoveToBack(e)
		}
		return nil
	}
	w.at[c] = w.conns.PushBack(c)
	if w.conns.Len() <= w.most {
		return nil
	}
	oldest, _ := w.conns.Remove(w.conns.Front()).(net.Conn)
	w.at[oldest] = nil
	return oldest
}

func (w *waiting) remove(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.at[c]; e != nil {
		w.conns.Remove(e)
	}
	delete(w.at, c)
}

// arrived says that a request is here in whole. One of somebody signed in does not wait any more.
func (s *Server) arrived(c echo.Context) {
	if conn, ok := c.Request().Context().Value(connKey{}).(net.Conn); ok && currentSession(c) != nil {
		s.waiting.remove(conn)
	}
}

// writeInTime gives whoever asked some time to take the answer. An event stream gives them more with each event.
func (s *Server) writeInTime(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Before(func() {
			_ = http.NewResponseController(c.Response().Writer).SetWriteDeadline(time.Now().Add(s.limits.write)) // a recorder has none
		})
		return next(c)
	}
}

// readForm reads the form of a request, which must come in time.
func (s *Server) readForm(c echo.Context) error {
	r := c.Request()
	if r.ContentLength != 0 { // without a body net/http reads on already, and would take the deadline for the end of the connection
		_ = http.NewResponseController(c.Response().Writer).SetReadDeadline(time.Now().Add(s.limits.body)) // as above
	}
	err := r.ParseForm()
	var refused *echo.HTTPError
	switch {
	case err == nil:
		s.arrived(c)
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.Response().Header().Set("Connection", "close")
		return echo.NewHTTPError(http.StatusRequestTimeout, "too slow").SetInternal(err)
	case errors.As(err, &refused): // too large
		return refused
	}
	return echo.NewHTTPError(http.StatusBadRequest, "no form").SetInternal(err)
}
