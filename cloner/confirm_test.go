package cloner

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// preview looks at what clean would drop, as whoever asks a person does.
func preview(t testing.TB, spec Spec) report.CleanPreview {
	t.Helper()
	p, err := PreviewClean(t.Context(), spec)
	if err != nil {
		t.Fatalf("PreviewClean: %v", err)
	}
	return p
}

func TestConfirmationIsStored(t *testing.T) {
	t.Parallel()
	target := dbtest.Database(t)
	spec := Spec{Target: dsn.URL(target)}
	empty := preview(t, spec).Confirmation
	dbtest.Exec(t, target, `CREATE TABLE a (id serial); CREATE FUNCTION f(a) RETURNS int LANGUAGE sql AS 'SELECT 1';
		SELECT lo_create(0) FROM generate_series(1, 1234)`)
	confirmed := preview(t, spec).Confirmation
	if got := preview(t, spec).Confirmation.Digest(); got != confirmed.Digest() || got == empty.Digest() {
		t.Errorf("digest %s, then %s; of nothing %s", confirmed.Digest(), got, empty.Digest())
	}
	if got := confirmed.Objects(); got != 3+1234 {
		t.Errorf("%d objects were confirmed", got)
	}
	for _, c := range []report.Confirmation{empty, confirmed, {}} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var read report.Confirmation
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(read, c) || read.Digest() != c.Digest() {
			t.Errorf("%s\nwas read as %+v", text, read)
		}
		if len(text) > 500 {
			t.Errorf("%d bytes", len(text))
		}
	}
	for _, text := range []string{`{"version": 2}`, `{"version": 1, "objects": "eHh4"}`, `{"version": 1, "large_objects": "!"}`} {
		if err := json.Unmarshal([]byte(text), &confirmed); err == nil {
			t.Errorf("%s was read", text)
		}
	}
	dbtest.Exec(t, target, "DROP TABLE a CASCADE; CREATE TABLE a (id serial); CREATE FUNCTION f(a) RETURNS int LANGUAGE sql AS 'SELECT 1'")
	if preview(t, spec).Confirmation.Digest() == confirmed.Digest() {
		t.Error("what was dropped and made again is taken for the same")
	}
}

// TestBeginRefuses: who knows what may not be written to says so before it is, in each life.
func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	refusal := report.Reason{Code: "protected", Side: report.Target, Text: "The target is protected.", Hint: "Choose another target."}
	refusing := Options{Begin: func(_ context.Context, s, into report.Identity) error {
		if s.Address != dsn.URL(source).Endpoint().Address+"/"+dsn.URL(source).Database() || s.Database == into.Database || s.System != into.System {
			t.Errorf("from %+v into %+v", s, into)
		}
		return report.Refuse(refusal)
	}}
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	before := dbtest.Query(t, target, everything)
	for range 2 {
		result := mustEnd(t, spec, refusing, report.StatusRefused)
		if !reflect.DeepEqual(result.Reasons, []report.Reason{refusal}) || result.Resumable {
			t.Errorf("reasons %+v", result.Reasons)
		}
	}
	if after := dbtest.Query(t, target, everything); !reflect.DeepEqual(after, before) {
		t.Errorf("the target went from %v to %v", before, after)
	}

	result, err := stages[5].play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(report.ErrCancelled) })
	isCancelled(t, spec, result, err)
	const job = "SELECT * FROM _calco.job"
	before = dbtest.Query(t, target, job)
	result = mustEnd(t, resumed(spec), refusing, report.StatusRefused)
	if !reflect.DeepEqual(result.Reasons, []report.Reason{refusal}) {
		t.Errorf("reasons %+v", result.Reasons)
	}
	if after := dbtest.Query(t, target, job); !reflect.DeepEqual(after, before) {
		t.Errorf("the job went from %v to %v", before, after)
	}
	mustComplete(t, resumed(spec))
}

