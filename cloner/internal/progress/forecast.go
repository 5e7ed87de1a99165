package progress

import (
	"math"
	"slices"
	"time"

	"calco/cloner/report"
)

// What things cost, in bytes of copying: how long it takes to copy as many bytes of a table. Measured on clones of a
// shop of 107 tables (60 and 340 MB) and of 500 small tables, all on one machine.
const (
	TableWork    = 64 << 10 // a table, however small
	NodeWork     = 16 << 10 // an index or constraint, however small
	ScanWork     = 0.15     // a byte of a table that is read for an index or a foreign key
	IndexWork    = 0.5      // a byte of an index
	sequenceWork = 12 << 10
	ownerWork    = 16 << 10 // owners and grants, a table
	analyzeWork  = 0.6      // a byte of a table, up to analyzeBytes: only a sample is read
	analyzeBytes = 10 << 20
	analyzeTable = 60 << 10
	viewWork     = 0.2  // a byte of the largest table, for each materialized view
	countWork    = 0.03 // a byte of a table that is counted
	countTable   = 8 << 10
)

const (
	usualSpeed  = 60 << 20 // bytes of copying a second, until something was copied
	headShare   = 0.02     // how much of a clone comes before its rows, where no earlier one tells
	speedWindow = 15 * time.Second
	leftInertia = 3 * time.Second // how fast the time left that is shown follows the one that is reckoned
	almostDone  = 0.995           // what is shown until the end
)

// forecast reckons how far a clone is and how long it will take. A clone has three stretches: the head, before there
// is a plan; the filling, from the first row to the last constraint, whose work is known in bytes of copying; and the
// tail, whose phases are expected to take some time. It is a part of Meter, whose mu guards it.
type forecast struct {
	past *report.Report // an earlier clone of the same pair, or nil

	work    float64 // of the filling
	kept    float64 // of it, that was there before this run
	worked  float64 // of it, by what is through
	begun   time.Time
	ended   time.Time // of the filling
	running map[*piece]struct{}
	speeds  []speedSample // of the last speedWindow, and one before it

	shares   [3]float64 // of the stretches
	tailWork map[report.Phase]float64
	dump     float64                  // how many seconds the dump of the source took: that of the target will take as many
	usual    float64                  // the speed to expect, in work a second
	tail     map[report.Phase]float64 // how many seconds each phase will take
	at       report.Phase             // of the tail
	atSince  time.Time

	over   bool // the clone has come to its end,
	halted bool // or has ended early
	done   float64
	left   time.Duration
	leftAt time.Time // when it was reckoned
}

type speedSample struct {
	at     time.Time
	worked float64
}

// tailPhases are those of the tail, in order; post-data stands for owners and grants.
var tailPhases = []report.Phase{report.PhaseSequences, report.PhaseAnalyze, report.PhasePostData, report.PhaseViews, report.PhaseVerify}

// piece is work that does not say how far it is. It is taken to go on as usual, and never to be quite done.
type piece struct {
	work     float64
	begun    time.Time
	expected float64 // seconds
}

// asUsual is how much is done of something that usually takes that many seconds.
func asUsual(spent time.Duration, expected float64) float64 {
	return math.Tanh(spent.Seconds() / max(expected, 1e-3))
}

// Usable tells whether a report is one to reckon with.
func Usable(r *report.Report) bool {
	if r == nil || r.Status != report.StatusCompleted && r.Status != report.StatusDifferences {
		return false
	}
	return r.Size > 0 && headOf(r) > 0 && bodyOf(r) > 0 && r.Seconds > headOf(r)+bodyOf(r)
}

// headOf is how many seconds passed before the first row, and bodyOf those from there to the last constraint.
func headOf(r *report.Report) float64 { return begunAt(r, report.PhaseCopy) }
func bodyOf(r *report.Report) float64 { return begunAt(r, report.PhaseSequences) - headOf(r) }

func begunAt(r *report.Report, p report.Phase) float64 {
	for _, ph := range r.Phases {
		if ph.Name == p {
			return ph.Begun
		}
	}
	return 0
}

// tailOf is how many seconds each phase after the filling took. What no other took went into owners and grants.
func tailOf(r *report.Report) map[report.Phase]float64 {
	rest := r.Seconds - headOf(r) - bodyOf(r)
	took := map[report.Phase]float64{}
	for _, ph := range r.Phases {
		switch ph.Name {
		case report.PhaseSequences, report.PhaseAnalyze, report.PhaseViews, report.PhaseVerify:
			took[ph.Name] = ph.Seconds
			rest -= ph.Seconds
		}
	}
	took[report.PhasePostData] = max(rest, 0)
	return took
}

