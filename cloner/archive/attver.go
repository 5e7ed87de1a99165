package archive

import (
	"iter"
	"regexp"
	"slices"
	"strings"
)

// name is an identifier as fmtId of PostgreSQL's fe_utils/string_utils.c writes it.
const name = `(?:[a-z_][a-z0-9_]*|"(?:[^"]|"")*")`

// columnOptions is the statement in which dumpTableSchema of pg_dump.c gives a
// column its options, written as array_to_string(attoptions, ', ').
var columnOptions = regexp.MustCompile(
	`^(\s*ALTER (?:FOREIGN )?TABLE ONLY ` + name + `\.` + name + ` ALTER COLUMN ` + name + ` SET \()([^()'"]*)(\);)$`)

// withoutAttver takes the option pg_attver out of the definition of a relation,
// and the statement with it that sets nothing else.
//
// Servers with the minor releases of November 2026 keep the version of a column
// in it, for themselves. The pg_dump of those releases hides it, an older one
// does not, and a server without them refuses the whole table: unrecognized
// parameter "pg_attver".
func withoutAttver(defn string) string {
	const option = "pg_attver="
	if !strings.Contains(defn, option) {
		return defn
	}
	var b strings.Builder
	for stmt := range statements(defn) {
		m := columnOptions.FindStringSubmatch(stmt)
		if m == nil {
			b.WriteString(stmt)
			continue
		}
		options := slices.DeleteFunc(strings.Split(m[2], ", "), func(o string) bool {
			return strings.HasPrefix(o, option)
		})
		if len(options) > 0 {
			b.WriteString(m[1] + strings.Join(options, ", ") + m[3])
		}
	}
	return b.String()
}

// statements cuts the definition of a relation after each semicolon outside
// quotes; joined again the pieces are the definition.
//
// It needs no more SQL than that: pg_dump writes a relation without comments and
// without dollar quotes, and doubles a quote inside quotes, in E'…' as well. No
// client encoding has a quote or a semicolon as the second byte of a character.
func statements(defn string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start := 0
		quote := byte(0)
		for i := range len(defn) {
			switch c := defn[i]; {
			case quote != 0:
				if c == quote {
					quote = 0
				}
			case c == '\'' || c == '"':
				quote = c
			case c == ';':
				if !yield(defn[start : i+1]) {
					return
				}
				start = i + 1
			}
		}
		yield(defn[start:])
	}
}
