package cloner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"calco/cloner/archive"
	"calco/cloner/pgtools"
)

// Options are what a caller wants to see of a clone. The zero value is ready.
type Options struct {
	// Meter is written to while the clone runs, for others to sample.
	Meter *Meter

	// Past is the report of an earlier clone of the same pair, to reckon the time left with; nil where there is none.
	Past *Report

	// Record, if set, is called once with the verdict of a clone that came to its end
	// (completed or differences), before the marks on the target are dropped: a crash in
	// between must not leave a full target that nobody knows to be true. If it returns an
	// error the marks stay.
	Record func(context.Context, Report) error

	// Patience is how long a clone waits, since it last got anything done, for trouble to pass that waiting may cure: a
	// server that restarts, a network that hangs. 0 means DefaultPatience.
	Patience time.Duration

	// notify, set by tests, is told of each phase as it begins.
	notify func(Phase)
}

// DefaultPatience is long enough for a server to come back from a crash.
const DefaultPatience = 10 * time.Minute

// Clone copies spec.Source into spec.Target and compares them. It blocks until the
// outcome is known and leaves nothing running, here or on the servers. It ends early
// with ctx, whose cause tells whether that is a cancel. Trouble that waiting may cure, such
// as a server that restarts, it waits out, and goes on from what is on the target.
//
// Report.Status is always set. The error is nil for completed and differences; it is a
// *RefusedError for refused, in which case nothing was dropped or copied, and mostly an
// *Error for failed.
func Clone(ctx context.Context, spec Spec, o Options) (Report, error) {
	if o.Meter == nil {
		o.Meter = &Meter{}
	}
	o.Meter.notify = o.notify
	o.Meter.start(o.Past)
	spec, err := spec.normalize()
	r := &run{spec: spec, options: o, meter: o.Meter, report: Report{Schemas: spec.Schemas, Differences: []Difference{}}}
	if err == nil {
		err = r.do(ctx)
	}
	return r.conclude(ctx, err)
}

// run is one clone under way. It may take several attempts.
type run struct {
	spec     Spec
	options  Options
	meter    *Meter
	patience time.Duration // with the first connection to a side; 0 leaves it to the URL
	waiting  waiting

	// What holds over the attempts, as long as the snapshot does.
	snap          *snapshot // nil once all rows are there, or when it is lost
	plan          *plan
	pgDump        string
	pgDumpVersion pgtools.Version
	excluded      []string // schemas that pg_dump may not even look at
	epoch         int      // of the snapshot, on the target; 0 for none yet
	held          atomic.Pointer[held]
	filled        bool // all rows are there
	claimed       bool // _calco is on the target, and this job's
	nonce         string

	// What an attempt finds out and does.
	source                   *session // for questions, outside the snapshot; holds the lock that keeps clones from filling it
	control                  *session // on the target: holds the lock of the job, and makes what lanes do not
	sourceFacts, targetFacts facts
	timeline                 int    // of the source; 0 where it cannot be told, or could be another than it seems
	searchPath               string // the source's, as its ordinary sessions have it; quoted
	left                     *leftover
	there                    inventory // what was on the target when the attempt began
	largeHere                map[int]bool
	letGo                    func() // of the snapshot
	fence                    string // see session.fence
	targetTablespaces        map[string]bool
	accessMethods            map[string]bool
	sequenceState            []sequence
	filledViews              map[int64]bool // materialized views of the source, by OID
	largeObjectCount         int64

	mu        sync.Mutex
	report    Report
	failed    map[int]bool   // entries that could not be made, or were not to be
	leftAlone map[int64]bool // tables that were on the target already and are not ours to fill
	largeLost bool           // large objects were given up
}

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
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed, r.leftAlone, r.largeLost = nil, nil, false
	r.left, r.there, r.largeHere, r.fence = nil, inventory{}, nil, ""
	r.report.Differences, r.report.Warnings = []Difference{}, nil
	if r.plan != nil {
		r.plan.renew()
	}
	r.meter.restart()
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
	if err := r.in(ctx, PhasePreflight, r.preflight); err != nil {
		return r.notRefused(err)
	}
	still, err := r.feelPulse(ctx, lose)
	if err != nil {
		return err
	}
	defer still()
	r.meter.end(PhasePreflight)
	if err := r.in(ctx, PhaseSnapshot, r.readSchema); err != nil {
		return err
	}
	r.meter.end(PhaseSnapshot)
	r.holdOn(ctx, lose)
	if err := r.in(ctx, PhasePreData, r.claim); err != nil {
		return r.notRefused(err)
	}
	r.meter.calm()
	if r.left == nil || !r.left.Filling {
		err = r.begin(ctx)
	} else {
		err = r.in(ctx, PhasePreData, r.goOn)
	}
	if err != nil {
		return err
	}
	if err := r.in(ctx, PhasePreData, r.preData); err != nil {
		return err
	}
	r.meter.end(PhasePreData)
	if err := r.fill(ctx); err != nil {
		return err
	}
	r.meter.filled()
	return r.complete(ctx)
}

