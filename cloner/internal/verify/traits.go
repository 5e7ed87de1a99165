package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// compareTraits compares what the source had under the snapshot with what the target has.
func (x *Comparison) compareTraits(ctx context.Context) ([]report.Difference, error) {
	target, err := session.Query[schema.Trait](ctx, x.Target.Control, schema.TraitsSQL)
	if err != nil {
		return nil, fmt.Errorf("read what the target is like: %w", err)
	}
	tables, tags := map[int64]bool{}, map[string]bool{}
	for _, e := range x.Plan.Entries {
		tables[int64(e.OID)] = tables[int64(e.OID)] || e.CatalogOID == schema.PgClass
		tags[e.Desc+" "+e.Tag] = true
	}
	var found []report.Difference
	for _, s := range x.Plan.Catalog.Traits {
		i := slices.IndexFunc(target, func(t schema.Trait) bool { return t.Kind == s.Kind && t.Name == s.Name })
		d := report.Difference{Kind: s.Kind, Source: s.Value}
		if i >= 0 {
			d.Target = target[i].Value
		}
		switch s.Kind {
		case "locale":
			d.Object = "DATABASE " + s.Name
			d.ExpectedBecause = report.Said(report.Either(s.Name == "ENCODING", "Each character was converted.", "Every value is there; text may be sorted, and its case changed, in another way."))
		case "extension version":
			if !tags["EXTENSION "+s.Name] || i < 0 {
				continue // not cloned, or missing: which the archives tell
			}
			d.Object = "EXTENSION " + s.Name
			if newerVersion(d.Target, d.Source) {
				d.ExpectedBecause = report.Said("The target has a newer version of the extension.")
			}
		case "missing":
			if !tables[s.Relation] || i >= 0 {
				continue
			}
			d.Object, d.Target = "INDEX "+s.Name, "missing"
		case "not compared":
			if !tags["USER MAPPING "+s.Name] {
				continue
			}
			d.Object, d.Source, d.Target = s.Name, "not readable", "none"
			d.ExpectedBecause = report.Said("The role of the source's connection may not read the options of this user mapping; the copy has none.")
		}
		if d.Source != d.Target {
			found = append(found, d)
		}
	}
	return found, nil
}

// newerVersion tells whether an extension's version a is newer than b: numbers in it count as numbers.
func newerVersion(a, b string) bool {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(c rune) bool { return c == '.' || c == '-' || c == '_' || c == ' ' })
	}
	return slices.CompareFunc(split(a), split(b), func(x, y string) int {
		m, errX := strconv.Atoi(x)
		n, errY := strconv.Atoi(y)
		if errX == nil && errY == nil {
			return cmp.Compare(m, n)
		}
		return strings.Compare(x, y)
	}) > 0
}
