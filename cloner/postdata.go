package cloner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// graphBuilder turns the entries that come after the rows into a graph.
type graphBuilder struct {
	r       *run
	g       *graph
	all     []*node
	byEntry map[int]*node   // the node that completes an entry
	sizes   map[int64]int64 // of their rows
	toBuild map[int64]int   // how many indexes and constraints each has
	// standing is how many of those are on the target already.
	standing map[int64]int
}

// buildGraph plans what is made once rows are there: indexes and constraints of a table
// as soon as its own are, foreign keys when both sides' are.
func (r *run) buildGraph() *graph {
	b := &graphBuilder{r: r, g: newGraph(), byEntry: map[int]*node{}, sizes: map[int64]int64{}, toBuild: map[int64]int{}, standing: map[int64]int{}}
	coming := map[int64]int64{}
	for _, t := range r.tables.list {
		b.sizes[t.OID] = t.Size
		if t.pending > 0 {
			coming[t.OID] = t.RootOID
		}
	}
	var work float64
	for _, e := range r.plan.Post {
		b.add(e)
	}
	for _, n := range b.all {
		work += n.work
		r.meter.Expect(n.phase, 1)
	}
	var tables []*schema.Table
	var sizes []int64
	for _, t := range r.plan.Tables {
		if r.ledger.Keeps(t.OID) {
			continue
		}
		tables, sizes = append(tables, t), append(sizes, t.Size)
		work += progress.TableWork + float64(t.Size)
		r.meter.AddTable(t.OID, t.String(), t.Size, b.toBuild[t.OID])
		for range b.standing[t.OID] {
			r.meter.IndexDone(t.OID, true)
		}
	}
	r.meter.SetPlan(len(tables), schema.EstimatedRows(tables), work, progress.TailWork(sizes, r.plan.CountOf("SEQUENCE"), len(r.plan.MaterializedViews)))
	b.g.start(b.all, coming)
	return b.g
}

// add enters the nodes of one entry, unless it stands already. An index is built first under
// a lock that others can share, and then put to its use under one that they cannot.
func (b *graphBuilder) add(e *archive.Entry) {
	st := b.r.entryStatement(report.PhasePostData, e)
	x := b.r.plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]
	if b.r.ledger.Skips(e.ID) {
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
	case e.Desc == "FK CONSTRAINT" && x != nil && x.Validated && !x.Partitioned && (b.sizes[x.TableOID] > batchWeight || b.r.there.Has(e)):
		b.addForeignKey(e, x)
	case e.Desc == "FK CONSTRAINT" || e.Desc == "CONSTRAINT" || e.Desc == "CHECK CONSTRAINT":
		st.phase = report.PhaseConstraints
		n := &node{statement: st, locks: b.locks(e, x, true)}
		if x != nil {
			n.weight, n.work = x.Size, b.indexWork(x)
		}
		b.enter(e, x, n)
	default:
		b.enter(e, x, &node{statement: st, locks: b.locks(e, x, true)})
	}
}

