package report

import "time"

// Phase is a stage of a clone. Phases overlap: the indexes of one table are built
// while another is still being copied.
type Phase string

// The phases, in the order in which they begin.
const (
	PhasePreflight   Phase = "preflight"
	PhaseSnapshot    Phase = "snapshot"
	PhaseClean       Phase = "clean"
	PhasePreData     Phase = "pre-data"
	PhaseCopy        Phase = "copy"
	PhaseIndexes     Phase = "indexes"
	PhaseConstraints Phase = "constraints"
	PhasePostData    Phase = "post-data"
	PhaseSequences   Phase = "sequences"
	PhaseAnalyze     Phase = "analyze"
	PhaseViews       Phase = "views"
	PhaseVerify      Phase = "verify"
)

// Phases returns all phases in the order in which they begin.
func Phases() []Phase {
	return []Phase{
		PhasePreflight, PhaseSnapshot, PhaseClean, PhasePreData, PhaseCopy, PhaseIndexes,
		PhaseConstraints, PhasePostData, PhaseSequences, PhaseAnalyze, PhaseViews, PhaseVerify,
	}
}

// Progress is how far a clone is at one moment: a plain, bounded value.
type Progress struct {
	Phases  []PhaseProgress `json:"phases"`
	Tables  int             `json:"tables"` // done
	Rows    int64           `json:"rows"`
	Bytes   int64           `json:"bytes"` // of COPY data so far
	Active  []TableProgress `json:"active"`
	Ledger  int             `json:"ledger"` // objects that could not be made so far
	Elapsed time.Duration   `json:"elapsed"`

	// Achieved is how many parts have arrived and things were made for good by this run itself, not by an earlier one.
	Achieved int64 `json:"achieved"`

	TablesTotal int     `json:"tables_total"`
	RowsTotal   int64   `json:"rows_total"` // by the source's statistics; 0 while they are not known, or not gathered
	Done        float64 `json:"done"`       // 0 to 1, by estimated work; never less than before, and 1 only at the end

	// Left is the estimated time to the end, of all phases; 0 while nothing can be said yet, and at the end.
	Left time.Duration `json:"left"`

	// Waiting is what the clone waits for at this moment, nil while it gets on.
	Waiting *Wait `json:"waiting,omitempty"`

	SourceVersion string `json:"source_version,omitempty"` // of PostgreSQL, once it has answered
	TargetVersion string `json:"target_version,omitempty"`
}

// Wait is what keeps a clone from going on, and may pass.
type Wait struct {
	Text  Text      `json:"text"`
	Since time.Time `json:"since"` // when the clone last got anything done
	Until time.Time `json:"until"` // when it will give up
	Tries int       `json:"tries"`
}

// PhaseProgress is how far one phase is, in units of its own: tables, entries.
type PhaseProgress struct {
	Name    Phase         `json:"name"`
	Done    int           `json:"done"`
	Total   int           `json:"total"`
	Running bool          `json:"running"`
	Ended   bool          `json:"ended"` // for good: some come back to what is left of them
	Elapsed time.Duration `json:"elapsed"`
}

// TableProgress is one table whose rows are under way.
type TableProgress struct {
	Relation string `json:"relation"`
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"`
	Size     int64  `json:"size"` // on the source's disk, in bytes
}

// TableStatus is where one table stands.
type TableStatus string

// The states of a table, in their order.
const (
	TableWaiting  TableStatus = "waiting"
	TableCopying  TableStatus = "copying"
	TableIndexing TableStatus = "indexing" // its rows are there; its indexes and constraints are being built
	TableDone     TableStatus = "done"
	TableFailed   TableStatus = "failed" // its rows, or something that stands on them, could not be made
)

// TableState is one table of a clone.
type TableState struct {
	Relation string      `json:"relation"`
	Status   TableStatus `json:"status"`
	Rows     int64       `json:"rows"`
	Bytes    int64       `json:"bytes"` // of COPY data
	Size     int64       `json:"size"`  // on the source's disk, in bytes
	Built    int         `json:"built"` // of its indexes and constraints
	ToBuild  int         `json:"to_build"`
}

// EventKind is what a line of the log is about.
type EventKind string

// The kinds of events.
const (
	EventPhaseBegun EventKind = "phase_begun"
	EventPhaseEnded EventKind = "phase_ended"
	EventTrouble    EventKind = "trouble" // an object could not be made: it is in the ledger
	EventWarning    EventKind = "warning"
	EventRetry      EventKind = "retry"   // something was lost, and is tried again
	EventResumed    EventKind = "resumed" // the clone goes on from what is on the target
)

// Event is one line of a clone's log.
type Event struct {
	At     time.Time `json:"at"`
	Kind   EventKind `json:"kind"`
	Phase  Phase     `json:"phase,omitempty"`
	Object string    `json:"object,omitempty"`
	Text   Text      `json:"text,omitzero"`
}
