package cloner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// find returns the difference of a kind about an object, and wants one.
func find(t testing.TB, r report.Report, kind, object string) report.Difference {
	t.Helper()
	for _, d := range r.Differences {
		if d.Kind == kind && strings.HasPrefix(d.Object, object) {
			return d
		}
	}
	t.Errorf("no difference %q of %q: %+v", kind, object, r.Differences)
	return report.Difference{}
}

// TestLikeness clones to a database that is like the source in all that a dump says, and not in the rest.
func TestLikeness(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	const options = "TEMPLATE template0 ENCODING 'UTF8' LOCALE "
	dbtest.Exec(t, server.URL(""), `CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT pg_read_all_data TO reader; CREATE ROLE bob`)
	locale := "C" // if the system has no other
	if other := dbtest.Query(t, server.URL(""), `SELECT collcollate FROM pg_collation WHERE collprovider = 'c' AND collencoding IN (6, -1) AND collcollate NOT IN ('', 'C', 'POSIX') LIMIT 1`); len(other) > 0 {
		locale = other[0][0]
	}
	t.Run("harmless", func(t *testing.T) {
		t.Parallel()
		source, target := newDatabase(t, server, "s1", options+"'C'"), newDatabase(t, server, "t1", options+session.QuoteLiteral(locale))
		dbtest.Exec(t, source, `CREATE EXTENSION hstore VERSION '1.4'; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER there FOREIGN DATA WRAPPER w;
			CREATE USER MAPPING FOR bob SERVER there OPTIONS (password 'secret'); CREATE TABLE t AS SELECT 1 AS n`)
		r := mustComplete(t, Spec{Source: dsn.URL(as(t, source, "reader", "x")), Target: dsn.URL(target)})
		if locale != "C" {
			if d := find(t, r, "locale", "DATABASE LOCALE"); !strings.Contains(d.Source, "collate C,") || !strings.Contains(d.Target, "collate "+locale) {
				t.Errorf("%+v", d)
			}
		}
		if d := find(t, r, "extension version", "EXTENSION hstore"); d.Source != "1.4" || d.Target == "1.4" {
			t.Errorf("%+v", d)
		}
		if d := find(t, r, "not compared", "USER MAPPING bob SERVER there"); d.Target != "none" {
			t.Errorf("%+v", d)
		}
	})
	t.Run("an older extension and an invalid index", func(t *testing.T) {
		t.Parallel()
		source, target := newDatabase(t, server, "s2", options+"'C'"), newDatabase(t, server, "t2", options+"'C'")
		dbtest.Exec(t, source, `CREATE EXTENSION hstore; CREATE TABLE t (n int); CREATE UNIQUE INDEX dup ON t (n);
			UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'dup'::regclass; INSERT INTO t VALUES (1)`)
		dbtest.Exec(t, target, `CREATE EXTENSION hstore VERSION '1.4'`)
		r := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{}, report.StatusDifferences)
		if d := find(t, r, "extension version", "EXTENSION hstore"); d.Target != "1.4" || !d.ExpectedBecause.IsZero() {
			t.Errorf("%+v", d)
		}
		if d := find(t, r, "missing", "INDEX public.dup"); d.Source != "invalid" || d.Target != "missing" || !d.ExpectedBecause.IsZero() {
			t.Errorf("%+v", d)
		}
		if len(r.Differences) != 2 {
			t.Errorf("%+v", r.Differences)
		}
	})
}

// A materialized view can only be refreshed: that the source's had other rows is said.
func TestRefreshedViewIsListed(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `CREATE TABLE t AS SELECT generate_series(1, 10) AS n; CREATE MATERIALIZED VIEW old AS SELECT n FROM t; CREATE MATERIALIZED VIEW empty AS SELECT n FROM t WITH NO DATA;
		INSERT INTO t SELECT generate_series(11, 20); CREATE MATERIALIZED VIEW fresh AS SELECT n FROM t`)
	r := mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
	if d := find(t, r, "materialized view", "MATERIALIZED VIEW public.old"); d.Source != "10 rows" || d.Target != "20 rows" || d.ExpectedBecause.IsZero() {
		t.Errorf("%+v", d)
	}
	if len(r.Differences) != 1 {
		t.Errorf("%+v", r.Differences)
	}
}

// A materialized view whose rows cannot be hashed is counted, and that is said: one such view failed the clone.
func TestViewThatCannotBeHashed(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE TYPE mute; CREATE FUNCTION mute_in(cstring) RETURNS mute LANGUAGE internal IMMUTABLE STRICT AS 'textin';
		CREATE FUNCTION mute_out(mute) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'shell_out'; -- which raises an error
		CREATE TYPE mute (INPUT = mute_in, OUTPUT = mute_out, LIKE = text); CREATE CAST (text AS mute) WITHOUT FUNCTION;
		CREATE TABLE t AS SELECT 'x'::text AS s FROM generate_series(1, 3); CREATE MATERIALIZED VIEW m AS SELECT s::mute FROM t`)
	r := mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Verify: report.VerifyContents})
	for _, side := range []report.Side{report.Source, report.Target} {
		want := fmt.Sprintf("The rows of \"public\".\"m\" of the %s were only counted: ", side)
		if !slices.ContainsFunc(r.Warnings, func(w report.Text) bool { return strings.HasPrefix(w.String(), want) }) {
			t.Errorf("warnings %q, want %q", r.Warnings, want)
		}
	}
}
