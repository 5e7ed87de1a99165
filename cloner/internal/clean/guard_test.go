package clean

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/marks/markstest"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// TestDropIsGuarded: what comes between the comparison and a drop does not go with it.
func TestDropIsGuarded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sql, object, then, left string
		cascading                     bool
	}{
		{"a table made again", "CREATE TABLE t (n int)", "table public.t", "DROP TABLE t; CREATE TABLE t (n int)", "SELECT 't'::regclass", false},
		{"a partition", "CREATE TABLE t (n int) PARTITION BY LIST (n)", "table public.t", "CREATE TABLE p PARTITION OF t DEFAULT", "SELECT 'p'::regclass", false},
		{"a sequence of a column", "CREATE TABLE t (n int)", "table public.t", "CREATE SEQUENCE s OWNED BY t.n", "SELECT 's'::regclass", false},
		{"extended statistics", "CREATE TABLE t (n int, m int)", "table public.t", "CREATE STATISTICS s ON n, m FROM t", "SELECT 1 FROM pg_statistic_ext WHERE stxname = 's'", false},
		{"a function made again", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f()", "DROP FUNCTION f(); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT 'f()'::regprocedure", false},
		{"a type made again", "CREATE TYPE t AS ENUM ()", "type public.t", "DROP TYPE t; CREATE TYPE t AS ENUM ()", "SELECT 't'::regtype", false},
		{"an operator class", "CREATE OPERATOR FAMILY f USING hash", "operator family public.f USING hash", "CREATE OPERATOR CLASS c FOR TYPE int USING hash FAMILY f AS FUNCTION 1 hashint4(int)", "SELECT 1 FROM pg_opclass WHERE opcname = 'c'", false},
		{"a schema made again", "CREATE SCHEMA s", "schema s", "DROP SCHEMA s; CREATE SCHEMA s", "SELECT 's'::regnamespace", false},
		{"a view in a circle", "CREATE TABLE t (n int)", "table public.t", "CREATE VIEW v AS SELECT * FROM t", "SELECT 'v'::regclass", true},
		{"a view in a circle that only uses a column", "CREATE TABLE t (n int, m int)", "table public.t", "CREATE TABLE u (n int); CREATE VIEW v AS SELECT * FROM u JOIN t USING (n)", "SELECT 'v'::regclass", true},
		{"a foreign key to a circle", "CREATE TABLE t (n int PRIMARY KEY)", "table public.t", "CREATE TABLE u (n int REFERENCES t)", "SELECT 1 FROM pg_constraint WHERE conrelid = 'u'::regclass", true},
		{"a foreign table on a server", "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR PUBLIC SERVER s", "server s", "CREATE FOREIGN TABLE t (n int) SERVER s", "SELECT 't'::regclass", true},
		{"a function made again in a circle", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f()", "DROP FUNCTION f(); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT 'f()'::regprocedure", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, test.sql)
			o := markstest.Own(t, dbtest.Database(t), target, marks.Job{ID: "clean", Term: 1, Nonce: "clean"})
			s := o.Control
			r := &Cleaner{Scope: Scope{Target: &session.Server{Control: s.Session}}, Owner: o, Meter: &progress.Meter{}, Ledger: ledger.New(&progress.Meter{}), Patience: patience.New(time.Minute)}
			c, err := r.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Exec(t.Context(), cleanGuardSQL); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(c.objects, func(o object) bool { return o.String() == test.object })
			if i < 0 {
				t.Fatalf("%s is not among %v", test.object, c.objects)
			}
			drop := c.objects[i].guardedDrop(lockPatience)
			if test.cascading {
				drop = c.objects[i].guardedCascade(nil)
			}
			dbtest.Exec(t, target, test.then)
			if _, failed, err := r.guarded(t.Context(), []guardedStatement{drop}); failed == nil || err != nil || r.dropped > 0 {
				t.Errorf("failed %v, error %v, dropped %d", failed, err, r.dropped)
			}
			if got := dbtest.Query(t, target, test.left); len(got) != 1 {
				t.Errorf("%s: %q", test.left, got)
			}
		})
	}
}

