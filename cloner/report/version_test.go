package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"calco/cloner/report"
)

// The files are what a clone wrote before there were versions.
func TestVersionZeroIsRead(t *testing.T) {
	t.Parallel()
	var r report.Report
	read(t, "testdata/report_0.json", &r)
	if r.Contents == nil {
		t.Fatalf("the report has no contents: %+v", r)
	}
	got := fmt.Sprintf("%s, %d rows of %s, a snapshot %t, %d phases, %d in the ledger, %d differences, %s",
		r.Status, r.Rows, r.Source.Database, !r.SnapshotAt.IsZero(), len(r.Phases), len(r.Ledger), len(r.Differences), r.Contents.Verify)
	if want := "differences, 1011 rows of test_2, a snapshot true, 11 phases, 1 in the ledger, 1 differences, contents"; got != want {
		t.Errorf("the report:\n got %s\nwant %s", got, want)
	}
	var p report.Progress
	read(t, "testdata/progress_0.json", &p)
	got = fmt.Sprintf("%d rows, %d in the ledger, %d phases, %d achieved, a time %t, a version %t",
		p.Rows, p.Ledger, len(p.Phases), p.Achieved, p.Elapsed != 0, p.SourceVersion != "")
	if want := "1011 rows, 1 in the ledger, 11 phases, 7 achieved, a time true, a version true"; got != want {
		t.Errorf("the progress:\n got %s\nwant %s", got, want)
	}

	var again report.Report
	rewrite(t, r, &again)
	if !reflect.DeepEqual(again, r) {
		t.Errorf("the report is %+v when it is read again, and was %+v", again, r)
	}
	var further report.Progress
	rewrite(t, p, &further)
	if !reflect.DeepEqual(further, p) {
		t.Errorf("the progress is %+v when it is read again, and was %+v", further, p)
	}
}

// Texts were sentences, and some fields had other names.
func TestVersionZeroHasOtherNames(t *testing.T) {
	t.Parallel()
	var r report.Report
	if err := json.Unmarshal([]byte(`{
		"hint": "Free disk space.", "pulled": ["TYPE a.b"], "warnings": ["A lane less."],
		"reasons": [{"code": "not_empty", "text": "It is not empty.", "hint": "Clean it."}],
		"differences": [{"kind": "rows", "object": "TABLE a"}, {"kind": "owner", "object": "TABLE b", "harmless": "It stays."}],
		"ledger": [{"object": "INDEX i", "error": "no", "hint": "Remove them."}]}`), &r); err != nil {
		t.Fatal(err)
	}
	want := report.Report{
		Hint: report.Said("Free disk space."), Dependencies: []string{"TYPE a.b"}, Warnings: []report.Text{report.Said("A lane less.")},
		Reasons:     []report.Reason{{Code: report.ReasonNotEmpty, Text: report.Said("It is not empty."), Hint: report.Said("Clean it.")}},
		Differences: []report.Difference{{Kind: "rows", Object: "TABLE a"}, {Kind: "owner", Object: "TABLE b", ExpectedBecause: report.Said("It stays.")}},
		Ledger:      []report.LedgerEntry{{Object: "INDEX i", Error: "no", Hint: report.Said("Remove them.")}},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("the report is %+v, want %+v", r, want)
	}
	var p report.Progress
	if err := json.Unmarshal([]byte(`{"trouble": {"text": "Nobody answers.", "tries": 3}}`), &p); err != nil {
		t.Fatal(err)
	}
	if p.Waiting == nil || !p.Waiting.Text.Same(report.Said("Nobody answers.")) || p.Waiting.Tries != 3 {
		t.Errorf("it waits for %+v", p.Waiting)
	}
	// In this version those names mean nothing.
	var now report.Progress
	if err := json.Unmarshal([]byte(`{"version": 1, "trouble": {"text": "Nobody answers."}}`), &now); err != nil || now.Waiting != nil {
		t.Errorf("it waits for %+v, %v", now.Waiting, err)
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// rewrite writes a value, which has to carry the version, and reads it again.
func rewrite(t *testing.T, value, into any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte(`{"version":1,`)) {
		t.Errorf("it does not begin with its version: %.60s", text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// In a newer version any other field may mean something else.
func TestNewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	const text = `{"tables": {"public": 3}, "phases": "all", "version": 2}`
	for name, value := range map[string]any{"report": &report.Report{}, "progress": &report.Progress{}} {
		err := json.Unmarshal([]byte(text), value)
		newer, ok := errors.AsType[*report.VersionError](err)
		if !ok || newer.Version != 2 {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(newer.Error(), "was written by a newer version of Calco (in format 2, this one reads up to 1)") {
			t.Errorf("%s: it says %q", name, newer)
		}
	}
}

// Whether < and > are escaped is for the encoder to say, as with values that write themselves.
func TestReportIsEscapedByItsEncoder(t *testing.T) {
	t.Parallel()
	r := report.Report{Error: "<script>"}
	var terminal bytes.Buffer
	enc := json.NewEncoder(&terminal)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(terminal.String(), "<script>") {
		t.Errorf("without escapes it is %s", &terminal)
	}
	if page, err := json.Marshal(r); err != nil || strings.Contains(string(page), "<") {
		t.Errorf("with escapes it is %s, %v", page, err)
	}
}
