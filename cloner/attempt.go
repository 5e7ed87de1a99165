package cloner

import (
	"context"
	"errors"
	"slices"
	"sync"

	"calco/cloner/internal/ledger"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
)

// do is the whole clone: attempts, until one comes to an end that waiting does not change.
func (r *run) do(ctx context.Context) error {
	for {
		err := r.attempt(ctx)
		if err == nil {
			return nil
		}
		if err := r.waitOut(ctx, err); err != nil {
			return err
		}
		r.renew()
	}
}

// renew forgets what the next attempt finds out anew.
func (r *run) renew() {
	r.ledger = ledger.New(r.meter)
	r.lock, r.owner, r.there = nil, nil, schema.Inventory{}
	r.report.Differences = []report.Difference{}
	r.meter.Restart()
}

// attempt goes from the first connection to the last comparison, phase by phase. What is on the target already it leaves.
func (r *run) attempt(parent context.Context) (err error) {
	ctx, lose := context.WithCancelCause(parent)
	r.letGo = func() {}
	defer func() {
		if err != nil && ctx.Err() != nil && parent.Err() == nil {
			err = inPlaceOf(err, context.Cause(ctx))
		}
		lose(nil)
		r.letGo()
		if err != nil {
			r.closeSides()
		}
	}()
	if err := r.in(ctx, report.PhasePreflight, r.preflightInTime); err != nil {
		return r.notRefused(err)
	}
	r.held.Store(nil) // whatever an earlier attempt held is to be found out first
	still, err := r.feelPulse(ctx, lose)
	if err != nil {
		return err
	}
	defer still()
	r.meter.End(report.PhasePreflight)
	if err := r.in(ctx, report.PhaseSnapshot, r.readSchema); err != nil {
		return err
	}
	r.meter.End(report.PhaseSnapshot)
	r.tables = newTables(r.plan)
	r.holdOn(ctx, lose)
	if err := r.in(ctx, report.PhasePreData, r.claim); err != nil {
		return r.notRefused(err)
	}
	r.meter.ClearWait()
	if r.resuming() {
		err = r.in(ctx, report.PhasePreData, r.goOn)
	} else {
		err = r.begin(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.in(ctx, report.PhasePreData, r.preData); err != nil {
		return err
	}
	r.meter.End(report.PhasePreData)
	if err := r.fill(ctx); err != nil {
		return err
	}
	r.meter.BodyDone()
	return r.complete(ctx)
}

// begin empties the target if that is wanted, and makes what comes then this job's.
func (r *run) begin(ctx context.Context) error {
	if r.spec.Clean {
		if err := r.in(ctx, report.PhaseClean, r.clean); err != nil {
			return err
		}
		r.meter.End(report.PhaseClean)
	}
	return r.in(ctx, report.PhasePreData, r.beginFilling)
}

// complete does what comes after the rows and what is built on them, up to the verdict.
func (r *run) complete(ctx context.Context) error {
	type step struct {
		phase report.Phase
		do    func(context.Context) error
	}
	steps := []step{
		{report.PhaseSequences, r.sequences},
		{report.PhaseAnalyze, r.analyze},
		{report.PhasePostData, r.owners},
		{report.PhasePostData, r.grants},
		{report.PhaseViews, r.views},
		{report.PhasePostData, r.eventTriggers},
		{report.PhasePostData, r.properties},
		{report.PhaseVerify, r.verify},
		{report.PhaseVerify, r.decide},
	}
	for i, s := range steps {
		r.meter.SetTailPhase(s.phase)
		if err := r.in(ctx, s.phase, s.do); err != nil {
			return err
		}
		if !slices.ContainsFunc(steps[i+1:], func(later step) bool { return later.phase == s.phase }) {
			r.meter.End(s.phase)
		}
	}
	return nil
}

// in does one step of a phase.
func (r *run) in(ctx context.Context, p report.Phase, do func(context.Context) error) error {
	defer r.meter.Enter(p)()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return session.InPhase(p, do(ctx))
}

// notRefused turns a refusal into a failure where the job has begun before: a server that does not answer may come back,
// and of what is on the target a refusal would say that it is nothing.
func (r *run) notRefused(err error) error {
	var refused *report.RefusedError
	var standing *standingRefusal
	if !errors.As(err, &refused) || errors.As(err, &standing) || slices.ContainsFunc(refused.Reasons, report.Reason.OfConfirmation) {
		return err
	}
	reason := refused.Reasons[0]
	silent := reason.Code == report.ReasonHost || reason.Code == report.ReasonNoConnection
	if !r.begun() && (!silent || r.waiting.Tries == 0) {
		return err
	}
	e := &report.Error{Phase: report.PhasePreflight, Err: errors.New(refused.Error()), Hint: reason.Hint}
	if silent {
		e.Err = &session.LostError{Side: reason.Side, Err: e.Err, Text: reason.Text}
	}
	return e
}

// inPlaceOf is the cause of err, in the same phase.
func inPlaceOf(err, cause error) error {
	e, ok := errors.AsType[*report.Error](err)
	if !ok {
		return cause
	}
	return &report.Error{Phase: e.Phase, Relation: e.Relation, Err: cause}
}

// begun tells whether this job may have something on the target.
func (r *run) begun() bool {
	return r.claimed || r.lock != nil && r.lock.Previous != nil || r.spec.Touched
}

// resuming tells whether what is on the target is this job's.
func (r *run) resuming() bool {
	return r.lock != nil && r.lock.Previous != nil && r.lock.Previous.Copying
}

// fill copies the rows, and builds beside that what stands on them. The snapshot is let
// go when the last row is read.
func (r *run) fill(ctx context.Context) error {
	g := r.buildGraph()
	q, err := r.queueParts(ctx, g)
	if err != nil {
		return session.InPhase(report.PhaseCopy, err)
	}
	eg, ctx := safely.NewGroup(ctx)
	eg.Go(func() error {
		err := r.copyRows(ctx, q, g)
		if err == nil && !r.filled && !r.tables.incomplete(r.ledger.Keeps) {
			err = r.noteFilled(ctx)
		}
		r.letGo()
		if err == nil {
			r.meter.End(report.PhaseCopy)
		}
		return session.InPhase(report.PhaseCopy, err)
	})
	eg.Go(func() error { return session.InPhase(report.PhasePostData, r.build(ctx, g)) })
	err = eg.Wait()
	if err == nil {
		r.meter.End(report.PhaseIndexes, report.PhaseConstraints)
	}
	return err
}

// holdOn keeps the snapshot alive until r.letGo is called, which may be often. If it is lost meanwhile, lose is told.
func (r *run) holdOn(ctx context.Context, lose context.CancelCauseFunc) {
	if r.snap == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if err := safely.Do(func() error { return r.snap.KeepAlive(ctx, snapshot.PingEvery) }); err != nil {
			lose(err)
		}
	})
	r.letGo = sync.OnceFunc(func() {
		stop()
		keeping.Wait()
		if r.filled {
			r.snap.Release()
			r.snap = nil
		}
	})
}
