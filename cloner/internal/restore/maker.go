// Package restore makes on a target what a plan has beside the rows: what goes before them, what is built on them, owners,
// grants, sequences, materialized views, statistics, settings of the database. It copies no row.
package restore

import (
	"context"

	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
)

// Config is what a Maker works with.
type Config struct {
	Source, Target *session.Server
	Owner          *marks.Owner
	Plan           *schema.Plan
	Existing       schema.Inventory   // what the target holds of the plan; what has to be made again is taken out of it
	Preexisting    schema.Preexisting // what is not the job's there
	Whole          bool               // the whole database is cloned
	Lanes          int                // sessions at a time

	Ledger  *ledger.Ledger
	Meter   *progress.Meter
	Achieve func(n int) // is told of things that were made for good
}

// Maker makes on the target what the plan has beside the rows. It lives as long as an attempt. Its methods are for one
// goroutine, but Build goes on beside the copy.
type Maker struct {
	Config
	places
}

// New reads what a target has places for, and returns its Maker.
func New(ctx context.Context, c Config) (*Maker, error) {
	p, err := readPlaces(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Maker{c, p}, nil
}
