// Package views draws the pages. Its components take plain values; it knows neither HTTP nor SQL. Texts are in locales,
// colours and measures in package static.
package views

import (
	"net/url"
)

// User is the one who looks at a page.
type User struct {
	Email string
	Admin bool
}

// Initial is the first letter of the user's address.
func (u User) Initial() string {
	for _, r := range u.Email {
		return string(r)
	}
	return "?"
}

// Page is what every page needs beside its own content.
type Page struct {
	Title string // in the page's language; " · Calco" is added
	User  *User  // nil for someone who is not signed in
	Theme string // auto, light or dark
	Path  string // with the query: where a switch of language or theme comes back to
	Flash string // the id of a text that says what was just done; empty for none
	Wide  bool   // tables need more room than forms
}

// themes are the values of Page.Theme, and the data-theme of each; auto has none.
var themes = []struct{ name, data string }{{"auto", ""}, {"light", "calco"}, {"dark", "calco-night"}}

// IsTheme tells whether there is a theme of this name.
func IsTheme(name string) bool {
	for _, t := range themes {
		if t.name == name {
			return true
		}
	}
	return false
}

func (p Page) dataTheme() string {
	for _, t := range themes {
		if t.name == p.Theme {
			return t.data
		}
	}
	return ""
}

// here tells whether the page belongs to a part of the app, by the beginning of its path.
func (p Page) here(prefixes ...string) bool {
	at, err := url.Parse(p.Path)
	if err != nil {
		return false
	}
	for _, prefix := range prefixes {
		if at.Path == prefix || prefix != "/" && len(at.Path) > len(prefix) && at.Path[:len(prefix)+1] == prefix+"/" {
			return true
		}
	}
	return false
}

// NoteKind is the colour of a note.
type NoteKind string

// The kinds of notes.
const (
	NoteInfo NoteKind = "info"
	NoteLost NoteKind = "lost" // a warning, and above all a lost connection
	NoteBad  NoteKind = "bad"
	NoteGood NoteKind = "good"
)

// role is how a screen reader takes the note: what went wrong interrupts.
func (k NoteKind) role() string {
	if k == NoteBad {
		return "alert"
	}
	return "status"
}

// SheetProps describe a sheet: a framed part of the page with a heading.
type SheetProps struct {
	Title   string
	ID      string // of the heading's section; empty for none
	Beside  string // shown after the title, less loud
	Flush   bool   // no space around the content: for tables
	Actions Component
}

// FieldProps describe a field of a form with its label, hint and error.
type FieldProps struct {
	Name         string // of the value; also the id
	Label        string
	Type         string // text by default
	Value        string
	Error        string // already in the page's language; empty for none
	Hint         string
	Placeholder  string
	Autocomplete string
	Required     bool
	ReadOnly     bool
	Autofocus    bool
	Mono         bool // for URLs and names of objects
	Max          int  // characters; 0 for no limit
}

func (f FieldProps) kind() string {
	if f.Type == "" {
		return "text"
	}
	return f.Type
}

// described names the hint and the error, for screen readers.
func (f FieldProps) described() string {
	ids := ""
	if f.Error != "" {
		ids = f.Name + "-error"
	}
	if f.Hint != "" {
		if ids != "" {
			ids += " "
		}
		ids += f.Name + "-hint"
	}
	return ids
}

// statusColours are the badges of the states of a clone, the derived ones included.
var statusColours = map[string]string{
	"queued": "badge-ghost", "running": "badge-primary", "stalled": "badge-warning", "completed": "badge-success",
	"differences": "badge-accent", "failed": "badge-error", "cancelled": "badge-ghost", "refused": "badge-warning",
}

// Statuses are the states that StatusBadge knows.
var Statuses = []string{"queued", "running", "stalled", "completed", "differences", "failed", "cancelled", "refused"}
