package cloner

import (
	"context"
	"errors"
	"time"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// standingRefusal stays a refusal though the job has begun before: it is true of that too. See notRefused.
type standingRefusal struct{ refused *report.RefusedError }

func (e *standingRefusal) Error() string { return e.refused.Error() }

func (e *standingRefusal) Unwrap() error { return e.refused }

// Waiting between tries: soon at first, then every few seconds.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 5 * time.Second
)

// waitOut waits a little before the next try, or gives up: the error is then the one to end with.
func (r *run) waitOut(ctx context.Context, err error) error {
	if !session.CuredByWaiting(err) || ctx.Err() != nil {
		return err
	}
	w := &r.waiting
	until := w.Again(r.patience)
	if time.Now().After(until) {
		return gaveUp(err, r.patience.Limit())
	}
	r.meter.SetWait(report.Trouble{Text: session.TroubleText(err), Since: w.Since, Until: until, Tries: w.Tries})
	delay := min(firstWait<<min(w.Tries-1, 10), maxWait)
	if session.Pause(ctx, min(delay, time.Until(until)+time.Millisecond)) != nil {
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
