// Package verify compares a target with what was read of its source, and says which differences do not count. It changes nothing.
package verify

import (
	"calco/cloner/internal/data"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Comparison is what is compared: the source as it was read, what became of it, and the target.
type Comparison struct {
	Source, Target *session.Server
	Owner          *marks.Owner // on whose sessions rows are counted
	Dumper         schema.Dumper
	Plan           *schema.Plan
	Schemas        []string // that were chosen; none: the whole database
	Clean          bool     // the target was cleaned first
	Verify         report.Verify
	Lanes          int

	Tables               []data.Outcome
	LargeObjects         int64 // of the source, in its snapshot
	LargeObjectsComplete bool  // all of them are on the target
	Sequences            []schema.Sequence
	ViewRows             map[string]ViewRows // of materialized views of the source, in its snapshot, by quoted name
	FilledViews          map[int64]bool      // materialized views that are filled on the source, by OID
	Preexisting          schema.Preexisting  // what is not the job's on the target
	HasTablespace        func(name string) bool

	Ledger *ledger.Ledger
	Meter  *progress.Meter
}

func (x *Comparison) whole() bool { return len(x.Schemas) == 0 }
