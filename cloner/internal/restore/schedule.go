package restore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// planner turns the entries that come after the rows into a scheduler.
type planner struct {
	m       *Maker
	g       *Scheduler
	all     []*step
	byEntry map[int]*step   // the step that completes an entry
	sizes   map[int64]int64 // of their rows
	toBuild map[int64]int   // how many indexes and constraints each has
	// standing is how many of those are on the target already.
	standing map[int64]int
}

// Schedule plans what is made once rows are there: indexes and constraints of a table
// as soon as its own are, foreign keys when both sides' are. Pending tells whether rows of a table are still to come.
func (m *Maker) Schedule(pending func(table int64) bool) *Scheduler {
	b := &planner{m: m, g: newScheduler(), byEntry: map[int]*step{}, sizes: map[int64]int64{}, toBuild: map[int64]int{}, standing: map[int64]int{}}
	coming := map[int64]int64{}
	for _, t := range m.Plan.Tables {
		b.sizes[t.OID] = t.Size
		if pending(t.OID) {
			coming[t.OID] = t.RootOID
		}
	}
	var work float64
	for _, e := range m.Plan.Post {
		b.add(e)
	}
	for _, n := range b.all {
		work += n.work
		m.Meter.Expect(n.phase, 1)
	}
	var tables []*schema.Table
	var sizes []int64
	for _, t := range m.Plan.Tables {
		if m.Ledger.Keeps(t.OID) {
			continue
		}
		tables, sizes = append(tables, t), append(sizes, t.Size)
		work += progress.TableWork + float64(t.Size)
		m.Meter.AddTable(t.OID, t.String(), t.Size, b.toBuild[t.OID])
		for range b.standing[t.OID] {
			m.Meter.IndexDone(t.OID, true)
		}
	}
	m.Meter.SetPlan(len(tables), schema.EstimatedRows(tables), work, progress.TailWork(sizes, m.Plan.CountOf("SEQUENCE"), len(m.Plan.MaterializedViews)))
	b.g.start(b.all, coming)
	return b.g
}

// add enters the steps of one entry, unless it stands already. An index is built first under
// a lock that others can share, and then put to its use under one that they cannot.
func (b *planner) add(e *archive.Entry) {
	st := b.m.entryStatement(report.PhasePostData, e)
	x := b.m.Plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]
	if b.m.Ledger.Skips(e.ID) {
		return // it is not to be made
	}
	if b.stands(e, x) {
		if t := b.owner(e, x); t != 0 {
			b.toBuild[t]++
			b.standing[t]++
		}
		return
	}
	switch {
	case e.Desc == "INDEX" && x != nil && strings.HasPrefix(e.Defn, x.Definition):
		rest := strings.TrimLeft(strings.TrimPrefix(e.Defn, x.Definition), "; \n")
		b.addIndex(e, x, rest)
	case e.Desc == "CONSTRAINT" && x != nil && x.Definition != "" && !x.Partitioned:
		_, rest := cutStatement(e.Defn)
		b.addIndex(e, x, constraintUsing(x)+rest)
	case e.Desc == "FK CONSTRAINT" && x != nil && x.Validated && !x.Partitioned && (b.sizes[x.TableOID] > batchWeight || b.m.Existing.Has(e)):
		b.addForeignKey(e, x)
	case e.Desc == "FK CONSTRAINT" || e.Desc == "CONSTRAINT" || e.Desc == "CHECK CONSTRAINT":
		st.phase = report.PhaseConstraints
		n := &step{statement: st, locks: b.locks(e, x, true)}
		if x != nil {
			n.weight, n.work = x.Size, b.indexWork(x)
		}
		b.enter(e, x, n)
	default:
		b.enter(e, x, &step{statement: st, locks: b.locks(e, x, true)})
	}
}

