package cloner

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

//go:embed sql/kept.sql
var keptSQL string

// keep reads what this clone leaves on the target as it is, before it has made anything there.
func (r *run) keep(ctx context.Context) ([]schema.PreexistingEntry, error) {
	kept, err := r.keepRows(ctx)
	if err != nil || r.spec.Clean { // what clean has reset takes the source's
		return kept, err
	}
	entries, err := session.Query[schema.PreexistingEntry](ctx, r.target.Control, keptSQL)
	if err != nil {
		return nil, fmt.Errorf("read what is set on the target: %w", err)
	}
	kept = append(kept, entries...)
	if !r.spec.whole() {
		return kept, nil
	}
	target, err := schema.ReadProperties(ctx, r.target.Control, r.target.Database)
	if err != nil {
		return nil, err
	}
	for name := range target {
		if !schema.IsGrant(name) {
			kept = append(kept, schema.PreexistingEntry{Kind: schema.KindDatabase, Name: name})
		}
	}
	granted, err := session.QueryValue[bool](ctx, r.target.Control, `SELECT datacl IS NOT NULL FROM pg_database WHERE datname = current_database()`)
	if err != nil {
		return nil, fmt.Errorf("read grants on the target's database: %w", err)
	}
	if granted {
		kept = append(kept, schema.PreexistingEntry{Kind: schema.KindDatabase, Name: schema.AllGrants})
	}
	return kept, nil
}

// keepRows are the configuration tables and sequences of extensions that are not new on the target: what they hold is the
// target's own, such as the jobs of pg_cron.
func (r *run) keepRows(ctx context.Context) ([]schema.PreexistingEntry, error) {
	relations, err := session.Query[struct {
		Namespace, Name, Condition string
		IsSequence                 bool
	}](ctx, r.target.Control, `
		SELECT n.nspname::text AS namespace, c.relname::text AS name, k.condition, c.relkind = 'S' AS is_sequence
		FROM pg_extension e, unnest(e.extconfig, e.extcondition) k (relation, condition)
		JOIN pg_class c ON c.oid = k.relation
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'S')`)
	if err != nil {
		return nil, fmt.Errorf("read tables of the target's extensions: %w", err)
	}
	var kept []schema.PreexistingEntry
	for _, c := range relations {
		if c.IsSequence {
			c.Condition = "WHERE is_called"
		}
		used, err := session.QueryValue[bool](ctx, r.target.Control, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s %s)", session.QuoteName(c.Namespace, c.Name), c.Condition))
		if err != nil {
			return nil, fmt.Errorf("look for rows of the target's extensions: %w", err)
		}
		if used {
			kept = append(kept, schema.PreexistingEntry{Kind: schema.KindRows, Namespace: c.Namespace, Name: c.Name})
		}
	}
	return kept, nil
}

// leaveKept leaves as they are what is kept, on this attempt.
func (r *run) leaveKept(all []schema.PreexistingEntry) {
	r.kept = schema.Preexisting{}
	for _, k := range all {
		r.kept[k] = true
	}
	for _, e := range r.plan.Entries {
		if r.kept[schema.PreexistingEntry{Kind: e.Desc, Namespace: e.Namespace, Name: e.Tag}] {
			r.leave(e)
		}
	}
	for _, t := range r.plan.Tables {
		if r.kept.Rows(t.Schema, t.Name) && !r.ledger.Keeps(t.OID) {
			r.ledger.Keep(t.OID)
			r.ledger.Warn(fmt.Sprintf("The rows of %s, which belongs to an extension, are the target's own and stay.", t))
		}
	}
}

// excuseKept says of differences that come of what was kept that they are harmless, unless the target is more open by
// them than the source.
func (r *run) excuseKept(ctx context.Context, found []report.Difference) error {
	titles := r.kept.Titles()
	if len(titles) == 0 || len(found) == 0 {
		return nil
	}
	open, err := r.openSchemas(ctx)
	if err != nil {
		return err
	}
	for i, d := range found {
		switch {
		case d.Kind == "owner" && titles["SCHEMA "+schema.UnquoteName(ofSchema(d.Object))]: // the schema's
			found[i].Harmless = stayedText
		case !titles[d.Object] || strings.HasPrefix(d.Object, "DEFAULT ACL "): // which opens what is made later
		case strings.HasPrefix(d.Object, "ACL ") && (ofSchema(d.Object) == "" || open[ofSchema(d.Object)]): // of others than schemas that is not known
		default:
			found[i].Harmless = stayedText
		}
	}
	return nil
}

// ofSchema is the schema, as quoted, that a grant or a comment is about.
func ofSchema(object string) string {
	_, schema, _ := strings.Cut(object, " SCHEMA ")
	return schema
}

const stayedText = "It was set on the target before, and stays."

// openSchemas are the schemas of the target, quoted, on which somebody has a privilege that nobody gave him on the source.
func (r *run) openSchemas(ctx context.Context) (map[string]bool, error) {
	type grant struct{ Schema, Grantee, Privilege string }
	read := func(s *session.Session, which string) ([]grant, error) {
		grants, err := session.Query[grant](ctx, s, `
			SELECT quote_ident(n.nspname) AS schema, CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END AS grantee,
			       a.privilege_type AS privilege
			FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
			WHERE `+which)
		if err != nil {
			return nil, fmt.Errorf("read grants on schemas of the %s: %w", s.Side, err)
		}
		return grants, nil
	}
	source, err := read(r.source.Control, "true")
	if err != nil {
		return nil, err
	}
	target, err := read(r.target.Control, "a.grantee <> n.nspowner")
	if err != nil {
		return nil, err
	}
	given := map[grant]bool{}
	for _, g := range source {
		given[g] = true
	}
	open := map[string]bool{}
	for _, g := range target {
		if !given[g] && !given[grant{g.Schema, "", g.Privilege}] {
			open[g.Schema] = true
		}
	}
	return open, nil
}
