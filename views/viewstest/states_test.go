package viewstest_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"calco/views"
	"calco/views/viewstest"
)

// textID is what a text looks like that is missing in its language.
var textID = regexp.MustCompile(`^(clone|phase|difference|table|log|hand|attempts|start|form|drop|retry|history|status|ago|filter)(\.[a-z0-9_+-]+)+$`)

// TestStates draws every state in both languages: each is a whole document, nothing in it is markup that a name brought
// along, no text is missing, every id is there once, and what names another element names one that is there.
func TestStates(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, s := range viewstest.States() {
		if names[s.Name] {
			t.Errorf("two states are named %s", s.Name)
		}
		names[s.Name] = true
		for _, language := range views.Languages {
			t.Run(s.Name+"/"+language, func(t *testing.T) {
				t.Parallel()
				ctx := views.WithLanguage(t.Context(), language)
				var body bytes.Buffer
				if err := s.Component.Render(ctx, &body); err != nil {
					t.Fatal(err)
				}
				root, err := html.Parse(&body)
				if err != nil {
					t.Fatal(err)
				}
				check(t, root, language)
			})
		}
	}
}

func check(t *testing.T, root *html.Node, language string) {
	t.Helper()
	ids, wanted := map[string]int{}, map[string]string{}
	headings := []int{}
	for n := range root.Descendants() {
		switch n.Type {
		case html.TextNode:
			if text := strings.TrimSpace(n.Data); textID.MatchString(text) {
				t.Errorf("the text %s is missing", text)
			} else if strings.Contains(text, "<no value>") || strings.Contains(text, "%!") {
				t.Errorf("a text was not given what it needs: %s", text)
			}
		case html.ElementNode:
			checkElement(t, n, ids, wanted)
			if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
				headings = append(headings, int(n.Data[1]-'0'))
			}
			if n.Data == "html" && attr(n, "lang") != language {
				t.Errorf("the language is %q", attr(n, "lang"))
			}
		}
	}
	for id, count := range ids {
		if count > 1 {
			t.Errorf("%d elements have the id %s", count, id)
		}
	}
	for id, by := range wanted {
		if ids[id] == 0 {
			t.Errorf("%s names the element %s, which is not there", by, id)
		}
	}
	for i, level := range headings {
		if i == 0 && level != 1 || i > 0 && (level == 1 || level > headings[i-1]+1) {
			t.Errorf("the headings are not in order: %v", headings)
			break
		}
	}
}

// checkElement looks at one element, and notes its id and the ids that it needs.
func checkElement(t *testing.T, n *html.Node, ids map[string]int, wanted map[string]string) {
	t.Helper()
	switch n.Data {
	case "img", "iframe", "object", "embed", "style", "base", "meta", "script":
		if n.Parent != nil && n.Parent.Data != "head" {
			t.Errorf("there is a <%s> in the page", n.Data)
		}
	case "input", "select":
		if attr(n, "type") != "hidden" && attr(n, "aria-hidden") == "" && attr(n, "aria-label") == "" && attr(n, "id") == "" && !inside(n, "label") {
			t.Errorf("a field named %q has no label", attr(n, "name"))
		}
	case "progress":
		if attr(n, "aria-label") == "" && attr(n, "value") != "" && !inside(n, "table") {
			t.Error("a progress bar has no label")
		}
	}
	for _, a := range n.Attr {
		switch {
		case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
			t.Errorf("<%s> has the attribute %s=%q", n.Data, a.Key, a.Val)
		case a.Key == "id":
			ids[a.Val]++
		case a.Key == "for" || a.Key == "aria-labelledby" || a.Key == "aria-describedby":
			for id := range strings.FieldsSeq(a.Val) {
				wanted[id] = a.Key
			}
		case (a.Key == "href" || a.Key == "action") && strings.HasPrefix(strings.ToLower(a.Val), "javascript:"):
			t.Errorf("<%s> leads to %q", n.Data, a.Val)
		case (a.Key == "aria-label" || a.Key == "placeholder" || a.Key == "title" || a.Key == "data-label") && textID.MatchString(a.Val):
			t.Errorf("the text %s is missing", a.Val)
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func inside(n *html.Node, name string) bool {
	for p := range n.Ancestors() {
		if p.Data == name {
			return true
		}
	}
	return false
}
