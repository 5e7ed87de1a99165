package cloner

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
)

// keepalive keeps asking both sides for a sign of life, on connections that do nothing else. A network that hangs breaks
// no connection: only this tells a dead peer from one that is busy, in less than 30 s.
type keepalive struct {
	held atomic.Pointer[held]
	stop func() // ends it; to be called once
}

// held is a snapshot with its epoch on the target.
type held struct {
	snap  *snapshot.Snapshot // nil once all rows are on the target
	epoch int
	owner *marks.Owner
}

// durableEvery is how often the source is asked whether the snapshot is durable, while it is not known to be.
const durableEvery = 250 * time.Millisecond

// startKeepalive opens the connections. Abort is called with what has happened when one of the sides gives no sign of life, or
// when locked, which is called beside the probes of the target once it is copied to, returns an error.
func startKeepalive(ctx context.Context, source, target *session.Server, abort context.CancelCauseFunc, locked func(*session.Session) func(context.Context) error) (*keepalive, error) {
	s, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}
	t, err := target.Open(ctx)
	if err != nil {
		s.Close()
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	k := &keepalive{}
	durable := make(chan held, 1)
	var probing sync.WaitGroup
	probing.Go(func() {
		probe(ctx, s, abort, s.Ping, func(ctx context.Context) (bool, error) {
			h := k.held.Load()
			if h == nil || h.snap == nil {
				return false, nil
			}
			done, err := h.snap.IsDurable(ctx, s)
			if done {
				durable <- *h
			}
			return done || h.snap.InsertLSN == "", err
		})
	})
	watch := locked(t)
	ping := func(ctx context.Context) error {
		if k.held.Load() == nil { // clean waits for locks by itself
			return t.Ping(ctx)
		}
		return watch(ctx)
	}
	probing.Go(func() {
		probe(ctx, t, abort, ping, func(ctx context.Context) (bool, error) {
			select {
			case h := <-durable:
				return true, h.owner.RecordDurable(ctx, t, h.epoch)
			default:
				return false, nil
			}
		})
	})
	k.stop = func() {
		end()
		probing.Wait()
		session.CloseAll(s, t)
	}
	return k, nil
}

// copying says that rows are copied from now on: the target has to know when the snapshot is durable.
func (k *keepalive) copying(h held) { k.held.Store(&h) }

// probe asks for a sign of life until ctx ends or there is none, and does a task beside that until it is done.
func probe(ctx context.Context, s *session.Session, abort context.CancelCauseFunc, ping func(context.Context) error, task func(context.Context) (done bool, err error)) {
	for pinged, done := time.Now(), false; ; {
		every := session.ProbeEvery
		if !done {
			every = durableEvery
		}
		if session.Pause(ctx, every) != nil {
			return
		}
		var err error
		if !done {
			asking, cancel := context.WithTimeout(ctx, session.ProbePatience)
			err = safely.Do(func() (err error) {
				done, err = task(asking)
				return err
			})
			cancel()
		}
		if err == nil && time.Since(pinged) >= session.ProbeEvery {
			pinged, err = time.Now(), safely.Do(func() error { return ping(ctx) })
		}
		if err != nil && ctx.Err() == nil {
			abort(s.Explain(err))
			return
		}
	}
}
