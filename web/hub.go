package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	sse "github.com/r3labs/sse/v2"
)

// Feed tells a Hub what its viewers see and how often. Only Snapshot must be there.
type Feed[T any] struct {
	// Snapshot reads the present state of a topic, once for all who watch it. Final means that it will not change any
	// more.
	Snapshot func(ctx context.Context, topic string) (value T, final bool, err error)
	// Log gets what goes wrong. Nil is slog.Default.
	Log *slog.Logger

	Poll     time.Duration // until the next look at a topic that nobody has kicked; 2 s
	Gap      time.Duration // at least, between two looks; 250 ms
	Ping     time.Duration // of silence, until a viewer is told that the stream lives; 10 s
	Lifetime time.Duration // of a stream: the browser then comes again, and its rights are checked again; 30 min
	Patience time.Duration // with a viewer who does not read, and with Snapshot; 10 s
	MaxFrame int           // bytes that a frame may have; 256 KiB
}

// Render draws the whole of what a viewer sees of a value, as the data of one event. It may be used for other viewers of
// the same variant, and when its own is gone: it must not hold on to the request.
type Render[T any] func(ctx context.Context, value T) ([]byte, error)

// Hub shows topics to any number of viewers, each on an event stream of its own: a whole frame at once, and another one
// whenever what is drawn has changed. It samples: whoever reads slowly misses frames, never the newest one, and holds up
// nobody. It does not know what the topics are. Its methods are safe for concurrent use.
type Hub[T any] struct {
	feed    Feed[T]
	streams *sse.Server
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup // of streams and topics

	mu     sync.Mutex
	closed bool
	topics map[string]*topic[T]
}

// topic is what some viewers watch. It lives as long as there is one.
type topic[T any] struct {
	name    string
	stop    context.CancelFunc
	wake    chan struct{} // holds one: what happens meanwhile is one change
	late    atomic.Bool   // the last Snapshot failed
	viewers map[*viewer]Render[T]
}

// NewHub makes a hub. It starts nothing until somebody watches.
func NewHub[T any](feed Feed[T]) *Hub[T] {
	if feed.Log == nil {
		feed.Log = slog.Default()
	}
	orElse(&feed.Poll, 2*time.Second)
	orElse(&feed.Gap, 250*time.Millisecond)
	orElse(&feed.Ping, 10*time.Second)
	orElse(&feed.Lifetime, 30*time.Minute)
	orElse(&feed.Patience, 10*time.Second)
	orElse(&feed.MaxFrame, 256<<10)

	// A stream of the library has one viewer here. It would keep every event for those who come later, and the slowest of
	// several viewers would stop the others.
	streams := sse.New()
	streams.AutoReplay, streams.SplitData, streams.BufferSize = false, true, 1
	streams.Headers = map[string]string{
		"Cache-Control":     "no-store, no-transform",
		"X-Accel-Buffering": "no", // nginx would collect the frames
	}
	h := &Hub[T]{feed: feed, streams: streams, topics: map[string]*topic[T]{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

func orElse[V comparable](value *V, usual V) {
	if *value == *new(V) {
		*value = usual
	}
}

// Serve shows a topic to whoever sent the request, and blocks until they are gone, their time is over, or the topic is
// final and has been shown. The caller has checked their rights. Viewers of a topic with the same variant see the same.
// After Close it returns an error with status 503.
func (h *Hub[T]) Serve(c echo.Context, name, variant string, render Render[T]) error {
	ctx, leave := context.WithTimeout(c.Request().Context(), h.feed.Lifetime)
	defer leave()
	v := &viewer{
		ResponseWriter: c.Response(),
		control:        http.NewResponseController(c.Response().Writer), // Echo's own swallows the error of Flush
		streams:        h.streams,
		name:           rand.Text(),
		variant:        variant,
		leave:          leave,
		silence:        h.feed.Ping,
		patience:       h.feed.Patience,
		busy:           true, // with the headers
	}
	t, err := h.join(name, v, render)
	if err != nil {
		return err
	}
	defer h.part(t, v)

	// Which stream it is says the server, not the query. Every frame is whole, so that the last one seen does not matter,
	// and the library answers 400 to some of these ids.
	r := c.Request().Clone(ctx)
	r.URL = &url.URL{Path: r.URL.Path, RawQuery: url.Values{"stream": {v.name}}.Encode()}
	r.Header.Del("Last-Event-ID")
	h.streams.ServeHTTP(v, r)
	return nil
}

// Kick says that a topic may have changed; "" says so of all. It does not block. Many kicks are one look.
func (h *Hub[T]) Kick(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		if name == "" || name == t.name {
			t.kick()
		}
	}
}

func (t *topic[T]) kick() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Close ends all streams and waits until they are. It must not be called by a handler.
func (h *Hub[T]) Close() {
	h.mu.Lock()
	h.closed = true
	h.stop()
	for _, t := range h.topics {
		for v := range t.viewers {
			v.cut()
		}
	}
	h.mu.Unlock()
	h.running.Wait()
}

// join adds a viewer to a topic, and begins the topic for the first one.
func (h *Hub[T]) join(name string, v *viewer, render Render[T]) (*topic[T], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, echo.NewHTTPError(http.StatusServiceUnavailable, "the server stops")
	}
	t := h.topics[name]
	if t == nil {
		ctx, stop := context.WithCancel(h.ctx)
		t = &topic[T]{name: name, stop: stop, wake: make(chan struct{}, 1), viewers: map[*viewer]Render[T]{}}
		h.topics[name] = t
		h.running.Go(func() { h.follow(ctx, t) })
	}
	v.late = &t.late
	v.alarm = time.AfterFunc(h.feed.Ping, v.ping)
	t.viewers[v] = render
	t.kick()
	h.streams.CreateStream(v.name)
	h.running.Add(1)
	return t, nil
}

// part removes a viewer whose request has ended, and the topic with the last one.
func (h *Hub[T]) part(t *topic[T], v *viewer) {
	v.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams.RemoveStream(v.name) // not before ServeHTTP has returned, which would hang
	delete(t.viewers, v)
	if len(t.viewers) == 0 {
		t.stop()
		delete(h.topics, t.name)
	}
	h.running.Done()
}

// follow looks at a topic and shows it, until nobody watches it.
func (h *Hub[T]) follow(ctx context.Context, t *topic[T]) {
	var (
		d    drawing[T]
		poll = time.NewTicker(h.feed.Poll)
	)
	defer poll.Stop()
	for {
		select {
		case <-t.wake: // whatever has happened until now is seen now
		default:
		}
		value, final, err := h.look(ctx, t)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			d.take(value, final)
		}
		h.show(ctx, t, &d)
		gap := time.After(h.feed.Gap)
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-poll.C:
		}
		h.show(ctx, t, &d) // whoever has just come sees what is known, without the wait
		select {
		case <-ctx.Done():
			return
		case <-gap:
		}
	}
}