// TestCleanDropsWhatWasShown: something comes to the target after a person was shown what clean drops. Whether that is
// before the clone begins or in the moment before it drops, nothing is dropped.
func TestCleanDropsWhatWasShown(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	const shown = "CREATE TABLE t (id serial); INSERT INTO t DEFAULT VALUES; SELECT lo_create(0) FROM generate_series(1, 3)"
	for i, test := range []struct{ name, before, then, found string }{
		{"a table", shown, "CREATE TABLE late (id int); INSERT INTO late VALUES (1)", "table public.late"},
		{"a table where there was nothing", "", "CREATE TABLE late (id int)", "table public.late"},
		{"a table made again under its name", shown, "DROP TABLE t; CREATE TABLE t (id serial); INSERT INTO t VALUES (1)", "table public.t"},
		{"a table of another name", shown, "ALTER TABLE t RENAME TO precious", "table public.precious"},
		{"a view on what was shown", shown, "CREATE SCHEMA other; CREATE VIEW other.v AS SELECT * FROM t", "view other.v"},
		{"an empty schema", shown, "CREATE SCHEMA later", "schema later"},
		{"a function", shown, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f()"},
		{"a large object", shown, "SELECT lo_create(0)", "4 large objects"},
		{"large objects made again", shown, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata; SELECT lo_create(0) FROM generate_series(1, 3)", "3 large objects"},
	} {
		for _, when := range []string{"before the drop", "before the clone"}[:1+i%2] { // both ask the same
			t.Run(test.name+" "+when, func(t *testing.T) {
				t.Parallel()
				target := dbtest.Database(t)
				if test.before != "" {
					dbtest.Exec(t, target, test.before)
				}
				spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
				var o Options
				if when == "before the clone" {
					dbtest.Exec(t, target, test.then)
				} else {
					o.Begin = func(context.Context, report.Identity, report.Identity) error {
						dbtest.Exec(t, target, test.then)
						return nil
					}
				}
				result := mustEnd(t, spec, o, report.StatusRefused)
				if len(result.Reasons) != 1 || result.Reasons[0].Code != report.ReasonNotShown || !slices.Contains(result.Reasons[0].Objects, test.found) {
					t.Errorf("reasons %+v, want %s", result.Reasons, test.found)
				}
				if text := result.Reasons[0].Text; !strings.HasSuffix(text, ". Nothing was dropped.") {
					t.Errorf("text %q", text)
				}
				got := dbtest.Query(t, target, "SELECT to_regnamespace('_calco') IS NULL, (SELECT count(*) FROM pg_class WHERE relname = 'new')")
				if !reflect.DeepEqual(got, [][]string{{"t", "0"}}) {
					t.Errorf("after the refusal: %q", got)
				}
				if i == 0 { // what is there was seen by now, and may go
					mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
					mustEqual(t, source, target, relationNames)
				}
			})
		}
	}
}

// TestCleanAnotherDatabase: behind the same URL there is another database than the one that was confirmed.
func TestCleanAnotherDatabase(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source := dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	target := newDatabase(t, server, "target", "")
	spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
	dbtest.Exec(t, server.URL(""), "DROP DATABASE target")
	newDatabase(t, server, "target", "")
	other := *spec.Confirmed
	elsewhere := *spec.Confirmed
	other.Target.System, elsewhere.Target.Address = "1", "127.0.0.1:1/target"
	for name, c := range map[string]*report.Confirmation{"it was dropped and made again": spec.Confirmed, "another server answers there now": &other, "that was 127.0.0.1:1/target": &elsewhere} {
		spec.Confirmed = c
		result := mustEnd(t, spec, Options{}, report.StatusRefused)
		if len(result.Reasons) != 1 || result.Reasons[0].Code != report.ReasonOtherTarget || !strings.Contains(result.Reasons[0].Text, name) {
			t.Errorf("reasons %+v, want %s", result.Reasons, name)
		}
	}
	if got := dbtest.Query(t, target, "SELECT count(*) FROM pg_class WHERE relname = 'new'"); got[0][0] != "0" {
		t.Error("it was written to")
	}
}

// TestCleanGoesOn: what a clone has left that was stopped while it cleaned is less than what was confirmed, and may go. What
// has come since may not, and the refusal tells what is gone.
func TestCleanGoesOn(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	for _, late := range []bool{false, true} {
		target := dbtest.Database(t)
		dbtest.Exec(t, target, "CREATE TABLE child (n int); CREATE TABLE gone (n int)")
		spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 2, Job: NewJob()})
		result, err := stages[len(stages)-1].play(t, spec, func(cancel context.CancelCauseFunc, _ func()) {
			dbtest.Await(t, target, "SELECT to_regclass('gone') IS NULL")
			cancel(report.ErrCancelled)
		})
		isCancelled(t, spec, result, err)
		if !result.Resumable {
			t.Error("not resumable")
		}
		if !late {
			mustComplete(t, resumed(spec))
			hasAllRows(t, spec)
			continue
		}
		dbtest.Exec(t, target, "CREATE TABLE late (n int)")
		result = mustEnd(t, resumed(spec), Options{}, report.StatusRefused)
		if r := result.Reasons[0]; r.Code != report.ReasonNotShown || !slices.Equal(r.Objects, []string{"table public.late"}) ||
			!strings.HasSuffix(r.Text, "Cleaning had begun (of 2 confirmed objects 1 gone), and nothing else was dropped.") {
			t.Errorf("reason %+v", r)
		}
		unconfirmed := resumed(resumed(spec))
		unconfirmed.Confirmed = &report.Confirmation{}
		result = mustEnd(t, unconfirmed, Options{}, report.StatusRefused)
		if r := result.Reasons[0]; r.Code != report.ReasonOtherTarget {
			t.Errorf("reason %+v", r)
		}
		if got := dbtest.Query(t, target, "SELECT to_regclass('child'), to_regclass('late')"); !reflect.DeepEqual(got, [][]string{{"child", "late"}}) {
			t.Errorf("left on the target: %q", got)
		}
	}
}

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
			o := owned(t, dbtest.Database(t), target, marks.Job{ID: "clean", Term: 1, Nonce: "clean"})
			s := o.Control
			r := &run{owner: o, target: &session.Server{Control: s.Session}, meter: &progress.Meter{}, ledger: ledger.New(&progress.Meter{}), patience: patience.New(time.Minute)}
			c, err := r.contents(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Exec(t.Context(), cleanGuardSQL); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(c.objects, func(o targetObject) bool { return o.String() == test.object })
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
			o := owned(t, dbtest.Database(t), target, marks.Job{ID: "clean", Term: 1, Nonce: "clean"})
			s := o.Control
			r := &run{owner: o, target: &session.Server{Control: s.Session}, meter: &progress.Meter{}, ledger: ledger.New(&progress.Meter{}), patience: patience.New(time.Minute)}
			c, err := r.contents(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			object := c.objects[slices.IndexFunc(c.objects, func(o targetObject) bool { return o.String() == test.object })]
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

// TestForeignMarks: a schema _calco that somebody else has made, or uses, is left alone.
func TestForeignMarks(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	for name, test := range map[string]struct {
		sql     string
		objects []string
	}{
		"made by somebody": {"CREATE SCHEMA _calco; CREATE TABLE _calco.books (id int)", []string{"schema _calco", "table _calco.books"}},
		"empty":            {"CREATE SCHEMA _calco", []string{"schema _calco"}},
		"another job":      {"CREATE SCHEMA _calco; CREATE TABLE _calco.job (title text)", []string{"schema _calco"}},
		"a guest":          {marks.CreateSQL() + "; CREATE TABLE _calco.books (id int); CREATE FUNCTION _calco.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", []string{"function _calco.f()", "table _calco.books"}},
		"a view outside":   {marks.CreateSQL() + "; CREATE VIEW watching AS SELECT * FROM _calco.job", []string{"rule \"_RETURN\" on public.watching"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, test.sql)
			_, err := PreviewClean(t.Context(), Spec{Target: dsn.URL(target)})
			if refused, ok := errors.AsType[*report.RefusedError](err); !ok || refused.Reasons[0].Code != report.ReasonForeignMarks {
				t.Errorf("the preview: %v", err)
			}
			for _, spec := range []Spec{{Clean: true}, {Resume: true}, {Schemas: []string{"public"}}} {
				spec.Source, spec.Target = dsn.URL(source), dsn.URL(target)
				before := dbtest.Query(t, target, everything)
				result := mustEnd(t, spec, Options{}, report.StatusRefused)
				if r := result.Reasons[0]; r.Code != report.ReasonForeignMarks || !slices.Equal(r.Objects, test.objects) {
					t.Errorf("reason %+v", r)
				}
				if after := dbtest.Query(t, target, everything); !reflect.DeepEqual(after, before) {
					t.Errorf("the target went from %v to %v", before, after)
				}
			}
		})
	}
	// What an earlier clone has left is Calco's.
	target := dbtest.Database(t)
	dbtest.Exec(t, target, marks.CreateSQL())
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
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
			spec := confirmed(t, Spec{Target: dsn.URL(target), Clean: true})
			o := owned(t, dbtest.Database(t), target, marks.Job{ID: "clean", Term: 1, Nonce: "clean"})
			s := o.Control.Session
			r := &run{spec: spec, owner: o, target: &session.Server{Control: s}, meter: &progress.Meter{}, ledger: ledger.New(&progress.Meter{}), patience: patience.New(time.Minute)}
			found, err := session.Query[session.Facts](t.Context(), s, session.FactsSQL)
			if err != nil {
				t.Fatal(err)
			}
			r.target.Facts, r.target.URL = found[0], dsn.URL(target)
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
