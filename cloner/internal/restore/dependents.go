package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
)

// dropEach runs each statement and returns those that others depend on.
func (m *Maker) dropEach(ctx context.Context, drops []string) (left []string, err error) {
	errs, err := m.Owner.Control.Pipeline(ctx, drops)
	if err != nil {
		return nil, err
	}
	for i, err := range errs {
		switch session.SQLState(err) {
		case session.DependentObjects, session.Deadlock, session.InvalidTable: // dependent objects still exist, deadlock, inherited constraint
			left = append(left, drops[i])
			continue
		case session.NoFunction, session.NoTable, session.NoObject, session.NoSchema: // gone with something else, and its types with it
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", drops[i], err)
		}
	}
	return left, nil
}

// MakeWay prepares a target on which an earlier run of the job has left something for the rows that are still to come, of some
// tables. Somebody may have changed what that run has made: then the clone cannot go on. Event triggers would fire at what is
// made. Before a row goes, and before one comes to a table that was complete once, its constraints go, and what else would fire
// at it or refuse it: deleting would cascade, and a row that moved from one part to another would meet itself. They are built
// again like all others.
func (m *Maker) MakeWay(ctx context.Context, left []marks.Mark, pending []*schema.Table) error {
	if err := checkTarget(m.Plan, m.Existing, left); err != nil {
		return err
	}
	if err := m.dropEventTriggers(ctx); err != nil {
		return err
	}
	return m.dropDependents(ctx, pending)
}

// dropDependents drops what would keep rows from going to these tables or from coming, and all that stands on it. With a
// partition goes what its whole tree has: an index of a part cannot be dropped alone.
func (m *Maker) dropDependents(ctx context.Context, tables []*schema.Table) error {
	trees := map[int64]bool{}
	for _, t := range tables {
		trees[t.RootOID] = true
	}
	drop := map[int]bool{}
	var drops []string
	for _, e := range m.Plan.Post { // each comes after what it needs
		x := m.Plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]
		half := x != nil && e.Desc == "CONSTRAINT" && m.Existing.HasIndex(e.Namespace, x.Name)
		if !half && !m.Existing.Has(e) {
			continue
		}
		onIt := slices.ContainsFunc(m.Plan.Relations(e, x), func(oid int64) bool { return trees[m.Plan.Catalog.Root(oid)] })
		// Where deletes are published, a table without its key takes none.
		publishes := e.Desc == "PUBLICATION" && len(tables) > 0
		needsDropped := slices.ContainsFunc(e.Deps, func(d int) bool { return drop[d] })
		if !needsDropped && !publishes && (!onIt || !bars(e, x)) {
			continue
		}
		drop[e.ID] = true
		if half {
			drops = append(drops, "DROP INDEX "+session.QuoteName(e.Namespace, x.Name))
			delete(m.Existing.Entries, schema.EntryKey{Desc: "INDEX", Namespace: e.Namespace, Tag: x.Name})
		} else if sql := dropSQL(e); sql != "" {
			drops = append(drops, sql)
		}
	}
	for _, e := range m.Plan.Post {
		if drop[e.ID] {
			m.Existing.Forget(e)
		}
	}
	slices.Reverse(drops)
	for len(drops) > 0 {
		left, err := m.dropEach(ctx, drops)
		if err == nil && len(left) == len(drops) {
			err = marks.CannotResume("something that was made on the target since depends on what has to be built again (%s)", strings.TrimSpace(left[0]))
		}
		if err != nil {
			return err
		}
		drops = left
	}
	return nil
}

// bars tells whether an entry keeps rows from coming to its table or going from it: it can refuse them, fires at them, or
// has something else done instead.
func bars(e *archive.Entry, x *schema.Index) bool {
	switch e.Desc {
	case "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "ROW SECURITY":
		return true
	case "RULE":
		return !strings.HasSuffix(e.Tag, " _RETURN") // which is the body of a view
	case "INDEX":
		return x != nil && strings.HasPrefix(x.Definition, "CREATE UNIQUE ")
	}
	return false
}

// dropSQL is what drops an entry; for the body of a view, what makes a stub of it again.
func dropSQL(e *archive.Entry) string {
	if e.Desc == "ROW SECURITY" {
		return fmt.Sprintf("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", session.QuoteName(e.Namespace, e.Tag))
	}
	return e.DropStmt
}
