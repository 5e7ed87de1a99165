package restore

import (
	"context"
	"fmt"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
)

// Survey reads what a target holds of an earlier run of the job, and what of it was there before.
func Survey(ctx context.Context, d schema.Dumper, target *session.Server, owner *marks.Owner, schemas []string) (schema.Inventory, []schema.PreexistingEntry, error) {
	existing, err := d.Inventory(ctx, target, schemas)
	if err != nil {
		return schema.Inventory{}, nil, err
	}
	preexisting, err := owner.Preexisting(ctx)
	return existing, preexisting, err
}

// checkTarget wants the tables that have marks, and nothing that this job has not made.
func checkTarget(plan *schema.Plan, existing schema.Inventory, all []marks.Mark) error {
	planned := map[schema.EntryKey]bool{}
	tables := map[string]*archive.Entry{}
	for _, e := range plan.Entries {
		planned[schema.KeyOf(e)] = true
		if e.Desc == "TABLE" {
			tables[session.QuoteName(e.Namespace, e.Tag)] = e
		}
		// The index of a constraint is first made without it.
		if x := plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]; x != nil && e.Desc == "CONSTRAINT" {
			planned[schema.EntryKey{Desc: "INDEX", Namespace: e.Namespace, Tag: x.Name}] = true
		}
	}
	for _, m := range all {
		if e := tables[m.Relation]; e != nil && !existing.Has(e) {
			return marks.CannotResume("somebody has dropped the table %s on the target", m.Relation)
		}
	}
	for _, e := range existing.Chosen {
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
func (m *Maker) dropEventTriggers(ctx context.Context) error {
	for _, e := range m.Plan.Last {
		if e.Desc == "EVENT TRIGGER" && m.Existing.Has(e) && !m.Ledger.Skips(e.ID) {
			if err := m.Owner.Control.Write(ctx, e.DropStmt); err != nil {
				return fmt.Errorf("drop %s: %w", schema.Title(e), err)
			}
			m.Existing.Forget(e)
		}
	}
	return nil
}
