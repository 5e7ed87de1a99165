package cloner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Meter keeps the progress of one clone: Clone writes to it, and any number of readers sample it. The zero value is ready.
type Meter = progress.Meter

// Changes are the tables and events that are new since some moment: see Meter.Since.
type Changes = progress.Changes

// Options are what a caller wants to see of a clone. The zero value is ready.
type Options struct {
	// Meter is written to while the clone runs, for others to sample.
	Meter *progress.Meter

	// Past is the report of an earlier clone of the same pair, to reckon the time left with; nil where there is none.
	Past *report.Report

	// Begin, if set, is called before the clone writes to the target for the first time, and before it goes on with one
	// that turns out to be another. If it returns an error the clone ends without having written; a *RefusedError refuses
	// it. See Spec.Touched.
	Begin func(ctx context.Context, source, target report.Identity) error

	// Record, if set, is called once with the verdict of a clone that came to its end
	// (completed or differences), before the marks on the target are dropped: a crash in
	// between must not leave a full target that nobody knows to be true. If it returns an
	// error the marks stay.
	Record func(context.Context, report.Report) error

	// Patience is how long a clone waits, since it last got anything done, for trouble to pass that waiting may cure: a
	// server that restarts, a network that hangs. 0 means DefaultPatience.
	Patience time.Duration

	// notify, set by tests, is told of each phase as it begins, before anything is done in it.
	notify func(report.Phase)

	// silence, set by tests, is instead of preflightPatience.
	silence time.Duration
}

// DefaultPatience is long enough for a server to come back from a crash.
const DefaultPatience = 10 * time.Minute

// Clone copies spec.Source into spec.Target and compares them. It blocks until the
// outcome is known and leaves nothing running, here or on the servers. It ends early
// with ctx, whose cause tells whether that is a cancel. Trouble that waiting may cure, such
// as a server that restarts, it waits out, and goes on from what is on the target.
//
// Report.Status is always set. The error is nil for completed and differences; it is a
// *report.RefusedError for refused, in which case nothing was dropped or copied, and mostly a
// *report.Error for failed.
//
// Its table of contents is attempt.do.
func Clone(ctx context.Context, spec Spec, o Options) (report.Report, error) {
	if o.Meter == nil {
		o.Meter = &progress.Meter{}
	}
	o.Meter.Notify = o.notify
	o.Meter.Start(o.Past)
	spec, err := spec.normalize()
	r := &run{spec: spec, options: o, meter: o.Meter, patience: patience.New(cmp.Or(o.Patience, DefaultPatience))}
	a := r.newAttempt(state{job: marks.Job{ID: spec.Job, Term: spec.Term, Nonce: NewJob()}}, false)
	if err == nil {
		a, err = r.try(ctx, a)
	}
	return r.conclude(ctx, a, err)
}

// run is one clone under way. It may take several attempts.
type run struct {
	spec     Spec
	options  Options
	meter    *progress.Meter
	patience *patience.Patience
}

// try makes attempts until one comes to an end that waiting does not change, and returns that one.
func (r *run) try(ctx context.Context, a *attempt) (*attempt, error) {
	var wait patience.Wait
	for {
		err := safely.Do(func() error { return a.do(ctx) })
		if err == nil {
			return a, nil
		}
		a.close()
		if err := r.waitOut(ctx, &wait, err); err != nil {
			return a, err
		}
		r.meter.Restart()
		a = r.newAttempt(a.state, true)
	}
}

// Waiting between tries: soon at first, then every few seconds.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 5 * time.Second
)

