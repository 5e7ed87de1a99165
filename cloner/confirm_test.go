package cloner

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/marks"
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
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	refusal := report.Reason{Code: "protected", Side: report.Target, Text: report.Said("The target is protected."), Hint: report.Said("Choose another target.")}
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
				if text := result.Reasons[0].Text; !strings.HasSuffix(text.String(), ". Nothing was dropped.") {
					t.Errorf("text %q", text)
				}
				got := dbtest.Query(t, target, "SELECT to_regnamespace('_calco') IS NULL, (SELECT count(*) FROM pg_class WHERE relname = 'new')")
				if !reflect.DeepEqual(got, [][]string{{"t", "0"}}) {
					t.Errorf("after the refusal: %q", got)
				}
				if i == 0 { // what is there was seen by now, and may go
					mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
					dbtest.Equal(t, source, target, relationNames)
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
		if len(result.Reasons) != 1 || result.Reasons[0].Code != report.ReasonOtherTarget || !strings.Contains(result.Reasons[0].Text.String(), name) {
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
			!strings.HasSuffix(r.Text.String(), "Cleaning had begun (of 2 confirmed objects 1 gone), and nothing else was dropped.") {
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
