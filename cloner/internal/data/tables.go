package data

import (
	"slices"
	"sync"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
)

// Tables is how far an attempt is with the rows of each table, and with the large objects. It is read from the marks when the
// attempt begins, and thrown away with it. It is safe for concurrent use from then on.
type Tables struct {
	list       []*tableState // as in the plan: largest first
	byRelation map[string]*tableState
	byOID      map[int64]*tableState

	mu           sync.Mutex   // guards all that changes
	blobParts    map[int]bool // parts of large objects that were there when the attempt began
	blobsAborted bool         // large objects were given up
}

// tableState is how far an attempt is with one table.
type tableState struct {
	*schema.Table
	split       schema.Split       // into parts: of the marks, where there are some
	throughRoot bool               // its rows are sent to the root of its tree, which finds the partition
	here        map[int]marks.Mark // the parts that were there when the attempt began, nil for none
	pending     int                // parts that have neither arrived nor been given up
	aborted     bool               // a part was given up
	rows        int64              // that have arrived, by the source's count
}

// NewTables is for a target on which these parts are valid; rows of the tables of stale ones go the way that those went.
func NewTables(p *schema.Plan, valid, stale []marks.Mark) *Tables {
	t := &Tables{byRelation: map[string]*tableState{}, byOID: map[int64]*tableState{}}
	for _, facts := range p.Tables {
		s := &tableState{Table: facts, split: facts.Split, throughRoot: facts.ThroughRoot, pending: facts.Split.Parts}
		t.list = append(t.list, s)
		t.byRelation[s.Relation()], t.byOID[s.OID] = s, s
	}
	t.apply(valid, stale)
	return t
}

// copied tells whether all rows are on the target.
func (t *tableState) copied() bool { return t.pending == 0 && !t.aborted }

// destination is where the rows go on the target.
func (t *tableState) destination() string {
	if t.throughRoot {
		return t.Root()
	}
	return t.Relation()
}

// Incomplete tells whether some rows were given up that were to come.
func (t *Tables) Incomplete(keeps func(table int64) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.blobsAborted || slices.ContainsFunc(t.list, func(s *tableState) bool { return s.aborted && !keeps(s.OID) })
}

// isAborted tells whether a part of a table was given up: then the others bring nothing.
func (t *Tables) isAborted(s *tableState) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s != nil && s.aborted
}

// finish counts a part that has arrived, or was given up. It tells whether that was the last one of its table.
func (t *Tables) finish(p *part, rows int64, aborted bool) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := p.table
	if s == nil {
		t.blobsAborted = t.blobsAborted || aborted
		return false
	}
	s.pending--
	s.rows += rows
	s.aborted = s.aborted || aborted
	return s.pending == 0
}

// apply counts the marks of valid parts.
func (t *Tables) apply(valid, stale []marks.Mark) {
	t.blobParts = map[int]bool{}
	for _, m := range stale {
		if s := t.byRelation[m.Relation]; s != nil {
			s.throughRoot = s.throughRoot || m.Through
		}
	}
	for _, m := range valid {
		s := t.byRelation[m.Relation]
		if s == nil {
			t.blobParts[m.Part] = m.Relation == marks.LargeObjects
			continue
		}
		if s.here == nil {
			s.split, s.pending, s.here = m.Split(), m.Parts, map[int]marks.Mark{}
		}
		s.throughRoot = s.throughRoot || m.Through
		s.here[m.Part] = m
		s.pending--
		s.rows += m.Rows
	}
}

// Pending tells whether rows of a table are still to come.
func (t *Tables) Pending(table int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byOID[table]
	return s != nil && s.pending > 0
}

// PendingTables are those of which rows are still to come.
func (t *Tables) PendingTables(keeps func(table int64) bool) []*schema.Table {
	var all []*schema.Table
	for _, s := range t.list {
		if s.pending > 0 && !keeps(s.OID) {
			all = append(all, s.Table)
		}
	}
	return all
}

// Outcome is what became of the rows of a table.
type Outcome struct {
	*schema.Table
	Rows        int64 // that are on the target, by the source's count
	Parts       int
	Copied      bool // all of them are
	ThroughRoot bool // the root of its tree has sorted them
}

// Outcomes are those of all tables, as in the plan, and whether all large objects have come.
func (t *Tables) Outcomes() (tables []Outcome, largeObjects bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.list {
		tables = append(tables, Outcome{Table: s.Table, Rows: s.rows, Parts: s.split.Parts, Copied: s.copied(), ThroughRoot: s.throughRoot})
	}
	return tables, !t.blobsAborted
}
