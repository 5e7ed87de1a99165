package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"calco/cloner/archive"
	"calco/cloner/internal/data"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Compare compares the target with the source: rows of each table, the two archives, sequences, materialized views, large
// objects and the database's own properties. The differences are sorted, and those that do not count say why.
func (x *Comparison) Compare(ctx context.Context) ([]report.Difference, *report.Contents, error) {
	all, err := marks.Read(ctx, x.Target.Control)
	if err != nil {
		return nil, nil, err
	}
	contents := &report.Contents{Verify: x.Verify}
	checks := []func(context.Context) ([]report.Difference, error){
		x.compareArchives, x.compareTraits, x.compareSequences, x.compareViews,
		func(ctx context.Context) ([]report.Difference, error) {
			return x.compareLargeObjects(ctx, all, contents)
		},
	}
	if x.whole() {
		checks = append(checks, x.compareProperties)
	}
	tables := x.countable(all)
	x.Meter.Expect(report.PhaseVerify, len(checks)+len(tables))
	differences, err := x.compareRows(ctx, tables, contents)
	if err != nil {
		return nil, nil, err
	}
	for _, check := range checks {
		found, err := check(ctx)
		if err != nil {
			return nil, nil, err
		}
		differences = append(differences, found...)
		x.Meter.Advance(report.PhaseVerify, 1)
	}
	slices.SortStableFunc(differences, func(a, b report.Difference) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Object, b.Object))
	})
	return append([]report.Difference{}, differences...), contents, nil
}

// counted is a table, or a whole partition tree whose rows found their own partitions.
type counted struct {
	name     string // for people
	relation string // what to count, quoted
	rows     int64  // on the source, by its own count in the snapshot
	missing  bool   // they were never all sent

	contentList string
	wanted      bool // some of what the rows hold is to be compared
	parts       int
	hashed      []marks.Mark // the parts of whose rows the source has the checksum
}

// whole tells whether every row is compared by what it holds.
func (c *counted) whole() bool { return len(c.hashed) == c.parts }

// query asks the target for the number of the rows, and for the checksum of those that the source has one of. A part is found
// again by the transaction that wrote it.
func (c *counted) query(x *Comparison) string {
	switch {
	case len(c.hashed) == 0:
		return "SELECT count(*), '' FROM " + c.relation
	case c.whole():
		return fmt.Sprintf("SELECT count(*), %s FROM (SELECT %s AS t FROM %s OFFSET 0) s", schema.ChecksumOf, x.Plan.RowText(c.contentList), c.relation)
	}
	xids := make([]string, len(c.hashed))
	for i, m := range c.hashed {
		xids[i] = fmt.Sprint(m.XID % (1 << 32))
	}
	return fmt.Sprintf("SELECT count(*), %s FROM (SELECT CASE WHEN xmin = ANY ('{%s}'::xid[]) THEN %s END AS t FROM %s OFFSET 0) s",
		schema.ChecksumOf, strings.Join(xids, ","), x.Plan.RowText(c.contentList), c.relation)
}

// compareRows compares the number of rows, and as much of what they hold as Spec.Verify asks for. The source counted its own,
// and hashed them, when it sent them.
func (x *Comparison) compareRows(ctx context.Context, list []*counted, contents *report.Contents) ([]report.Difference, error) {
	var todo []string
	tables := map[string]*counted{}
	for _, c := range list {
		tables[c.relation] = c
		todo = append(todo, c.relation)
	}
	var mu sync.Mutex
	var found []report.Difference
	err := x.Owner.InParallel(ctx, x.Lanes, x.Ledger.Warn, todo, func(ctx context.Context, s *marks.Writer, batch []string) error {
		queries := make([]string, len(batch))
		for i, relation := range batch {
			queries[i] = tables[relation].query(x)
		}
		answers, err := askEach(ctx, s.Session, queries)
		if err != nil {
			return err
		}
		for i, relation := range batch {
			c, a := tables[relation], answers[i]
			if a.err != nil && len(c.hashed) > 0 { // a row that is too long as text can be counted
				c.hashed = nil
				again, err := askEach(ctx, s.Session, []string{c.query(x)})
				if err != nil {
					return err
				}
				a = again[0]
			}
			d, err := c.compare(a)
			if err != nil {
				return err
			}
			mu.Lock()
			found = append(found, d...)
			noteContents(contents, c)
			mu.Unlock()
		}
		x.Meter.Advance(report.PhaseVerify, len(batch))
		return nil
	})
	return found, err
}

