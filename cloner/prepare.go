package cloner

import (
	"context"
	"slices"
	"time"

	"calco/cloner/internal/clean"
	"calco/cloner/internal/data"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/preflight"
	"calco/cloner/internal/restore"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// taken is a target that is locked for this run.
type taken struct {
	source, target *session.Server // nil where nobody got in
	ours           bool            // what is on the target is this job's
	lock           *marks.Lock     // nil until it is taken
	scope          clean.Scope
	dumper         schema.Dumper
	lanes          int // that both servers have connections for
}

// take connects to both sides, looks for what is against the clone, and takes the target. What it came to is returned beside an
// error too; the sessions stay open.
func (a *attempt) take(ctx context.Context) (t *taken, err error) {
	t = &taken{}
	var reasons []report.Reason
	for _, side := range []struct {
		way    session.Way
		before *session.Server
		to     **session.Server
	}{{a.spec.source(a.job), a.source, &t.source}, {a.spec.target(a.job), a.target, &t.target}} {
		s, reason, err := connect(ctx, side.way, side.before)
		if err != nil {
			return t, err
		}
		if reason != nil {
			reasons = append(reasons, *reason)
			continue
		}
		*side.to = s
		a.meter.SetVersion(s.Side, s.Version)
	}
	if err := report.Refuse(reasons...); err != nil {
		return t, err
	}
	t.scope = a.spec.scope(t.target)
	wish := a.wish(t)
	found, err := preflight.Check(ctx, preflight.Input{Source: t.source, Target: t.target, Scope: t.scope, Wish: wish})
	for _, w := range found.Warnings {
		a.ledger.Warn(w)
	}
	t.ours, t.dumper = found.Ours, found.Dumper
	if err == nil {
		err = report.Refuse(found.Reasons...)
	}
	if err != nil {
		return t, err
	}
	if t.lock, err = marks.Acquire(ctx, t.source, t.target, wish); err != nil {
		return t, err
	}
	fitting, warning, err := preflight.FitLanes(ctx, t.source, t.target, a.spec.Lanes)
	if !warning.IsZero() {
		a.ledger.Warn(warning)
	}
	t.lanes = fitting
	return t, err
}

// connect connects to a side anew. The host that was reached before stays, and the server has to be the same.
func connect(ctx context.Context, way session.Way, before *session.Server) (*session.Server, *report.Reason, error) {
	system := ""
	if before != nil {
		way, system = before.Way, before.SystemIdentifier
	}
	return session.Connect(ctx, way, 0, system)
}

// workplace is a target that is ready for what this job makes.
type workplace struct {
	epoch       *epoch // nil where another snapshot has to be taken
	maker       *restore.Maker
	preexisting schema.Preexisting
	tables      *data.Tables
	dumper      schema.Dumper
	lanes       int
}

// prepare empties the target if that is wanted, and makes what comes then this job's; or it goes on with what the job has left
// there.
func (a *attempt) prepare(ctx context.Context, t *taken, alive *keepalive, stopSnapshot func()) (w *workplace, err error) {
	if t.lock.Previous == nil || !t.lock.Previous.Copying {
		return a.begin(ctx, t, alive)
	}
	err = a.in(ctx, report.PhasePreData, func(ctx context.Context) (err error) {
		w, err = a.resume(ctx, t, alive, stopSnapshot)
		return err
	})
	return w, err
}

// begin cleans the target if that is wanted, and begins to copy to it.
func (a *attempt) begin(ctx context.Context, t *taken, alive *keepalive) (w *workplace, err error) {
	stays := false
	if a.spec.Clean {
		c := &clean.Cleaner{
			Scope: t.scope, Owner: a.owner, EndBlockers: a.spec.EndBlockers, Patience: a.patience, Meter: a.meter, Ledger: a.ledger,
		}
		if err := a.in(ctx, report.PhaseClean, func(ctx context.Context) (err error) {
			stays, err = c.Clean(ctx)
			return err
		}); err != nil {
			return nil, err
		}
		a.meter.End(report.PhaseClean)
	}
	err = a.in(ctx, report.PhasePreData, func(ctx context.Context) (err error) {
		w, err = a.startCopy(ctx, t, stays)
		return err
	})
	if err == nil {
		alive.copying(held{w.epoch.snap, w.epoch.number, a.owner})
	}
	return w, err
}

// startCopy notes that the target holds nothing that this job is to drop, and what is there that it does not own: objects outside
// the chosen schemas, event triggers, and what was set on members of extensions or on what PostgreSQL itself has, that were there
// before. Stays: cleaning has left something that an extension needs.
func (a *attempt) startCopy(ctx context.Context, t *taken, stays bool) (*workplace, error) {
	plan := a.epoch.plan
	found, err := restore.FindPreexisting(ctx, a.target, a.spec.Clean, a.spec.whole())
	if err != nil {
		return nil, err
	}
	if len(plan.Pulled)+len(plan.Last) > 0 || stays || slices.ContainsFunc(plan.Entries, plan.OnOthers) {
		there, err := t.dumper.Inventory(ctx, a.target, a.spec.Schemas)
		if err != nil {
			return nil, err
		}
		for _, e := range plan.Entries {
			others := plan.Pulled[e.ID] || e.Desc == "EVENT TRIGGER" || plan.OnOthers(e)
			if others && there.Has(e) || stays && restore.MayStay(e) && there.HasSame(e) {
				found = append(found, schema.PreexistingEntry{Kind: e.Desc, Namespace: e.Namespace, Name: e.Tag})
			}
		}
	}
	w, err := a.workplace(ctx, t, schema.Inventory{}, found)
	if err != nil {
		return nil, err
	}
	const first = 1
	w.epoch = a.epoch.numbered(first)
	return w, a.owner.StartCopy(ctx, w.epoch.onTarget(), found)
}

// workplace is one with what is on the target already, and what of it is not this job's.
func (a *attempt) workplace(ctx context.Context, t *taken, existing schema.Inventory, found []schema.PreexistingEntry) (*workplace, error) {
	w := &workplace{
		epoch: a.epoch, preexisting: restore.Leave(a.epoch.plan, a.ledger, found), tables: data.NewTables(a.epoch.plan, nil, nil), dumper: t.dumper, lanes: t.lanes,
	}
	var err error
	w.maker, err = restore.New(ctx, restore.Config{
		Source: a.source, Target: a.target, Owner: a.owner, Plan: a.epoch.plan, Existing: existing, Preexisting: w.preexisting,
		Whole: a.spec.whole(), Lanes: t.lanes, Ledger: a.ledger, Meter: a.meter,
		Achieve: func(n int) {
			a.patience.Achieve(n)
			a.meter.Achieve(n)
		},
	})
	return w, err
}

// resume finds out what is on the target, and clears away what has to be done again: under the snapshot that it was copied
// under nothing, under a new one what the source does not prove to be unchanged.
func (a *attempt) resume(ctx context.Context, t *taken, alive *keepalive, stopSnapshot func()) (*workplace, error) {
	existing, found, err := restore.Survey(ctx, t.dumper, a.target, a.owner, a.spec.Schemas)
	if err != nil {
		return nil, err
	}
	w, err := a.workplace(ctx, t, existing, found)
	if err != nil {
		return nil, err
	}
	v, err := a.revalidate(ctx, t, w, stopSnapshot)
	if err != nil {
		return w, err
	}
	alive.copying(held{w.epoch.snap, w.epoch.number, a.owner})
	w.tables = data.NewTables(w.epoch.plan, v.Valid, v.Stale)
	if err := w.maker.MakeWay(ctx, v.Left, w.tables.PendingTables(a.ledger.Keeps)); err != nil {
		return w, err
	}
	return w, w.tables.Discard(ctx, a.owner, t.lanes, a.ledger.Warn, v.Stale)
}

// revalidate finds out which parts that are on the target are still valid, in the epoch of this run's snapshot, which it opens if
// it is new. Where all rows are there it goes on without a snapshot, as the last epoch had them.
func (a *attempt) revalidate(ctx context.Context, t *taken, w *workplace, stopSnapshot func()) (data.Verdicts, error) {
	previous, e := t.lock.Previous, a.epoch
	number := 0
	if e.snap != nil && e.snap.Nonce == previous.EpochNonce { // the answer to its opening may have been lost
		number = previous.Epoch
	}
	reader := &data.Reader{Source: a.source, Snapshot: e.snap, Plan: e.plan, Lanes: t.lanes}
	v, err := reader.Revalidate(ctx, a.target.Control, previous, number, a.ledger.Keeps)
	switch {
	case err != nil && e.snap == nil: // all rows were there, and an unlogged table has lost its own since
		w.epoch = nil
		return v, err
	case err != nil:
		return v, err
	case v.Copied:
		stopSnapshot()
		e.release()
		w.epoch = e.numbered(previous.Epoch).done(previous.LargeObjects)
		w.epoch.at = previous.CopiedAt.UTC().Truncate(time.Second)
		return v, nil
	case number > 0 && len(v.Proven)+len(v.Stale) == 0:
		w.epoch = e.numbered(number)
		return v, nil
	case number == 0:
		number = previous.Epoch + 1
	}
	w.epoch = e.numbered(number)
	tables := e.plan.ByRelation()
	err = a.owner.OpenEpoch(ctx, w.epoch.onTarget(), v.Proven, v.Stale, func(relation string) bool { return tables[relation].Unlogged })
	if err != nil {
		return v, err
	}
	a.patience.Achieve(-len(v.Stale)) // it counted once, and will again
	a.meter.Achieve(-len(v.Stale))
	a.meter.Resumed(e.at, len(v.Proven), len(v.Stale))
	return v, nil
}
