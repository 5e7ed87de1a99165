package cloner

import (
	"slices"
	"sync"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
)

// tables is how far an attempt is with the rows of each table, and with the large objects. It is read from the marks when the
// attempt begins, and thrown away with it. It is safe for concurrent use from then on.
type tables struct {
	list       []*tableState // as in the plan: largest first
	byRelation map[string]*tableState

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

// newTables is for a target on which there is nothing yet.
func newTables(p *schema.Plan) *tables {
	t := &tables{byRelation: map[string]*tableState{}}
	for _, facts := range p.Tables {
		s := &tableState{Table: facts, split: facts.Split, throughRoot: facts.ThroughRoot, pending: facts.Split.Parts}
		t.list = append(t.list, s)
		t.byRelation[s.Relation()] = s
	}
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

// incomplete tells whether some rows were given up that were to come.
func (t *tables) incomplete(keeps func(table int64) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.blobsAborted || slices.ContainsFunc(t.list, func(s *tableState) bool { return s.aborted && !keeps(s.OID) })
}

// isAborted tells whether a part of a table was given up: then the others bring nothing.
func (t *tables) isAborted(s *tableState) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s != nil && s.aborted
}

// finish counts a part that has arrived, or was given up. It tells whether that was the last one of its table.
func (t *tables) finish(p *part, rows int64, aborted bool) (last bool) {
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

// take counts marks of parts that are on the target as good.
func (t *tables) take(good []marks.Mark) {
	t.blobParts = map[int]bool{}
	for _, m := range good {
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
