package verify

import (
	"context"
	"fmt"
	"strings"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// excusePreexisting says of differences that come of what was kept that they are harmless, unless the target is more open by
// them than the source.
func (x *Comparison) excusePreexisting(ctx context.Context, found []report.Difference) error {
	titles := x.Preexisting.Titles()
	if len(titles) == 0 || len(found) == 0 {
		return nil
	}
	open, err := x.openSchemas(ctx)
	if err != nil {
		return err
	}
	for i, d := range found {
		switch {
		case d.Kind == "owner" && titles["SCHEMA "+schema.UnquoteName(ofSchema(d.Object))]: // the schema's
			found[i].ExpectedBecause = report.Said(stayedText)
		case !titles[d.Object] || strings.HasPrefix(d.Object, "DEFAULT ACL "): // which opens what is made later
		case strings.HasPrefix(d.Object, "ACL ") && (ofSchema(d.Object) == "" || open[ofSchema(d.Object)]): // of others than schemas that is not known
		default:
			found[i].ExpectedBecause = report.Said(stayedText)
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
func (x *Comparison) openSchemas(ctx context.Context) (map[string]bool, error) {
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
	source, err := read(x.Source.Control, "true")
	if err != nil {
		return nil, err
	}
	target, err := read(x.Target.Control, "a.grantee <> n.nspowner")
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
