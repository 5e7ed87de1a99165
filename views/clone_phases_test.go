package views

import (
	"testing"

	"calco/cloner/report"
)

// A phase has its mark when it is over for good: some stop in between, and go on.
func TestPhaseLines(t *testing.T) {
	t.Parallel()
	c := CloneProps{Status: "running", Progress: report.Progress{Phases: []report.PhaseProgress{
		{Name: report.PhasePreflight, Ended: true},
		{Name: report.PhaseSnapshot, Ended: true},
		{Name: report.PhasePreData, Ended: true},
		{Name: report.PhaseCopy, Ended: true},
		{Name: report.PhaseIndexes, Running: true, Done: 1, Total: 2},
		{Name: report.PhaseConstraints, Done: 1, Total: 3},
		{Name: report.PhasePostData},
		{Name: report.PhaseSequences, Ended: true},
	}}}
	check := func(want map[string]string) {
		t.Helper()
		for _, l := range c.phaseLines() {
			if w, ok := want[l.name()]; ok && l.state != w {
				t.Errorf("%s: %s is %s, want %s", c.Status, l.name(), l.state, w)
			}
		}
	}
	check(map[string]string{
		"preflight": "done", "clean": "skipped", "copy": "done", "indexes": "now", "constraints": "rests", "post-data": "rests", "sequences+views": "rests",
		"analyze": "todo", "verify": "todo",
	})
	c.Phases[3] = report.PhaseProgress{Name: report.PhaseCopy, Running: true}
	check(map[string]string{"copy": "now", "constraints": "now"}) // it waits for rows
	c.Status = "completed"
	check(map[string]string{"constraints": "done", "post-data": "done", "sequences+views": "done", "verify": "skipped"})
}