// stands tells whether an entry was made before the clone was interrupted, and needs nothing more. What is made in two
// steps may have got the first only.
func (b *planner) stands(e *archive.Entry, x *schema.Index) bool {
	there := b.m.Existing
	switch {
	case !there.Has(e):
		return false
	case e.Desc == "FK CONSTRAINT":
		return !slices.ContainsFunc(there.Entries[schema.KeyOf(e)], func(t *archive.Entry) bool {
			return strings.Contains(t.Defn, " NOT VALID") && !strings.Contains(e.Defn, " NOT VALID")
		})
	case e.Desc == "INDEX" && x != nil && len(e.Defn) > len(x.Definition)+len(";\n"):
		return there.HasSame(e)
	}
	return true
}

// addIndex builds an index, and then runs what makes it a constraint, or says more of it.
// https://www.postgresql.org/docs/current/sql-altertable.html (ADD table_constraint_using_index)
func (b *planner) addIndex(e *archive.Entry, x *schema.Index, rest string) {
	n := &step{weight: x.Size, work: b.indexWork(x), locks: b.locks(e, x, false), statement: statement{
		entry: e, phase: report.PhaseIndexes, object: schema.Title(e), sql: b.m.placement(e) + x.Definition,
	}}
	if b.m.Existing.HasIndex(e.Namespace, cmp.Or(x.Name, e.Tag)) {
		n.sql, n.weight, n.work = "", 0, 0 // its first half stands
	}
	b.enter(e, x, n)
	if rest == "" {
		return
	}
	phase := report.PhaseIndexes
	if e.Desc == "CONSTRAINT" {
		phase = report.PhaseConstraints
	}
	b.complete(e, n, &step{locks: b.locks(e, x, true), statement: statement{entry: e, phase: phase, object: schema.Title(e), sql: rest}})
}

// addForeignKey adds it unchecked, under strong locks that are soon released, and then
// checks it under weak ones, so that other foreign keys to the same table need not wait.
func (b *planner) addForeignKey(e *archive.Entry, x *schema.Index) {
	first, rest := cutStatement(e.Defn)
	n := &step{locks: b.locks(e, x, true), statement: statement{
		entry: e, phase: report.PhaseConstraints, object: schema.Title(e), sql: first + " NOT VALID;" + rest,
	}}
	if b.m.Existing.Has(e) {
		n.sql = ""
	}
	b.enter(e, x, n)
	locks := []lock{{b.m.Plan.Catalog.Root(x.TableOID), true}}
	if other := b.m.Plan.Catalog.Root(x.ReferencedOID); other != locks[0].root {
		locks = append(locks, lock{other, false})
	}
	size := b.sizes[x.TableOID]
	b.complete(e, n, &step{weight: size, work: progress.ScanWork * float64(size), locks: locks, statement: statement{
		entry: e, phase: report.PhaseConstraints, object: schema.Title(e),
		sql: fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", x.Relation, session.QuoteName(x.Name)),
	}})
}

// indexWork is what it costs to build an index, or to check a constraint.
func (b *planner) indexWork(x *schema.Index) float64 {
	return progress.ScanWork*float64(b.sizes[x.TableOID]) + progress.IndexWork*float64(x.Size)
}