// begin empties the target if that is wanted, and makes what comes then this job's.
func (r *run) begin(ctx context.Context) error {
	if r.spec.Clean {
		if err := r.in(ctx, PhaseClean, r.clean); err != nil {
			return err
		}
		r.meter.end(PhaseClean)
	}
	return r.in(ctx, PhasePreData, r.beginFilling)
}

// complete does what comes after the rows and what is built on them, up to the verdict.
func (r *run) complete(ctx context.Context) error {
	type step struct {
		phase Phase
		do    func(context.Context) error
	}
	steps := []step{
		{PhaseSequences, r.sequences},
		{PhaseAnalyze, r.analyze},
		{PhasePostData, r.owners},
		{PhasePostData, r.grants},
		{PhaseViews, r.views},
		{PhasePostData, r.eventTriggers},
		{PhasePostData, r.properties},
		{PhaseVerify, r.verify},
		{PhaseVerify, r.decide},
	}
	for i, s := range steps {
		r.meter.reach(s.phase)
		if err := r.in(ctx, s.phase, s.do); err != nil {
			return err
		}
		if !slices.ContainsFunc(steps[i+1:], func(later step) bool { return later.phase == s.phase }) {
			r.meter.end(s.phase)
		}
	}
	return nil
}

// in does one step of a phase.
func (r *run) in(ctx context.Context, p Phase, do func(context.Context) error) error {
	defer r.meter.enter(p)()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return inPhase(p, do(ctx))
}

// notRefused turns a refusal into a failure where the job has begun before: a server that does not answer may come back,
// and of what is on the target a refusal would say that it is nothing.
func (r *run) notRefused(err error) error {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	reason := refused.Reasons[0]
	silent := reason.Code == ReasonHost || reason.Code == ReasonNoConnection
	if !r.begun() && (!silent || r.waiting.tries == 0) {
		return err
	}
	e := &Error{Phase: PhasePreflight, Err: errors.New(refused.Error()), Hint: reason.Hint}
	if silent {
		e.Err = &lostError{reason.Side, e.Err}
	}
	return e
}

// inPlaceOf is the cause of err, in the same phase.
func inPlaceOf(err, cause error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return cause
	}
	return &Error{Phase: e.Phase, Relation: e.Relation, Err: cause}
}

// begun tells whether this job may have something on the target.
func (r *run) begun() bool { return r.claimed || r.left != nil || r.spec.Touched }

// fill copies the rows, and builds beside that what stands on them. The snapshot is let
// go when the last row is read.
func (r *run) fill(ctx context.Context) error {
	g := r.buildGraph()
	q, err := r.queueParts(ctx, g)
	if err != nil {
		return inPhase(PhaseCopy, err)
	}
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error {
		err := r.copyRows(ctx, q, g)
		if err == nil && !r.filled && !r.incomplete() {
			err = r.noteFilled(ctx)
		}
		r.letGo()
		if err == nil {
			r.meter.end(PhaseCopy)
		}
		return inPhase(PhaseCopy, err)
	})
	eg.Go(func() error { return inPhase(PhasePostData, r.build(ctx, g)) })
	err = eg.Wait()
	if err == nil {
		r.meter.end(PhaseIndexes, PhaseConstraints)
	}
	return err
}

// incomplete tells whether some rows were given up.
func (r *run) incomplete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.largeLost || slices.ContainsFunc(r.plan.tables, func(t *table) bool { return t.lost && !r.leftAlone[t.OID] })
}

// holdOn keeps the snapshot alive until r.letGo is called, which may be often. If it is lost meanwhile, lose is told.
func (r *run) holdOn(ctx context.Context, lose context.CancelCauseFunc) {
	if r.snap == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if err := r.snap.keep(ctx); err != nil {
			lose(err)
		}
	})
	r.letGo = sync.OnceFunc(func() {
		stop()
		keeping.Wait()
		if r.filled {
			r.snap.release()
			r.snap = nil
		}
	})
}

