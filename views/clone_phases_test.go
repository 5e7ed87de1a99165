package views

import "testing"

// A phase has its mark when it is over for good: some stop in between, and go on.
func TestPhaseLines(t *testing.T) {
	t.Parallel()
	c := CloneProps{Status: "running", Phases: []ClonePhase{
		{Name: "preflight", Ended: true},
		{Name: "snapshot", Ended: true},
		{Name: "pre-data", Ended: true},
		{Name: "copy", Ended: true},
		{Name: "indexes", Running: true, Done: 1, Total: 2},
		{Name: "constraints", Done: 1, Total: 3},
		{Name: "post-data"},
		{Name: "sequences", Ended: true},
	}}
	check := func(want map[string]string) {
		t.Helper()
		for _, l := range c.phaseLines() {
			if w, ok := want[l.name]; ok && l.state != w {
				t.Errorf("%s: %s is %s, want %s", c.Status, l.name, l.state, w)
			}
		}
	}
	check(map[string]string{
		"preflight": "done", "clean": "skipped", "copy": "done", "indexes": "now", "constraints": "rests", "post-data": "rests", "sequences+views": "rests",
		"analyze": "todo", "verify": "todo",
	})
	c.Phases[3] = ClonePhase{Name: "copy", Running: true}
	check(map[string]string{"copy": "now", "constraints": "now"}) // it waits for rows
	c.Status = "completed"
	check(map[string]string{"constraints": "done", "post-data": "done", "sequences+views": "done", "verify": "skipped"})
}
