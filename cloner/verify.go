package cloner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"calco/cloner/archive"
)

// verify compares the target with the source: rows of each table, the two archives,
// sequences, materialized views, large objects and the database's own properties.
func (r *run) verify(ctx context.Context) error {
	checks := []func(context.Context) ([]Difference, error){
		r.compareArchives, r.compareLikeness, r.compareSequences, r.compareViews, r.compareLargeObjects,
	}
	if r.spec.whole() {
		checks = append(checks, r.compareProperties)
	}
	tables := r.countable()
	r.meter.expect(PhaseVerify, len(checks)+len(tables))
	found, err := r.compareRows(ctx, tables)
	if err != nil {
		return err
	}
	r.report.Differences = append(r.report.Differences, found...)
	for _, check := range checks {
		found, err := check(ctx)
		if err != nil {
			return err
		}
		r.report.Differences = append(r.report.Differences, found...)
		r.meter.advance(PhaseVerify, 1)
	}
	slices.SortStableFunc(r.report.Differences, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Object, b.Object))
	})
	return nil
}

// counted is a table, or a whole partition tree whose rows found their own partitions.
type counted struct {
	name     string // for people
	relation string // what to count, quoted
	rows     int64  // on the source, by its own count in the snapshot
	missing  bool   // they were never all sent
}

// compareRows counts the rows on the target. The source counted its own when it sent them.
func (r *run) compareRows(ctx context.Context, list []*counted) ([]Difference, error) {
	var todo []string
	tables := map[string]*counted{}
	for _, c := range list {
		tables[c.relation] = c
		todo = append(todo, c.relation)
	}
	var mu sync.Mutex
	var found []Difference
	err := r.inParallel(ctx, todo, func(ctx context.Context, s *session, batch []string) error {
		counts, err := countRows(ctx, s, batch)
		if err != nil {
			return err
		}
		for i, relation := range batch {
			c, got := tables[relation], counts[i]
			want := strconv.FormatInt(c.rows, 10)
			if c.missing {
				want = "not copied"
			}
			if got != want {
				mu.Lock()
				found = append(found, Difference{Kind: "rows", Object: "TABLE " + c.name, Source: want, Target: got})
				mu.Unlock()
			}
		}
		r.meter.advance(PhaseVerify, len(batch))
		return nil
	})
	return found, err
}

// countRows counts the rows of relations, in one round trip unless one of them cannot be
// counted: then the error stands in place of its number.
func countRows(ctx context.Context, s *session, relations []string) ([]string, error) {
	rows, err := s.text(ctx, "SELECT count(*) FROM "+strings.Join(relations, "; SELECT count(*) FROM "))
	counts := make([]string, len(relations))
	switch {
	case err == nil:
		for i, row := range rows {
			counts[i] = row[0]
		}
	case endsClone(err):
		return nil, err
	case len(relations) == 1:
		counts[0] = err.Error()
	default:
		for i, relation := range relations {
			one, err := countRows(ctx, s, []string{relation})
			if err != nil {
				return nil, err
			}
			counts[i] = one[0]
		}
	}
	return counts, nil
}

// countable lists what to count: a tree as a whole where any part of it went through
// the root, else each table by itself, without its children.
func (r *run) countable() []*counted {
	throughRoot := map[int64]bool{}
	for _, t := range r.plan.tables {
		throughRoot[t.RootOID] = throughRoot[t.RootOID] || t.ThroughRoot
	}
	var list []*counted
	trees := map[int64]*counted{}
	for _, t := range r.plan.tables {
		if r.leftAlone[t.OID] {
			continue
		}
		c := trees[t.RootOID]
		if !throughRoot[t.RootOID] || c == nil {
			c = &counted{name: t.String(), relation: "ONLY " + t.relation()}
			if t.Condition != "" {
				c.relation = t.relation() + " " + t.Condition
			}
			if throughRoot[t.RootOID] {
				c.name, c.relation = t.RootSchema+"."+t.RootName, t.destination()
				trees[t.RootOID] = c
			}
			list = append(list, c)
		}
		c.rows += t.rows
		c.missing = c.missing || !t.copied()
	}
	return list
}

