package restore

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
)

//go:embed sql/preexisting.sql
var preexistingSQL string

// FindPreexisting reads what a clone leaves on the target as it is, before it has made anything there.
func FindPreexisting(ctx context.Context, target *session.Server, cleaned, whole bool) ([]schema.PreexistingEntry, error) {
	kept, err := preexistingRows(ctx, target.Control)
	if err != nil || cleaned { // what clean has reset takes the source's
		return kept, err
	}
	entries, err := session.Query[schema.PreexistingEntry](ctx, target.Control, preexistingSQL)
	if err != nil {
		return nil, fmt.Errorf("read what is set on the target: %w", err)
	}
	kept = append(kept, entries...)
	if !whole {
		return kept, nil
	}
	set, err := schema.ReadProperties(ctx, target.Control, target.Database)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if !schema.IsGrant(name) {
			kept = append(kept, schema.PreexistingEntry{Kind: schema.KindDatabase, Name: name})
		}
	}
	granted, err := session.QueryValue[bool](ctx, target.Control, `SELECT datacl IS NOT NULL FROM pg_database WHERE datname = current_database()`)
	if err != nil {
		return nil, fmt.Errorf("read grants on the target's database: %w", err)
	}
	if granted {
		kept = append(kept, schema.PreexistingEntry{Kind: schema.KindDatabase, Name: schema.AllGrants})
	}
	return kept, nil
}

// preexistingRows are the configuration tables and sequences of extensions that are not new on the target: what they hold is the
// target's own, such as the jobs of pg_cron.
func preexistingRows(ctx context.Context, s *session.Session) ([]schema.PreexistingEntry, error) {
	relations, err := session.Query[struct {
		Namespace, Name, Condition string
		IsSequence                 bool
	}](ctx, s, `
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
		used, err := session.QueryValue[bool](ctx, s, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s %s)", session.QuoteName(c.Namespace, c.Name), c.Condition))
		if err != nil {
			return nil, fmt.Errorf("look for rows of the target's extensions: %w", err)
		}
		if used {
			kept = append(kept, schema.PreexistingEntry{Kind: schema.KindRows, Namespace: c.Namespace, Name: c.Name})
		}
	}
	return kept, nil
}
