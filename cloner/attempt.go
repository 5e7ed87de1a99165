package cloner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"calco/cloner/internal/data"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/locks"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/internal/verify"
	"calco/cloner/report"
)

// state is what an attempt leaves to the next.
type state struct {
	job            marks.Job        // another one, once the run has adopted it
	claimed        bool             // the job's row is on the target, or was
	announced      *report.Identity // the target that Options.Begin was told of
	source, target *session.Server  // as connected to last; nil before
	epoch          *epoch           // nil for none
}

// attempt goes once from the first connection to the last comparison.
type attempt struct {
	*run
	state
	again  bool // it is not the first of its run
	ours   bool // what is on the target is this job's
	ledger *ledger.Ledger
	owner  *marks.Owner // nil until the target is this job's
	result result
}

// result is what an attempt that came to its end has found out.
type result struct {
	differences []report.Difference
	contents    *report.Contents
	epochs      []report.Epoch
	verdict     report.Report // with all that
}

func (r *run) newAttempt(s state, again bool) *attempt {
	return &attempt{run: r, state: s, again: again, ledger: ledger.New(r.meter)}
}

// do is the attempt, phase by phase. What is on the target already it leaves.
func (a *attempt) do(parent context.Context) (err error) {
	ctx, abort := context.WithCancelCause(parent)
	defer func() {
		if err != nil && ctx.Err() != nil && parent.Err() == nil {
			err = withCause(err, context.Cause(ctx))
		}
		abort(nil)
	}()
	var t *taken
	if err := a.in(ctx, report.PhasePreflight, func(ctx context.Context) (err error) {
		t, err = a.takeInTime(ctx)
		a.has(t)
		return err
	}); err != nil {
		return a.notRefused(err)
	}
	alive, err := startKeepalive(ctx, a.source, a.target, abort, func(s *session.Session) func(context.Context) error {
		return locks.Watch(s, a.job.ApplicationName(), a.patience, a.meter)
	})
	if err != nil {
		return session.InPhase(report.PhasePreflight, err)
	}
	defer alive.stop()
	a.meter.End(report.PhasePreflight)
	if err := a.in(ctx, report.PhaseSnapshot, func(ctx context.Context) (err error) {
		a.epoch, err = openEpoch(ctx, a.epoch, a.source, a.target, t.dumper, a.spec, a.ledger)
		return err
	}); err != nil {
		return err
	}
	a.meter.End(report.PhaseSnapshot)
	stopSnapshot := keepSnapshot(ctx, a.epoch.snap, abort)
	defer stopSnapshot()
	if err := a.in(ctx, report.PhasePreData, func(ctx context.Context) error { return a.claim(ctx, t) }); err != nil {
		return a.notRefused(err)
	}
	a.meter.ClearWait()
	w, err := a.prepare(ctx, t, alive, stopSnapshot)
	if w != nil {
		a.epoch = w.epoch
	}
	if err != nil {
		return err
	}
	if err := a.in(ctx, report.PhasePreData, w.maker.PreData); err != nil {
		return err
	}
	a.meter.End(report.PhasePreData)
	largeObjects, err := a.copyAndBuild(ctx, w, stopSnapshot)
	if err != nil {
		return err
	}
	a.meter.BodyDone()
	return a.complete(ctx, w, largeObjects)
}

// in does one step of a phase.
func (a *attempt) in(ctx context.Context, p report.Phase, do func(context.Context) error) error {
	defer a.meter.Enter(p)()
	if ctx.Err() != nil {
		return session.InPhase(p, context.Cause(ctx))
	}
	return session.InPhase(p, do(ctx))
}

// has notes what taking the target has come to.
func (a *attempt) has(t *taken) {
	a.ours = t.ours
	if t.source != nil {
		a.source = t.source
	}
	if t.target != nil {
		a.target = t.target
	}
	if t.lock != nil {
		a.job, a.claimed = t.lock.Job, a.claimed || t.lock.Previous != nil
	}
}

// wish is what this run wants of the target.
func (a *attempt) wish(t *taken) marks.Wish {
	return marks.Wish{
		Job: a.job, Schemas: a.spec.Schemas, Resume: a.spec.Resume, Adopt: a.spec.adopt && !a.claimed,
		Claimed: a.claimed, Again: a.again,
		Announce: func(ctx context.Context) error { return a.announce(ctx, t) },
	}
}

// announce tells the caller that the target is about to change.
func (a *attempt) announce(ctx context.Context, t *taken) error {
	target := t.target.Identity()
	if a.options.Begin == nil || a.announced != nil && *a.announced == target {
		return nil
	}
	err := a.options.Begin(ctx, t.source.Identity(), target)
	if refused, ok := errors.AsType[*report.RefusedError](err); ok {
		return &standingRefusal{refused}
	}
	if err != nil {
		return fmt.Errorf("note that the target is about to change: %w", err)
	}
	a.announced = &target
	return nil
}