// compareArchives dumps the target as the source was dumped, and compares entry by entry.
func (r *run) compareArchives(ctx context.Context) ([]Difference, error) {
	a, err := r.dump(ctx, Target, "")
	if err != nil {
		return nil, err
	}
	chosen, pulled := selectEntries(a.Entries, r.spec.Schemas)
	// What was pulled may be on the target for other reasons, and needed by nothing there.
	chosen = slices.DeleteFunc(chosen, func(e *archive.Entry) bool { return pulled[e.ID] })
	found := compareEntries(r.plan.entries, a.Entries, chosen, r.targetTablespaces)
	return found, r.excuseKept(ctx, found)
}

// entryKey is what makes an entry of one archive the same as one of another. Numbers
// and OIDs differ between them.
type entryKey struct{ desc, namespace, tag string }

func keyOf(e *archive.Entry) entryKey { return entryKey{e.Desc, e.Namespace, e.Tag} }

// compareEntries reports what is missing from the target, what it has beside among the
// chosen, and what is not the same. Definitions are not quoted where they can hold a password.
func compareEntries(source, target, chosen []*archive.Entry, tablespaces map[string]bool) []Difference {
	have := map[entryKey][]*archive.Entry{}
	for _, e := range target {
		have[keyOf(e)] = append(have[keyOf(e)], e)
	}
	found := []Difference{}
	matched := map[*archive.Entry]bool{}
	for _, s := range source {
		candidates := have[keyOf(s)]
		if len(candidates) == 0 {
			found = append(found, Difference{Kind: "missing", Object: title(s), Source: "present", Target: "missing"})
			continue
		}
		// Several entries may share a key, such as grants by different grantors.
		i := max(slices.IndexFunc(candidates, func(t *archive.Entry) bool { return t.Defn == s.Defn }), 0)
		t := candidates[i]
		matched[t] = true
		have[keyOf(s)] = slices.Delete(slices.Clone(candidates), i, i+1)
		found = append(found, compareEntry(s, t, tablespaces)...)
	}
	for _, t := range chosen {
		if !matched[t] {
			found = append(found, Difference{Kind: "additional", Object: title(t), Source: "missing", Target: "present"})
		}
	}
	return found
}

func compareEntry(s, t *archive.Entry, tablespaces map[string]bool) []Difference {
	var found []Difference
	if s.Defn != t.Defn {
		d := Difference{Kind: "definition", Object: title(s), Source: quotable(s), Target: quotable(t)}
		switch {
		case s.Desc == "SUBSCRIPTION" && withoutSlot(s.Defn) == t.Defn:
			d.Harmless = "It is disabled and has no slot: that of the source stays the source's."
		case s.Desc == "USER MAPPING" && withoutOptions(s.Defn) == t.Defn:
			d.Harmless = "Its options, which can hold a password for another server, are not copied."
		case sameButColumnOrder(s, t):
			d.Harmless = "The columns of a table that inherits stand in another order; every one is there."
		}
		found = append(found, d)
	}
	if s.Owner != t.Owner {
		found = append(found, Difference{Kind: "owner", Object: title(s), Source: s.Owner, Target: t.Owner})
	}
	if s.TableAM != t.TableAM {
		found = append(found, Difference{Kind: "access method", Object: title(s), Source: s.TableAM, Target: t.TableAM})
	}
	if s.Tablespace != t.Tablespace {
		d := Difference{Kind: "tablespace", Object: title(s), Source: s.Tablespace, Target: t.Tablespace}
		if s.Tablespace != "" && !tablespaces[s.Tablespace] {
			d.Harmless = "The target has no such tablespace."
		}
		found = append(found, d)
	}
	return found
}

