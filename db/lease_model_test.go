package db_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"calco/cloner/jobs"
	"calco/db/dbtest"
)

// A model of a job's lease: what the row of the job, its River jobs, its workers and its target may do in any order. It is
// small enough to look at all of it. TestLeaseOfStore holds the store against the same rules.

const (
	modelWorkers = 3
	modelParts   = 2
	modelTerms   = 3 // no action raises the term above
	allParts     = 1<<modelParts - 1
)

// answer is what a method of the store says.
type answer string

const (
	done     answer = ""
	lost     answer = "lost"
	asked    answer = "asked to cancel"
	conflict answer = "conflict"
)

// row is a row of background_tasks, as far as the lease goes.
type row struct {
	status  jobs.Status
	term    int8
	fresh   bool // it runs, and the heartbeat is younger than the lease
	cancel  bool // it runs, and somebody wants it cancelled
	touched bool
	report  bool // a worker has written the end, with a report
}

func (r row) has(term int8) bool { return r.status == jobs.Running && r.term == term }

// requeued is queued again with a new term.
func (r row) requeued() row { return row{status: jobs.Queued, term: r.term + 1, touched: r.touched} }

// cancelled has ended without the word of a worker.
func (r row) cancelled() row {
	return row{status: jobs.Cancelled, term: r.term, touched: r.touched}
}

func (r row) claimBy(term int8) (row, answer) {
	if r.status != jobs.Queued || r.term != term {
		return r, lost
	}
	return row{status: jobs.Running, term: term, fresh: true, touched: r.touched}, done
}

func (r row) beatBy(term int8, touched bool) (row, answer) {
	if !r.has(term) {
		return r, lost
	}
	r.fresh, r.touched = true, touched
	if r.cancel {
		return r, asked
	}
	return r, done
}

func (r row) requeueBy(term int8, touched bool) (row, answer) {
	switch {
	case !r.has(term):
		return r, lost
	case r.cancel:
		return r, asked
	}
	r.touched = touched
	return r.requeued(), done
}

func (r row) finishBy(term int8, touched bool, outcome jobs.Status) (row, answer) {
	if !r.has(term) && (r.term != term || r.status != outcome || !r.report) {
		return r, lost
	}
	return row{status: outcome, term: term, touched: touched, report: true}, done
}

func (r row) cancelling() (row, answer) {
	switch r.status {
	case jobs.Queued:
		return r.cancelled(), done
	case jobs.Running:
		r.cancel = true
		return r, done
	}
	return r, conflict
}

func (r row) resumed() (row, answer) {
	if (r.status == jobs.Failed || r.status == jobs.Cancelled) && r.touched {
		return r.requeued(), done
	}
	return r, conflict
}

// reaped: carried tells whether River has a job of this term that may still come.
func (r row) reaped(carried bool) row {
	if r.status == jobs.Queued && !carried {
		return r.requeued()
	}
	return r.reconnected()
}

func (r row) reconnected() row {
	if r.status != jobs.Running || r.fresh {
		return r
	}
	if r.cancel {
		return r.cancelled()
	}
	return r.requeued()
}

// worker is what a process believes of the job.
type worker struct {
	term    int8        // that it has claimed; 0 for none
	asked   bool        // it knows that the job is to be cancelled
	begun   bool        // it has said that it changes the target
	ready   bool        // it has taken the target over
	known   uint8       // the parts whose marks it has read, or written
	outcome jobs.Status // that it has written, though it may not know; then it does nothing else
}

// world is all of it. It is a value: an action makes another one.
type world struct {
	row     row
	carried uint8 // the terms for which River has a job that may still come
	workers [modelWorkers]worker
	fence   int8             // the highest term that has claimed the target
	flying  [modelParts]int8 // the term of the transaction that writes a part, which may outlive its worker
	written [modelParts]int8 // how often a part is on the target
}

// step is an action that was possible, and the world after it.
type step struct {
	name  string
	after world
	user  bool   // a person does it, so that nobody may count on it
	wrong string // what must not be
}

// with is the world with another row, whose new term River gets a job for.
func (w world) with(r row) world {
	if r.term > w.row.term {
		w.carried |= 1 << r.term
	}
	w.row = r
	return w
}