// claim makes the target this job's. The source has been read by now, and its schema dumped.
func (a *attempt) claim(ctx context.Context, t *taken) (err error) {
	if t.lock.Previous == nil {
		reasons, err := t.scope.Check(ctx, nil) // time has passed since preflight
		if err != nil || len(reasons) > 0 {
			return errors.Join(err, report.Refuse(reasons...))
		}
	}
	a.owner, err = t.lock.Claim(ctx, a.epoch.plan.Definitions(t.dumper.Version))
	a.claimed = a.claimed || a.owner != nil
	return err
}

// copyAndBuild copies the rows, and builds beside that what stands on them. The snapshot is let go when the last row is there.
// It returns how many large objects the source had in it.
func (a *attempt) copyAndBuild(ctx context.Context, w *workplace, stopSnapshot func()) (largeObjects int64, err error) {
	scheduler := w.maker.Schedule(w.tables.Pending)
	copier := a.copier(w)
	q, err := copier.Queue(ctx, scheduler.RowsReady)
	if err != nil {
		return 0, session.InPhase(report.PhaseCopy, err)
	}
	largeObjects = q.LargeObjects
	if a.epoch.copied {
		largeObjects = a.epoch.largeObj
	}
	eg, ctx := safely.NewGroup(ctx)
	copied := a.epoch
	eg.Go(func() error {
		err := copier.Copy(ctx, q, scheduler.RowsReady)
		if err == nil && !copied.copied && !w.tables.Incomplete(a.ledger.Keeps) {
			if err = a.owner.RecordCopied(ctx, copied.number, largeObjects); err == nil {
				copied = copied.done(largeObjects)
			}
		}
		stopSnapshot()
		if copied.copied { // what is built takes long, and the source cannot clean up dead rows meanwhile
			a.epoch.release()
		}
		if err == nil {
			a.meter.End(report.PhaseCopy)
		}
		return session.InPhase(report.PhaseCopy, err)
	})
	eg.Go(func() error { return session.InPhase(report.PhasePostData, w.maker.Build(ctx, scheduler)) })
	err = eg.Wait()
	a.epoch = copied
	if err == nil {
		a.meter.End(report.PhaseIndexes, report.PhaseConstraints)
	}
	return largeObjects, err
}

func (a *attempt) copier(w *workplace) *data.Copier {
	return &data.Copier{
		Reader: data.Reader{Source: a.source, Snapshot: a.epoch.snap, Plan: a.epoch.plan, Lanes: w.lanes},
		Owner:  a.owner, Epoch: a.epoch.number, Tables: w.tables,
		Whole: a.spec.whole(), EveryRow: a.spec.Verify == report.VerifyContents, PartSize: a.spec.PartSize,
		Ledger: a.ledger, Meter: a.meter, Achieve: a.patience.Achieve,
		CloseLargeObjects: w.maker.CloseLargeObjects(),
		MakeLargeObjects: func(ctx context.Context, on *marks.Writer, things [][2]string) error {
			return w.maker.Make(ctx, on, report.PhaseCopy, things)
		},
	}
}

// complete does what comes after the rows and what is built on them, up to the verdict.
func (a *attempt) complete(ctx context.Context, w *workplace, largeObjects int64) error {
	c := &verify.Comparison{
		Source: a.source, Target: a.target, Owner: a.owner, Dumper: w.dumper, Plan: a.epoch.plan,
		Schemas: a.spec.Schemas, Clean: a.spec.Clean, Verify: a.spec.Verify, Lanes: w.lanes,
		LargeObjects: largeObjects, ViewRows: a.epoch.views, Preexisting: w.preexisting, HasTablespace: w.maker.HasTablespace,
		Ledger: a.ledger, Meter: a.meter,
	}
	c.Tables, c.LargeObjectsComplete = w.tables.Outcomes()
	type step struct {
		phase report.Phase
		do    func(context.Context) error
	}
	steps := []step{
		{report.PhaseSequences, func(ctx context.Context) (err error) { c.Sequences, err = w.maker.Sequences(ctx); return err }},
		{report.PhaseAnalyze, w.maker.Analyze},
		{report.PhasePostData, w.maker.Owners},
		{report.PhasePostData, w.maker.Grants},
		{report.PhaseViews, func(ctx context.Context) (err error) { c.FilledViews, err = w.maker.Views(ctx); return err }},
		{report.PhasePostData, w.maker.EventTriggers},
		{report.PhasePostData, w.maker.Properties},
		{report.PhaseVerify, func(ctx context.Context) (err error) {
			a.result.differences, a.result.contents, err = c.Compare(ctx)
			return err
		}},
		{report.PhaseVerify, a.decide},
	}
	for i, s := range steps {
		a.meter.SetTailPhase(s.phase)
		if err := a.in(ctx, s.phase, s.do); err != nil {
			return err
		}
		if !slices.ContainsFunc(steps[i+1:], func(later step) bool { return later.phase == s.phase }) {
			a.meter.End(s.phase)
		}
	}
	return nil
}