// stands tells whether an entry was made before the clone was interrupted, and needs nothing more. What is made in two
// steps may have got the first only.
func (b *graphBuilder) stands(e *archive.Entry, x *schema.Index) bool {
	there := b.r.there
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
func (b *graphBuilder) addIndex(e *archive.Entry, x *schema.Index, rest string) {
	n := &node{weight: x.Size, work: b.indexWork(x), locks: b.locks(e, x, false), statement: statement{
		entry: e, phase: report.PhaseIndexes, object: schema.Title(e), sql: b.r.placement(e) + x.Definition,
	}}
	if b.r.there.HasIndex(e.Namespace, cmp.Or(x.Name, e.Tag)) {
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
	b.complete(e, n, &node{locks: b.locks(e, x, true), statement: statement{entry: e, phase: phase, object: schema.Title(e), sql: rest}})
}

// addForeignKey adds it unchecked, under strong locks that are soon released, and then
// checks it under weak ones, so that other foreign keys to the same table need not wait.
func (b *graphBuilder) addForeignKey(e *archive.Entry, x *schema.Index) {
	first, rest := cutStatement(e.Defn)
	n := &node{locks: b.locks(e, x, true), statement: statement{
		entry: e, phase: report.PhaseConstraints, object: schema.Title(e), sql: first + " NOT VALID;" + rest,
	}}
	if b.r.there.Has(e) {
		n.sql = ""
	}
	b.enter(e, x, n)
	locks := []lock{{b.r.plan.Catalog.Root(x.TableOID), true}}
	if other := b.r.plan.Catalog.Root(x.ReferencedOID); other != locks[0].root {
		locks = append(locks, lock{other, false})
	}
	size := b.sizes[x.TableOID]
	b.complete(e, n, &node{weight: size, work: progress.ScanWork * float64(size), locks: locks, statement: statement{
		entry: e, phase: report.PhaseConstraints, object: schema.Title(e),
		sql: fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", x.Relation, session.QuoteName(x.Name)),
	}})
}

// indexWork is what it costs to build an index, or to check a constraint.
func (b *graphBuilder) indexWork(x *schema.Index) float64 {
	return progress.ScanWork*float64(b.sizes[x.TableOID]) + progress.IndexWork*float64(x.Size)
}

// enter adds the node that begins an entry.
func (b *graphBuilder) enter(e *archive.Entry, x *schema.Index, n *node) {
	var after []*node
	for _, d := range e.Deps {
		if m := b.byEntry[d]; m != nil && !slices.Contains(after, m) {
			after = append(after, m)
		}
	}
	var roots []int64
	for _, t := range b.r.plan.Relations(e, x) {
		if root := b.r.plan.Catalog.Root(t); !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	n.last = true
	n.work += progress.NodeWork
	if n.table = b.owner(e, x); n.table != 0 {
		b.toBuild[n.table]++
	}
	b.g.add(n, after, roots)
	b.all = append(b.all, n)
	b.byEntry[e.ID] = n
}

// complete adds the node that follows the first of an entry.
func (b *graphBuilder) complete(e *archive.Entry, first, n *node) {
	n.second, n.last, first.last = true, true, false
	n.table = first.table
	n.work += progress.NodeWork
	b.g.add(n, []*node{first}, nil)
	b.all = append(b.all, n)
	b.byEntry[e.ID] = n
}

// owner is the table whose index or constraint an entry is, or 0 for other entries.
func (b *graphBuilder) owner(e *archive.Entry, x *schema.Index) int64 {
	switch e.Desc {
	case "INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT":
		if on := b.r.plan.Relations(e, x); len(on) > 0 {
			return on[0]
		}
	}
	return 0
}

func (b *graphBuilder) locks(e *archive.Entry, x *schema.Index, exclusive bool) []lock {
	var locks []lock
	for _, oid := range b.r.plan.Relations(e, x) {
		l := lock{b.r.plan.Catalog.Root(oid), exclusive}
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

// build makes the nodes of g as they become ready, until all are done.
func (r *run) build(ctx context.Context, g *graph) error {
	eg, ctx := safely.NewGroup(ctx)
	stop := context.AfterFunc(ctx, g.wake)
	defer stop()
	var builders atomic.Int32
	builders.Store(int32(r.lanes)) //nolint:gosec // a small number
	for range r.lanes {
		eg.Go(func() error { return r.runBuilder(ctx, g, &builders) })
	}
	return eg.Wait()
}

// runBuilder makes batches on a session of its own, opened when there is a first one.
func (r *run) runBuilder(ctx context.Context, g *graph, builders *atomic.Int32) error {
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
			if s, err = r.openShared(ctx, builders, g.rowsCome); s == nil {
				g.giveBack(batch)
				return err
			}
		}
		if err := r.makeBatch(ctx, s, batch); err != nil {
			s.Close()
			return err
		}
		g.finish(batch)
	}
}

func (r *run) makeBatch(ctx context.Context, s *marks.Writer, batch []*node) error {
	statements := make([]statement, 0, len(batch))
	leave := make([]func(), 0, len(batch))
	var work float64
	defer func() {
		for _, l := range leave {
			l()
		}
	}()
	for _, n := range batch {
		leave = append(leave, r.meter.Enter(n.phase))
		work += n.work
		// What its first half failed with is in the ledger already.
		if n.second && r.ledger.Skips(n.entry.ID) || n.sql == "" {
			continue
		}
		statements = append(statements, n.statement)
	}
	p := r.meter.StartWork(work)
	err := r.make(ctx, s, statements)
	r.meter.EndWork(p, err == nil)
	if err != nil {
		return &report.Error{Phase: batch[0].phase, Relation: batch[0].object, Hint: session.HintFor(err), Err: err}
	}
	made := 0
	for _, st := range statements {
		if !r.ledger.Skips(st.entry.ID) {
			made++
		}
	}
	r.achieve(made)
	for _, n := range batch {
		r.meter.Advance(n.phase, 1)
		if n.last && n.table != 0 {
			r.meter.IndexDone(n.table, !r.ledger.Skips(n.entry.ID))
		}
	}
	return nil
}

// lastTries is how often a connection is asked for that others have given back: a server takes a moment to notice.
const lastTries = 5

// openShared opens a session on the target for one of several that share work. Where the target has no connection for it,
// the session is nil, and the others carry on. The last of them keeps asking while lanes have connections to give back.
func (r *run) openShared(ctx context.Context, sharing *atomic.Int32, lanes func() bool) (*marks.Writer, error) {
	for tries := 1; ; {
		s, err := r.owner.Writer(ctx)
		if session.SQLState(err) != session.TooManyConnections || tries == lastTries {
			return s, err
		}
		if sharing.Add(-1) > 0 {
			r.ledger.Warn("A session less on the target: " + session.LossReason(err))
			return nil, nil
		}
		sharing.Add(1)
		if !lanes() {
			tries++
		}
		if session.Pause(ctx, firstWait) != nil {
			return nil, context.Cause(ctx)
		}
	}
}
