package progress

import (
	"container/list"
	"fmt"
	"slices"
	"time"

	"calco/cloner/report"
)

// Changes are the tables and events that are new since some moment.
type Changes struct {
	Revision int64 // for the next call of Since
	Tables   []report.TableState
	Events   []report.Event
}

// keptEvents bounds how many events a Meter remembers: the last ones.
const keptEvents = 1000

// Since returns what has changed since a revision, 0 for all there is: tables in no order, events in theirs. It changes
// nothing: asking again with the same revision returns at least the same tables. Tables on their way are always among
// them. What it costs grows with what has changed, not with what there is.
//
// The tables are those whose rows the clone copies, known from the phase copy on. One that was on the target already
// and is left as it was is none of them. Once Clone has returned, all are done or failed, unless it failed or was
// cancelled: then what is waiting has no rows on the target, and what is indexing has them, without all that belongs
// to them.
func (m *Meter) Since(revision int64) Changes {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Changes{Revision: m.revision}
	for e := m.lastChanged(); e != nil; e = e.Prev() {
		t := e.Value.(*tableMeter)
		if t.changed <= revision {
			break
		}
		c.Tables = append(c.Tables, t.state())
	}
	for f := range m.active {
		if t := m.byOID[f.Table]; t != nil && t.changed <= revision && t.parts[0] == f {
			c.Tables = append(c.Tables, t.state())
		}
	}
	first, _ := slices.BinarySearchFunc(m.events, revision+1, func(e loggedEvent, r int64) int { return int(e.revision - r) })
	for _, e := range m.events[first:] {
		c.Events = append(c.Events, e.Event)
	}
	return c
}

// lastChanged must be called with mu held.
func (m *Meter) lastChanged() *list.Element {
	if m.recent == nil {
		return nil
	}
	return m.recent.Back()
}

// tableMeter is what a Meter knows of one table.
type tableMeter struct {
	relation string
	size     int64
	rows     int64 // that have arrived
	bytes    int64
	parts    []*Part // on their way
	copied   bool    // nothing more will come
	failed   bool
	built    int
	finished int // indexes and constraints that were built, or could not be
	toBuild  int

	changed int64 // the revision of its last change
	recent  *list.Element
}

// state must be called with the Meter's mu held.
func (t *tableMeter) state() report.TableState {
	s := report.TableState{
		Relation: t.relation, Status: report.TableWaiting, Rows: t.rows, Bytes: t.bytes, Size: t.size, Built: t.built, ToBuild: t.toBuild,
	}
	for _, f := range t.parts {
		s.Rows += f.Rows.Load()
		s.Bytes += f.Bytes.Load()
	}
	switch {
	case t.failed:
		s.Status = report.TableFailed
	case len(t.parts) > 0 || t.rows > 0 && !t.copied:
		s.Status = report.TableCopying
	case t.copied && t.finished < t.toBuild:
		s.Status = report.TableIndexing
	case t.copied:
		s.Status = report.TableDone
	}
	return s
}

// remove takes a part off that has arrived or was aborted.
func (t *tableMeter) remove(f *Part) {
	t.parts = slices.DeleteFunc(t.parts, func(g *Part) bool { return g == f })
}

type loggedEvent struct {
	report.Event
	revision int64
}

// AddTable begins to keep a table, with toBuild indexes and constraints.
func (m *Meter) AddTable(oid int64, relation string, size int64, toBuild int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byOID == nil {
		m.byOID, m.recent = map[int64]*tableMeter{}, list.New()
	}
	m.byOID[oid] = &tableMeter{relation: relation, size: size, toBuild: toBuild}
	m.size += size
	m.change(oid, func(*tableMeter) {})
}

// IndexDone counts an index or constraint of a table: nothing more will be done for it.
func (m *Meter) IndexDone(oid int64, built bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change(oid, func(t *tableMeter) {
		t.finished++
		if built {
			t.built++
		}
	})
}

// TableFailed says that a table's rows, or something that stands on them, could not be made.
func (m *Meter) TableFailed(oid int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change(oid, func(t *tableMeter) { t.failed = true })
}

// TableArrived counts a table whose mark is on the target, though nobody heard that it was committed.
func (m *Meter) TableArrived(oid, rows int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change(oid, func(t *tableMeter) {
		if t.copied {
			return
		}
		m.tables++
		m.rows += rows
		t.rows, t.copied, t.failed = rows, true, false
	})
}

// change must be called with mu held. A table that is not followed, such as one that is left as it was, has no state.
func (m *Meter) change(oid int64, how func(*tableMeter)) {
	t := m.byOID[oid]
	if t == nil {
		return
	}
	how(t)
	m.revision++
	t.changed = m.revision
	if t.recent == nil {
		t.recent = m.recent.PushBack(t)
		return
	}
	m.recent.MoveToBack(t.recent)
}

// Resumed logs that the clone goes on under another snapshot.
func (m *Meter) Resumed(at time.Time, kept, redone int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log(report.Event{Kind: report.EventResumed, Text: report.Said(fmt.Sprintf("Going on under the snapshot of %s: %s kept, %s to be copied again.",
		at.UTC().Format(time.DateTime+" MST"), report.Count(kept, "part", "parts"), report.Count(redone, "part", "parts")))})
}

// log must be called with mu held.
func (m *Meter) log(e report.Event) {
	m.revision++
	e.At = time.Now()
	if len(m.events) == keptEvents {
		m.events = slices.Delete(m.events, 0, 1)
	}
	m.events = append(m.events, loggedEvent{e, m.revision})
}

// Warned hears of what is worth knowing.
func (m *Meter) Warned(text report.Text) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log(report.Event{Kind: report.EventWarning, Text: text})
}

// End says that phases have come to their end; those that never began have none.
func (m *Meter) End(phases ...report.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range phases {
		if s := m.phases[p]; s != nil && s.begun {
			s.ended = true
			m.log(report.Event{Kind: report.EventPhaseEnded, Phase: p})
		}
	}
}
