package cloner

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"

	"calco/db/dbtest"
)

// preview looks at what clean would drop, as whoever asks a person does.
func preview(t testing.TB, spec Spec) CleanPreview {
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
	spec := Spec{Target: URL(target)}
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
	for _, c := range []Confirmation{empty, confirmed, {}} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var read Confirmation
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
	refusal := Reason{Code: "protected", Side: Target, Text: "The target is protected.", Hint: "Choose another target."}
	refusing := Options{Begin: func(_ context.Context, s, into Identity) error {
		if s.Address != URL(source).Endpoint().Address+"/"+URL(source).Database() || s.Database == into.Database || s.System != into.System {
			t.Errorf("from %+v into %+v", s, into)
		}
		return refuse(refusal)
	}}
	spec := Spec{Source: URL(source), Target: URL(target), Lanes: 2, Job: NewJob()}
	before := dbtest.Query(t, target, everything)
	for range 2 {
		report := mustEnd(t, spec, refusing, StatusRefused)
		if !reflect.DeepEqual(report.Reasons, []Reason{refusal}) || report.Resumable {
			t.Errorf("reasons %+v", report.Reasons)
		}
	}
	if after := dbtest.Query(t, target, everything); !reflect.DeepEqual(after, before) {
		t.Errorf("the target went from %v to %v", before, after)
	}

	report, err := stages[5].play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(ErrCancelled) })
	isCancelled(t, spec, report, err)
	const job = "SELECT * FROM _calco.job"
	before = dbtest.Query(t, target, job)
	report = mustEnd(t, resumed(spec), refusing, StatusRefused)
	if !reflect.DeepEqual(report.Reasons, []Reason{refusal}) {
		t.Errorf("reasons %+v", report.Reasons)
	}
	if after := dbtest.Query(t, target, job); !reflect.DeepEqual(after, before) {
		t.Errorf("the job went from %v to %v", before, after)
	}
	mustComplete(t, resumed(spec))
}
