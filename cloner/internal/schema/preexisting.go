package schema

import (
	"strings"

	"calco/cloner/archive"
)

// PreexistingEntry is something that was on the target before this job and stays as it is, by what pg_dump calls it. Beside entries
// of the archive these are properties of the database (DATABASE) and the rows of an extension's table (ROWS).
type PreexistingEntry struct{ Kind, Namespace, Name string }

const (
	KindDatabase = "DATABASE" // Name is that of a property, or AllGrants for all of its grants
	AllGrants    = "GRANTS"
	KindRows     = "ROWS"
)

// Preexisting is what was on the target before this job and stays as it is.
type Preexisting map[PreexistingEntry]bool

// Rows tells whether a table or sequence of an extension keeps what it holds.
func (k Preexisting) Rows(schema, name string) bool {
	return k[PreexistingEntry{KindRows, schema, name}]
}

// Property tells whether a property of the target's database stays as it is.
func (k Preexisting) Property(name string) bool {
	if IsGrant(name) {
		name = AllGrants
	}
	return k[PreexistingEntry{Kind: KindDatabase, Name: name}]
}

// Titles are the objects of differences that come of what is kept.
func (k Preexisting) Titles() map[string]bool {
	titles := map[string]bool{}
	for e := range k {
		titles[Title(&archive.Entry{Desc: e.Kind, Namespace: e.Namespace, Tag: e.Name})] = true
	}
	return titles
}

// GrantPrefix begins the name of each property that is a grant.
const GrantPrefix = "GRANT "

func IsGrant(property string) bool { return strings.HasPrefix(property, GrantPrefix) }
