package cloner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// redo takes the good parts as they are, and removes the stale ones with their marks. Before a row goes, and before one
// comes to a table that was complete once, its constraints go, and what else would fire at it or refuse it: deleting
// would cascade, and a row that moved from one part to another would meet itself. They are built again like all others.
func (r *run) redo(ctx context.Context, f findings) error {
	stale := map[string][]marks.Mark{}
	for _, m := range f.stale {
		stale[m.Relation] = append(stale[m.Relation], m)
	}
	r.tables.take(f.good)
	var incomplete []*tableState
	for _, t := range r.tables.list {
		for _, m := range stale[t.Relation()] {
			t.throughRoot = t.throughRoot || m.Through
		}
		if t.pending > 0 && !r.ledger.Keeps(t.OID) {
			incomplete = append(incomplete, t)
		}
	}
	if err := r.clearWay(ctx, incomplete); err != nil {
		return err
	}
	if len(stale[marks.LargeObjects]) > 0 {
		if err := r.removeLargeObjects(ctx); err != nil {
			return err
		}
	}
	through := map[int64]bool{} // trees some of whose rows found their own partitions
	for _, t := range r.tables.list {
		through[t.RootOID] = through[t.RootOID] || t.throughRoot
	}
	removals := map[string]string{}
	var names []string
	for _, t := range r.tables.list {
		if parts := stale[t.Relation()]; len(parts) > 0 {
			names = append(names, t.Relation())
			removals[t.Relation()] = t.removal(parts, through[t.RootOID])
		}
	}
	return r.inParallel(ctx, names, func(ctx context.Context, s *marks.Writer, batch []string) error {
		for _, name := range batch {
			err := s.Write(ctx, removals[name])
			if session.SQLState(err) == session.DivisionByZero {
				return marks.CannotResume("somebody has put rows into %s on the target since, or changed some, and those that have to be copied again cannot be told from them", name)
			}
			if err != nil {
				return &report.Error{Phase: report.PhaseCopy, Relation: name, Hint: session.HintFor(err), Err: fmt.Errorf("remove what has to be copied again: %w", err)}
			}
		}
		return nil
	})
}

// removal is what removes parts of a table with their marks. A table that is shared may have rows of others. One that
// would be empty then is emptied at once, but never of a row that its marks do not account for: it divides by zero then.
func (t *tableState) removal(stale []marks.Mark, shared bool) string {
	forget := marks.DeleteSQL(t.Relation(), t.Unlogged, marks.PartsOf(stale)[t.Relation()])
	xids := make([]string, len(stale))
	for i, m := range stale {
		xids[i] = fmt.Sprint(m.XID % (1 << 32))
	}
	if t.here == nil && !shared && t.Extension == 0 { // whose script may have put rows there
		return fmt.Sprintf(`LOCK TABLE ONLY %[1]s IN ACCESS EXCLUSIVE MODE;
			SELECT 1 / (SELECT count(*) FROM (SELECT 1) none WHERE NOT EXISTS (
				SELECT FROM ONLY %[1]s r WHERE NOT EXISTS (SELECT FROM unnest('{%[2]s}'::xid[]) ours WHERE ours = r.xmin)));
			TRUNCATE ONLY %[1]s; %[3]s`, t.Relation(), strings.Join(xids, ","), forget)
	}
	only := "ONLY "
	if t.throughRoot {
		only = ""
	}
	return fmt.Sprintf("DELETE FROM %s%s WHERE xmin = ANY ('{%s}'::xid[]); %s", only, t.destination(), strings.Join(xids, ","), forget)
}

// removeLargeObjects drops those that the job has made, and no other's.
func (r *run) removeLargeObjects(ctx context.Context) error {
	n, err := session.QueryValue[int](ctx, r.target.Control, `SELECT count(*) FROM _calco.large_object`)
	if err != nil {
		return fmt.Errorf("count the large objects that the job has made: %w", err)
	}
	const atATime = 1000
	for ; n > 0; n -= atATime {
		err := r.owner.Control.Write(ctx, fmt.Sprintf(`
			WITH gone AS (DELETE FROM _calco.large_object WHERE oid IN (SELECT oid FROM _calco.large_object LIMIT %d) RETURNING oid)
			SELECT count(lo_unlink(oid)) FROM gone JOIN pg_largeobject_metadata USING (oid)`, atATime))
		if err != nil {
			return fmt.Errorf("drop large objects: %w", err)
		}
	}
	err = r.owner.Control.Write(ctx, fmt.Sprintf("DELETE FROM _calco.mark WHERE relation = %s", session.QuoteLiteral(marks.LargeObjects)))
	if err != nil {
		return fmt.Errorf("drop the marks of large objects: %w", err)
	}
	return nil
}

// clearWay drops what would keep rows from going to these tables or from coming, and all that stands on it. With a
// partition goes what its whole tree has: an index of a part cannot be dropped alone.
func (r *run) clearWay(ctx context.Context, tables []*tableState) error {
	trees := map[int64]bool{}
	for _, t := range tables {
		trees[t.RootOID] = true
	}
	drop := map[int]bool{}
	var drops []string
	for _, e := range r.plan.Post { // each comes after what it needs
		x := r.plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]
		half := x != nil && e.Desc == "CONSTRAINT" && r.there.HasIndex(e.Namespace, x.Name)
		if !half && !r.there.Has(e) {
			continue
		}
		onIt := slices.ContainsFunc(r.plan.Relations(e, x), func(oid int64) bool { return trees[r.plan.Catalog.Root(oid)] })
		// Where deletes are published, a table without its key takes none.
		publishes := e.Desc == "PUBLICATION" && len(tables) > 0
		needsDropped := slices.ContainsFunc(e.Deps, func(d int) bool { return drop[d] })
		if !needsDropped && !publishes && (!onIt || !bars(e, x)) {
			continue
		}
		drop[e.ID] = true
		if half {
			drops = append(drops, "DROP INDEX "+session.QuoteName(e.Namespace, x.Name))
			delete(r.there.Entries, schema.EntryKey{Desc: "INDEX", Namespace: e.Namespace, Tag: x.Name})
		} else if sql := dropSQL(e); sql != "" {
			drops = append(drops, sql)
		}
	}
	for _, e := range r.plan.Post {
		if drop[e.ID] {
			r.there.Forget(e)
		}
	}
	slices.Reverse(drops)
	for len(drops) > 0 {
		left, err := r.dropEach(ctx, drops)
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