func (w world) marks() (parts uint8) {
	for p, n := range w.written {
		if n > 0 {
			parts |= 1 << p
		}
	}
	return parts
}

// quiet tells whether no transaction is open on the target.
func (w world) quiet() bool { return w.flying == [modelParts]int8{} }

// steps are all that may happen next.
func (w world) steps() (all []step) {
	add := func(name string, after world) { all = append(all, step{name: name, after: after.sorted()}) }
	byUser := func(name string, r row, a answer) {
		if a == done && r != w.row {
			all = append(all, step{name: name, after: w.with(r), user: true})
		}
	}
	r, a := w.row.cancelling()
	byUser("cancel", r, a)
	r, a = w.row.resumed()
	byUser("resume", r, a)
	if w.row.fresh {
		late := w
		late.row.fresh = false
		add("time passes", late)
	}
	add("reap", w.with(w.row.reaped(w.carried&(1<<w.row.term) != 0)))
	for term := int8(1); term <= w.row.term; term++ {
		if w.carried&(1<<term) != 0 {
			gone := w
			gone.carried &^= 1 << term
			add("a worker dies before the claim", gone)
		}
	}
	for i := range w.workers {
		all = append(all, w.stepsOf(i)...)
	}
	for p, term := range w.flying {
		if term != 0 {
			all = append(all, w.landings(p, term)...)
		}
	}
	return slices.DeleteFunc(all, func(s step) bool { return s.after.row.term > modelTerms || s.after == w && s.wrong == "" })
}

// landings are the ends of a transaction that writes a part.
func (w world) landings(p int, term int8) []step {
	aborted := w
	aborted.flying[p] = 0
	committed := aborted
	committed.written[p]++
	for i := range committed.workers {
		if committed.workers[i].term == term {
			committed.workers[i].known |= 1 << p
		}
	}
	commit := step{name: "commit", after: committed.sorted()}
	if term != w.fence {
		commit.wrong = "a part of an older term is committed after a takeover"
	}
	return []step{commit, {name: "abort", after: aborted.sorted()}}
}

// stepsOf are what a worker may do.
func (w world) stepsOf(i int) (all []step) {
	me := w.workers[i]
	add := func(name string, after world, mine worker) {
		after.workers[i] = mine
		all = append(all, step{name: fmt.Sprint(name, " by ", me.term), after: after.sorted()})
	}
	if me.term == 0 {
		for term := int8(1); term <= w.row.term; term++ {
			if w.carried&(1<<term) == 0 {
				continue
			}
			came := w
			came.carried &^= 1 << term
			r, a := came.row.claimBy(term)
			mine := worker{}
			if a == done {
				mine.term = term
			}
			add(fmt.Sprint("claim of ", term), came.with(r), mine)
		}
		return all
	}
	add("death", w, worker{})
	touched := w.row.touched || me.begun
	finish := func(outcome jobs.Status) {
		r, a := w.row.finishBy(me.term, touched, outcome)
		mine := worker{}
		if a == done { // and the answer may be lost
			mine = me
			mine.outcome = outcome
		}
		add("finish as "+string(outcome), w.with(r), mine)
	}
	if me.outcome != "" {
		finish(me.outcome)
		return all
	}
	r, a := w.row.beatBy(me.term, touched)
	mine := me
	switch a {
	case lost:
		mine = worker{}
	case asked:
		mine.asked = true
	}
	add("beat", w.with(r), mine)
	if r, a := w.row.beatBy(me.term, true); a == done && !me.begun {
		mine := me
		mine.begun = true
		add("begin", w.with(r), mine)
	}
	switch r, a := w.row.requeueBy(me.term, touched); a {
	case asked:
		mine := me
		mine.asked = true
		add("requeue, asked to cancel,", w, mine)
	default:
		add("requeue", w.with(r), worker{})
	}
	finish(jobs.Failed)
	if me.asked {
		finish(jobs.Cancelled)
	}
	if me.ready && me.known == allParts && w.quiet() && w.fence == me.term {
		finish(jobs.Completed)
	}
	return append(all, w.onTarget(i)...)
}

