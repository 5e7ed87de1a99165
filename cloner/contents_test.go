package cloner

import (
	"slices"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// atVerify runs statements on a database when the comparison begins.
func atVerify(t *testing.T, database, sql string) Options {
	t.Helper()
	return Options{notify: func(p report.Phase) {
		if p == report.PhaseVerify {
			dbtest.Exec(t, database, sql)
		}
	}}
}

// TestContents: with every row compared, whatever somebody changes before the comparison is found, and nothing else is.
func TestContents(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE FUNCTION scaled(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n * 2';
		CREATE TABLE generated (n int, scaled int GENERATED ALWAYS AS (scaled(n)) STORED); INSERT INTO generated VALUES (1), (2), (3);
		CREATE OR REPLACE FUNCTION scaled(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n * 1000';
		CREATE TABLE many AS SELECT n, repeat('x', 200) AS s FROM generate_series(1, 3000) n;
		CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
		CREATE TABLE tree (c colour, s text) PARTITION BY HASH (c);
		CREATE TABLE tree_0 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE tree_1 (s text, c colour); ALTER TABLE tree ATTACH PARTITION tree_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		INSERT INTO tree SELECT (enum_range(NULL::colour))[1 + n % 3], n FROM generate_series(1, 30) n;
		CREATE TABLE parent (a text, b text, dropped int); ALTER TABLE parent DROP COLUMN dropped; CREATE TABLE heir () INHERITS (parent);
		INSERT INTO parent VALUES ('x', NULL); INSERT INTO heir VALUES ('', 'y');
		CREATE TABLE bare (); INSERT INTO bare SELECT FROM generate_series(1, 3);
		CREATE TABLE nothing (n int); CREATE UNLOGGED TABLE "Un logged" AS SELECT 'a' AS "v""w";
		CREATE TABLE counter AS SELECT 1 AS n;
		CREATE MATERIALIZED VIEW fresh AS SELECT n AS v FROM counter; CREATE MATERIALIZED VIEW stale AS SELECT n FROM counter;
		UPDATE counter SET n = 2; REFRESH MATERIALIZED VIEW fresh;
		SELECT lo_from_bytea(0, 'one'), lo_from_bytea(0, ''), lo_from_bytea(0, decode(repeat('ab', 3000000), 'hex'))`)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), PartSize: MinPartSize, Verify: report.VerifyContents}
	// The source has the rows that its function made once.
	kinds := []string{"contents TABLE public.generated", "materialized view MATERIALIZED VIEW public.stale"}
	r := mustEnd(t, spec, Options{}, report.StatusDifferences)
	if got := differing(r); !slices.Equal(got, kinds) {
		t.Errorf("differences %q, want %q", got, kinds)
	}
	if c := r.Contents; c.Tables != 9 || c.Rows != r.Rows || len(c.Left) > 0 || c.Verify != report.VerifyContents {
		t.Errorf("contents %+v of %d rows", c, r.Rows)
	}

	spec.Clean = true
	r = mustEnd(t, spec, atVerify(t, target, `
		UPDATE many SET s = replace(s, 'x', 'y') WHERE n = 1234; UPDATE tree SET s = 'changed' WHERE s = '7';
		UPDATE parent SET a = NULL, b = 'x' WHERE b IS NULL; UPDATE "Un logged" SET "v""w" = 'A';
		SELECT lo_put(max(oid), 2900000, 'z') FROM pg_largeobject_metadata`), report.StatusDifferences)
	want := []string{ // not heir, whose rows are its own
		"contents LARGE OBJECTS", "contents TABLE public.Un logged", "contents TABLE public.generated",
		"contents TABLE public.many", "contents TABLE public.parent", "contents TABLE public.tree", kinds[1],
	}
	if got := differing(r); !slices.Equal(got, want) {
		t.Errorf("differences %q, want %q", got, want)
	}
}

// differing lists the differences by kind and object.
func differing(r report.Report) []string {
	var list []string
	for _, d := range r.Differences {
		list = append(list, d.Kind+" "+d.Object)
	}
	return list
}

// TestContentsOfSample: by default the last pages of a large table are compared, and small ones whole.
func TestContentsOfSample(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE TABLE large (n int, s text); ALTER TABLE large ALTER s SET STORAGE PLAIN;
		INSERT INTO large SELECT n, repeat('x', 7000) FROM generate_series(1, 2400) n;
		CREATE TABLE small AS SELECT generate_series(1, 5) AS n; CREATE TABLE nothing ()`)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target)}
	r := mustComplete(t, spec)
	// 2,400 pages have 37 as their sample.
	if c := r.Contents; c.Verify != report.VerifySample || c.Tables != 3 || c.Rows != 37+5 || c.Bytes < 37*7000 || c.Bytes > 39*7000 || len(c.Left) > 0 {
		t.Errorf("contents %+v", c)
	}
	spec.Clean = true
	r = mustEnd(t, spec, atVerify(t, target, "UPDATE large SET s = 'y' WHERE n = 2399; UPDATE small SET n = 6 WHERE n = 1"), report.StatusDifferences)
	if got, want := differing(r), []string{"contents TABLE public.large", "contents TABLE public.small"}; !slices.Equal(got, want) {
		t.Errorf("differences %q, want %q", got, want)
	}
}