// enter adds the step that begins an entry.
func (b *planner) enter(e *archive.Entry, x *schema.Index, n *step) {
	var after []*step
	for _, d := range e.Deps {
		if m := b.byEntry[d]; m != nil && !slices.Contains(after, m) {
			after = append(after, m)
		}
	}
	var roots []int64
	for _, t := range b.m.Plan.Relations(e, x) {
		if root := b.m.Plan.Catalog.Root(t); !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	n.isLast = true
	n.work += progress.NodeWork
	if n.table = b.owner(e, x); n.table != 0 {
		b.toBuild[n.table]++
	}
	b.g.add(n, after, roots)
	b.all = append(b.all, n)
	b.byEntry[e.ID] = n
}

// complete adds the step that follows the first of an entry.
func (b *planner) complete(e *archive.Entry, first, n *step) {
	n.completes, n.isLast, first.isLast = true, true, false
	n.table = first.table
	n.work += progress.NodeWork
	b.g.add(n, []*step{first}, nil)
	b.all = append(b.all, n)
	b.byEntry[e.ID] = n
}

// owner is the table whose index or constraint an entry is, or 0 for other entries.
func (b *planner) owner(e *archive.Entry, x *schema.Index) int64 {
	switch e.Desc {
	case "INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT":
		if on := b.m.Plan.Relations(e, x); len(on) > 0 {
			return on[0]
		}
	}
	return 0
}

func (b *planner) locks(e *archive.Entry, x *schema.Index, exclusive bool) []lock {
	var locks []lock
	for _, oid := range b.m.Plan.Relations(e, x) {
		l := lock{b.m.Plan.Catalog.Root(oid), exclusive}
		if !slices.Contains(locks, l) {
			locks = append(locks, l)
		}
	}
	return locks
}

// constraintUsing makes a primary key or unique constraint of an index of the same name.
func constraintUsing(x *schema.Index) string {
	kind := "UNIQUE"
	if x.Kind == "p" {
		kind = "PRIMARY KEY"
	}
	sql := fmt.Sprintf("ALTER TABLE ONLY %s ADD CONSTRAINT %s %s USING INDEX %s", x.Relation, session.QuoteName(x.Name), kind, session.QuoteName(x.Name))
	if x.IsDeferrable {
		sql += " DEFERRABLE"
	}
	if x.IsDeferred {
		sql += " INITIALLY DEFERRED"
	}
	return sql + ";"
}

// cutStatement cuts SQL after its first statement, without the semicolon. It knows
// quoted names and plain literals, all that pg_dump writes into ALTER TABLE … ADD CONSTRAINT.
func cutStatement(sql string) (first, rest string) {
	var quote byte
	for i := 0; i < len(sql); i++ {
		switch c := sql[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == ';':
			return sql[:i], sql[i+1:]
		}
	}
	return sql, ""
}

// Build makes the steps of the scheduler as they become ready, until all are done.
func (m *Maker) Build(ctx context.Context, g *Scheduler) error {
	eg, ctx := safely.NewGroup(ctx)
	stop := context.AfterFunc(ctx, g.wake)
	defer stop()
	share := m.Owner.Share(m.Lanes, m.Ledger.Warn, g.rowsPending)
	for range m.Lanes {
		eg.Go(func() error { return m.runBuilder(ctx, g, share) })
	}
	return eg.Wait()
}

// runBuilder makes batches on a session of its own, opened when there is a first one.
func (m *Maker) runBuilder(ctx context.Context, g *Scheduler, share *marks.Share) error {
	var s *marks.Writer
	for {
		batch := g.take(ctx)
		if batch == nil {
			if s != nil {
				s.Close()
			}
			return context.Cause(ctx)
		}
		if s == nil {
			var err error
			if s, err = share.Writer(ctx); s == nil {
				g.giveBack(batch)
				return err
			}
		}
		if err := m.makeBatch(ctx, s, batch); err != nil {
			s.Close()
			return err
		}
		g.finish(batch)
	}
}

func (m *Maker) makeBatch(ctx context.Context, s *marks.Writer, batch []*step) error {
	statements := make([]statement, 0, len(batch))
	leave := make([]func(), 0, len(batch))
	var work float64
	defer func() {
		for _, l := range leave {
			l()
		}
	}()
	for _, n := range batch {
		leave = append(leave, m.Meter.Enter(n.phase))
		work += n.work
		// What its first half failed with is in the ledger already.
		if n.completes && m.Ledger.Skips(n.entry.ID) || n.sql == "" {
			continue
		}
		statements = append(statements, n.statement)
	}
	p := m.Meter.StartWork(work)
	err := m.make(ctx, s, statements)
	m.Meter.EndWork(p, err == nil)
	if err != nil {
		return &report.Error{Phase: batch[0].phase, Relation: batch[0].object, Hint: session.HintFor(err), Err: err}
	}
	made := 0
	for _, st := range statements {
		if !m.Ledger.Skips(st.entry.ID) {
			made++
		}
	}
	m.Achieve(made)
	for _, n := range batch {
		m.Meter.Advance(n.phase, 1)
		if n.isLast && n.table != 0 {
			m.Meter.IndexDone(n.table, !m.Ledger.Skips(n.entry.ID))
		}
	}
	return nil
}