// TailWork is what the phases of the tail will cost, by the sizes of the tables.
func TailWork(sizes []int64, sequences, views int) map[report.Phase]float64 {
	work := map[report.Phase]float64{report.PhaseSequences: sequenceWork * float64(sequences)}
	var largest float64
	for _, n := range sizes {
		size := float64(n)
		work[report.PhaseAnalyze] += analyzeTable + analyzeWork*min(size, analyzeBytes)
		work[report.PhasePostData] += ownerWork
		work[report.PhaseVerify] += countTable + countWork*size
		largest = max(largest, size)
	}
	work[report.PhaseViews] = viewWork * largest * float64(views)
	return work
}

// estimate returns how much of the clone is done, from 0 to 1, and the time left, which is 0 while nothing can be said.
func (m *Meter) estimate(now time.Time) (done float64, left time.Duration) {
	f := &m.forecast
	switch {
	case f.over:
		return 1, 0
	case f.halted || m.started.IsZero():
		return f.done, 0
	case f.begun.IsZero():
		done, left = m.inHead(now)
	case f.ended.IsZero():
		done, left = m.inBody(now)
	default:
		done, left = m.inTail(now)
	}
	f.done = max(f.done, min(done, almostDone))
	f.showLeft(left, now)
	return f.done, f.left
}

// showLeft moves the time left that is shown towards the one that is reckoned, without jumps.
func (f *forecast) showLeft(left time.Duration, now time.Time) {
	passed := now.Sub(f.leftAt)
	switch {
	case left > 0 && f.left > 0:
		shown := f.left - passed
		f.left = shown + time.Duration(float64(left-shown)*(1-math.Exp(-passed.Seconds()/leftInertia.Seconds())))
	case left > 0:
		f.left = left
	default:
		f.left -= passed
	}
	f.left, f.leftAt = max(f.left, 0), now
}

func (m *Meter) inHead(now time.Time) (done float64, left time.Duration) {
	if past := m.forecast.past; past != nil {
		spent := min(now.Sub(m.started).Seconds(), headOf(past))
		return spent / past.Seconds, seconds(past.Seconds - spent)
	}
	for p, share := range map[report.Phase]float64{report.PhasePreflight: 0.2, report.PhaseSnapshot: 0.3, report.PhasePreData: 0.5} {
		if s := m.phases[p]; s != nil && s.total > 0 {
			done += share * float64(s.done) / float64(s.total)
		} else if s != nil && s.open == 0 {
			done += share
		}
	}
	return headShare * done, 0
}

// setWork ends the head: the work is known. size is that of all tables.
func (f *forecast) setWork(work float64, tail map[report.Phase]float64, head, dump float64, size int64, now time.Time) {
	f.work, f.tailWork, f.dump, f.begun = work, tail, dump, now
	filling, rest := work/usualSpeed, f.tailSeconds(usualSpeed)
	if f.past != nil {
		grown := float64(size) / float64(f.past.Size)
		filling = bodyOf(f.past) * grown
		f.tail = tailOf(f.past)
		for p := range f.tail {
			f.tail[p] *= grown
		}
		rest = f.tailSeconds(0)
	} else {
		head = headShare / (1 - headShare) * (filling + rest)
	}
	all := max(head+filling+rest, 1e-3)
	f.shares = [3]float64{head / all, filling / all, rest / all}
	f.usual = work / max(filling, 1e-3)
	f.speeds = []speedSample{{now, 0}}
}

// keep counts work of the filling that nobody has to do any more: it says nothing of the speed.
func (f *forecast) keep(work float64) {
	f.kept += work
	for i := range f.speeds {
		f.speeds[i].worked += work
	}
}

// tailSeconds is how long the tail is expected to take at a speed.
func (f *forecast) tailSeconds(speed float64) float64 {
	all := f.dump
	for _, w := range f.tailWork {
		all += w / speed
	}
	if f.tail != nil {
		all = 0
		for _, s := range f.tail {
			all += s
		}
	}
	return all
}

func (m *Meter) inBody(now time.Time) (done float64, left time.Duration) {
	f := &m.forecast
	worked := min(m.workedBy(now), f.work)
	spent := now.Sub(f.begun).Seconds()
	f.sample(now, worked)
	done = f.shares[0] + f.shares[1]*worked/max(f.work, 1)
	first := f.speeds[0]
	took, moved := now.Sub(first.at).Seconds(), worked-first.worked
	if f.past != nil {
		// What it was then counts as some seconds at the beginning, and less and less.
		prior := 5 * math.Exp(-spent/speedWindow.Seconds())
		took += prior
		moved += prior * f.usual
	} else if spent < 1 || worked-f.kept < (f.work-f.kept)/100 {
		return done, 0
	}
	if moved <= 0 {
		return done, 0
	}
	return done, seconds((f.work-worked)*took/moved + f.tailSeconds(max(worked-f.kept, 1)/spent))
}

