package views

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// code is one place in the Go code where a text of the engine is made.
type code struct {
	place  string
	ids    []string // of a reason its hint too
	params []string
}

// codes are all calls of report.T and report.NewReason with a literal, in the engine and in what is around it. The engine names
// each of its texts that way, so that they can be counted.
func codes(t *testing.T) []code {
	t.Helper()
	var all []code
	for _, root := range []string{"../cloner", "../db", "../cmd", "../web", "."} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "_templ.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			if err == nil {
				all = append(all, codesIn(t, path, raw, root == "../web" || root == ".")...)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// codesIn are those of one file. Where it may choose a text by a variable, such calls are left out.
func codesIn(t *testing.T, path string, raw []byte, mayChoose bool) []code {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, raw, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var all []code
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		of, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		in, ok := of.X.(*ast.Ident)
		if !ok || in.Name != "report" || of.Sel.Name != "T" && of.Sel.Name != "NewReason" {
			return true
		}
		c, args := code{place: files.Position(call.Pos()).String()}, call.Args
		if of.Sel.Name == "NewReason" {
			args = args[2:]
		}
		id, ok := literal(args[0])
		if !ok && mayChoose {
			return true
		}
		if !ok || call.Ellipsis.IsValid() || len(args)%2 == 0 {
			t.Errorf("%s: the code is no literal, or the parameters are not names and values in turn", c.place)
			return true
		}
		c.ids = []string{id}
		if of.Sel.Name == "NewReason" {
			c.ids = append(c.ids, id+".hint")
		}
		for i := 1; i < len(args); i += 2 {
			name, ok := literal(args[i])
			if !ok || slices.Contains(c.params, name) {
				t.Errorf("%s: parameter %d of %s has no name, or one that is there twice", c.place, (i+1)/2, id)
			}
			c.params = append(c.params, name)
		}
		all = append(all, c)
		return true
	})
	return all
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// TestCodes: each code that is named has a text in both languages, which uses the parameters that the code is given, and no
// others. Those of a reason are used by its text, by its hint or by both.
func TestCodes(t *testing.T) {
	t.Parallel()
	all := codes(t)
	if len(all) == 0 {
		t.Fatal("no code was found")
	}
	for _, language := range Languages {
		known := texts(t, language)
		for _, c := range all {
			checkCode(t, language, known, c)
		}
	}
}

func checkCode(t *testing.T, language string, known map[string]map[string]string, c code) {
	t.Helper()
	used := map[string]bool{}
	for _, id := range c.ids {
		if known[id] == nil {
			t.Errorf("%s: %s has no text in %s", c.place, id, language)
		}
		for _, text := range known[id] {
			for _, name := range dataOf(text) {
				used[name] = true
			}
		}
		if len(known[id]) > 1 {
			used["Count"] = true // chooses the form
		}
	}
	given := slices.Sorted(slices.Values(c.params))
	if want := slices.Sorted(maps.Keys(used)); !slices.Equal(given, want) {
		t.Errorf("%s: %s is given %v, and its text in %s uses %v", c.place, c.ids[0], given, language, want)
	}
}

// What TestCodes looks for is found.
func TestCodesAreFound(t *testing.T) {
	t.Parallel()
	const source = `package p
		var r = report.NewReason(report.ReasonHost, report.Source, "reason.host", "Side", report.Source, "Address", a)
		var x = []any{report.T("wait.lock"), other.T("no"), T("no")}`
	got := codesIn(t, "p.go", []byte(source), false)
	if len(got) != 2 {
		t.Fatalf("found %+v", got)
	}
	if want := []string{"reason.host", "reason.host.hint"}; !slices.Equal(got[0].ids, want) || !slices.Equal(got[0].params, []string{"Side", "Address"}) {
		t.Errorf("the reason is %+v", got[0])
	}
	if !slices.Equal(got[1].ids, []string{"wait.lock"}) || got[1].params != nil {
		t.Errorf("the wait is %+v", got[1])
	}
}
