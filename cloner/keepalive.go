package cloner

import (
	"context"
	"sync"
	"time"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
)

// held is a snapshot with its epoch on the target.
type held struct {
	snap  *snapshot.Snapshot
	epoch int
	owner *marks.Owner
}

// feelPulse keeps asking both sides for a sign of life, on connections that do nothing else. A network that hangs breaks
// no connection: only this tells a dead peer from one that is busy, in less than 30 s. By the way it has the target know
// when the snapshot is durable. The returned func ends it.
func (r *run) feelPulse(ctx context.Context, lose context.CancelCauseFunc) (stop func(), err error) {
	source, err := r.source.Open(ctx)
	if err != nil {
		return nil, err
	}
	target, err := r.target.Open(ctx)
	if err != nil {
		source.Close()
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	durable := make(chan held, 1)
	var feeling sync.WaitGroup
	feeling.Go(func() {
		r.feel(ctx, source, lose, func(ctx context.Context) (bool, error) {
			h := r.held.Load()
			if h == nil {
				return false, nil
			}
			done, err := h.snap.IsDurable(ctx, source)
			if done {
				durable <- *h
			}
			return done || h.snap.InsertLSN == "", err
		}, source.Ping)
	})
	feeling.Go(func() {
		r.feel(ctx, target, lose, func(ctx context.Context) (bool, error) {
			select {
			case h := <-durable:
				return true, h.owner.RecordDurable(ctx, target, h.epoch)
			default:
				return false, nil
			}
		}, r.lockWatch(target))
	})
	return func() {
		end()
		feeling.Wait()
		session.CloseAll(source, target)
	}, nil
}

// feel asks for a sign of life until ctx ends or there is none, and does something else beside that until it is done.
func (r *run) feel(ctx context.Context, s *session.Session, lose context.CancelCauseFunc, also func(context.Context) (done bool, err error), ping func(context.Context) error) {
	for pinged, done := time.Now(), false; ; {
		every := session.PulseEvery
		if !done {
			every = session.DurableEvery
		}
		if session.Pause(ctx, every) != nil {
			return
		}
		var err error
		if !done {
			asking, cancel := context.WithTimeout(ctx, session.PulsePatience)
			err = safely.Do(func() (err error) {
				done, err = also(asking)
				return err
			})
			cancel()
		}
		if err == nil && time.Since(pinged) >= session.PulseEvery {
			pinged, err = time.Now(), safely.Do(func() error { return ping(ctx) })
		}
		if err != nil && ctx.Err() == nil {
			lose(s.Explain(err))
			return
		}
	}
}