// TestSample: the sample is bounded, by table and in all.
func TestSample(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	var p plan
	add := func(size, pages int64, change func(*table)) *table {
		x := &table{Size: size, Pages: pages, Heap: true, Columns: []string{"a"}}
		if change != nil {
			change(x)
		}
		x.split = splitTable(x, 150000, DefaultPartSize)
		p.tables = append(p.tables, x)
		return x
	}
	const pages = 10000 // that do not divide evenly may come to the last part
	huge := add(1000000*mb, 128000000, nil)
	foreign := add(900*mb, 115200, func(x *table) { x.Heap = false })
	toasted := add(800*mb, 1000, nil)
	tree := add(700*mb, 89600, func(x *table) { x.ThroughRoot = true })
	fair := add(64*mb, 8192, nil)
	small := add(2*mb, 256, nil)
	p.sample(report.VerifySample)
	sampled := func(x *table) int64 {
		bytes := 0.0
		for n := range x.split.Parts {
			if x.hashes(n) {
				bytes += x.split.share(n, x.Pages) * float64(x.Size)
			}
		}
		return int64(bytes)
	}
	for _, test := range []struct {
		name        string
		table       *table
		least, most int64
	}{
		{"a huge table", huge, sampleMost, sampleMost + pages*8192},
		{"a table of an access method of its own", foreign, 0, 0},
		{"a table whose rows are out of line", toasted, sampleMost / 2, 2 * sampleMost},
		{"a tree", tree, 0, 0},
		{"a table of one part", fair, mb - 1, 2 * mb},
		{"a small table", small, 2*mb - 1, 2 * mb},
	} {
		if got := sampled(test.table); got < test.least || got > test.most {
			t.Errorf("%s: %d bytes, want %d to %d", test.name, got, test.least, test.most)
		}
	}

	p.tables = nil
	for range 100 {
		add(15*mb, 1920, nil)
	}
	first, last := add(10*mb, 1280, nil), add(mb, 128, nil)
	p.sample(report.VerifySample)
	var all int64
	for _, x := range p.tables {
		all += sampled(x)
	}
	if all > 1511*mb/sampleShare || sampled(first) == 0 || sampled(last) == 0 {
		t.Errorf("%d bytes of many tables, %d and %d of the smallest", all, sampled(first), sampled(last))
	}
	p.sample(report.VerifyContents)
	for _, x := range p.tables {
		if sampled(x) < x.Size-mb {
			t.Errorf("%d of %d bytes", sampled(x), x.Size)
		}
	}
}