// notCopied stands for the number of rows of a table on the source that the clone could not copy whole; no target has it.
const notCopied = "not copied"

// compare finds out in what the target differs.
func (c *counted) compare(a answer) ([]report.Difference, error) {
	want, object := strconv.FormatInt(c.rows, 10), "TABLE "+c.name
	if c.missing {
		want = notCopied
	}
	if a.err != nil {
		return []report.Difference{{Kind: "rows", Object: object, Source: want, Target: a.err.Error()}}, nil
	}
	if a.row[0] != want {
		return []report.Difference{{Kind: "rows", Object: object, Source: want, Target: a.row[0]}}, nil
	}
	if len(c.hashed) == 0 {
		return nil, nil
	}
	checksum, err := schema.AddChecksums(checksums(c.hashed))
	if err != nil || checksum == a.row[1] {
		return nil, err
	}
	return []report.Difference{{Kind: "contents", Object: object, Source: "checksum " + checksum, Target: "checksum " + a.row[1]}}, nil
}

func checksums(hashed []marks.Mark) []string {
	var all []string
	for _, m := range hashed {
		all = append(all, m.Checksum)
	}
	return all
}

// noteContents counts what was compared of a table.
func noteContents(n *report.Contents, c *counted) {
	for _, m := range c.hashed {
		n.Rows += m.Rows
		n.Bytes += m.Bytes
	}
	switch {
	case len(c.hashed) > 0:
		n.Tables++
	case c.wanted && !c.missing && len(n.Left) < report.ListedObjects:
		n.Left = append(n.Left, c.name)
	}
}

// answer is the row of a query, or why there is none.
type answer struct {
	row []string
	err error
}

// askEach runs queries that return one row each, in one round trip unless one of them fails.
func askEach(ctx context.Context, s *session.Session, queries []string) ([]answer, error) {
	rows, err := s.SimpleQuery(ctx, strings.Join(queries, "; "))
	answers := make([]answer, len(queries))
	if err == nil && len(rows) != len(queries) {
		return nil, fmt.Errorf("%d answers of the %s to %d questions", len(rows), s.Side, len(queries))
	}
	switch {
	case err == nil:
		for i, row := range rows {
			answers[i].row = row
		}
	case session.Classify(err).Ends():
		return nil, err
	case len(queries) == 1:
		answers[0].err = err
	default:
		for i, query := range queries {
			one, err := askEach(ctx, s, []string{query})
			if err != nil {
				return nil, err
			}
			answers[i] = one[0]
		}
	}
	return answers, nil
}

// countable lists what to count: a tree as a whole where any part of it went through
// the root, else each table by itself, without its children. With the marks it says what of it the source has hashed.
func (x *Comparison) countable(all []marks.Mark) []*counted {
	hashed := map[string][]marks.Mark{}
	for _, m := range all {
		if m.Checksum != "" {
			hashed[m.Relation] = append(hashed[m.Relation], m)
		}
	}
	throughRoot := map[int64]bool{}
	for _, t := range x.Tables {
		throughRoot[t.RootOID] = throughRoot[t.RootOID] || t.ThroughRoot
	}
	var list []*counted
	trees := map[int64]*counted{}
	for _, t := range x.Tables {
		if x.Ledger.Keeps(t.OID) {
			continue
		}
		c := trees[t.RootOID]
		if !throughRoot[t.RootOID] || c == nil {
			c = &counted{name: t.String(), relation: t.From(), contentList: t.ContentList()}
			if throughRoot[t.RootOID] {
				c.name, c.relation = t.RootSchema+"."+t.RootName, session.QuoteName(t.RootSchema, t.RootName)
				trees[t.RootOID] = c
			}
			list = append(list, c)
		}
		c.rows += t.Rows
		c.missing = c.missing || !t.Copied
		c.parts += t.Parts
		c.hashed = append(c.hashed, hashed[t.Relation()]...)
		c.wanted = c.wanted || t.Hashes(t.Parts-1)
	}
	for _, c := range trees {
		if !c.whole() { // rows of a part are found in one table only
			c.hashed = nil
		}
	}
	return list
}