// decide makes the verdict, and puts it beside the marks, with all that was committed before on the disk.
func (a *attempt) decide(ctx context.Context) (err error) {
	if a.result.epochs, err = a.owner.Epochs(ctx); err != nil {
		return err
	}
	verdict := a.report()
	verdict.Decide()
	a.result.verdict = verdict
	if err := a.owner.RecordStatus(ctx, verdict.Status); err != nil {
		return fmt.Errorf("record the outcome on the target: %w", err)
	}
	return nil
}

// report is what the attempt has done and found out so far.
func (a *attempt) report() report.Report {
	r := report.Report{Schemas: a.spec.Schemas, Differences: []report.Difference{}}
	if a.source != nil {
		r.Source = a.source.Endpoint()
	}
	if a.target != nil {
		r.Target = a.target.Endpoint()
	}
	if a.epoch != nil {
		r.SnapshotAt, r.Dependencies = a.epoch.at, a.epoch.pulled()
	}
	if a.result.differences != nil {
		r.Differences = a.result.differences
	}
	r.Contents, r.Epochs = a.result.contents, a.result.epochs
	a.meter.Fill(&r)
	r.Ledger, r.Warnings = a.ledger.Entries(), a.ledger.Warnings()
	return r
}

// finish has the verdict recorded, and then drops the marks. If they cannot be dropped the copy is true nevertheless.
func (a *attempt) finish(ctx context.Context) error {
	if a.options.Record != nil {
		if err := a.options.Record(ctx, a.result.verdict); err != nil {
			return session.InPhase(report.PhaseVerify, fmt.Errorf("record the outcome: %w", err))
		}
	}
	err := a.owner.Drop(ctx)
	if errors.Is(err, session.ErrTermLost) || err != nil && ctx.Err() != nil {
		return session.InPhase(report.PhaseVerify, err)
	}
	if err != nil {
		a.ledger.Warn(report.Said(fmt.Sprintf("Calco's marks are still on the target, in the schema _calco, which can be dropped: %v.", err)))
	}
	return nil
}

// close ends the control sessions. Those that hold the snapshot stay.
func (a *attempt) close() {
	var sessions []*session.Session
	for _, s := range []*session.Server{a.source, a.target} {
		if s != nil {
			sessions = append(sessions, s.Control)
		}
	}
	session.CloseAll(sessions...)
}

// begun tells whether this job may have something on the target.
func (a *attempt) begun() bool { return a.claimed || a.ours || a.spec.Touched }

// standingRefusal stays a refusal though the job has begun before: it is true of that too. See notRefused.
type standingRefusal struct{ refused *report.RefusedError }

func (e *standingRefusal) Error() string { return e.refused.Error() }
func (e *standingRefusal) Unwrap() error { return e.refused }

// notRefused turns a refusal into a failure where the job has begun before. A refusal says that nothing is on the target; and a
// server that does not answer may come back.
func (a *attempt) notRefused(err error) error {
	var refused *report.RefusedError
	var standing *standingRefusal
	if !errors.As(err, &refused) || errors.As(err, &standing) || slices.ContainsFunc(refused.Reasons, report.Reason.OfConfirmation) {
		return err
	}
	reason := refused.Reasons[0]
	silent := reason.Code == report.ReasonHost || reason.Code == report.ReasonNoConnection
	if !a.begun() && (!silent || !a.again) {
		return err
	}
	e := &report.Error{Phase: report.PhasePreflight, Err: errors.New(refused.Error()), Hint: reason.Hint}
	if reason.Text.Code != "" { // else Err has the words
		e.Failure = reason.Text
	}
	if silent {
		e.Err = &session.LostError{Side: reason.Side, Err: e.Err, Text: reason.Text}
	}
	return e
}

// takePatience is how long it may take to look at both sides and to take the target. Until the keepalive has begun nothing else
// tells a server that lets Calco in and then says nothing.
const takePatience = 2 * time.Minute

// errSilent is the cause to end that with when it takes too long.
var errSilent = errors.New("a server lets Calco in and then does not answer")

func (a *attempt) takeInTime(ctx context.Context) (*taken, error) {
	ctx, stop := context.WithTimeoutCause(ctx, cmp.Or(a.options.silence, takePatience), errSilent)
	defer stop()
	t, err := a.take(ctx)
	if err == nil || !errors.Is(context.Cause(ctx), errSilent) {
		return t, err
	}
	side := report.Source
	if t.source != nil {
		side = report.Target
	}
	return t, &session.LostError{Side: side, Err: errSilent, Text: report.Said(fmt.Sprintf("The server of the %s lets Calco in and then does not answer.", side))}
}