// TestDropTakesNoMoreThanIsNoted: something comes after the guard has looked, and before the drop.
func TestDropTakesNoMoreThanIsNoted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ sql, object, then, left string }{
		"a table made again": {"CREATE TABLE t (n int)", "table public.t", "DROP TABLE t; CREATE TABLE t (n int)", "SELECT 't'::regclass"},
		"a partition":        {"CREATE TABLE t (n int) PARTITION BY LIST (n)", "table public.t", "CREATE TABLE p PARTITION OF t DEFAULT", "SELECT 'p'::regclass"},
		"a view":             {"CREATE TABLE t (n int)", "table public.t", "CREATE VIEW v AS SELECT * FROM t", "SELECT 'v'::regclass"},
		"a function":         {"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f()", "DROP FUNCTION f(); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT 'f()'::regprocedure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, test.sql)
			o := markstest.Own(t, dbtest.Database(t), target, marks.Job{ID: "clean", Term: 1, Nonce: "clean"})
			s := o.Control
			r := &Scope{Target: &session.Server{Control: s.Session}}
			c, err := r.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			object := c.objects[slices.IndexFunc(c.objects, func(o object) bool { return o.String() == test.object })]
			before, after, _ := strings.Cut(object.guardedCascade(nil).sent, "; DROP")
			if err := errors.Join(s.Exec(t.Context(), cleanGuardSQL), s.Exec(t.Context(), "BEGIN READ WRITE; "+before)); err != nil {
				t.Fatal(err)
			}
			dbtest.Exec(t, target, test.then)
			if err := s.Exec(t.Context(), "DROP"+after); session.SQLState(err) != session.DivisionByZero {
				t.Errorf("error %v, want a division by zero", err)
			}
			if err := s.Exec(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			if got := dbtest.Query(t, target, test.left); len(got) != 1 {
				t.Errorf("%s: %q", test.left, got)
			}
		})
	}
}

// TestDropOfLargeObjectsIsGuarded: those that were made, or made again, after the comparison stay.
func TestDropOfLargeObjectsIsGuarded(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]string{
		"one more":  "SELECT lo_create((SELECT max(oid::bigint) - 1 FROM pg_largeobject_metadata)::oid)",
		"another":   "SELECT lo_unlink(min(oid::bigint)::oid) FROM pg_largeobject_metadata; SELECT lo_create((SELECT max(oid::bigint) - 1 FROM pg_largeobject_metadata)::oid)",
		"after all": "SELECT lo_create((SELECT max(oid::bigint) + 1 FROM pg_largeobject_metadata)::oid)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, "SELECT lo_create((100000 + 2 * n)::oid) FROM generate_series(1, 700) n")
			o := markstest.Own(t, dbtest.Database(t), target, marks.Job{ID: "clean", Term: 1, Nonce: "clean"})
			at, reason, err := session.Connect(t.Context(), session.Way{Side: report.Target, URL: dsn.URL(target), Name: "calco/clean/1"}, 0, "")
			if reason != nil || err != nil {
				t.Fatal(reason, err)
			}
			defer at.Control.Close()
			r := &Cleaner{Scope: Scope{Target: at, Clean: true}, Owner: o, Meter: &progress.Meter{}, Ledger: ledger.New(&progress.Meter{}), Patience: patience.New(time.Minute)}
			shown, err := r.Preview(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.Confirmed = &shown.Confirmation
			dbtest.Exec(t, target, then)
			err = r.dropLargeObjects(t.Context())
			if refused, ok := errors.AsType[*report.RefusedError](err); !ok || refused.Reasons[0].Code != report.ReasonNotShown {
				t.Errorf("error %v", err)
			}
			if got := dbtest.Query(t, target, "SELECT count(*) > 0 FROM pg_largeobject_metadata"); got[0][0] != "t" {
				t.Error("they are gone")
			}
		})
	}
}
