package cloner

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"sync/atomic"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// sequences copies the state of each sequence, late, so that it is at least as far as the
// rows that took their numbers from it.
func (r *run) sequences(ctx context.Context) error {
	state, err := r.readSequences(ctx, r.source.Control, report.PhaseSequences)
	if err != nil {
		return err
	}
	r.meter.Expect(report.PhaseSequences, len(state))
	r.sequenceState = state
	statements := make([]statement, len(state))
	for i, s := range state {
		statements[i] = statement{
			phase: report.PhaseSequences, object: "SEQUENCE VALUE " + s.Name,
			sql: fmt.Sprintf("SELECT setval(%s::regclass, %s, %s)", session.QuoteLiteral(s.Name), s.LastValue, session.QuoteLiteral(s.IsCalled)),
		}
	}
	if err := r.make(ctx, r.owner.Control, statements); err != nil {
		return err
	}
	r.meter.Advance(report.PhaseSequences, len(state))
	return nil
}

// readSequences reads the state of the plan's sequences, on either side. One that cannot be read goes into the ledger.
func (r *run) readSequences(ctx context.Context, s *session.Session, p report.Phase) ([]schema.Sequence, error) {
	var names []string
	for _, e := range r.plan.Entries {
		if e.Desc == "SEQUENCE" && !r.ledger.Skips(e.ID) {
			names = append(names, session.QuoteName(e.Namespace, e.Tag))
		}
	}
	extensions, err := r.extensionSequences(ctx)
	if err != nil {
		return nil, err
	}
	return schema.ReadSequences(ctx, s, append(names, extensions...), func(name string, err error) {
		r.ledger.Record(p, "SEQUENCE VALUE "+name, err)
	})
}

// extensionSequences are those that an extension in the plan marked as configuration.
func (r *run) extensionSequences(ctx context.Context) ([]string, error) {
	type config struct {
		Extension       int64
		Namespace, Name string
	}
	found, err := session.Query[config](ctx, r.source.Control, `
		SELECT e.oid::bigint AS extension, n.nspname::text AS namespace, c.relname::text AS name
		FROM pg_extension e, unnest(e.extconfig) k
		JOIN pg_class c ON c.oid = k
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'S'`)
	if err != nil {
		return nil, fmt.Errorf("read sequences of extensions: %w", err)
	}
	var names []string
	for _, c := range found {
		if slices.ContainsFunc(r.plan.Entries, func(e *archive.Entry) bool {
			return e.CatalogOID == schema.PgExtension && int64(e.OID) == c.Extension && !r.ledger.Skips(e.ID)
		}) && !r.kept.Rows(c.Namespace, c.Name) {
			names = append(names, session.QuoteName(c.Namespace, c.Name))
		}
	}
	return names, nil
}

// views fills the materialized views that are filled on the source, each after those it
// is made of. Their owners run them, so it comes after the grants.
func (r *run) views(ctx context.Context) error {
	filled, err := session.Query[struct{ OID int64 }](ctx, r.source.Control,
		`SELECT oid::bigint AS oid FROM pg_class WHERE relkind = 'm' AND relispopulated`)
	if err != nil {
		return fmt.Errorf("read materialized views of the source: %w", err)
	}
	r.filledViews = map[int64]bool{}
	for _, f := range filled {
		r.filledViews[f.OID] = true
	}
	var todo []statement
	for _, e := range r.plan.ViewsInOrder() {
		if r.filledViews[int64(e.OID)] && !r.ledger.Skips(e.ID) && r.plan.ReadsForeign(e.ID) {
			r.ledger.Warn(schema.Title(e) + " was not filled: it reads a foreign table, which leads to another server. Refresh it yourself if the target may read there.")
			continue
		}
		if r.filledViews[int64(e.OID)] && !r.ledger.Skips(e.ID) {
			todo = append(todo, statement{
				phase: report.PhaseViews, object: "DATA OF " + schema.Title(e),
				sql: "REFRESH MATERIALIZED VIEW " + session.QuoteName(e.Namespace, e.Tag),
			})
		}
	}
	r.meter.Expect(report.PhaseViews, len(todo))
	return r.refresh(ctx, todo)
}

// viewRows are the rows of a materialized view: their number and, where all contents are compared, their checksum.
type viewRows struct {
	Rows     int64
	Checksum string
}

func (v viewRows) String() string {
	if v.Checksum == "" {
		return fmt.Sprintf("%d rows", v.Rows)
	}
	return fmt.Sprintf("%d rows, checksum %s", v.Rows, v.Checksum)
}