// waitOut waits a little before the next try, or gives up: the error is then the one to end with.
func (r *run) waitOut(ctx context.Context, w *patience.Wait, err error) error {
	if !session.CuredByWaiting(err) || ctx.Err() != nil {
		return err
	}
	until := w.Again(r.patience)
	if time.Now().After(until) {
		return gaveUp(err, r.patience.Limit())
	}
	r.meter.SetWait(report.Wait{Text: session.WaitText(err), Since: w.Since, Until: until, Tries: w.Tries})
	delay := min(firstWait<<min(w.Tries-1, 10), maxWait)
	if session.Pause(ctx, min(delay, time.Until(until)+time.Millisecond)) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// gaveUp names how long was waited, beside what for.
func gaveUp(err error, waited time.Duration) error {
	e := &report.Error{Err: err, Hint: report.Said("Nothing got done for " + waited.String() + ". When both servers can be reached again, go on from here.")}
	if inner, ok := errors.AsType[*report.Error](err); ok {
		e.Phase, e.Relation, e.Failure, e.Err = inner.Phase, inner.Relation, inner.Failure, inner.Err
	}
	return e
}

// conclude turns what the last attempt has come to into a report, and leaves both servers tidy.
func (r *run) conclude(ctx context.Context, a *attempt, err error) (report.Report, error) {
	if err == nil {
		err = safely.Do(func() error { return a.finish(ctx) })
	}
	r.meter.Stop(err == nil)
	if err == nil { // the report stays as it was recorded
		a.sweep(ctx)
		verdict := a.result.verdict
		verdict.Warnings = a.ledger.Warnings()
		return verdict, nil
	}
	a.sweep(ctx) // the time it took to end counts too
	rep := a.report()
	var refused *report.RefusedError
	switch {
	case errors.As(err, &refused):
		rep.Status, rep.Reasons = report.StatusRefused, refused.Reasons
	case ctx.Err() != nil && (errors.Is(context.Cause(ctx), report.ErrCancelled) || errors.Is(context.Cause(ctx), context.Canceled)):
		rep.Status = report.StatusCancelled
		err = context.Cause(ctx)
	case ctx.Err() != nil:
		rep.Status = report.StatusFailed
		err = context.Cause(ctx)
	default:
		rep.Status = report.StatusFailed
		rep.Hint = session.HintFor(err)
	}
	if e, ok := errors.AsType[*report.Error](err); ok {
		rep.Failure, rep.Hint, rep.Phase, rep.Relation = e.Failure, e.Hint, e.Phase, e.Relation
	}
	if refused == nil {
		rep.Error = err.Error()
		rep.Resumable = a.begun() && !errors.Is(err, marks.ErrChanged) && !errors.Is(err, session.ErrTermLost)
	}
	rep.SQLState = session.SQLState(err)
	return rep, err
}

// How long a clone that has ended waits for a server to let it in once more, and then for its backends there to be gone.
// A server that is away must not hold up a cancel; one that answers but is busy may take longer to end what it was told to.
const (
	sweepReach    = time.Second
	sweepPatience = 5 * time.Second
)

// sweep ends what may still run on either server, however the clone ended: closing a connection does not stop a backend
// that has more to do, and one of pg_dump may not have noticed yet that pg_dump is done. What could not be ended is a
// warning.
func (a *attempt) sweep(ctx context.Context) {
	a.epoch.release()
	a.close()
	ctx = context.WithoutCancel(ctx)
	var both sync.WaitGroup
	for _, side := range []*session.Server{a.source, a.target} {
		if side == nil {
			continue // never got in, so nothing runs there
		}
		both.Go(func() {
			if err := safely.Do(func() error { return a.sweepSide(ctx, side) }); err != nil {
				a.ledger.Warn(report.Said(fmt.Sprintf("Something may still be running on the %s for a while: look for %s in pg_stat_activity (%v).",
					side.Side, side.Name, err)))
			}
		})
	}
	both.Wait()
}

func (a *attempt) sweepSide(ctx context.Context, side *session.Server) error {
	s, err := sweeper(ctx, side.Way)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	err = marks.EndBackends(ctx, s, side.Name)
	if err == nil && side == a.target && a.claimed {
		a.countMarks(ctx, s)
	}
	return err
}

// countMarks makes the meter count what is on the target of a clone that ended early: a part may have been committed while the
// answer did not come any more. What cannot be read stays as the answers told it.
func (a *attempt) countMarks(ctx context.Context, s *session.Session) {
	if a.epoch == nil {
		return
	}
	rows, err := marks.CompleteTables(ctx, s, a.job.Nonce)
	if err != nil {
		return
	}
	for relation, t := range a.epoch.plan.ByRelation() {
		if n, complete := rows[relation]; complete {
			a.meter.TableArrived(t.OID, n)
		}
	}
}

func sweeper(ctx context.Context, w session.Way) (*session.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepReach)
	defer cancel()
	u, hosts := w.Anew()
	return session.Dial(ctx, w.Side, u, hosts, "calco sweep")
}
