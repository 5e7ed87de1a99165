package chaos

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"calco/cloner/jobs"
)

// promised is how soon the page tells the truth, whatever dies. A look and the answer to it come on top.
const (
	promised = 30 * time.Second
	looking  = time.Second
	// cancelled is how soon a worker that lives ends a job that is cancelled.
	cancelled = 2 * time.Second
	// settled is how old what the page says may be: what it says later is of after the fault.
	settled = 1500 * time.Millisecond
)

// sight is what can be seen of a job at one moment.
type sight struct {
	page
	term int64 // the number of its owner, from its row
}

// truth tells whether what is seen now is true of a fault, given what was seen when its effect had set in.
type truth func(before, now sight) bool

// over are the states in which a job is left to people.
var over = []string{"completed", "differences", "failed", "cancelled", "refused"}

// goesOn: either the job gets on, or the page says that it does not.
func goesOn(before, now sight) bool {
	return now.trouble || now.status != "running" || now.term > before.term || before.facts != "" && now.facts != before.facts
}

// changesHands: the job is not shown as if its dead owner worked at it.
func changesHands(before, now sight) bool { return now.status != "running" || now.term > before.term }

func hasEnded(_, now sight) bool { return slices.Contains(over, now.status) }

// hasEndedOrWaits: a server that crashes while its disk is full is only away, to a clone.
func hasEndedOrWaits(_, now sight) bool { return hasEnded(now, now) || now.trouble }

func answers(_, _ sight) bool { return true }

// see looks at the job, by the page and, for its owner, by the row.
func (w *world) see(job string) (sight, error) {
	p, err := w.browser.look(job)
	if err != nil {
		return sight{}, err
	}
	s := sight{page: p}
	task, err := w.store.Task(w.Context(), job)
	s.term = task.Term
	return s, err
}

// awaitTruth looks at the page until it tells the truth about what happened at a time, and returns how long that took.
func (r *round) awaitTruth(job string, holds truth, term int64, struck time.Time) (took time.Duration, ok bool) {
	before := sight{term: term}
	for time.Since(struck) < 3*promised {
		now, err := r.see(job)
		if err == nil && holds(before, now) {
			return time.Since(struck), true
		}
		if err == nil && before.facts == "" && time.Since(struck) > settled {
			before.facts = now.facts
		}
		time.Sleep(250 * time.Millisecond)
	}
	return time.Since(struck), false
}

// owner returns the worker that has the job, or nil where that is not known.
func (w *world) owner(job string) *process {
	return w.withPID(w.ownerPID(job))
}

// phasesNow returns the phases in which the job is, as exactly as it can be seen, in order. It is in "queued" before it
// has begun, and in none when it has ended.
func (w *world) phasesNow(job string) ([]string, error) {
	task, err := w.store.Task(w.Context(), job)
	switch {
	case err != nil:
		return nil, err
	case task.Status == jobs.Queued:
		return []string{"queued"}, nil
	case task.Status.Ended():
		return nil, nil
	}
	if now, err := w.target.ask(activity(job)); err == nil && now != "" { // the row may be a second old
		all := strings.Split(now, ",")
		slices.SortFunc(all, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
		return all, nil
	}
	now := []string{"preflight"}
	for _, p := range task.Progress.Phases {
		if p.Running {
			now = append(now, string(p.Name))
		}
	}
	return now[min(len(now)-1, 1):], nil
}