// onTarget is what a worker may do to the target: take it over, which waits for open transactions, and write parts that it
// knows not to be there. Each transaction reads the fence.
func (w world) onTarget(i int) (all []step) {
	me := w.workers[i]
	if me.begun && !me.ready && me.term > w.fence && w.quiet() {
		after := w
		after.fence = me.term
		after.workers[i].ready, after.workers[i].known = true, w.marks()
		all = append(all, step{name: fmt.Sprint("takeover by ", me.term), after: after.sorted()})
	}
	for p := range w.flying {
		if me.ready && w.fence == me.term && me.known&(1<<p) == 0 && w.flying[p] == 0 {
			after := w
			after.flying[p] = me.term
			all = append(all, step{name: fmt.Sprint("write part ", p, " by ", me.term), after: after.sorted()})
		}
	}
	return all
}

// sorted is the world with its workers in order: which of them does something makes no difference.
func (w world) sorted() world {
	slices.SortFunc(w.workers[:], func(a, b worker) int {
		return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.known, b.known), cmp.Compare(a.outcome, b.outcome),
			cmp.Compare(fmt.Sprint(a.asked, a.begun, a.ready), fmt.Sprint(b.asked, b.begun, b.ready)))
	})
	return w
}

// wrong is what must not be in any world.
func (w world) wrong() string {
	for i, a := range w.workers {
		for _, b := range w.workers[:i] {
			if a.term != 0 && a.term == b.term {
				return "two workers have one term"
			}
		}
		if a.term > w.row.term {
			return "a worker has a term that the job never had"
		}
	}
	for _, n := range w.written {
		if n > 1 {
			return "a part is on the target twice"
		}
	}
	switch {
	case w.fence > 0 && !w.row.touched:
		return "the target has changed, and the job does not know"
	case w.row.status == jobs.Completed && w.marks() != allParts:
		return "a completed job lacks a part"
	case w.row.status != jobs.Running && (w.row.cancel || w.row.fresh):
		return "a job that does not run is being cancelled, or lives"
	}
	return ""
}

// wrongStep is what must not happen.
func wrongStep(before world, s step) string {
	switch after := s.after.row; {
	case s.wrong != "":
		return s.wrong
	case after.term < before.row.term:
		return "the term falls"
	case before.row.status.Ended() && !after.status.Ended() && s.name != "resume":
		return "a job that has ended runs again"
	case before.row.cancel && !after.cancel && !after.status.Ended():
		return "a cancel is forgotten"
	}
	return ""
}

// explore visits all worlds, and fails the test at what must not be. It returns them in the order in which they were
// found, with their steps.
func explore(t *testing.T) (worlds []world, steps [][]step) {
	t.Helper()
	first := world{row: row{status: jobs.Queued, term: 1}, carried: 1 << 1}
	seen := map[world]bool{first: true}
	worlds = []world{first}
	for i := 0; i < len(worlds); i++ {
		next := worlds[i].steps()
		steps = append(steps, next)
		for _, s := range next {
			if wrong := cmp.Or(wrongStep(worlds[i], s), s.after.wrong()); wrong != "" {
				t.Fatalf("%s: %s\n%+v\n%+v", s.name, wrong, worlds[i], s.after)
			}
			if !seen[s.after] {
				seen[s.after] = true
				worlds = append(worlds, s.after)
			}
		}
	}
	return worlds, steps
}

// Whatever happens in whatever order: nobody writes but the worker of the newest term, no part is on the target twice, a
// job that was cancelled ends, and none is lost.
func TestLease(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	worlds, steps := explore(t)
	t.Logf("%d worlds", len(worlds))
	index := make(map[world]int, len(worlds))
	for i, w := range worlds {
		index[w] = i
	}
	// From the ends backwards, along what happens without anybody's help.
	before := make([][]int, len(worlds))
	var ends []int
	for i, w := range worlds {
		if w.row.status.Ended() {
			ends = append(ends, i)
		}
		for _, s := range steps[i] {
			if !s.user {
				before[index[s.after]] = append(before[index[s.after]], i)
			}
		}
	}
	comes := make([]bool, len(worlds)) // to an end
	for len(ends) > 0 {
		i := ends[len(ends)-1]
		ends = ends[:len(ends)-1]
		if !comes[i] {
			comes[i] = true
			ends = append(ends, before[i]...)
		}
	}
	for i, w := range worlds {
		if !comes[i] && w.row.term < modelTerms { // the last term cannot be raised, here
			t.Fatalf("a job is lost: %+v", w)
		}
	}
}
