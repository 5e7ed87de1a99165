package cloner

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

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
	PhaseViews       Phase = "views"
	PhaseAnalyze     Phase = "analyze"
	PhaseVerify      Phase = "verify"
)

// Phases returns all phases in the order in which they begin.
func Phases() []Phase {
	return []Phase{
		PhasePreflight, PhaseSnapshot, PhaseClean, PhasePreData, PhaseCopy, PhaseIndexes,
		PhaseConstraints, PhasePostData, PhaseSequences, PhaseViews, PhaseAnalyze, PhaseVerify,
	}
}

// activeTables bounds how many tables a Progress lists.
const activeTables = 50

// Progress is how far a clone is at one moment: a plain, bounded value.
type Progress struct {
	Phases  []PhaseProgress `json:"phases"`
	Tables  int             `json:"tables"` // done
	Rows    int64           `json:"rows"`
	Bytes   int64           `json:"bytes"` // of COPY data so far
	Active  []TableProgress `json:"active"`
	Ledger  int             `json:"ledger"` // objects that could not be made so far
	Elapsed time.Duration   `json:"elapsed"`

	TablesTotal int     `json:"tables_total"`
	Done        float64 `json:"done"` // 0 to 1, by estimated work

	// Left is the estimated time to the end; 0 while nothing can be said yet.
	Left time.Duration `json:"left"`
}

// PhaseProgress is how far one phase is, in units of its own: tables, entries.
type PhaseProgress struct {
	Name    Phase         `json:"name"`
	Done    int           `json:"done"`
	Total   int           `json:"total"`
	Running bool          `json:"running"`
	Elapsed time.Duration `json:"elapsed"`
}

// TableProgress is one table in flight.
type TableProgress struct {
	Relation string `json:"relation"`
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"`
	Size     int64  `json:"size"` // on the source's disk, in bytes
}

// Meter keeps the progress of one clone. It is safe for concurrent use: Clone
// writes to it, any number of readers sample it. The zero value is ready.
type Meter struct {
	mu      sync.Mutex
	started time.Time
	phases  map[Phase]*phaseState
	active  map[*flight]struct{}
	ledger  []LedgerEntry
	tables  int
	total   int
	rows    int64
	bytes   int64
	work    float64 // estimated, in bytes of the source's disk
	worked  float64
	begun   time.Time // of the copy, from which the time left is reckoned
	notify  func(Phase)
}

type phaseState struct {
	done, total int
	open        int // how many workers are in it
	first, last time.Time
}

// flight is one part on its way; its counters are written by the lane that carries it.
type flight struct {
	relation    string
	size        int64
	table       bool // a whole one
	rows, bytes atomic.Int64
}

// Progress returns the progress of this moment.
func (m *Meter) Progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := Progress{Phases: []PhaseProgress{}, Active: []TableProgress{}, Tables: m.tables, TablesTotal: m.total, Rows: m.rows, Bytes: m.bytes, Ledger: len(m.ledger)}
	if !m.started.IsZero() {
		p.Elapsed = time.Since(m.started)
	}
	worked := m.worked
	for f := range m.active {
		t := TableProgress{Relation: f.relation, Rows: f.rows.Load(), Bytes: f.bytes.Load(), Size: f.size}
		p.Active = append(p.Active, t)
		p.Rows += t.Rows
		p.Bytes += t.Bytes
		worked += float64(min(t.Bytes, t.Size))
	}
	slices.SortFunc(p.Active, func(a, b TableProgress) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Relation, b.Relation))
	})
	p.Active = p.Active[:min(len(p.Active), activeTables)]
	for _, name := range Phases() {
		s := m.phases[name]
		if s == nil {
			continue
		}
		pp := PhaseProgress{Name: name, Done: s.done, Total: s.total, Running: s.open > 0, Elapsed: s.last.Sub(s.first)}
		if pp.Running {
			pp.Elapsed = time.Since(s.first)
		}
		p.Phases = append(p.Phases, pp)
	}
	p.Done, p.Left = m.estimate(worked)
	return p
}

// estimate reckons from the work done so far. It says nothing about the time left
// before there is something to reckon with.
func (m *Meter) estimate(worked float64) (done float64, left time.Duration) {
	if m.work <= 0 || m.begun.IsZero() {
		return 0, 0
	}
	done = min(worked/m.work, 1)
	spent := time.Since(m.begun)
	if done < 0.01 || spent < time.Second {
		return done, 0
	}
	return done, time.Duration(float64(spent) * (1 - done) / done)
}

// enter opens a phase; the returned func leaves it. A phase may be entered by
// several workers, and more than once.
func (m *Meter) enter(p Phase) (leave func()) {
	m.mu.Lock()
	s := m.state(p)
	begins := s.first.IsZero()
	if begins {
		s.first = time.Now()
	}
	s.open++
	m.mu.Unlock()
	if begins && m.notify != nil {
		m.notify(p)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.open--
		s.last = time.Now()
	}
}

// expect adds n units to what a phase has to do.
func (m *Meter) expect(p Phase, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state(p).total += n
}

// advance counts n units of a phase as done, and work bytes of estimated work.
func (m *Meter) advance(p Phase, n int, work float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state(p).done += n
	m.worked += work
}

// state must be called with mu held.
func (m *Meter) state(p Phase) *phaseState {
	if m.phases == nil {
		m.phases = map[Phase]*phaseState{}
	}
	if m.phases[p] == nil {
		m.phases[p] = &phaseState{}
	}
	return m.phases[p]
}

func (m *Meter) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started = time.Now()
}

// plan sets what there is to do, once it is known.
func (m *Meter) plan(tables int, work float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total, m.work, m.begun = tables, work, time.Now()
}

// takeOff lists a part as being on its way.
func (m *Meter) takeOff(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active == nil {
		m.active = map[*flight]struct{}{}
	}
	m.active[f] = struct{}{}
}

// land takes a part that arrived off the list and into the totals, in one step: between
// two it would be in neither.
func (m *Meter) land(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.active, f)
	m.rows += f.rows.Load()
	m.bytes += f.bytes.Load()
	m.state(PhaseCopy).done++
	m.worked += float64(f.size)
	if f.table {
		m.tables++
	}
}

// ditch takes a part off the list that did not arrive.
func (m *Meter) ditch(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.active, f)
}

// blame enters an object that could not be made into the ledger.
func (m *Meter) blame(p Phase, object string, err error) {
	e := LedgerEntry{Phase: p, Object: object, Error: err.Error(), Hint: hintFor(err)}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.SQLState, e.Error = pg.Code, pg.Message
		if pg.Detail != "" {
			e.Error += ": " + pg.Detail
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger = append(m.ledger, e)
}

// fill copies the totals into a report.
func (m *Meter) fill(r *Report) {
	p := m.Progress()
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Tables, r.Rows, r.Bytes = m.tables, m.rows, m.bytes
	r.Seconds = p.Elapsed.Seconds()
	r.Ledger = append([]LedgerEntry{}, m.ledger...)
	r.Phases = nil
	for _, ph := range p.Phases {
		r.Phases = append(r.Phases, PhaseReport{Name: ph.Name, Seconds: ph.Elapsed.Seconds()})
	}
}
