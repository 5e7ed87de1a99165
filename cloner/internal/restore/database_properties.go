package restore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Properties gives the target's database what the source's has, if the whole database is cloned. What somebody has set or
// granted there stays, be it since the clone began; clean has reset what was there before. Owners are each server's own affair.
func (m *Maker) Properties(ctx context.Context) error {
	if !m.Whole {
		return nil
	}
	source, err := schema.ReadProperties(ctx, m.Source.Control, m.Target.Database)
	if err != nil {
		return err
	}
	target, err := schema.ReadProperties(ctx, m.Target.Control, m.Target.Database)
	if err != nil {
		return err
	}
	var statements []statement
	for _, name := range slices.Sorted(maps.Keys(source)) {
		p := source[name]
		if _, ok := target[name]; !ok && !schema.IsGrant(name) && !m.Preexisting.Property(name) {
			statements = append(statements, statement{phase: report.PhasePostData, object: "DATABASE " + name, sql: p.Make})
		}
	}
	grants, err := m.databaseGrants(ctx, source, target)
	if err != nil {
		return err
	}
	return m.make(ctx, m.Owner.Control, append(statements, grants...))
}

// databaseGrants give a database on which nobody has granted or revoked anything the grants of the source's, in one
// transaction, so that a later life finds all of them or none. Those to roles that are missing fail by themselves.
func (m *Maker) databaseGrants(ctx context.Context, source, target map[string]schema.Property) ([]statement, error) {
	initial, err := session.QueryValue[bool](ctx, m.Target.Control, `
		SELECT datacl IS NULL OR NOT EXISTS (
		       (SELECT * FROM aclexplode(datacl) EXCEPT SELECT * FROM aclexplode(acldefault('d', datdba))) UNION ALL
		       (SELECT * FROM aclexplode(acldefault('d', datdba)) EXCEPT SELECT * FROM aclexplode(datacl)))
		FROM pg_database WHERE datname = current_database()`)
	if err != nil {
		return nil, fmt.Errorf("read grants on the target's database: %w", err)
	}
	if !initial || m.Preexisting.Property(schema.GrantPrefix) {
		return nil, nil
	}
	roles, err := session.Query[struct{ Name string }](ctx, m.Target.Control, `SELECT quote_ident(rolname) AS name FROM pg_roles UNION ALL SELECT 'PUBLIC'`)
	if err != nil {
		return nil, fmt.Errorf("list roles of the target: %w", err)
	}
	here := map[string]bool{}
	for _, role := range roles {
		here[role.Name] = true
	}
	var together []string
	var apart []statement
	for _, name := range slices.Sorted(maps.Keys(target)) {
		p := target[name]
		if _, ok := source[name]; !ok && schema.IsGrant(name) {
			together = append(together, p.Unmake)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(source)) {
		p := source[name]
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