// readViewRows looks at those of the plan's materialized views that are filled and may be read. One whose rows cannot be
// hashed, because one is too long as text, is counted; one that cannot be looked at is left out, with a warning.
func (r *run) readViewRows(ctx context.Context, s *session.Session, p *schema.Plan) (map[string]viewRows, error) {
	readable, err := session.Query[struct{ Schema, Name string }](ctx, s, `
		SELECT n.nspname::text AS schema, c.relname::text AS name
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'm' AND c.relispopulated AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')`)
	if err != nil {
		return nil, fmt.Errorf("list materialized views of the %s: %w", s.Side, err)
	}
	rows := map[string]viewRows{}
	for _, v := range readable {
		if !slices.ContainsFunc(p.MaterializedViews, func(e *archive.Entry) bool { return e.Namespace == v.Schema && e.Tag == v.Name }) {
			continue
		}
		name := session.QuoteName(v.Schema, v.Name)
		counting := "SELECT count(*) AS rows, '' AS checksum FROM " + name
		query := counting
		if r.spec.Verify == report.VerifyContents {
			query = fmt.Sprintf("SELECT count(*) AS rows, %s AS checksum FROM (SELECT %s AS t FROM %s v OFFSET 0) s", schema.ChecksumOf, p.RowText("v.*"), name)
		}
		found, err := r.readRowsOf(ctx, s, query)
		if err != nil && !session.Classify(err).Ends() && query != counting {
			r.ledger.Warn(fmt.Sprintf("The rows of %s of the %s were only counted: %v", name, s.Side, err))
			found, err = r.readRowsOf(ctx, s, counting)
		}
		switch {
		case err == nil:
			rows[name] = found
		case session.Classify(err).Ends():
			return nil, fmt.Errorf("look at the rows of %s of the %s: %w", name, s.Side, err)
		default:
			r.ledger.Warn(fmt.Sprintf("The rows of %s of the %s could not be compared: %v", name, s.Side, err))
		}
	}
	return rows, nil
}

// readRowsOf runs a query of readViewRows. On the source that is in a transaction of the snapshot; one that fails is replaced.
func (r *run) readRowsOf(ctx context.Context, s *session.Session, query string) (viewRows, error) {
	found, err := session.QueryRow[viewRows](ctx, s, query)
	if s.Side == report.Source && err != nil && !session.Classify(err).Ends() {
		if err := r.readSnapshot(ctx); err != nil {
			return viewRows{}, err
		}
	}
	return found, err
}

// refresh runs until all succeeded or a whole round brought nothing: a view can read
// another through a function, which no dependency shows, and fails until that is filled.
func (r *run) refresh(ctx context.Context, todo []statement) error {
	const notFilled = session.NotInState // materialized view "…" has not been populated
	for len(todo) > 0 {
		var again []statement
		for _, st := range todo {
			err := r.owner.Control.Write(ctx, st.sql)
			if session.Classify(err) == session.Missing {
				err = r.owner.Control.Write(ctx, r.underSourcePath(st.sql))
			}
			if session.SQLState(err) == notFilled {
				again = append(again, st)
				continue
			}
			if err != nil {
				if err := r.remake(ctx, r.owner.Control, st, err); err != nil {
					return err
				}
			}
			r.meter.Advance(report.PhaseViews, 1)
		}
		if len(again) == len(todo) {
			return r.make(ctx, r.owner.Control, again) // for the ledger
		}
		todo = again
	}
	return nil
}

// analyze gathers planner statistics, of partitioned tables too, which autovacuum never
// does. It comes before the owners get their objects: an index expression is evaluated
// as the table's owner. A table without statistics is slow, not wrong, so it is a warning.
func (r *run) analyze(ctx context.Context) error {
	var names []string
	for _, e := range r.plan.Entries {
		if e.Desc == "TABLE" && !r.ledger.Skips(e.ID) && !r.plan.Catalog.Foreign[int64(e.OID)] {
			names = append(names, session.QuoteName(e.Namespace, e.Tag))
		}
	}
	r.meter.Expect(report.PhaseAnalyze, len(names))
	return r.inParallel(ctx, names, func(ctx context.Context, s *marks.Writer, batch []string) error {
		queries := make([]string, len(batch))
		for i, name := range batch {
			queries[i] = "ANALYZE " + name
		}
		errs, err := s.Pipeline(ctx, queries)
		if err != nil {
			return err
		}
		for i, err := range errs {
			if session.Classify(err) == session.Missing {
				err = s.Write(ctx, r.underSourcePath(queries[i]))
			}
			if session.Classify(err).Ends() {
				return err
			}
			if err != nil {
				r.ledger.Warn(fmt.Sprintf("No statistics of %s: %v", batch[i], err))
			}
		}
		r.meter.Advance(report.PhaseAnalyze, len(batch))
		return nil
	})
}

// inParallel deals items out in batches, to as many sessions of the target as there are
// lanes. Neighbours are not in one batch: where the items are sorted by size, the largest
// are done side by side.
func (r *run) inParallel(ctx context.Context, items []string, do func(context.Context, *marks.Writer, []string) error) error {
	batches := make([][]string, max((len(items)+batchNodes-1)/batchNodes, min(r.lanes, len(items))))
	for i, item := range items {
		n := i % len(batches)
		batches[n] = append(batches[n], item)
	}
	eg, ctx := safely.NewGroup(ctx)
	todo := make(chan []string, len(batches))
	for _, b := range batches {
		todo <- b
	}
	close(todo)
	var sharing atomic.Int32
	sharing.Store(int32(min(r.lanes, len(batches)))) //nolint:gosec // a small number
	for range sharing.Load() {
		eg.Go(func() error {
			s, err := r.openShared(ctx, &sharing, func() bool { return false })
			if s == nil {
				return err
			}
			defer s.Close()
			for b := range todo {
				if err := do(ctx, s, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return eg.Wait()
}
