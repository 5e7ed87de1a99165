package views

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// texts reads the files of a language: the forms of each text, of which "other" is the only one of most.
func texts(t *testing.T, code string) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("locales/*." + code + ".json")
	if err != nil || len(files) == 0 {
		t.Fatalf("texts of %s: %v, %v", code, files, err)
	}
	all := map[string]map[string]string{}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// A decoder would let the second of two texts with one id win.
		for _, id := range idPattern.FindAllSubmatch(raw, -1) {
			if all[string(id[1])] != nil {
				t.Errorf("%s: %s is there twice", name, id[1])
			}
			all[string(id[1])] = map[string]string{}
		}
		values := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &values); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for id, value := range values {
			forms := map[string]string{}
			if value[0] == '"' {
				var text string
				err = json.Unmarshal(value, &text)
				forms["other"] = text
			} else {
				err = json.Unmarshal(value, &forms)
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", name, id, err)
			}
			all[id] = forms
		}
	}
	return all
}

var (
	idPattern   = regexp.MustCompile(`"([a-z0-9_-]+(?:\.[a-zA-Z0-9_-]+)+|copy|copied)"\s*:`)
	dataPattern = regexp.MustCompile(`\{\{\s*\.(\w+)`)
)

func dataOf(text string) []string {
	var names []string
	for _, m := range dataPattern.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestTexts: both languages have the same texts, with the same data, in all plural forms of each.
func TestTexts(t *testing.T) {
	t.Parallel()
	en, es := texts(t, "en"), texts(t, "es")
	for _, id := range slices.Sorted(maps.Keys(en)) {
		if es[id] == nil {
			t.Errorf("%s is not there in Spanish", id)
			continue
		}
		plural := len(en[id]) > 1
		for _, language := range []struct {
			code  string
			forms map[string]string
			must  []string
		}{{"en", en[id], []string{"one", "other"}}, {"es", es[id], []string{"many", "one", "other"}}} {
			if !plural {
				language.must = []string{"other"}
			}
			if got := slices.Sorted(maps.Keys(language.forms)); !slices.Equal(got, language.must) {
				t.Errorf("%s in %s has the forms %v, want %v", id, language.code, got, language.must)
			}
			for form, text := range language.forms {
				if strings.TrimSpace(text) == "" || text != strings.TrimSpace(text) {
					t.Errorf("%s in %s, %s: %q", id, language.code, form, text)
				}
				if got, want := dataOf(text), dataOf(en[id]["other"]); !slices.Equal(got, want) && form != "one" {
					t.Errorf("%s in %s, %s names %v, want %v", id, language.code, form, got, want)
				}
			}
		}
	}
	for id := range es {
		if en[id] == nil {
			t.Errorf("%s is not there in English", id)
		}
	}
}

// sources are the files in which texts are named.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.go", "*.templ", "../web/*.go", "../cmd/calco/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_templ.go") {
				continue
			}
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = string(raw)
		}
	}
	return all
}

// The ids in the code: all of one, or the beginning or the end of one that is put together.
var (
	whole  = regexp.MustCompile(`\bT\((?:ctx|WithLanguage\([^)]*\)|c\.Request\(\)\.Context\(\)), "([^"]+)"[,)]`)
	quoted = regexp.MustCompile(`"([a-z][a-zA-Z0-9_.-]*)"`)
	begun  = regexp.MustCompile(`"([a-z0-9_.-]+\.)" ?\+`)
	ended  = regexp.MustCompile(`\+ ?"(\.[a-z0-9_.-]+)"|\.id\("([a-z]+)"\)`)
)

