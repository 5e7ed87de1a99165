package views

import (
	"context"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"calco/cloner/report"
)

// A page of a job is sent whole, and often: what a report has beyond these bounds is in its file only.
const (
	manyFindings = 12  // from here on a list is folded
	mostFindings = 50  // of each list
	mostText     = 400 // bytes of each text, as the page has it
)

// differenceGroup is the differences of one kind.
type differenceGroup struct {
	kind string
	list []report.Difference
	rest int // how many more there are
}

// differenceKinds are the kinds that have a text, in the order in which they matter.
var differenceKinds = []string{
	"rows", "contents", "missing", "definition", "sequence", "materialized view", "large objects", "additional", "owner",
	"access method", "tablespace", "database", "extension version", "locale", "not compared",
}

// byKind groups the differences; those of an unknown kind come last.
func byKind(list []report.Difference) []differenceGroup {
	var groups []differenceGroup
	places := map[string]int{}
	add := func(kind string) {
		for _, d := range list {
			if d.Kind != kind {
				continue
			}
			if _, ok := places[kind]; !ok {
				places[kind] = len(groups)
				groups = append(groups, differenceGroup{kind: kind})
			}
			groups[places[kind]].list = append(groups[places[kind]].list, d)
		}
	}
	for _, kind := range differenceKinds {
		add(kind)
	}
	for _, d := range list {
		if _, ok := places[d.Kind]; !ok {
			add(d.Kind)
		}
	}
	room := mostFindings
	for i := range groups {
		groups[i].list, groups[i].rest = first(groups[i].list, room)
		room -= len(groups[i].list)
	}
	return groups
}

// first are the first of a list, and how many it has beside them.
func first[T any](list []T, most int) (shown []T, rest int) {
	shown = list[:min(len(list), most)]
	return shown, len(list) - len(shown)
}

// brief is a text as far as it is shown.
func brief(s string) string {
	room := mostText
	for i, r := range s {
		if room -= len(templ.EscapeString(string(r))); room < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// kindText is the heading of a kind of differences.
func kindText(ctx context.Context, kind string) string {
	for _, k := range differenceKinds {
		if k == kind {
			return T(ctx, "difference."+kind)
		}
	}
	return kind
}

// harmful are the differences that count, harmless the others.
func harmful(r report.Report) []report.Difference  { return differencesThat(r, false) }
func harmless(r report.Report) []report.Difference { return differencesThat(r, true) }

func differencesThat(r report.Report, areHarmless bool) []report.Difference {
	var list []report.Difference
	for _, d := range r.Differences {
		if (!d.ExpectedBecause.IsZero()) == areHarmless {
			list = append(list, d)
		}
	}
	return list
}

// differencesTitle counts what was found.
func differencesTitle(ctx context.Context, c CloneProps) string {
	if c.Report == nil {
		return T(ctx, "clone.differences", "Count", 2)
	}
	return T(ctx, "clone.differences", "Count", len(harmful(*c.Report))+len(c.Report.Ledger))
}

// epochsRead is how many snapshots were read, and which of them the target is true at: the last one, once all that was
// copied before has been looked at again.
func (c CloneProps) epochsRead(ctx context.Context) string {
	list := c.Report.Epochs
	text := T(ctx, "clone.epochs.read", "Count", len(list))
	if c.Status == "completed" || c.Status == "differences" {
		text += " " + T(ctx, "clone.epochs.true", "Time", moment(ctx, list[len(list)-1].SnapshotAt))
	}
	return text
}

// shownEpochs are the last ones, with the names of some tables in all, and how many more there are.
func shownEpochs(list []report.Epoch) (shown []report.Epoch, rest int) {
	rest = max(len(list)-manyFindings, 0)
	shown = slices.Clone(list[rest:])
	room := mostFindings / 2
	for i := range shown {
		shown[i].RedoneTables, _ = first(shown[i].RedoneTables, room)
		room -= len(shown[i].RedoneTables)
	}
	return shown, rest
}

// compared is what the comparison looked at.
func (c CloneProps) compared(ctx context.Context) []string {
	list := []string{
		T(ctx, "clone.compared.rows", "Count", c.Tables, "Rows", Number(ctx, c.Rows)),
	}
	if n := c.Report.Contents; n != nil {
		text := "clone.compared.sample"
		if n.Verify == report.VerifyContents {
			text = "clone.compared.contents"
		}
		list = append(list, T(ctx, text, "Count", n.Tables, "Rows", Number(ctx, n.Rows)))
		if len(n.Left) > 0 {
			list = append(list, T(ctx, "clone.compared.left", "Names", strings.Join(n.Left, ", ")))
		}
	}
	list = append(list,
		T(ctx, "clone.compared.schema"), T(ctx, "clone.compared.sequences"), T(ctx, "clone.compared.views"),
	)
	if len(c.Schemas) == 0 {
		list = append(list, T(ctx, "clone.compared.database"))
	}
	return list
}
