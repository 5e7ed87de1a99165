package cloner

import (
	"reflect"
	"testing"

	"calco/db/dbtest"
)

// TestTorture clones a schema of everything that is hard to copy, twice in a row.
func TestTorture(t *testing.T) {
	source, target := dbtest.Database(t), dbtest.Database(t)
	fixture(t, source, "torture.sql")
	spec := Spec{Source: URL(source), Target: URL(target)}
	first := mustComplete(t, spec)
	if n := compareFidelity(t, source, target); n < 55 {
		t.Errorf("only %d fidelity queries were run", n)
	}
	spec.Clean = true
	second := mustComplete(t, spec)
	compareFidelity(t, source, target)

	for _, r := range []*Report{&first, &second} { // what differs between any two runs
		r.Seconds, r.Phases, r.SnapshotAt = 0, nil, second.SnapshotAt
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("the second report differs\nfirst:  %+v\nsecond: %+v", first, second)
	}
}
