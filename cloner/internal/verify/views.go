package verify

import (
	"context"
	"fmt"
	"slices"

	"calco/cloner/archive"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// ViewRows are the rows of a materialized view: their number and, where all contents are compared, their checksum.
type ViewRows struct {
	Rows     int64
	Checksum string
}

func (v ViewRows) String() string {
	if v.Checksum == "" {
		return fmt.Sprintf("%d rows", v.Rows)
	}
	return fmt.Sprintf("%d rows, checksum %s", v.Rows, v.Checksum)
}

// ReadViewRows looks at those of the plan's materialized views that are filled and may be read. One whose rows cannot be
// hashed, because one is too long as text, is counted; one that cannot be looked at is left out, with a warning.
func ReadViewRows(ctx context.Context, s *session.Session, p *schema.Plan, verify report.Verify, restart func(context.Context) error, warn func(text report.Text)) (map[string]ViewRows, error) {
	readable, err := session.Query[struct{ Schema, Name string }](ctx, s, `
		SELECT n.nspname::text AS schema, c.relname::text AS name
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'm' AND c.relispopulated AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')`)
	if err != nil {
		return nil, fmt.Errorf("list materialized views of the %s: %w", s.Side, err)
	}
	rows := map[string]ViewRows{}
	for _, v := range readable {
		if !slices.ContainsFunc(p.MaterializedViews, func(e *archive.Entry) bool { return e.Namespace == v.Schema && e.Tag == v.Name }) {
			continue
		}
		name := session.QuoteName(v.Schema, v.Name)
		counting := "SELECT count(*) AS rows, '' AS checksum FROM " + name
		query := counting
		if verify == report.VerifyContents {
			query = fmt.Sprintf("SELECT count(*) AS rows, %s AS checksum FROM (SELECT %s AS t FROM %s v OFFSET 0) s", schema.ChecksumOf, p.RowText("v.*"), name)
		}
		found, err := readRowsOf(ctx, s, query, restart)
		if err != nil && !session.Classify(err).Ends() && query != counting {
			warn(report.Said(fmt.Sprintf("The rows of %s of the %s were only counted: %v", name, s.Side, err)))
			found, err = readRowsOf(ctx, s, counting, restart)
		}
		switch {
		case err == nil:
			rows[name] = found
		case session.Classify(err).Ends():
			return nil, fmt.Errorf("look at the rows of %s of the %s: %w", name, s.Side, err)
		default:
			warn(report.Said(fmt.Sprintf("The rows of %s of the %s could not be compared: %v", name, s.Side, err)))
		}
	}
	return rows, nil
}

// readRowsOf runs a query of ReadViewRows. After one that fails the session goes on with restart, if there is one.
func readRowsOf(ctx context.Context, s *session.Session, query string, restart func(context.Context) error) (ViewRows, error) {
	found, err := session.QueryRow[ViewRows](ctx, s, query)
	if restart != nil && err != nil && !session.Classify(err).Ends() {
		if err := restart(ctx); err != nil {
			return ViewRows{}, err
		}
	}
	return found, err
}
