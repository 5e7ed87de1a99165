package web

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	sse "github.com/r3labs/sse/v2"
)

// cutPatience is for a viewer who does not read while the server stops.
const cutPatience = time.Second

// viewer is one event stream, and the response it is written to. At most one event is on its way, from offer through the
// library to Flush; meanwhile only the newest frame is kept.
type viewer struct {
	http.ResponseWriter
	control *http.ResponseController
	streams *sse.Server
	name    string // of the stream
	variant string
	leave   context.CancelFunc
	late    *atomic.Bool // what is shown cannot be read at present
	silence time.Duration
	alarm   *time.Timer // rings after the silence
	begun   bool        // an event is partly written; only the handler's goroutine asks

	mu          sync.Mutex
	patience    time.Duration
	busy        bool // an event, or the headers, on the way
	shown, next *frame
	quiet       bool // nothing was sent for a while
	done        bool // the viewer was told that nothing more will come
	ended       bool // the response must not be touched any more
}

// offer has the viewer shown a frame as soon as they have read the one before.
func (v *viewer) offer(f *frame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next = f
	v.send()
}

// ping has the viewer told that the stream lives.
func (v *viewer) ping() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.quiet = true
	v.send()
}

// send begins the next event, if there is one and the one before is written. The caller holds mu.
func (v *viewer) send() {
	if v.busy || v.ended {
		return
	}
	var e *sse.Event // a new one each time: the library writes into it
	switch {
	case v.next != v.shown:
		v.shown = v.next
		e = &sse.Event{Data: v.shown.data}
	case v.done:
		v.leave()
		return
	case v.shown != nil && v.shown.final:
		v.done = true
		e = &sse.Event{Event: []byte("done"), Data: []byte("done")}
	case v.quiet && v.late.Load():
		e = &sse.Event{Event: []byte("ping"), Data: []byte("stale")}
	case v.quiet:
		e = &sse.Event{Event: []byte("ping"), Data: []byte("ok")}
	default:
		return
	}
	e.ID = []byte("0") // an empty one would be written too
	if v.shown != nil {
		e.ID = v.shown.id
	}
	v.quiet, v.busy = false, true
	v.alarm.Reset(v.silence)
	v.streams.TryPublish(v.name, e) // there is room for one
}

// Write writes a part of an event.
func (v *viewer) Write(b []byte) (int, error) {
	if !v.begun {
		v.begun = true
		v.extend()
	}
	n, err := v.ResponseWriter.Write(b)
	if err != nil {
		v.leave()
	}
	return n, err
}

// Flush comes after the headers, when the library knows the viewer and no event can be missed, and after each event.
func (v *viewer) Flush() {
	if !v.begun {
		v.extend()
	}
	v.begun = false
	if v.control.Flush() != nil {
		v.leave()
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy = false
	v.send()
}

// extend gives the viewer time to read an event. It also overrules a server's WriteTimeout, which would end the stream.
func (v *viewer) extend() {
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.control.SetWriteDeadline(time.Now().Add(v.patience)) // without deadlines, the connection's own time-out must do
}

// cut ends the stream, soon also for a viewer who does not read.
func (v *viewer) cut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.patience = min(v.patience, cutPatience)
	if !v.ended {
		_ = v.control.SetWriteDeadline(time.Now().Add(v.patience)) // as above
	}
	v.leave()
}

// end comes when the response is complete.
func (v *viewer) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.control.SetWriteDeadline(time.Now().Add(v.patience)) // for the end of the response
	v.ended = true
	v.alarm.Stop()
}
