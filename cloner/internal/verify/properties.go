package verify

import (
	"context"
	_ "embed"
	"fmt"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// notSet is what a side has that a property is missing on.
const notSet = "not set"

// compareProperties reports what is still different.
func (x *Comparison) compareProperties(ctx context.Context) ([]report.Difference, error) {
	source, err := schema.ReadProperties(ctx, x.Source.Control, x.Target.Database)
	if err != nil {
		return nil, err
	}
	target, err := schema.ReadProperties(ctx, x.Target.Control, x.Target.Database)
	if err != nil {
		return nil, err
	}
	var found []report.Difference
	differ := func(name, source, target string, open bool) {
		d := report.Difference{Kind: "database", Object: "DATABASE " + name, Source: source, Target: target}
		// With clean it was to be as the source's.
		if (x.Preexisting.Property(name) || target != notSet && !x.Clean) && !open {
			d.ExpectedBecause = report.Said(stayedText)
		}
		found = append(found, d)
	}
	for name, p := range source {
		if t, ok := target[name]; !ok || t.Value != p.Value {
			differ(name, "set", report.Either(ok, "set to another value", notSet), ok && schema.IsGrant(name) && t.Value != "")
		}
	}
	for name := range target {
		if _, ok := source[name]; !ok {
			_, everybody := source[schema.ToPublic(name)]
			differ(name, notSet, "set", schema.IsGrant(name) && !everybody)
		}
	}
	hidden, err := x.hiddenSubscriptions(ctx)
	return append(found, hidden...), err
}

// hiddenSubscriptions are those of the source that pg_dump leaves out, because the role is not a superuser. What is in the
// target's is not compared.
func (x *Comparison) hiddenSubscriptions(ctx context.Context) ([]report.Difference, error) {
	if x.Source.Superuser {
		return nil, nil
	}
	names, err := session.Query[struct{ Name string }](ctx, x.Source.Control, `
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
