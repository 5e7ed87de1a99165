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
	c := r.Contents
	dbtest.Same(t, "verified", c.Verify, report.VerifySample)
	dbtest.Same(t, "tables", c.Tables, 3)
	dbtest.Same(t, "rows", c.Rows, 37+5)
	dbtest.Same(t, "tables left out", len(c.Left), 0)
	if c.Bytes < 37*7000 || c.Bytes > 39*7000 {
		t.Errorf("%d bytes, want those of 37 rows", c.Bytes)
	}
	spec.Clean = true
	r = mustEnd(t, spec, atVerify(t, target, "UPDATE large SET s = 'y' WHERE n = 2399; UPDATE small SET n = 6 WHERE n = 1"), report.StatusDifferences)
	if got, want := differing(r), []string{"contents TABLE public.large", "contents TABLE public.small"}; !slices.Equal(got, want) {
		t.Errorf("differences %q, want %q", got, want)
	}
}
