package cloner

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// properties gives the target's database what the source's has, if the whole database is cloned. What somebody has set or
// granted there stays, be it since the clone began; clean has reset what was there before. Owners are each server's own affair.
func (r *run) properties(ctx context.Context) error {
	if !r.spec.whole() {
		return nil
	}
	source, target, err := r.bothProperties(ctx)
	if err != nil {
		return err
	}
	var statements []statement
	for name, p := range source {
		if _, ok := target[name]; !ok && !schema.IsGrant(name) && !r.kept.Property(name) {
			statements = append(statements, statement{phase: report.PhasePostData, object: "DATABASE " + name, sql: p.Make})
		}
	}
	grants, err := r.databaseGrants(ctx, source, target)
	if err != nil {
		return err
	}
	return r.make(ctx, r.owner.Control, append(statements, grants...))
}

// databaseGrants give a database on which nobody has granted or revoked anything the grants of the source's, in one
// transaction, so that a later life finds all of them or none. Those to roles that are missing fail by themselves.
func (r *run) databaseGrants(ctx context.Context, source, target map[string]schema.Property) ([]statement, error) {
	initial, err := session.QueryValue[bool](ctx, r.target.Control, `
		SELECT datacl IS NULL OR NOT EXISTS (
		       (SELECT * FROM aclexplode(datacl) EXCEPT SELECT * FROM aclexplode(acldefault('d', datdba))) UNION ALL
		       (SELECT * FROM aclexplode(acldefault('d', datdba)) EXCEPT SELECT * FROM aclexplode(datacl)))
		FROM pg_database WHERE datname = current_database()`)
	if err != nil {
		return nil, fmt.Errorf("read grants on the target's database: %w", err)
	}
	if !initial || r.kept.Property(schema.GrantPrefix) {
		return nil, nil
	}
	roles, err := session.Query[struct{ Name string }](ctx, r.target.Control, `SELECT quote_ident(rolname) AS name FROM pg_roles UNION ALL SELECT 'PUBLIC'`)
	if err != nil {
		return nil, fmt.Errorf("list roles of the target: %w", err)
	}
	here := map[string]bool{}
	for _, role := range roles {
		here[role.Name] = true
	}
	var together []string
	var apart []statement
	for name, p := range target {
		if _, ok := source[name]; !ok && schema.IsGrant(name) {
			together = append(together, p.Unmake)
		}
	}
	for name, p := range source {
		_, grantee, _ := strings.Cut(name, " TO ")
		switch t, ok := target[name]; {
		case !schema.IsGrant(name) || ok && t.Value == p.Value:
		case here[grantee]:
			together = append(together, p.Make)
		default:
			apart = append(apart, statement{phase: report.PhasePostData, object: "DATABASE " + name, sql: p.Make})
		}
	}
	if len(together) == 0 {
		return apart, nil
	}
	slices.SortFunc(together, func(a, b string) int { return strings.Compare(b, a) }) // each REVOKE before the GRANTs
	return append(apart, statement{phase: report.PhasePostData, object: "DATABASE GRANTS", sql: strings.Join(together, "; ")}), nil
}

// bothProperties reads those of both sides.
func (r *run) bothProperties(ctx context.Context) (source, target map[string]schema.Property, err error) {
	if source, err = schema.ReadProperties(ctx, r.source.Control, r.target.Database); err != nil {
		return nil, nil, err
	}
	target, err = schema.ReadProperties(ctx, r.target.Control, r.target.Database)
	return source, target, err
}

// compareProperties reports what is still different.
func (r *run) compareProperties(ctx context.Context) ([]report.Difference, error) {
	source, target, err := r.bothProperties(ctx)
	if err != nil {
		return nil, err
	}
	var found []report.Difference
	differ := func(name, source, target string, open bool) {
		d := report.Difference{Kind: "database", Object: "DATABASE " + name, Source: source, Target: target}
		// With clean it was to be as the source's.
		if (r.kept.Property(name) || target != "not set" && !r.spec.Clean) && !open {
			d.Harmless = stayedText
		}
		found = append(found, d)
	}
	for name, p := range source {
		if t, ok := target[name]; !ok || t.Value != p.Value {
			differ(name, "set", word(ok, "set to another value", "not set"), ok && schema.IsGrant(name) && t.Value != "")
		}
	}
	for name := range target {
		if _, ok := source[name]; !ok {
			_, everybody := source[schema.ToPublic(name)]
			differ(name, "not set", "set", schema.IsGrant(name) && !everybody)
		}
	}
	hidden, err := r.hiddenSubscriptions(ctx)
	return append(found, hidden...), err
}

// hiddenSubscriptions are those of the source that pg_dump leaves out, because the role is not a superuser. What is in the
// target's is not compared.
func (r *run) hiddenSubscriptions(ctx context.Context) ([]report.Difference, error) {
	if r.source.Superuser {
		return nil, nil
	}
	names, err := session.Query[struct{ Name string }](ctx, r.source.Control, `
		SELECT subname::text AS name FROM pg_subscription
		WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions of the source: %w", err)
	}
	var found []report.Difference
	for _, s := range names {
		found = append(found, report.Difference{Kind: "missing", Object: "SUBSCRIPTION " + s.Name, Source: "present, and only a superuser may read how it is made", Target: "not compared"})
	}
	return found, nil
}

func word(yes bool, then, otherwise string) string {
	if yes {
		return then
	}
	return otherwise
}