// sample remembers how much was worked, some times a second.
func (f *forecast) sample(now time.Time, worked float64) {
	if now.Sub(f.speeds[len(f.speeds)-1].at) < speedWindow/60 {
		return
	}
	f.speeds = append(f.speeds, speedSample{now, worked})
	for len(f.speeds) > 2 && now.Sub(f.speeds[1].at) > speedWindow {
		f.speeds = f.speeds[1:]
	}
}

// workedBy is the work done by now, of what is on its way too.
func (m *Meter) workedBy(now time.Time) float64 {
	worked := m.forecast.worked
	for f := range m.active {
		if f.Size > 0 {
			worked += f.Work * float64(min(f.Bytes.Load(), f.Size)) / float64(f.Size)
		}
	}
	for p := range m.forecast.running {
		worked += p.work * asUsual(now.Sub(p.begun), p.expected)
	}
	return worked
}

// AddWork counts work to the filling that no table has.
func (m *Meter) AddWork(work float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forecast.work += work
}

// StartWork puts a piece of work under way, as one of those that go on at the same time.
func (m *Meter) StartWork(work float64) *piece {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, now := &m.forecast, time.Now()
	speed := f.usual
	if spent := now.Sub(f.begun).Seconds(); spent > 1 && f.worked > f.kept {
		speed = (f.worked - f.kept) / spent
	}
	p := &piece{work: work, begun: now, expected: work / max(speed, 1) * float64(len(m.active)+len(f.running)+1)}
	if f.running == nil {
		f.running = map[*piece]struct{}{}
	}
	f.running[p] = struct{}{}
	return p
}

// EndWork takes a piece of work from under way, and counts it if it is done.
func (m *Meter) EndWork(p *piece, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.forecast.running, p)
	if done {
		m.forecast.worked += p.work
	}
}

// BodyDone ends the filling: from here on it is the phases of the tail that take time.
func (m *Meter) BodyDone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forecast.endBody(time.Now())
}

func (f *forecast) endBody(now time.Time) {
	f.ended = now
	if f.tail != nil {
		return
	}
	speed := f.usual
	if spent := f.ended.Sub(f.begun).Seconds(); f.work > f.kept && spent > 0 {
		speed = (f.work - f.kept) / spent
	}
	f.tail = map[report.Phase]float64{}
	for p, w := range f.tailWork {
		f.tail[p] = w / max(speed, 1)
	}
	f.tail[report.PhaseVerify] += f.dump
}

func (m *Meter) inTail(now time.Time) (done float64, left time.Duration) {
	f := &m.forecast
	var through, all float64 // seconds, as expected
	for p, expected := range f.tail {
		all += expected
		through += expected * m.phaseShare(p, expected, now)
	}
	if all <= 0 {
		return f.shares[0] + f.shares[1], 0
	}
	// If it goes slower than expected so far, so will the rest; a little is no sign yet.
	little := all/4 + 0.25
	pace := (now.Sub(f.ended).Seconds() + little) / (through + little)
	return f.shares[0] + f.shares[1] + f.shares[2]*through/all, seconds((all - through) * pace)
}

// phaseShare is how much of a phase of the tail is done: what is counted, and what is not, as usual.
func (m *Meter) phaseShare(p report.Phase, expected float64, now time.Time) float64 {
	at := slices.Index(tailPhases, m.forecast.at)
	switch i := slices.Index(tailPhases, p); {
	case i < at:
		return 1
	case i > at:
		return 0
	}
	usual := asUsual(now.Sub(m.forecast.atSince), expected)
	s := m.phases[p]
	if s == nil || s.total == 0 || p == report.PhasePostData {
		return usual
	}
	counted, total := float64(s.done)/float64(s.total), float64(s.total)
	if p == report.PhaseVerify {
		// The dump is one of many things it counts, but takes its time.
		return max(counted*(1-min(m.forecast.dump/max(expected, 1e-3), 0.9)), usual)
	}
	return min(max(counted, usual), counted+max(0.3, 1/total))
}

// SetTailPhase says which phase of the tail is on. Those that come back to an earlier one are short.
func (m *Meter) SetTailPhase(p report.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &m.forecast
	if slices.Index(tailPhases, p) > slices.Index(tailPhases, f.at) {
		f.at, f.atSince = p, time.Now()
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
