package cloner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/preflight"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/internal/verify"
	"calco/cloner/report"
)

// epoch is the life of one snapshot, and what was read under it. It does not change; what is found out later makes another one.
type epoch struct {
	snap     *snapshot.Snapshot // nil once all rows are on the target
	plan     *schema.Plan
	views    map[string]verify.ViewRows // of materialized views of the source
	at       time.Time                  // when the snapshot was taken, by the source's clock
	number   int                        // on the target; 0 for none yet
	copied   bool                       // all rows are on the target
	largeObj int64                      // how many large objects the source had then, once all rows are on the target
}

// openEpoch takes a snapshot and reads under it what there is to clone, unless the one before still stands: it is held, or
// not needed any more.
func openEpoch(ctx context.Context, before *epoch, source, target *session.Server, d schema.Dumper, spec Spec, l *ledger.Ledger) (*epoch, error) {
	if before != nil && before.copied {
		return before, nil
	}
	if before != nil {
		if err := before.snap.Refresh(ctx); err == nil {
			return before, nil
		}
		if ctx.Err() != nil {
			return before, context.Cause(ctx)
		}
		before.snap.Release()
	}
	snap, err := snapshot.Take(ctx, source.Open)
	if err != nil {
		return nil, err
	}
	if snap.NoLSN != nil && source.Timeline != 0 {
		l.Warn(preflight.Unprovable(snap.NoLSN.Error()))
	}
	e := &epoch{snap: snap, at: snap.At.UTC().Truncate(time.Second)}
	if e.plan, e.views, err = readPlan(ctx, snap, source, target, d, spec, l); err != nil {
		snap.Release()
		return nil, err
	}
	return e, nil
}

// readPlan reads under a snapshot what there is to clone, and the rows of materialized views.
func readPlan(ctx context.Context, snap *snapshot.Snapshot, source, target *session.Server, d schema.Dumper, spec Spec, l *ledger.Ledger) (*schema.Plan, map[string]verify.ViewRows, error) {
	a, err := d.Dump(ctx, source, snap.Name())
	if err != nil && ctx.Err() == nil && !session.CuredByWaiting(err) && snap.Refresh(ctx) != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", session.ErrSnapshotLost, err)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := snap.Begin(ctx, source.Control); err != nil {
		return nil, nil, err
	}
	catalog, err := schema.ReadCatalog(ctx, source.Control)
	if err != nil {
		return nil, nil, err
	}
	plan := schema.NewPlan(a.Entries, schema.Choice{
		Schemas: spec.Schemas, Version: source.VersionNum, PartSize: spec.PartSize, Verify: spec.Verify,
		Converts: source.Encoding != target.Encoding,
	}, catalog)
	restart := func(ctx context.Context) error { return snap.Begin(ctx, source.Control) }
	views, err := verify.ReadViewRows(ctx, source.Control, plan, spec.Verify, restart, l.Warn)
	if err != nil {
		return nil, nil, err
	}
	if err := source.Control.Exec(ctx, "COMMIT"); err != nil {
		return nil, nil, fmt.Errorf("end transaction on the source: %w", err)
	}
	return plan, views, nil
}

// numbered is the epoch with its number on the target.
func (e *epoch) numbered(number int) *epoch {
	n := *e
	n.number = number
	return &n
}

// done is the epoch once all rows are on the target, where its snapshot is needed no more.
func (e *epoch) done(largeObjects int64) *epoch {
	n := *e
	n.snap, n.copied, n.largeObj = nil, true, largeObjects
	return &n
}

// onTarget is the epoch as the marks know it.
func (e *epoch) onTarget() marks.Epoch {
	return marks.Epoch{Number: e.number, Nonce: e.snap.Nonce, SnapshotAt: e.snap.At, Xmin: e.snap.Xmin}
}

// pulled are the objects outside the chosen schemas that these need.
func (e *epoch) pulled() []string {
	var names []string
	for _, entry := range e.plan.Entries {
		if e.plan.Pulled[entry.ID] {
			names = append(names, schema.Title(entry))
		}
	}
	return names
}

// release lets the snapshot go.
func (e *epoch) release() {
	if e != nil && e.snap != nil {
		e.snap.Release()
	}
}

// keepSnapshot keeps a snapshot alive until the function it returns is called, which may be more than once. If it is lost
// meanwhile, cancel is called.
func keepSnapshot(ctx context.Context, snap *snapshot.Snapshot, cancel context.CancelCauseFunc) (stop func()) {
	if snap == nil {
		return func() {}
	}
	ctx, end := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if err := safely.Do(func() error { return snap.KeepAlive(ctx, snapshot.PingEvery) }); err != nil {
			cancel(err)
		}
	})
	return func() {
		end()
		keeping.Wait()
	}
}

// withCause is a cause in place of an error, in the same phase unless the cause has its own.
func withCause(err, cause error) error {
	e, ok := errors.AsType[*report.Error](err)
	if _, told := errors.AsType[*report.Error](cause); !ok || told {
		return cause
	}
	return &report.Error{Phase: e.Phase, Relation: e.Relation, Hint: session.HintFor(cause), Err: cause}
}
