package cloner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// lostError is a connection that broke, or could not be made for now: waiting may cure it.
type lostError struct {
	side Side
	err  error
}

func (e *lostError) Error() string {
	return fmt.Sprintf("lost the connection to the %s: %v", e.side, e.err)
}
func (e *lostError) Unwrap() error { return e.err }

// errSnapshotLost is for a source that ended every session that held the snapshot.
var errSnapshotLost = errors.New("the snapshot of the source is lost")

// errRestarted is for a target that is another process than before: what memory says of it may not be true any more.
var errRestarted = errors.New("the target was restarted")

// explain tells a broken connection from an answer of the server.
func (s *session) explain(err error) error {
	if err == nil || !isLoss(err) {
		return err
	}
	if _, ok := errors.AsType[*lostError](err); ok {
		return err
	}
	return &lostError{s.side, err}
}

// isLoss tells whether err is the end of a connection, and not by our own doing.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func isLoss(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrCancelled) || errors.Is(err, errTermLost) {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pg.Code, "08"):
			return true
		case pg.Code == "57P01", pg.Code == "57P02", pg.Code == "57P03", pg.Code == "57P05": // shut down, crashed, starting up, idle for too long
			return true
		case pg.Code == "53300": // too many connections
			return true
		case pg.Code == "40001" && pg.Severity == "FATAL": // a conflict with recovery, on a standby
			return true
		}
		return false
	}
	var network net.Error
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &network) || errors.As(err, &errno) || strings.HasSuffix(err.Error(), "conn closed")
}

// passes tells whether waiting may cure err. What it cannot cure (a wrong password, a full disk, a missing permission)
// ends the clone at once.
func passes(err error) bool {
	var lost *lostError
	return errors.As(err, &lost) || errors.Is(err, errSnapshotLost) || errors.Is(err, errRestarted)
}

// Waiting between tries: soon at first, then every few seconds.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 5 * time.Second
)

// waiting is the trouble a clone is in, from the first failure until something gets done that was not done before.
type waiting struct {
	since time.Time
	tries int
	work  int64 // that was done when it began
}

// waitOut waits a little before the next try, or gives up: the error is then the one to end with. Trouble begins anew
// when something got done since, so that what fails again and again at the same point does not go on for ever.
func (r *run) waitOut(ctx context.Context, err error) error {
	if !passes(err) || ctx.Err() != nil {
		return err
	}
	w := &r.waiting
	if work := r.meter.achieved(); w.tries == 0 || work > w.work {
		*w = waiting{since: time.Now(), work: work}
	}
	until := w.since.Add(r.budget())
	w.tries++
	if time.Now().After(until) {
		return giveUp(err, r.budget())
	}
	r.meter.trouble(Trouble{Text: troubleText(err), Since: w.since, Until: until, Tries: w.tries})
	delay := min(firstWait<<min(w.tries-1, 10), maxWait)
	if pause(ctx, min(delay, time.Until(until)+time.Millisecond)) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// giveUp names how long was waited, beside what for.
func giveUp(err error, waited time.Duration) error {
	e := &Error{Err: err, Hint: "Nothing got done for " + waited.String() + ". When both servers can be reached again, go on from here."}
	if inner, ok := errors.AsType[*Error](err); ok {
		e.Phase, e.Relation, e.Err = inner.Phase, inner.Relation, inner.Err
	}
	return e
}

// troubleText is what a person is told while a clone waits.
func troubleText(err error) string {
	if e, ok := errors.AsType[*lostError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

func (r *run) budget() time.Duration {
	if r.options.Patience > 0 {
		return r.options.Patience
	}
	return DefaultPatience
}

// The pulse of a side: how often it is felt, and how long an answer may take.
const (
	pulseEvery    = 5 * time.Second
	pulsePatience = 15 * time.Second
)

// feelPulse keeps asking both sides for a sign of life, on connections that do nothing else. A network that hangs breaks
// no connection: only this tells a dead peer from one that is busy, in less than 30 s. The returned func ends it.
func (r *run) feelPulse(ctx context.Context, lose context.CancelCauseFunc) (stop func(), err error) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{}, 2)
	var sessions []*session
	stop = func() {
		end()
		for range sessions {
			<-done
		}
		closeAll(sessions...)
	}
	for _, side := range []Side{Source, Target} {
		u := r.spec.Source
		if side == Target {
			u = r.spec.Target
		}
		s, err := open(ctx, side, u, r.spec.applicationName())
		if err != nil {
			stop()
			return nil, err
		}
		sessions = append(sessions, s)
		go func() {
			defer func() { done <- struct{}{} }()
			for pause(ctx, pulseEvery) == nil {
				if err := s.ping(ctx); err != nil && ctx.Err() == nil {
					lose(err)
					return
				}
			}
		}()
	}
	return stop, nil
}

// ping wants an answer soon.
func (s *session) ping(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, pulsePatience)
	defer cancel()
	err := s.exec(asking, "SELECT 1")
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		return &lostError{s.side, fmt.Errorf("no answer for %v", pulsePatience)}
	}
	return err
}
