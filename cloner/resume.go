package cloner

import (
	"context"
	"fmt"
	"slices"
	"time"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
)

// beginFilling notes that the target holds nothing that this job is to drop, and what is there that it does not own:
// objects outside the chosen schemas, event triggers, and what was set on members of extensions or on what PostgreSQL itself
// has, that were there before.
func (r *run) beginFilling(ctx context.Context) error {
	const first = 1
	kept, err := r.keep(ctx)
	if err != nil {
		return err
	}
	if len(r.plan.Pulled)+len(r.plan.Last) > 0 || r.staying || slices.ContainsFunc(r.plan.Entries, r.plan.OnOthers) {
		there, err := r.dumper.Inventory(ctx, r.target, r.spec.Schemas)
		if err != nil {
			return err
		}
		for _, e := range r.plan.Entries {
			others := r.plan.Pulled[e.ID] || e.Desc == "EVENT TRIGGER" || r.plan.OnOthers(e)
			if others && there.Has(e) || r.staying && mayStay(e) && there.HasSame(e) {
				kept = append(kept, schema.PreexistingEntry{Kind: e.Desc, Namespace: e.Namespace, Name: e.Tag})
			}
		}
	}
	r.leaveKept(kept)
	if err := r.owner.StartCopy(ctx, r.epochOf(first), kept); err != nil {
		return err
	}
	r.epoch = first
	r.held.Store(&held{r.snap, r.epoch, r.owner})
	return nil
}

// goOn finds out what is on the target, and clears away what has to be done again: under the snapshot that it was copied
// under nothing, under a new one what the source does not prove to be unchanged.
func (r *run) goOn(ctx context.Context) error {
	if err := r.readThere(ctx); err != nil {
		return err
	}
	all, err := marks.Read(ctx, r.target.Control)
	if err != nil {
		return err
	}
	if err := r.checkTarget(all); err != nil {
		return err
	}
	if err := r.dropEventTriggers(ctx); err != nil {
		return err
	}
	if err := r.findEpoch(ctx); err != nil {
		return err
	}
	f := r.judge(all)
	if f.filled {
		err = r.keepEpoch(ctx)
	} else {
		err = r.prove(ctx, &f)
	}
	if err != nil {
		return err
	}
	return r.redo(ctx, f)
}

// epochOf is the epoch of this run's snapshot.
func (r *run) epochOf(number int) marks.Epoch {
	return marks.Epoch{Number: number, Nonce: r.snap.Nonce, SnapshotAt: r.snap.At, Xmin: r.snap.Xmin}
}

// findEpoch finds out whether the epoch of this run's snapshot was opened: the answer may have been lost.
func (r *run) findEpoch(ctx context.Context) (err error) {
	if r.snap == nil {
		return nil
	}
	r.epoch, err = r.owner.EpochOf(ctx, r.snap.Nonce)
	return err
}

// readThere reads what the target holds, and what of it was there before this job.
func (r *run) readThere(ctx context.Context) (err error) {
	if r.there, err = r.dumper.Inventory(ctx, r.target, r.spec.Schemas); err != nil {
		return err
	}
	kept, err := r.owner.Preexisting(ctx)
	if err != nil {
		return err
	}
	r.leaveKept(kept)
	return nil
}

// mayStay tells whether an entry is of a kind that clean leaves where an extension needs it.
func mayStay(e *archive.Entry) bool {
	switch e.Desc {
	case "SCHEMA", "EXTENSION", "COMMENT", "ACL", "DEFAULT ACL", "SECURITY LABEL":
		return false
	}
	return true
}

// leave leaves an object as it is that was on the target before. Unless clean has left one for being what the source has,
// that is said.
func (r *run) leave(e *archive.Entry) {
	r.markKept(e)
	if !r.plan.Pulled[e.ID] && e.Desc != "EVENT TRIGGER" {
		return
	}
	if e.Desc != "SCHEMA" && e.Desc != "EXTENSION" && e.Desc != "COMMENT" && e.Desc != "ACL" {
		r.ledger.Warn(schema.Title(e) + " was on the target already and was left as it is.")
	}
}

// checkTarget wants the tables that have marks, and nothing that this job has not made.
func (r *run) checkTarget(all []marks.Mark) error {
	planned := map[schema.EntryKey]bool{}
	tables := map[string]*archive.Entry{}
	for _, e := range r.plan.Entries {
		planned[schema.KeyOf(e)] = true
		if e.Desc == "TABLE" {
			tables[session.QuoteName(e.Namespace, e.Tag)] = e
		}
		// The index of a constraint is first made without it.
		if x := r.plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]; x != nil && e.Desc == "CONSTRAINT" {
			planned[schema.EntryKey{Desc: "INDEX", Namespace: e.Namespace, Tag: x.Name}] = true
		}
	}
	for _, m := range all {
		if e := tables[m.Relation]; e != nil && !r.there.Has(e) {
			return marks.CannotResume("somebody has dropped the table %s on the target", m.Relation)
		}
	}
	for _, e := range r.there.Chosen {
		switch e.Desc {
		case "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "TRIGGER":
			if !planned[schema.KeyOf(e)] {
				return marks.CannotResume("somebody has made %s on the target", schema.Title(e))
			}
		}
	}
	return nil
}

// dropEventTriggers drops those that are there already: they would fire at what is still to be made.
func (r *run) dropEventTriggers(ctx context.Context) error {
	for _, e := range r.plan.Last {
		if e.Desc == "EVENT TRIGGER" && r.there.Has(e) && !r.ledger.Skips(e.ID) {
			if err := r.owner.Control.Write(ctx, e.DropStmt); err != nil {
				return fmt.Errorf("drop %s: %w", schema.Title(e), err)
			}
			r.there.Forget(e)
		}
	}
	return nil
}

// keepEpoch goes on without a snapshot: all rows are there, as the last one had them.
func (r *run) keepEpoch(ctx context.Context) error {
	r.epoch = r.lock.Previous.Copied
	at, largeObjects, err := r.owner.CopiedEpoch(ctx, r.epoch)
	if err != nil {
		return err
	}
	r.filled, r.largeObjectCount = true, largeObjects
	r.report.SnapshotAt = at.UTC().Truncate(time.Second)
	r.letGo()
	return nil
}

// noteFilled notes that all rows are there.
func (r *run) noteFilled(ctx context.Context) error {
	if err := r.owner.RecordCopied(ctx, r.epoch, r.largeObjectCount); err != nil {
		return err
	}
	r.filled = true
	return nil
}
