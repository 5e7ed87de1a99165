package report_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"calco/cloner/report"
)

type place struct{ secret string }

func (place) String() string { return "a@b:5432/c" }

func TestText(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 7, 4, 14, 30, 0, 5, time.FixedZone("", 7200))
	for _, c := range []struct {
		text         report.Text
		logged, JSON string
	}{
		{report.Text{}, "", `{}`},
		{report.Said("disk full"), "disk full", `{"said":"disk full"}`},
		{report.T("wait.lock"), "wait.lock", `{"code":"wait.lock"}`},
		{
			report.T("reason.not_empty", "Place", place{"sesame"}, "Names", []string{"table a", "{"}),
			"reason.not_empty (Names=[table a {], Place=a@b:5432/c)", `{"code":"reason.not_empty","params":{"Names":["table a","{"],"Place":"a@b:5432/c"}}`,
		},
		{
			report.T("a", "Side", report.Source, "Count", int64(7), "Port", uint16(5432), "Error", errors.New("no"), "Is", true),
			"a (Count=7, Error=no, Is=true, Port=5432, Side=source)", `{"code":"a","params":{"Count":7,"Error":"no","Is":"true","Port":5432,"Side":"source"}}`,
		},
		{
			report.T("a", "Time", when, "Waited", time.Minute, "Names", []string(nil)),
			"a (Names=[], Time=2026-07-04 12:30:00.000000005 +0000 UTC, Waited=1m0s)", `{"code":"a","params":{"Names":[],"Time":"2026-07-04T12:30:00.000000005Z","Waited":60000000000}}`,
		},
		{ // under other names they are strings, which can be read again
			report.T("a", "From", report.Source, "At", when, "For", time.Minute),
			"a (At=2026-07-04T12:30:00Z, For=1m0s, From=source)", `{"code":"a","params":{"At":"2026-07-04T12:30:00Z","For":"1m0s","From":"source"}}`,
		},
		{
			report.T("a", "Why", report.T("b", "Count", 1), "Held", []report.Text{report.T("c", "Holder", report.Said("x")), {Code: "d"}}),
			"a (Held=[c (Holder=x) d], Why=b (Count=1))",
			`{"code":"a","params":{"Held":[{"code":"c","params":{"Holder":{"said":"x"}}},{"code":"d"}],"Why":{"code":"b","params":{"Count":1}}}}`,
		},
	} {
		if got := c.text.String(); got != c.logged {
			t.Errorf("it is logged as %q, want %q", got, c.logged)
		}
		got, err := json.Marshal(c.text)
		if err != nil || string(got) != c.JSON {
			t.Errorf("as JSON it is %s, %v, want %s", got, err, c.JSON)
		}
		read := report.T("other", "Count", 3)
		if err := json.Unmarshal(got, &read); err != nil || !reflect.DeepEqual(read, c.text) || !read.Same(c.text) {
			t.Errorf("it is read as %#v, %v, and was %#v", read, err, c.text)
		}
		if c.text.IsZero() != (c.logged == "") {
			t.Errorf("%q is nothing: %v", c.logged, c.text.IsZero())
		}
	}
}

// Texts were strings once. What is not known is shown as it is.
func TestTextIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]report.Text{
		`"The target is not empty."`: report.Said("The target is not empty."),
		`""`:                         {},
		`null`:                       {},
		`{"code":"a","params":{}}`:   report.T("a"),
		`{"code":"a","params":{"N":1.5,"B":true,"Waited":"long","Time":7}}`: report.T("a", "N", "1.5", "B", "true", "Waited", "long", "Time", 7),
		`{"code":"a","text":"what it is in English"}`:                       report.T("a"),
	} {
		var got report.Text
		if err := json.Unmarshal([]byte(text), &got); err != nil || !got.Same(want) {
			t.Errorf("%s is %#v, %v", text, got, err)
		}
	}
	for _, text := range []string{`7`, `{"code":7}`, `{"code":"a","params":{"Time":"noon"}}`, `{"code":"a","params":{"Names":[7]}}`} {
		if err := json.Unmarshal([]byte(text), &report.Text{}); err == nil {
			t.Errorf("%s is read", text)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	all := []report.Text{
		{},
		report.Said("a"), report.T("a"), report.T("b"), report.T("a", "N", 1), report.T("a", "N", 2), report.T("a", "N", "1"), report.T("a", "M", 1),
		report.T("a", "N", []string{"1"}), report.T("a", "N", report.T("b")),
	}
	for i, x := range all {
		for j, y := range all {
			if x.Same(y) != (i == j) {
				t.Errorf("%v and %v are the same: %v", x, y, i != j)
			}
		}
	}
	if !report.T("a").Same(report.Text{Code: "a", Params: map[string]any{}}) {
		t.Error("without parameters it matters how")
	}
}

func TestNewReason(t *testing.T) {
	t.Parallel()
	got := report.NewReason(report.ReasonHost, report.Source, "reason.host.timeout", "Side", report.Source)
	want := report.Reason{
		Code: "host", Side: "source",
		Text: report.T("reason.host.timeout", "Side", report.Source), Hint: report.T("reason.host.timeout.hint", "Side", report.Source),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
