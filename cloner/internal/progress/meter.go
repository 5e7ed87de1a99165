package progress

import (
	"cmp"
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"calco/cloner/report"
)

// ActiveTables bounds how many tables a Progress lists.
const ActiveTables = 50

// Meter keeps the progress of one clone. It is safe for concurrent use: Clone
// writes to it, any number of readers sample it. The zero value is ready.
type Meter struct {
	mu       sync.Mutex
	started  time.Time
	phases   map[report.Phase]*phaseState
	Notify   func(report.Phase)
	waiting  *report.Wait
	done     int64                  // see Progress.Achieved
	versions map[report.Side]string // of the servers

	tally    // of the attempt
	forecast forecast

	// For Since.
	revision int64
	events   []loggedEvent // the last ones
}

// tally is what an attempt has counted: what is on the target is read again by the next.
type tally struct {
	active   map[*Part]struct{}
	failures int // objects that could not be made
	tables   int
	total    int
	size     int64 // of the tables on the source's disk
	toRead   int64 // their rows, by the source's statistics; 0 where these do not have all of them
	rows     int64
	bytes    int64
	byOID    map[int64]*tableMeter // the tables
	recent   *list.List            // of them, the last one changed at the back
}

type phaseState struct {
	done, total int
	open        int  // how many workers are in it
	begun       bool // in this attempt
	ended       bool
	told        sync.Once // notify, which all wait for who enter
	first, last time.Time
}

// Part is one part on its way; its counters are written by the lane that carries it.
type Part struct {
	Relation    string
	Size        int64
	Work        float64 // what it costs, in bytes of copying
	Table       int64   // its OID; 0 for large objects
	Rows, Bytes atomic.Int64
}

// Again is the same part, when it sets out once more.
func (f *Part) Again() *Part {
	return &Part{Relation: f.Relation, Size: f.Size, Work: f.Work, Table: f.Table}
}

// Progress returns the progress of this moment.
func (m *Meter) Progress() report.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := report.Progress{Phases: []report.PhaseProgress{}, Active: []report.TableProgress{}, Tables: m.tables, TablesTotal: m.total, Rows: m.rows, Bytes: m.bytes, Ledger: m.failures, Achieved: m.done}
	p.RowsTotal, p.SourceVersion, p.TargetVersion = m.toRead, m.versions[report.Source], m.versions[report.Target]
	if !m.started.IsZero() {
		p.Elapsed = time.Since(m.started)
	}
	for f := range m.active {
		t := report.TableProgress{Relation: f.Relation, Rows: f.Rows.Load(), Bytes: f.Bytes.Load(), Size: f.Size}
		p.Active = append(p.Active, t)
		p.Rows += t.Rows
		p.Bytes += t.Bytes
	}
	slices.SortFunc(p.Active, func(a, b report.TableProgress) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Relation, b.Relation))
	})
	p.Active = p.Active[:min(len(p.Active), ActiveTables)]
	for _, name := range report.Phases() {
		s := m.phases[name]
		if s == nil {
			continue
		}
		pp := report.PhaseProgress{Name: name, Done: s.done, Total: s.total, Running: s.open > 0, Ended: s.ended, Elapsed: s.last.Sub(s.first)}
		if pp.Running {
			pp.Elapsed = time.Since(s.first)
		}
		p.Phases = append(p.Phases, pp)
	}
	p.Done, p.Left = m.estimate(time.Now())
	if m.waiting != nil {
		w := *m.waiting
		p.Waiting = &w
	}
	return p
}

// Enter opens a phase; the returned func leaves it. A phase may be entered by
// several workers, and more than once.
func (m *Meter) Enter(p report.Phase) (leave func()) {
	m.mu.Lock()
	s := m.state(p)
	if s.first.IsZero() {
		s.first = time.Now()
	}
	if !s.begun {
		s.begun = true
		m.log(report.Event{Kind: report.EventPhaseBegun, Phase: p})
	}
	s.open++
	m.mu.Unlock()
	if m.Notify != nil {
		s.told.Do(func() { m.Notify(p) })
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.open--
		s.last = time.Now()
	}
}

// Expect adds n units to what a phase has to do.
func (m *Meter) Expect(p report.Phase, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state(p).total += n
}

// Advance counts n units of a phase as done.
func (m *Meter) Advance(p report.Phase, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state(p).done += n
}

// state must be called with mu held.
func (m *Meter) state(p report.Phase) *phaseState {
	if m.phases == nil {
		m.phases = map[report.Phase]*phaseState{}
	}
	if m.phases[p] == nil {
		m.phases[p] = &phaseState{}
	}
	return m.phases[p]
}