// conclude turns what happened into a report, and leaves both servers tidy.
func (r *run) conclude(ctx context.Context, err error) (Report, error) {
	defer r.closeSessions()
	if err == nil {
		err = r.finish(ctx)
	}
	r.meter.stop(err == nil)
	r.meter.fill(&r.report)
	var refused *RefusedError
	switch {
	case err == nil:
		return r.report, nil
	case errors.As(err, &refused):
		r.report.Status, r.report.Reasons = StatusRefused, refused.Reasons
	case ctx.Err() != nil && (errors.Is(context.Cause(ctx), ErrCancelled) || errors.Is(context.Cause(ctx), context.Canceled)):
		r.report.Status = StatusCancelled
		err = context.Cause(ctx)
	case ctx.Err() != nil:
		r.report.Status = StatusFailed
		err = context.Cause(ctx)
	default:
		r.report.Status = StatusFailed
		r.report.Hint = hintFor(err)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		r.report.Hint, r.report.Phase, r.report.Relation = e.Hint, e.Phase, e.Relation
	}
	if refused == nil {
		r.report.Error = err.Error()
		r.report.Resumable = r.begun() && !errors.Is(err, errChanged) && !errors.Is(err, errTermLost)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		r.report.SQLState = pg.Code
	}
	r.sweep(ctx)
	r.meter.fill(&r.report) // the time it took to end counts too
	return r.report, err
}

// decide makes the verdict, and puts it beside the marks, with all that was committed before on the disk.
func (r *run) decide(ctx context.Context) error {
	r.meter.fill(&r.report)
	r.report.decide()
	if err := r.readEpochs(ctx); err != nil {
		return err
	}
	if err := r.recordStatus(ctx, r.control, r.report.Status); err != nil {
		return fmt.Errorf("record the outcome on the target: %w", err)
	}
	return nil
}

// finish has the verdict recorded, and then drops the marks. If they cannot be dropped the copy is true nevertheless.
func (r *run) finish(ctx context.Context) error {
	if r.options.Record != nil {
		if err := r.options.Record(ctx, r.report); err != nil {
			return inPhase(PhaseVerify, fmt.Errorf("record the outcome: %w", err))
		}
	}
	err := r.dropMarks(ctx)
	if errors.Is(err, errTermLost) || err != nil && ctx.Err() != nil {
		return inPhase(PhaseVerify, err)
	}
	if err != nil && passes(err) {
		err = r.dropMarksAnew(ctx)
	}
	if err != nil {
		r.warn(fmt.Sprintf("Calco's marks are still on the target, in the schema _calco, which can be dropped: %v.", err))
	}
	return nil
}

// dropMarksAnew drops them on a new connection.
func (r *run) dropMarksAnew(ctx context.Context) error {
	s, err := r.openTarget(ctx)
	if err != nil {
		return err
	}
	closeAll(r.control)
	r.control = s
	return r.dropMarks(ctx)
}

// sweepPatience is how long a clone that ended early waits for its backends to be gone.
const sweepPatience = time.Second

// sweep ends what may still run on either server: closing a connection does not stop a
// backend that has more to do. What could not be ended is in the report.
func (r *run) sweep(ctx context.Context) {
	r.closeSessions()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepPatience)
	defer cancel()
	var both sync.WaitGroup
	for _, side := range []Side{Source, Target} {
		reached := r.report.Source
		u := r.spec.Source
		if side == Target {
			reached, u = r.report.Target, r.spec.Target
		}
		if reached.Address == "" {
			continue // never got in, so nothing runs there
		}
		both.Go(func() {
			if err := r.sweepSide(ctx, side, u); err != nil {
				r.warn(fmt.Sprintf("Something may still be running on the %s for a while: look for %s in pg_stat_activity (%v).",
					side, r.spec.applicationName(), err))
			}
		})
	}
	both.Wait()
}

func (r *run) sweepSide(ctx context.Context, side Side, u URL) error {
	s, err := dial(ctx, side, u, "calco sweep")
	if err != nil {
		return err
	}
	defer s.close()
	err = endBackends(ctx, s, r.spec.applicationName())
	if err == nil && side == Target && r.claimed {
		_ = r.countMarks(ctx, s) // what cannot be read stays as the answers told it
	}
	return err
}

func (r *run) closeSessions() {
	if r.snap != nil {
		r.snap.release()
	}
	r.closeSides()
}

// closeSides ends the sessions of an attempt. Those that hold the snapshot stay.
func (r *run) closeSides() {
	closeAll(r.source, r.control)
	r.source, r.control = nil, nil
}

// warn adds to what is worth knowing without being a difference.
func (r *run) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Warnings = append(r.report.Warnings, text)
	r.meter.warn(text)
}

func (r *run) markFailed(entry int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[int]bool{}
	}
	r.failed[entry] = true
}

// markKept: the entry's object was there before, and stays as it is.
func (r *run) markKept(e *archive.Entry) {
	r.markFailed(e.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leftAlone == nil {
		r.leftAlone = map[int64]bool{}
	}
	if e.CatalogOID == pgClass {
		r.leftAlone[int64(e.OID)] = true
	}
	for _, t := range r.plan.tables {
		if e.CatalogOID == pgExtension && t.Extension == int64(e.OID) {
			r.leftAlone[t.OID] = true
		}
	}
}

func (r *run) isLeftAlone(table int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leftAlone[table]
}

func (r *run) hasFailed(entry int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[entry]
}
