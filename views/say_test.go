package views

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"calco/cloner/report"
)

func TestSay(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 7, 4, 12, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		text   report.Text
		en, es string
	}{
		{report.Text{}, "", ""},
		{report.Said("relation \"t\" does not exist"), "relation \"t\" does not exist", "relation \"t\" does not exist"},
		{report.T("no.such.text", "Place", "a"), "no.such.text", "no.such.text"},
		{report.T("side.target"), "the target", "el destino"},
		{report.T("list.more", "Names", "a", "Count", 1200), "a and 1,200 more", "a y 1.200 más"},
	} {
		for language, want := range map[string]string{"en": c.en, "es": c.es} {
			if got := Say(in(language), c.text); got != want {
				t.Errorf("%s in %s: %q, want %q", c.text, language, got, want)
			}
		}
	}
	for _, c := range []struct {
		name   string
		value  any
		en, es string
	}{
		{"Place", "a@b:5432/c", "a@b:5432/c", "a@b:5432/c"},
		{"Locks", int64(6400), "6,400", "6.400"},
		{"Locks", 64000, "64,000", "64.000"},
		{"Side", report.Source, "the source", "el origen"},
		{"Side", report.EitherSide, "the database", "la base de datos"},
		{"Names", []string{}, "", ""},
		{"Names", []string{"a", "b", "c", "d", "e"}, "a, b, c, d, e", "a, b, c, d, e"},
		{"Names", []string{"a", "b", "c", "d", "e", "f", "g"}, "a, b, c, d, e and 2 more", "a, b, c, d, e y 2 más"},
		{"Why", report.T("side.source"), "the source", "el origen"},
		{"Held", []report.Text{report.T("side.source"), report.Said("it")}, "the source; it", "el origen; it"},
		{"Time", when, moment(in("en"), when), moment(in("es"), when)},
		{"Waited", 90 * time.Second, "1 min 30 s", "1 min 30 s"},
	} {
		stored, err := json.Marshal(report.T("x", c.name, c.value))
		if err != nil {
			t.Fatal(err)
		}
		var read report.Text
		if err := json.Unmarshal(stored, &read); err != nil {
			t.Fatal(err)
		}
		for _, text := range []report.Text{report.T("x", c.name, c.value), read} {
			for language, want := range map[string]string{"en": c.en, "es": c.es} {
				if got := fmt.Sprint(parameter(in(language), c.name, text.Params[c.name])); plain(got) != plain(want) {
					t.Errorf("%s in %s: %q, want %q", text, language, got, want)
				}
			}
		}
	}
}

// Each text of a report, or of what stands in the way of a clone, has its sentence beside it, and what is there beside that is
// the report.
func TestWithSentences(t *testing.T) {
	t.Parallel()
	withSentences(t, WithSentences, 7)
	withSentences(t, PreflightWithSentences, 3)
}

func withSentences[V any](t *testing.T, with func(V) any, least int) {
	t.Helper()
	var v, read, zero V
	texts := 0
	fill(reflect.ValueOf(&v).Elem(), &texts)
	if texts < least {
		t.Fatalf("%T has %d texts", v, texts)
	}
	written, err := json.Marshal(with(v))
	if err != nil {
		t.Fatal(err)
	}
	for n := range texts {
		if want := fmt.Sprintf(`"code":"list.more","params":{"Count":%d,"Names":["a"]},"text":"a and %[1]d more"}`, n+1); !strings.Contains(string(written), want) {
			t.Errorf("it lacks %s: %s", want, written)
		}
	}
	if err := json.Unmarshal(written, &read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read, v) {
		t.Errorf("it is read as\n%+v\nand was\n%+v", read, v)
	}
	empty, err := json.Marshal(with(zero))
	if want, _ := json.Marshal(zero); err != nil || !sameJSON(t, empty, want) {
		t.Errorf("of an empty one there is %s, want %s", empty, want)
	}
}

// fill gives each Text in a value other words, and each list one element.
func fill(v reflect.Value, texts *int) {
	if text, ok := v.Addr().Interface().(*report.Text); ok {
		*texts++
		*text = report.T("list.more", "Names", []string{"a"}, "Count", *texts)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), texts)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), texts)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), texts)
	case reflect.String:
		v.SetString("a string")
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		t.Fatal("not JSON")
	}
	return reflect.DeepEqual(x, y)
}
