package cloner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/report"
)

// lostError is a connection that broke, or could not be made for now: waiting may cure it.
type lostError struct {
	side report.Side
	err  error
	text string // a whole sentence for a person, or ""
}

func (e *lostError) Error() string {
	return fmt.Sprintf("lost the connection to the %s: %v", e.side, e.err)
}
func (e *lostError) Unwrap() error { return e.err }

// errSnapshotLost is for a source that ended every session that held the snapshot.
var errSnapshotLost = errors.New("the snapshot of the source is lost")

// explain tells a broken connection from an answer of the server.
func (s *session) explain(err error) error {
	conflict := s.side == report.Source && sqlState(err) == "40001" // with recovery, on a standby
	if err == nil || Classify(err) != Lost && !conflict {
		return err
	}
	if _, ok := errors.AsType[*lostError](err); ok {
		return err
	}
	return &lostError{side: s.side, err: err}
}

// passes tells whether waiting may cure err. What it cannot cure (a wrong password, a full disk, a missing permission)
// ends the clone at once.
func passes(err error) bool {
	var lost *lostError
	return errors.As(err, &lost) || errors.Is(err, errSnapshotLost)
}

// Waiting between tries: soon at first, then every few seconds.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 5 * time.Second
)

// waitOut waits a little before the next try, or gives up: the error is then the one to end with.
func (r *run) waitOut(ctx context.Context, err error) error {
	if !passes(err) || ctx.Err() != nil {
		return err
	}
	w := &r.waiting
	until := w.Again(r.patience)
	if time.Now().After(until) {
		return gaveUp(err, r.patience.Limit())
	}
	r.meter.trouble(report.Trouble{Text: troubleText(err), Since: w.Since, Until: until, Tries: w.Tries})
	delay := min(firstWait<<min(w.Tries-1, 10), maxWait)
	if pause(ctx, min(delay, time.Until(until)+time.Millisecond)) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// gaveUp names how long was waited, beside what for.
func gaveUp(err error, waited time.Duration) error {
	e := &report.Error{Err: err, Hint: "Nothing got done for " + waited.String() + ". When both servers can be reached again, go on from here."}
	if inner, ok := errors.AsType[*report.Error](err); ok {
		e.Phase, e.Relation, e.Err = inner.Phase, inner.Relation, inner.Err
	}
	return e
}

// troubleText is what a person is told while a clone waits.
func troubleText(err error) string {
	lost, ok := errors.AsType[*lostError](err)
	switch {
	case errors.Is(err, errSnapshotLost):
		return "The source ended every session that held the snapshot."
	case !ok:
		return err.Error()
	case lost.text != "":
		return lost.text
	}
	return fmt.Sprintf("The connection to the %s was lost: %s.", lost.side, lossReason(lost.err))
}

// lossReason is why a connection was lost, in the server's words if it said any.
func lossReason(err error) string {
	var network net.Error
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Message
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody answers there"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it was reset"
	case errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	}
	return err.Error()
}

// The pulse of a side: how often it is felt, and how long an answer may take.
const (
	pulseEvery    = 5 * time.Second
	pulsePatience = 15 * time.Second
	durableEvery  = 250 * time.Millisecond // while the snapshot is not known to be durable
)

// held is a snapshot with its epoch on the target.
type held struct {
	snap  *snapshot
	epoch int
}

// feelPulse keeps asking both sides for a sign of life, on connections that do nothing else. A network that hangs breaks
// no connection: only this tells a dead peer from one that is busy, in less than 30 s. By the way it has the target know
// when the snapshot is durable. The returned func ends it.
func (r *run) feelPulse(ctx context.Context, lose context.CancelCauseFunc) (stop func(), err error) {
	source, err := r.source.open(ctx)
	if err != nil {
		return nil, err
	}
	target, err := r.target.open(ctx)
	if err != nil {
		source.close()
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
			done, err := h.snap.isDurable(ctx, source)
			if done {
				durable <- *h
			}
			return done || h.snap.end == "", err
		}, source.ping)
	})
	feeling.Go(func() {
		r.feel(ctx, target, lose, func(ctx context.Context) (bool, error) {
			select {
			case h := <-durable:
				return true, target.exec(ctx, fmt.Sprintf("UPDATE _calco.epoch SET durable = true WHERE number = %d AND EXISTS (SELECT FROM _calco.job WHERE nonce = %s)",
					h.epoch, quoteLiteral(r.nonce)))
			default:
				return false, nil
			}
		}, r.lockWatch(target))
	})
	return func() {
		end()
		feeling.Wait()
		closeAll(source, target)
	}, nil
}

// feel asks for a sign of life until ctx ends or there is none, and does something else beside that until it is done.
func (r *run) feel(ctx context.Context, s *session, lose context.CancelCauseFunc, also func(context.Context) (done bool, err error), ping func(context.Context) error) {
	for pinged, done := time.Now(), false; ; {
		every := pulseEvery
		if !done {
			every = durableEvery
		}
		if pause(ctx, every) != nil {
			return
		}
		var err error
		if !done {
			asking, cancel := context.WithTimeout(ctx, pulsePatience)
			err = safely(func() (err error) {
				done, err = also(asking)
				return err
			})
			cancel()
		}
		if err == nil && time.Since(pinged) >= pulseEvery {
			pinged, err = time.Now(), safely(func() error { return ping(ctx) })
		}
		if err != nil && ctx.Err() == nil {
			lose(s.explain(err))
			return
		}
	}
}

// ping wants an answer soon.
func (s *session) ping(ctx context.Context) error {
	return s.soon(ctx, func(ctx context.Context) error { return s.exec(ctx, "SELECT 1") })
}

// soon asks something that is answered at once by a server that lives.
func (s *session) soon(ctx context.Context, ask func(context.Context) error) error {
	asking, cancel := context.WithTimeout(ctx, pulsePatience)
	defer cancel()
	err := ask(asking)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		return &lostError{side: s.side, err: fmt.Errorf("no answer for %v", pulsePatience)}
	}
	return err
}
