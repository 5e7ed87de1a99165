package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"calco/cloner/report"
)

// tally counts what happened. It is safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	faults   map[string]map[string]int // by name and phase
	longest  map[string]time.Duration  // until the page told the truth, by name
	missed   int
	outcomes map[string]int // of rounds
	stops    map[string]int // of jobs that went on
	resumes  int
	exact    int

	kept, redone, copied, epochs int
}

func newTally() *tally {
	return &tally{faults: map[string]map[string]int{}, longest: map[string]time.Duration{}, outcomes: map[string]int{}, stops: map[string]int{}}
}

func (t *tally) struck(s strike, phase string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := s.name()
	if t.faults[name] == nil {
		t.faults[name] = map[string]int{}
	}
	t.faults[name][phase]++
	t.longest[name] = max(t.longest[name], took)
}

func (t *tally) miss(strike) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed++
}

func (t *tally) end(status string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes[status]++
}

func (t *tally) stopped(status string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stops[status]++
}

func (t *tally) resumed(ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ok {
		t.resumes++
	}
}

// parts counts what became of the parts of a clone.
func (t *tally) parts(r report.Report, exact bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if exact {
		t.exact++
	}
	t.epochs += max(1, len(r.Epochs))
	for _, e := range r.Epochs {
		t.kept += e.Kept
		t.redone += e.Redone
		t.copied += e.Copied
	}
}

// total is how many faults have struck.
func (t *tally) total() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, row := range t.faults {
		for _, count := range row {
			n += count
		}
	}
	return n
}

// String is the table of it all.
func (t *tally) String() string {
	n := t.total()
	t.mu.Lock()
	defer t.mu.Unlock()
	columns := slices.Concat([]string{"queued"}, phases, []string{"unknown"})
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-30s", "faults by the phase they struck in")
	b.WriteString("\n" + strings.Repeat(" ", 30))
	for _, c := range columns {
		fmt.Fprintf(&b, " %6.6s", c)
	}
	fmt.Fprintf(&b, " %6s %s\n", "all", "longest to the truth")
	for _, name := range slices.Sorted(maps.Keys(t.faults)) {
		all := 0
		fmt.Fprintf(&b, "%-30s", name)
		for _, c := range columns {
			count := t.faults[name][c]
			all += count
			if count == 0 {
				fmt.Fprintf(&b, " %6s", ".")
			} else {
				fmt.Fprintf(&b, " %6d", count)
			}
		}
		fmt.Fprintf(&b, " %6d %.1f s\n", all, t.longest[name].Seconds())
	}
	fmt.Fprintf(&b, "%d faults struck, %d found the job at its end or nothing to strike\n", n, t.missed)
	fmt.Fprintf(&b, "rounds %v, of which %d were compared row by row; ends before that %v, Resume pressed %d times\n", t.outcomes, t.exact, t.stops, t.resumes)
	fmt.Fprintf(&b, "epochs %d; parts kept %d, redone %d, copied %d in clones with more than one epoch\n", t.epochs, t.kept, t.redone, t.copied)
	return b.String()
}
