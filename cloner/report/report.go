package report

import "time"

// Verify says how much of what rows hold is compared, beside their number.
type Verify string

// VerifySample compares a sample of each large table and some of the small ones whole, which costs a few hundredths of the
// clone: see plan.sample. VerifyContents compares every row, which reads each of them twice on both sides.
const (
	VerifySample   Verify = "sample"
	VerifyContents Verify = "contents"
)

// Status is the outcome of a clone.
type Status string

// The outcomes. A clone is completed only when the target was compared with the
// source and agrees.
const (
	StatusCompleted   Status = "completed"
	StatusDifferences Status = "differences"
	StatusFailed      Status = "failed"
	StatusCancelled   Status = "cancelled"
	StatusRefused     Status = "refused"
)

// Report is what a clone did and what the comparison found.
type Report struct {
	Status  Status   `json:"status"`
	Error   string   `json:"error,omitempty"`   // of a failed or cancelled clone: PostgreSQL's words, and technical detail
	Failure Text     `json:"failure,omitzero"`  // instead of Error for a person: why it failed, where Calco itself says that
	Hint    Text     `json:"hint,omitzero"`     // what to do about it
	Reasons []Reason `json:"reasons,omitempty"` // of a refused clone

	// Where a failed clone failed, as far as one phase and one object are to blame.
	Phase    Phase  `json:"phase,omitempty"`
	Relation string `json:"relation,omitempty"`
	SQLState string `json:"sqlstate,omitempty"`

	Source     Endpoint  `json:"source"`
	Target     Endpoint  `json:"target"`
	Schemas    []string  `json:"schemas,omitempty"` // none: the whole database
	SnapshotAt time.Time `json:"snapshot_at,omitzero"`

	Tables      int           `json:"tables"`       // whose rows are on the target, all of them
	TablesTotal int           `json:"tables_total"` // whose rows were to be copied; 0 where that was not known yet
	Size        int64         `json:"size"`         // of those on the source's disk, without indexes
	Rows        int64         `json:"rows"`
	Bytes       int64         `json:"bytes"` // of COPY data, as it went over the wire
	Seconds     float64       `json:"seconds"`
	Phases      []PhaseReport `json:"phases"`

	// Contents is how much of what rows hold was compared; nil where the clone did not come to that.
	Contents *Contents `json:"contents,omitempty"`

	// Differences between source and target; Ledger: what could not be made, and why.
	Differences []Difference  `json:"differences"`
	Ledger      []LedgerEntry `json:"ledger"`

	// Epochs are the snapshots that the clone read, in order, when there was more than one. What is on the target is
	// true at the last of them, SnapshotAt.
	Epochs []Epoch `json:"epochs,omitempty"`

	// Resumable: the clone ended early, and can go on from what is on the target. See Spec.Resume.
	Resumable bool `json:"resumable,omitempty"`

	Dependencies []string `json:"dependencies,omitempty"` // objects outside the chosen schemas that these need
	Warnings     []Text   `json:"warnings,omitempty"`     // worth knowing, no difference
}

// Endpoint is one database of a clone, without any secret.
type Endpoint struct {
	Address  string `json:"address,omitempty"` // host:port
	Database string `json:"database,omitempty"`
	User     string `json:"user,omitempty"`
	Version  string `json:"version,omitempty"`
}

// PhaseReport is how long a phase took. Phases overlap.
type PhaseReport struct {
	Name    Phase   `json:"name"`
	Begun   float64 `json:"begun"` // seconds after the clone's start
	Seconds float64 `json:"seconds"`
}

// Epoch is the life of one snapshot. A clone that lost its snapshot goes on under a new one: what it had copied is kept
// where the source proves that it has not changed since, and copied again where it does not.
type Epoch struct {
	Number     int       `json:"number"` // from 1
	SnapshotAt time.Time `json:"snapshot_at"`
	Kept       int       `json:"kept"`   // parts of earlier epochs that are as they were
	Redone     int       `json:"redone"` // parts of earlier epochs that had to be copied again
	Copied     int       `json:"copied"` // parts on the target that were copied in this epoch

	RedoneTables []string `json:"redone_tables,omitempty"` // the tables of those, at most 50
}

// Contents is how much of what rows hold was compared, beside their number.
type Contents struct {
	Verify Verify   `json:"verify"`         // what was asked for
	Tables int      `json:"tables"`         // some or all of whose rows were compared
	Rows   int64    `json:"rows"`           // that were compared
	Bytes  int64    `json:"bytes"`          // of those, as they went over the wire
	Left   []string `json:"left,omitempty"` // tables that were to be compared and could not be, at most 50
}

// Difference is one point in which the target is not the source.
type Difference struct {
	Kind   string `json:"kind"`   // rows, missing, additional, definition, owner, sequence, database, ...
	Object string `json:"object"` // TABLE app.orders
	Source string `json:"source,omitempty"`
	Target string `json:"target,omitempty"`

	// ExpectedBecause is why it does not change the outcome; nothing where it does.
	ExpectedBecause Text `json:"expected_because,omitzero"`
}

// LedgerEntry is an object that could not be made.
type LedgerEntry struct {
	Phase    Phase  `json:"phase"`
	Object   string `json:"object"`
	SQLState string `json:"sqlstate,omitempty"`
	Error    string `json:"error"` // PostgreSQL's own words
	Hint     Text   `json:"hint,omitzero"`
}

// Decide sets the status from the comparison alone.
func (r *Report) Decide() {
	r.Status = StatusCompleted
	if len(r.Ledger) > 0 {
		r.Status = StatusDifferences
	}
	for _, d := range r.Differences {
		if d.ExpectedBecause.IsZero() {
			r.Status = StatusDifferences
		}
	}
}