// compareArchives dumps the target as the source was dumped, and compares entry by entry.
func (x *Comparison) compareArchives(ctx context.Context) ([]report.Difference, error) {
	a, err := x.Dumper.Dump(ctx, x.Target, "")
	if err != nil {
		return nil, err
	}
	chosen, pulled := schema.SelectEntries(a.Entries, x.Schemas)
	// What was pulled may be on the target for other reasons, and needed by nothing there.
	chosen = slices.DeleteFunc(chosen, func(e *archive.Entry) bool { return pulled[e.ID] })
	found := compareEntries(x.Plan.Entries, a.Entries, chosen, x.HasTablespace)
	return found, x.excusePreexisting(ctx, found)
}

// compareEntries reports what is missing from the target, what it has beside among the
// chosen, and what is not the same. Definitions are not quoted where they can hold a password.
func compareEntries(source, target, chosen []*archive.Entry, hasTablespace func(string) bool) []report.Difference {
	have := map[schema.EntryKey][]*archive.Entry{}
	for _, e := range target {
		have[schema.KeyOf(e)] = append(have[schema.KeyOf(e)], e)
	}
	found := []report.Difference{}
	matched := map[*archive.Entry]bool{}
	for _, s := range source {
		candidates := have[schema.KeyOf(s)]
		if len(candidates) == 0 {
			found = append(found, report.Difference{Kind: "missing", Object: schema.Title(s), Source: "present", Target: "missing"})
			continue
		}
		// Several entries may share a key, such as grants by different grantors.
		i := max(slices.IndexFunc(candidates, func(t *archive.Entry) bool { return t.Defn == s.Defn }), 0)
		t := candidates[i]
		matched[t] = true
		have[schema.KeyOf(s)] = slices.Delete(slices.Clone(candidates), i, i+1)
		found = append(found, compareEntry(s, t, hasTablespace)...)
	}
	for _, t := range chosen {
		if !matched[t] {
			found = append(found, report.Difference{Kind: "additional", Object: schema.Title(t), Source: "missing", Target: "present"})
		}
	}
	return found
}

