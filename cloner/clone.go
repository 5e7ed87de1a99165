package cloner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
// with ctx, whose cause tells whether that is a cancel.
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
	r := &run{spec: spec, meter: o.Meter, report: Report{Schemas: spec.Schemas, Differences: []Difference{}}}
	if err == nil {
		err = r.do(ctx)
	}
	return r.conclude(ctx, o, err)
}

// run is one clone under way.
type run struct {
	spec     Spec
	meter    *Meter
	patience time.Duration // with the first connection to a side; 0 leaves it to the URL

	source  *session // for questions, outside the snapshot; holds the lock that keeps clones from filling it
	control *session // on the target: holds the lock of the job, and makes what lanes do not

	sourceFacts, targetFacts facts
	searchPath               string // the source's, as its ordinary sessions have it; quoted
	pgDump                   string
	pgDumpVersion            pgtools.Version
	excluded                 []string // schemas that pg_dump may not even look at
	snap                     *snapshot
	plan                     *plan
	nonce                    string
	fence                    string // see session.fence
	claimed                  bool   // _calco is on the target
	targetTablespaces        map[string]bool
	accessMethods            map[string]bool
	sequenceState            []sequence
	filledViews              map[int64]bool // materialized views of the source, by OID
	largeObjectCount         int64

	mu        sync.Mutex
	report    Report
	failed    map[int]bool   // entries that could not be made, or were not to be
	leftAlone map[int64]bool // tables that were on the target already and are not ours to fill
}

// do is the whole clone, phase by phase.
func (r *run) do(ctx context.Context) error {
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	if err := r.in(ctx, PhasePreflight, r.preflight); err != nil {
		return err
	}
	r.meter.end(PhasePreflight)
	if err := r.in(ctx, PhaseSnapshot, r.readSchema); err != nil {
		return err
	}
	r.meter.end(PhaseSnapshot)
	letGo := r.holdOn(ctx, lose)
	defer letGo()
	if err := r.in(ctx, PhasePreData, r.claim); err != nil {
		return err
	}
	if r.spec.Clean {
		if err := r.in(ctx, PhaseClean, r.clean); err != nil {
			return err
		}
		r.meter.end(PhaseClean)
	}
	if err := r.in(ctx, PhasePreData, r.preData); err != nil {
		return err
	}
	r.meter.end(PhasePreData)
	if err := r.fill(ctx, lose, letGo); err != nil {
		return err
	}
	r.meter.filled()
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

// fill copies the rows, and builds beside that what stands on them. The snapshot is let
// go when the last row is read.
func (r *run) fill(ctx context.Context, lose context.CancelCauseFunc, letGo func()) error {
	g := r.buildGraph()
	q, err := r.queueParts(ctx, g)
	if err != nil {
		return inPhase(PhaseCopy, err)
	}
	idle := make(chan struct{})
	keeping, stop := context.WithCancel(ctx)
	go func() {
		defer close(idle)
		r.keepIdle(keeping, lose)
	}()
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error {
		err := r.copyRows(ctx, q, g)
		letGo()
		if err == nil {
			r.meter.end(PhaseCopy)
		}
		return inPhase(PhaseCopy, err)
	})
	eg.Go(func() error { return inPhase(PhasePostData, r.build(ctx, g)) })
	err = eg.Wait()
	stop()
	<-idle
	if err == nil {
		r.meter.end(PhaseIndexes, PhaseConstraints)
	}
	return err
}

// holdOn keeps the snapshot alive until letGo is called, which may be often. If it is
// lost meanwhile, lose is told.
func (r *run) holdOn(ctx context.Context, lose context.CancelCauseFunc) (letGo func()) {
	ctx, stop := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if err := r.snap.keep(ctx); err != nil {
			lose(err)
		}
	})
	return sync.OnceFunc(func() {
		stop()
		keeping.Wait()
		r.snap.release()
	})
}

// keepIdle pings the two sessions that nobody uses while rows are copied. With the one
// on the target goes the lock that keeps other jobs away.
func (r *run) keepIdle(ctx context.Context, lose context.CancelCauseFunc) {
	for pause(ctx, pingEvery) == nil {
		for _, s := range []*session{r.source, r.control} {
			if err := s.exec(ctx, "SELECT 1"); err != nil && ctx.Err() == nil {
				lose(fmt.Errorf("connection to the %s: %w", s.side, err))
				return
			}
		}
	}
}

// conclude turns what happened into a report, and leaves both servers tidy.
func (r *run) conclude(ctx context.Context, o Options, err error) (Report, error) {
	defer r.closeSessions()
	if err == nil {
		err = r.finish(ctx, o)
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
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		r.report.SQLState = pg.Code
	}
	r.sweep(ctx)
	r.meter.fill(&r.report) // the time it took to end counts too
	return r.report, err
}

// finish decides the outcome, and drops the marks when it is on record.
func (r *run) finish(ctx context.Context, o Options) error {
	r.meter.fill(&r.report)
	r.report.decide()
	if err := r.recordStatus(ctx, r.control, r.report.Status); err != nil {
		return inPhase(PhaseVerify, fmt.Errorf("record the outcome on the target: %w", err))
	}
	if o.Record != nil {
		if err := o.Record(ctx, r.report); err != nil {
			return inPhase(PhaseVerify, fmt.Errorf("record the outcome: %w", err))
		}
	}
	return inPhase(PhaseVerify, r.dropMarks(ctx))
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