// Start begins a clone, of which an earlier one may tell how long it takes.
func (m *Meter) Start(past *report.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.started = time.Now()
	if Usable(past) {
		m.forecast.past = past
	}
}

// Stop ends the estimates: over, or before that.
func (m *Meter) Stop(over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forecast.over, m.forecast.halted = over, !over
}

// SetVersion says which version of PostgreSQL a side has.
func (m *Meter) SetVersion(side report.Side, version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.versions == nil {
		m.versions = map[report.Side]string{}
	}
	m.versions[side] = version
}

// SetPlan sets what there is to do, once it is known: how many tables and rows, and what filling them and the phases after
// that will cost.
func (m *Meter) SetPlan(tables int, rows int64, work float64, tail map[report.Phase]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total, m.toRead = tables, rows
	var dump float64
	if s := m.phases[report.PhaseSnapshot]; s != nil {
		dump = s.last.Sub(s.first).Seconds()
	}
	now := time.Now()
	m.forecast.setWork(work, tail, now.Sub(m.started).Seconds(), dump, m.size, now)
}

// PartStarted lists a part as being on its way.
func (m *Meter) PartStarted(f *Part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active == nil {
		m.active = map[*Part]struct{}{}
	}
	m.active[f] = struct{}{}
	m.change(f.Table, func(t *tableMeter) { t.parts = append(t.parts, f) })
}

// PartDone takes a part that arrived off the list and into the totals, in one step: between
// two it would be in neither. The last one completes its table.
func (m *Meter) PartDone(f *Part, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.active, f)
	m.done++
	m.waiting = nil
	m.count(f, f.Rows.Load(), f.Bytes.Load())
	if last {
		m.tables++
	}
	m.change(f.Table, func(t *tableMeter) {
		t.remove(f)
		t.copied = t.copied || last
	})
}

// PartKept counts a part that was there before this run of the clone.
func (m *Meter) PartKept(f *Part, rows, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forecast.keep(f.Work)
	m.state(report.PhaseCopy).total++
	m.count(f, rows, bytes)
}

// count must be called with mu held.
func (m *Meter) count(f *Part, rows, bytes int64) {
	m.rows += rows
	m.bytes += bytes
	m.state(report.PhaseCopy).done++
	m.forecast.worked += f.Work
	m.change(f.Table, func(t *tableMeter) {
		t.rows += rows
		t.bytes += bytes
	})
}

// TableCopied counts a table whose rows were all there before.
func (m *Meter) TableCopied(oid int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tables++
	m.change(oid, func(t *tableMeter) { t.copied = true })
}

// Achieve counts things that were made and will stay.
func (m *Meter) Achieve(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += int64(n)
	if n > 0 {
		m.waiting = nil
	}
}

// SetWait says what the clone waits for.
func (m *Meter) SetWait(w report.Wait) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil || !m.waiting.Text.Same(w.Text) {
		m.log(report.Event{Kind: report.EventRetry, Text: w.Text})
	}
	m.waiting = &w
}

// Retried logs that a connection was lost, and is replaced at once.
func (m *Meter) Retried(p report.Phase, object string, why report.Text) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log(report.Event{Kind: report.EventRetry, Phase: p, Object: object, Text: why})
}

// ClearWait says that the clone goes on.
func (m *Meter) ClearWait() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = nil
}

// Restart begins to count anew, when what is on the target is about to be read again. What was shown as done stays so.
func (m *Meter) Restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.phases {
		s.done, s.total, s.begun, s.ended = 0, 0, false, false
	}
	m.tally = tally{}
	m.forecast = forecast{past: m.forecast.past, done: m.forecast.done}
}

// PartAborted takes a part off the list that did not arrive.
func (m *Meter) PartAborted(f *Part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.active, f)
	m.change(f.Table, func(t *tableMeter) { t.remove(f) })
}

// Failed hears of an object that could not be made.
func (m *Meter) Failed(e report.LedgerEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures++
	m.log(report.Event{Kind: report.EventTrouble, Phase: e.Phase, Object: e.Object, Text: report.Said(e.Error)})
}

// Fill copies the totals into a report.
func (m *Meter) Fill(r *report.Report) {
	p := m.Progress()
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Tables, r.TablesTotal, r.Size, r.Rows, r.Bytes = m.tables, m.total, m.size, m.rows, m.bytes
	r.Seconds = p.Elapsed.Seconds()
	r.Phases = nil
	for _, ph := range p.Phases {
		r.Phases = append(r.Phases, report.PhaseReport{Name: ph.Name, Begun: m.phases[ph.Name].first.Sub(m.started).Seconds(), Seconds: ph.Elapsed.Seconds()})
	}
}