func compareEntry(s, t *archive.Entry, hasTablespace func(string) bool) []report.Difference {
	var found []report.Difference
	if s.Defn != t.Defn {
		d := report.Difference{Kind: "definition", Object: schema.Title(s), Source: quotable(s), Target: quotable(t)}
		switch {
		case s.Desc == "SUBSCRIPTION" && schema.WithoutSlot(s.Defn) == t.Defn:
			d.ExpectedBecause = report.Said("It is disabled and has no slot: that of the source stays the source's.")
		case s.Desc == "USER MAPPING" && schema.WithoutOptions(s.Defn) == t.Defn:
			d.ExpectedBecause = report.Said("Its options, which can hold a password for another server, are not copied.")
		case sameButColumnOrder(s, t):
			d.ExpectedBecause = report.Said("The columns of a table that inherits stand in another order; every one is there.")
		}
		found = append(found, d)
	}
	if s.Owner != t.Owner {
		found = append(found, report.Difference{Kind: "owner", Object: schema.Title(s), Source: s.Owner, Target: t.Owner})
	}
	if s.TableAM != t.TableAM {
		found = append(found, report.Difference{Kind: "access method", Object: schema.Title(s), Source: s.TableAM, Target: t.TableAM})
	}
	if s.Tablespace != t.Tablespace {
		d := report.Difference{Kind: "tablespace", Object: schema.Title(s), Source: s.Tablespace, Target: t.Tablespace}
		if s.Tablespace != "" && !hasTablespace(s.Tablespace) {
			d.ExpectedBecause = report.Said("The target has no such tablespace.")
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
func (x *Comparison) compareSequences(ctx context.Context) ([]report.Difference, error) {
	names := make([]string, len(x.Sequences))
	for i, s := range x.Sequences {
		names[i] = s.Name
	}
	target, err := schema.ReadSequences(ctx, x.Target.Control, names, func(name string, err error) {
		x.Ledger.Record(report.PhaseVerify, "SEQUENCE VALUE "+name, err)
	})
	if err != nil {
		return nil, err
	}
	got := map[string]schema.Sequence{}
	for _, s := range target {
		got[s.Name] = s
	}
	show := func(s schema.Sequence) string {
		return s.LastValue + report.Either(s.IsCalled == "t", ", called", ", not called")
	}
	var found []report.Difference
	for _, want := range x.Sequences {
		if t, ok := got[want.Name]; !ok || t != want {
			found = append(found, report.Difference{Kind: "sequence", Object: "SEQUENCE " + want.Name, Source: show(want), Target: report.Either(ok, show(t), "missing")})
		}
	}
	return found, nil
}

// compareViews finds materialized views that are filled on one side only, or whose refresh has brought other rows than the
// source's had: that was not refreshed lately.
func (x *Comparison) compareViews(ctx context.Context) ([]report.Difference, error) {
	type view struct {
		Schema, Name string
		Filled       bool
	}
	target, err := session.Query[view](ctx, x.Target.Control, `
		SELECT n.nspname::text AS schema, c.relname::text AS name, c.relispopulated AS filled
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'm'`)
	if err != nil {
		return nil, fmt.Errorf("read materialized views of the target: %w", err)
	}
	rows, err := ReadViewRows(ctx, x.Target.Control, x.Plan, x.Verify, nil, x.Ledger.Warn)
	if err != nil {
		return nil, err
	}
	var found []report.Difference
	for _, e := range x.Plan.MaterializedViews {
		name := session.QuoteName(e.Namespace, e.Tag)
		was, counted := x.ViewRows[name]
		is, ok := rows[name]
		if was.Checksum == "" || is.Checksum == "" { // one side could only be counted
			was.Checksum, is.Checksum = "", ""
		}
		if counted && ok && is != was {
			found = append(found, report.Difference{
				Kind: "materialized view", Object: schema.Title(e), Source: was.String(), Target: is.String(),
				ExpectedBecause: report.Said("It was refreshed, and the source's was not since its tables changed."),
			})
		}
		want := x.FilledViews[int64(e.OID)]
		i := slices.IndexFunc(target, func(v view) bool { return v.Schema == e.Namespace && v.Name == e.Tag })
		if i >= 0 && target[i].Filled != want {
			d := report.Difference{
				Kind: "materialized view", Object: schema.Title(e),
				Source: report.Either(want, "filled", "not filled"), Target: report.Either(want, "not filled", "filled"),
			}
			if want && x.Plan.ReadsForeign(e.ID) {
				d.ExpectedBecause = report.Said("It reads a foreign table, which leads to another server, and was not refreshed.")
			}
			found = append(found, d)
		}
	}
	return found, nil
}

// compareLargeObjects counts them and, where all contents are compared, hashes them.
func (x *Comparison) compareLargeObjects(ctx context.Context, all []marks.Mark, contents *report.Contents) ([]report.Difference, error) {
	if !x.whole() {
		return nil, nil
	}
	got, err := session.QueryValue[int64](ctx, x.Target.Control, `SELECT count(*) FROM pg_largeobject_metadata`)
	if err != nil {
		return nil, fmt.Errorf("count large objects of the target: %w", err)
	}
	if got != x.LargeObjects {
		return []report.Difference{{
			Kind: "large objects", Object: "LARGE OBJECTS",
			Source: strconv.FormatInt(x.LargeObjects, 10), Target: strconv.FormatInt(got, 10),
		}}, nil
	}
	if got == 0 || x.Verify != report.VerifyContents || !x.LargeObjectsComplete {
		return nil, nil
	}
	all, _ = data.Divide(all, func(m marks.Mark) bool { return m.Relation == marks.LargeObjects })
	if slices.ContainsFunc(all, func(m marks.Mark) bool { return m.Checksum == "" }) {
		contents.Left = append(contents.Left, marks.LargeObjects)
		return nil, nil
	}
	want, err := schema.AddChecksums(checksums(all))
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		contents.Rows += m.Rows
		contents.Bytes += m.Bytes
	}
	is, err := session.QueryValue[string](ctx, x.Target.Control, x.Plan.ChecksumSQL("l.*", "("+data.AllLargeObjects.Pieces()+") l"))
	if err != nil {
		return nil, fmt.Errorf("look at the large objects of the target: %w", err)
	}
	if is == want {
		return nil, nil
	}
	return []report.Difference{{Kind: "contents", Object: "LARGE OBJECTS", Source: "checksum " + want, Target: "checksum " + is}}, nil
}