// TestTextsAreUsed: each text that the code names is there, and each that is there is named.
func TestTextsAreUsed(t *testing.T) {
	t.Parallel()
	en := texts(t, "en")
	named := map[string]bool{}
	var begins, ends []string
	for file, code := range sources(t) {
		for _, m := range whole.FindAllStringSubmatch(code, -1) {
			if en[m[1]] == nil {
				t.Errorf("%s: there is no text %q", file, m[1])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(code, -1) {
			named[m[1]] = true
			if strings.HasPrefix(m[1], "done.") && m[1] != "done." && en[m[1]] == nil {
				t.Errorf("%s: there is no text %q", file, m[1])
			}
		}
		for _, m := range begun.FindAllStringSubmatch(code, -1) {
			begins = append(begins, m[1])
		}
		for _, m := range ended.FindAllStringSubmatch(code, -1) {
			if m[2] != "" {
				m[1] = "." + m[2]
			}
			ends = append(ends, m[1])
		}
	}
	for _, c := range codes(t) {
		for _, id := range c.ids {
			named[id] = true
		}
	}
	for id := range en {
		begin := slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(id, b) })
		end := slices.ContainsFunc(ends, func(e string) bool { return strings.HasSuffix(id, e) })
		if !named[id] && !begin && !end {
			t.Errorf("nothing uses the text %s", id)
		}
	}
	for _, status := range Statuses {
		if en["status."+status] == nil || statusColours[status] == "" {
			t.Errorf("state %s has no text or no colour", status)
		}
	}
}

func TestT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, want string
		id         string
		data       []any
	}{
		{"en", "Copy", "copy", nil},
		{"es", "Copiar", "copy", nil},
		{"en", "1 minute ago", "ago.minutes", []any{"Count", 1}},
		{"en", "1,000 minutes ago", "ago.minutes", []any{"Count", 1000}},
		{"es", "hace 1 minuto", "ago.minutes", []any{"Count", 1}},
		{"es", "hace 0 minutos", "ago.minutes", []any{"Count", 0}},
		{"es", "hace 1.000.000 de minutos", "ago.minutes", []any{"Count", 1_000_000}},
		{"en", "no.such.text", "no.such.text", nil},
		{"en", "Sign in as <b>", "signin.as", []any{"Email", "<b>"}}, // the page escapes it
	} {
		if got := T(in(c.code), c.id, c.data...); got != c.want {
			t.Errorf("%s in %s: %q, want %q", c.id, c.code, got, c.want)
		}
	}
	if HasText("no.such.text") || !HasText("copy") {
		t.Error("HasText")
	}
}

func TestMatchLanguage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ chosen, accept, want string }{
		{"", "", "en"},
		{"es", "en", "es"},
		{"tlh", "es", "es"},
		{"", "es-419", "es"},
		{"", "de;q=0.9, es;q=0.1", "es"},
		{"", "en, es;q=0.9", "en"},
		{"", "*", "en"},
		{"", "rubbish;;q=x", "en"},
		{"", strings.Repeat("es,", 100000), "en"}, // too long to be meant
	} {
		if got := MatchLanguage(c.chosen, c.accept); got != c.want {
			t.Errorf("MatchLanguage(%q, %.20q) = %s, want %s", c.chosen, c.accept, got, c.want)
		}
	}
	if got := Language(t.Context()); got != "en" {
		t.Errorf("language without one = %s", got)
	}
	if got := Language(WithLanguage(t.Context(), "tlh")); got != "en" {
		t.Errorf("language of a wrong one = %s", got)
	}
}

func TestHere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path string
		of   []string
		want bool
	}{
		{"/", []string{"/", "/clones"}, true},
		{"/clones/7?a=b", []string{"/", "/clones"}, true},
		{"/clonesque", []string{"/", "/clones"}, false},
		{"/users", []string{"/"}, false},
		{"/users?x=/", []string{"/users"}, true},
	} {
		if got := (Page{Path: c.path}).here(c.of...); got != c.want {
			t.Errorf("%s in %v: %v", c.path, c.of, got)
		}
	}
	if got := fmt.Sprint(User{Email: "ñu@x"}.Initial(), User{}.Initial()); got != "ñ ?" && got != "ñ?" {
		t.Errorf("initials %s", got)
	}
}
