// Package data copies rows: it divides tables into parts, has lanes carry them, and finds out which parts that are on a target
// are still as the source has them. It makes no table.
package data

import (
	"context"

	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
)

// Copier copies the rows of an attempt.
type Copier struct {
	Reader
	Owner  *marks.Owner
	Epoch  int // of the snapshot
	Tables *Tables

	Whole    bool  // the whole database is cloned: large objects too
	EveryRow bool  // is compared by what it holds
	PartSize int64 // bytes of a table, on the source's disk

	Ledger  *ledger.Ledger
	Meter   *progress.Meter
	Achieve func(n int) // is told of parts that have arrived

	// CloseLargeObjects is SQL that takes from the large objects that its transaction has made what others were given on them,
	// and MakeLargeObjects gives them their owners, grants and comments: names for the ledger, with statements.
	CloseLargeObjects string
	MakeLargeObjects  func(ctx context.Context, w *marks.Writer, things [][2]string) error
}
