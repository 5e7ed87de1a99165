package restore

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Sequences copies the state of each sequence, and returns it, late, so that it is at least as far as the
// rows that took their numbers from it.
func (m *Maker) Sequences(ctx context.Context) ([]schema.Sequence, error) {
	state, err := m.readSequences(ctx, m.Source.Control, report.PhaseSequences)
	if err != nil {
		return nil, err
	}
	m.Meter.Expect(report.PhaseSequences, len(state))
	statements := make([]statement, len(state))
	for i, s := range state {
		statements[i] = statement{
			phase: report.PhaseSequences, object: "SEQUENCE VALUE " + s.Name,
			sql: fmt.Sprintf("SELECT setval(%s::regclass, %s, %s)", session.QuoteLiteral(s.Name), s.LastValue, session.QuoteLiteral(s.IsCalled)),
		}
	}
	if err := m.make(ctx, m.Owner.Control, statements); err != nil {
		return nil, err
	}
	m.Meter.Advance(report.PhaseSequences, len(state))
	return state, nil
}

// readSequences reads the state of the plan's sequences, on either side. One that cannot be read goes into the ledger.
func (m *Maker) readSequences(ctx context.Context, s *session.Session, p report.Phase) ([]schema.Sequence, error) {
	var names []string
	for _, e := range m.Plan.Entries {
		if e.Desc == "SEQUENCE" && !m.Ledger.Skips(e.ID) {
			names = append(names, session.QuoteName(e.Namespace, e.Tag))
		}
	}
	extensions, err := m.extensionSequences(ctx)
	if err != nil {
		return nil, err
	}
	return schema.ReadSequences(ctx, s, append(names, extensions...), func(name string, err error) {
		m.Ledger.Record(p, "SEQUENCE VALUE "+name, err)
	})
}

// extensionSequences are those that an extension in the plan marked as configuration.
func (m *Maker) extensionSequences(ctx context.Context) ([]string, error) {
	type config struct {
		Extension       int64
		Namespace, Name string
	}
	found, err := session.Query[config](ctx, m.Source.Control, `
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
		if slices.ContainsFunc(m.Plan.Entries, func(e *archive.Entry) bool {
			return e.CatalogOID == schema.PgExtension && int64(e.OID) == c.Extension && !m.Ledger.Skips(e.ID)
		}) && !m.Preexisting.Rows(c.Namespace, c.Name) {
			names = append(names, session.QuoteName(c.Namespace, c.Name))
		}
	}
	return names, nil
}

// Views fills the materialized views that are filled on the source, each after those it
// is made of, and returns which are, by OID. Their owners run them, so it comes after the grants.
func (m *Maker) Views(ctx context.Context) (filledOnSource map[int64]bool, err error) {
	filled, err := session.Query[struct{ OID int64 }](ctx, m.Source.Control,
		`SELECT oid::bigint AS oid FROM pg_class WHERE relkind = 'm' AND relispopulated`)
	if err != nil {
		return nil, fmt.Errorf("read materialized views of the source: %w", err)
	}
	filledOnSource = map[int64]bool{}
	for _, f := range filled {
		filledOnSource[f.OID] = true
	}
	var todo []statement
	for _, e := range m.Plan.ViewsInOrder() {
		if filledOnSource[int64(e.OID)] && !m.Ledger.Skips(e.ID) && m.Plan.ReadsForeign(e.ID) {
			m.Ledger.Warn(report.Said(schema.Title(e) + " was not filled: it reads a foreign table, which leads to another server. Refresh it yourself if the target may read there."))
			continue
		}
		if filledOnSource[int64(e.OID)] && !m.Ledger.Skips(e.ID) {
			todo = append(todo, statement{
				phase: report.PhaseViews, object: "DATA OF " + schema.Title(e),
				sql: "REFRESH MATERIALIZED VIEW " + session.QuoteName(e.Namespace, e.Tag),
			})
		}
	}
	m.Meter.Expect(report.PhaseViews, len(todo))
	return filledOnSource, m.refresh(ctx, todo)
}

// refresh runs until all succeeded or a whole round brought nothing: a view can read
// another through a function, which no dependency shows, and fails until that is filled.
func (m *Maker) refresh(ctx context.Context, todo []statement) error {
	const notFilled = session.NotInState // materialized view "…" has not been populated
	for len(todo) > 0 {
		var again []statement
		for _, st := range todo {
			err := m.Owner.Control.Write(ctx, st.sql)
			if session.Classify(err) == session.Missing {
				err = m.Owner.Control.Write(ctx, m.underSourcePath(st.sql))
			}
			if session.SQLState(err) == notFilled {
				again = append(again, st)
				continue
			}
			if err != nil {
				if err := m.remake(ctx, m.Owner.Control, st, err); err != nil {
					return err
				}
			}
			m.Meter.Advance(report.PhaseViews, 1)
		}
		if len(again) == len(todo) {
			return m.make(ctx, m.Owner.Control, again) // for the ledger
		}
		todo = again
	}
	return nil
}

// Analyze gathers planner statistics, of partitioned tables too, which autovacuum never
// does. It comes before the owners get their objects: an index expression is evaluated
// as the table's owner. A table without statistics is slow, not wrong, so it is a warning.
func (m *Maker) Analyze(ctx context.Context) error {
	var names []string
	for _, e := range m.Plan.Entries {
		if e.Desc == "TABLE" && !m.Ledger.Skips(e.ID) && !m.Plan.Catalog.Foreign[int64(e.OID)] {
			names = append(names, session.QuoteName(e.Namespace, e.Tag))
		}
	}
	m.Meter.Expect(report.PhaseAnalyze, len(names))
	return m.Owner.InParallel(ctx, m.Lanes, m.Ledger.Warn, names, func(ctx context.Context, s *marks.Writer, batch []string) error {
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
				err = s.Write(ctx, m.underSourcePath(queries[i]))
			}
			if session.Classify(err).Ends() {
				return err
			}
			if err != nil {
				m.Ledger.Warn(report.Said(fmt.Sprintf("No statistics of %s: %v", batch[i], err)))
			}
		}
		m.Meter.Advance(report.PhaseAnalyze, len(batch))
		return nil
	})
}
