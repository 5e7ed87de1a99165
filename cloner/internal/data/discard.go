package data

import (
	"context"
	"fmt"
	"strings"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Discard removes stale parts from the target, with their marks. What stands on their tables and would refuse that, or have
// something else done, is gone by then.
func (t *Tables) Discard(ctx context.Context, owner *marks.Owner, lanes int, warn func(text report.Text), stale []marks.Mark) error {
	of := map[string][]marks.Mark{}
	for _, m := range stale {
		of[m.Relation] = append(of[m.Relation], m)
	}
	if len(of[marks.LargeObjects]) > 0 {
		if err := discardLargeObjects(ctx, owner); err != nil {
			return err
		}
	}
	through := map[int64]bool{} // trees some of whose rows found their own partitions
	for _, s := range t.list {
		through[s.RootOID] = through[s.RootOID] || s.throughRoot
	}
	removals := map[string]string{}
	var names []string
	for _, s := range t.list {
		if parts := of[s.Relation()]; len(parts) > 0 {
			names = append(names, s.Relation())
			removals[s.Relation()] = s.removal(parts, through[s.RootOID])
		}
	}
	return owner.InParallel(ctx, lanes, warn, names, func(ctx context.Context, w *marks.Writer, batch []string) error {
		for _, name := range batch {
			err := w.Write(ctx, removals[name])
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

// discardLargeObjects drops those that the job has made, and no other's.
func discardLargeObjects(ctx context.Context, owner *marks.Owner) error {
	n, err := session.QueryValue[int](ctx, owner.Control.Session, `SELECT count(*) FROM _calco.large_object`)
	if err != nil {
		return fmt.Errorf("count the large objects that the job has made: %w", err)
	}
	const atATime = 1000
	for ; n > 0; n -= atATime {
		err := owner.Control.Write(ctx, fmt.Sprintf(`
			WITH gone AS (DELETE FROM _calco.large_object WHERE oid IN (SELECT oid FROM _calco.large_object LIMIT %d) RETURNING oid)
			SELECT count(lo_unlink(oid)) FROM gone JOIN pg_largeobject_metadata USING (oid)`, atATime))
		if err != nil {
			return fmt.Errorf("drop large objects: %w", err)
		}
	}
	err = owner.Control.Write(ctx, fmt.Sprintf("DELETE FROM _calco.mark WHERE relation = %s", session.QuoteLiteral(marks.LargeObjects)))
	if err != nil {
		return fmt.Errorf("drop the marks of large objects: %w", err)
	}
	return nil
}
