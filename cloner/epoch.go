package cloner

import (
	"context"
	"fmt"
	"time"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
)

// readSchema takes the snapshot and reads under it what there is to clone, unless an earlier attempt has, and still holds
// it or needs it no more.
func (r *run) readSchema(ctx context.Context) error {
	if r.plan != nil && r.filled {
		return nil
	}
	if r.plan != nil && r.snap != nil {
		err := r.snap.Refresh(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if r.snap != nil {
		r.snap.Release()
		r.snap, r.epoch = nil, 0
	}
	r.plan = nil // another snapshot has another one
	snap, err := snapshot.Take(ctx, func(ctx context.Context) (*session.Session, error) {
		return r.source.Open(ctx)
	})
	if err != nil {
		return err
	}
	r.snap = snap
	if snap.NoLSN != nil && r.source.Timeline != 0 {
		r.warnUnprovable(snap.NoLSN.Error())
	}
	r.report.SnapshotAt = snap.At.UTC().Truncate(time.Second)
	a, err := r.dumper.Dump(ctx, r.source, snap.Name())
	if err != nil && ctx.Err() == nil && !session.CuredByWaiting(err) && snap.Refresh(ctx) != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", session.ErrSnapshotLost, err)
	}
	if err != nil {
		return err
	}
	if err := r.source.Control.Exec(ctx, snapshot.BeginAt(snap.Name())); err != nil {
		return fmt.Errorf("import snapshot: %w", err)
	}
	catalog, err := schema.ReadCatalog(ctx, r.source.Control)
	if err != nil {
		return err
	}
	plan, err := schema.NewPlan(a.Entries, r.spec.Schemas, catalog)
	if err != nil {
		return err
	}
	plan.Converts = r.source.Encoding != r.target.Encoding
	if r.viewRows, err = r.readViewRows(ctx, r.source.Control, plan); err != nil {
		return err
	}
	if err := r.source.Control.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("end transaction on the source: %w", err)
	}
	r.plan = plan
	for _, t := range r.plan.Tables {
		t.Split = schema.SplitTable(t, r.source.VersionNum, r.spec.PartSize)
	}
	r.plan.Sample(r.spec.Verify)
	r.report.Pulled = nil
	for _, e := range r.plan.Entries {
		if r.plan.Pulled[e.ID] {
			r.report.Pulled = append(r.report.Pulled, schema.Title(e))
		}
	}
	return nil
}
