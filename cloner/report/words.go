package report

import (
	"fmt"
	"strings"
)

// ListedObjects bounds how many objects a reason or a warning names.
const ListedObjects = 50

// Count writes a number of things.
func Count(n int, singular, plural string) string {
	if n == 1 {
		return "1 " + singular
	}
	return fmt.Sprintf("%d %s", n, plural)
}

// Listed names a few objects in a sentence.
func Listed(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// AtMost keeps as many objects as a reason carries.
func AtMost(names []string) []string { return names[:min(len(names), ListedObjects)] }

// Either is the first text if it is so, or else the second.
func Either(so bool, then, otherwise string) string {
	if so {
		return then
	}
	return otherwise
}