// look reads a topic, and logs when that begins to fail and when it works again.
func (h *Hub[T]) look(ctx context.Context, t *topic[T]) (value T, final bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.feed.Patience)
	defer cancel()
	value, final, err = h.feed.Snapshot(ctx, t.name)
	switch was := t.late.Swap(err != nil); {
	case err != nil && !was && h.ctx.Err() == nil:
		h.feed.Log.WarnContext(ctx, "read what viewers watch", "topic", t.name, "error", err)
	case err == nil && was:
		h.feed.Log.InfoContext(ctx, "what viewers watch can be read again", "topic", t.name)
	}
	return value, final, err
}

// show offers every viewer the newest frame of their variant.
func (h *Hub[T]) show(ctx context.Context, t *topic[T], d *drawing[T]) {
	if !d.known {
		return
	}
	h.mu.Lock()
	viewers := maps.Clone(t.viewers)
	h.mu.Unlock()
	for v, render := range viewers {
		f, drawn := d.frames[v.variant]
		if !drawn {
			var err error
			if f, err = d.draw(ctx, v.variant, render, h.feed.MaxFrame); err != nil && ctx.Err() == nil {
				h.feed.Log.ErrorContext(ctx, "draw what viewers watch", "topic", t.name, "variant", v.variant, "error", err)
			}
		}
		if f != nil {
			v.offer(f)
		}
	}
}

// frame is what the viewers of a variant are shown. It does not change.
type frame struct {
	id, data []byte
	final    bool
}

// drawing is a value of a topic and its frames, by variant.
type drawing[T any] struct {
	value        T
	known, final bool
	frames       map[string]*frame // of this value; nil for what cannot be drawn
	before       map[string]*frame // of the value before
	count        int64
}

func (d *drawing[T]) take(value T, final bool) {
	d.value, d.known, d.final = value, true, final
	d.frames, d.before = map[string]*frame{}, d.frames
}

// draw makes the frame of a variant. It is the one of the value before if that looks the same.
func (d *drawing[T]) draw(ctx context.Context, variant string, render Render[T], limit int) (*frame, error) {
	d.frames[variant] = nil
	data, err := render(ctx, d.value)
	if err != nil {
		return nil, err
	}
	// A carriage return ends a line of an event, and what follows it would be read as a field. An event without data
	// would end the stream.
	data = bytes.ReplaceAll(data, []byte("\r"), nil)
	if len(data) == 0 || len(data) > limit {
		return nil, fmt.Errorf("a frame has %d bytes; it may have 1 to %d", len(data), limit)
	}
	f := d.before[variant]
	if f == nil || f.final != d.final || !bytes.Equal(f.data, data) {
		d.count++
		f = &frame{id: strconv.AppendInt(nil, d.count, 10), data: data, final: d.final}
	}
	d.frames[variant] = f
	return f, nil
}