// quotable is a definition as a report may show it.
func quotable(e *archive.Entry) string {
	switch e.Desc {
	case "SERVER", "USER MAPPING", "SUBSCRIPTION", "FOREIGN DATA WRAPPER", "FOREIGN TABLE":
		return "(not shown: it can hold a password)"
	}
	const enough = 2000
	if len(e.Defn) > enough {
		return strings.ToValidUTF8(e.Defn[:enough], "") + "…"
	}
	return e.Defn
}

// sameButColumnOrder recognizes a table that was made first and inherited later: its
// copy is made with INHERITS, which puts the parents' columns first.
func sameButColumnOrder(s, t *archive.Entry) bool {
	if s.Desc != "TABLE" || !strings.Contains(s.Defn, "\nINHERITS (") {
		return false
	}
	lines := func(defn string) []string {
		all := strings.Split(defn, "\n")
		for i, l := range all {
			all[i] = strings.TrimSuffix(l, ",")
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(lines(s.Defn), lines(t.Defn))
}

// compareSequences compares with what was read from the source, which may have moved on.
func (r *run) compareSequences(ctx context.Context) ([]Difference, error) {
	target, err := r.readSequences(ctx, r.control, PhaseVerify)
	if err != nil {
		return nil, err
	}
	got := map[string]sequence{}
	for _, s := range target {
		got[s.name] = s
	}
	show := func(s sequence) string {
		return s.lastValue + word(s.isCalled == "t", ", called", ", not called")
	}
	var found []Difference
	for _, want := range r.sequenceState {
		if t, ok := got[want.name]; !ok || t != want {
			found = append(found, Difference{Kind: "sequence", Object: "SEQUENCE " + want.name, Source: show(want), Target: word(ok, show(t), "missing")})
		}
	}
	return found, nil
}

// compareViews finds materialized views that are filled on one side only, or whose refresh has brought another number of
// rows than the source's had: that was not refreshed lately.
func (r *run) compareViews(ctx context.Context) ([]Difference, error) {
	type view struct {
		Schema, Name string
		Filled       bool
	}
	target, err := collect[view](ctx, r.control, `
		SELECT n.nspname::text AS schema, c.relname::text AS name, c.relispopulated AS filled
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'm'`)
	if err != nil {
		return nil, fmt.Errorf("read materialized views of the target: %w", err)
	}
	rows, err := r.countViews(ctx, r.control, r.plan)
	if err != nil {
		return nil, err
	}
	var found []Difference
	for _, e := range r.plan.materializedViews {
		name := quoteName(e.Namespace, e.Tag)
		was, counted := r.viewRows[name]
		if is, ok := rows[name]; counted && ok && is != was {
			found = append(found, Difference{
				Kind: "materialized view", Object: title(e), Source: fmt.Sprintf("%d rows", was), Target: fmt.Sprintf("%d rows", is),
				Harmless: "It was refreshed, and the source's was not since its tables changed.",
			})
		}
		want := r.filledViews[int64(e.OID)]
		i := slices.IndexFunc(target, func(v view) bool { return v.Schema == e.Namespace && v.Name == e.Tag })
		if i >= 0 && target[i].Filled != want {
			d := Difference{
				Kind: "materialized view", Object: title(e),
				Source: word(want, "filled", "not filled"), Target: word(want, "not filled", "filled"),
			}
			if want && r.plan.readsForeign(e.ID) {
				d.Harmless = "It reads a foreign table, which leads to another server, and was not refreshed."
			}
			found = append(found, d)
		}
	}
	return found, nil
}

// compareLargeObjects counts them.
func (r *run) compareLargeObjects(ctx context.Context) ([]Difference, error) {
	if !r.spec.whole() {
		return nil, nil
	}
	got, err := one[int64](ctx, r.control, `SELECT count(*) FROM pg_largeobject_metadata`)
	if err != nil {
		return nil, fmt.Errorf("count large objects of the target: %w", err)
	}
	if got == r.largeObjectCount {
		return nil, nil
	}
	return []Difference{{
		Kind: "large objects", Object: "LARGE OBJECTS",
		Source: strconv.FormatInt(r.largeObjectCount, 10), Target: strconv.FormatInt(got, 10),
	}}, nil
}
