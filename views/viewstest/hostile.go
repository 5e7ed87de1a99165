package viewstest

import (
	"math"
	"strings"
	"time"

	"calco/cloner/report"
	"calco/views"
)

// Hostile is what somebody might call a table in order to break a page. No page may have it as markup.
const Hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{.Name}}` + "\u202e"

// long has no place to break it.
var long = strings.Repeat("extraordinarily_long_name_", 12)

func hostileClones() []NamedClone {
	var all []NamedClone
	for _, status := range views.Statuses {
		c := views.ClonePageProps{Clone: views.CloneProps{Status: status}}
		all = append(all, NamedClone{"bare-" + status, c})
	}
	odd := func(c *views.CloneProps) {
		c.Source.Name, c.Target.Name, c.Owner, c.Yours = Hostile, long, Hostile, false
		c.Source.Database, c.Target.Address = long, Hostile
		c.Source.Environment = Hostile
		c.Rows, c.RowsTotal, c.Bytes = 1_000_000_000_000, math.MaxInt64, 9_000_000_000_000_000
		c.Tables, c.TablesTotal, c.Ledger, c.Left, c.Elapsed = 9_999, 10_000, 1234, 400*time.Hour, 1000*time.Hour
		c.Schemas = []string{Hostile, long, "c", "d", "e"}
		c.Speed, c.Speeds = math.MaxInt64/4, []int64{0, math.MaxInt64 / 4, -1, 5}
		c.Active = []report.TableProgress{{Relation: long + "." + Hostile, Rows: 1_000_000_000_000, Bytes: math.MaxInt64, Size: 1}}
		c.Hand.Calco = Hostile
	}
	running := clone("running", odd)
	running.Tables.Rows, running.Tables.Total, running.Tables.Offset, running.Tables.Name = []report.TableState{{Relation: long, Status: report.TableFailed, Size: -1}}, 10_000, 50, Hostile
	running.Log.Lines = []report.Event{{At: time.Now(), Kind: report.EventTrouble, Object: long, Text: report.Said(Hostile + strings.Repeat(" word", 300))}}
	waits := clone("running", func(c *views.CloneProps) {
		odd(c)
		c.Waiting = &report.Wait{Text: report.Said(Hostile + long), Since: ago(400 * time.Hour), Until: ago(-400 * time.Hour), Tries: math.MaxInt}
	})
	waits.Log.Lines = []report.Event{{At: time.Now(), Kind: report.EventRetry, Object: Hostile, Text: report.Said(long)}, {At: time.Now(), Kind: report.EventResumed, Text: report.Said(Hostile)}}
	failed := clone("failed", func(c *views.CloneProps) {
		odd(c)
		c.Touched, c.Report = true, &report.Report{Phase: report.PhaseCopy, Relation: Hostile, Error: long + Hostile, SQLState: Hostile, Hint: report.Said(long)}
	})
	differ := clone("differences", func(c *views.CloneProps) {
		differences(c)
		odd(c)
		c.Report.Differences = append(c.Report.Differences, report.Difference{Kind: Hostile, Object: long, Source: Hostile, Target: long})
		c.Report.Ledger[0] = report.LedgerEntry{Phase: report.PhaseCopy, Object: long, SQLState: "XX000", Error: Hostile, Hint: report.Said(long)}
		c.Report.Epochs = []report.Epoch{{}, {Kept: math.MaxInt, Redone: -1, Copied: math.MaxInt, RedoneTables: []string{long, Hostile}}}
		c.Report.Warnings, c.Report.Dependencies = []report.Text{report.Said(Hostile), report.Said(long)}, []string{long, Hostile}
	})
	refusal := clone("refused", func(c *views.CloneProps) {
		odd(c)
		c.Report = &report.Report{Reasons: []report.Reason{{Code: Hostile, Text: report.Said(Hostile), Hint: report.Said(long), Objects: []string{long, Hostile}}}}
	})
	return append(all, NamedClone{"hostile-running", running}, NamedClone{"hostile-waiting", waits}, NamedClone{"hostile-failed", failed},
		NamedClone{"hostile-differences", differ}, NamedClone{"hostile-refused", refusal})
}

func hostileForm() views.CloneForm {
	f := form()
	f.Source, f.Target, f.Clean = 1, 4, true
	f.Databases = append(f.Databases, views.CloneDatabase{ID: 4, Name: Hostile + long, Environment: Hostile, Address: long, Database: Hostile, Owner: Hostile})
	f.Schemas = views.SchemaChoiceProps{Chosen: true, Read: true, Schemas: []views.SchemaOption{{SchemaInfo: report.SchemaInfo{Name: long, Tables: 1_000_000, Bytes: math.MaxInt64}, On: true}, {SchemaInfo: report.SchemaInfo{Name: Hostile}}}}
	f.Preview = preview(views.ClonePlace{Name: long, Environment: "production", Address: long, Database: Hostile})
	f.Preview.Names[0], f.Preview.Typed, f.Preview.Rows = long, Hostile, 1_000_000_000_000
	return f
}
