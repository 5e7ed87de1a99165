package chaos

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"calco/db/dbtest"
)

// setting reads a number from the environment.
func setting(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// everydaySeed is the one to look at a change with; make chaos draws a new one each time.
const everydaySeed = 2

// TestChaos clones again and again while whatever a clone needs is taken away: CALCO_CHAOS_FAULTS times, 10 unless it is
// set, within CALCO_CHAOS_MINUTES. All choices follow from CALCO_CHAOS_SEED; what happens then depends on how fast the
// machine is as well, so that the same seed strikes at the same phases but not at the same row.
func TestChaos(t *testing.T) {
	dbtest.Long(t)
	faults, minutes := setting(t, "CALCO_CHAOS_FAULTS", 10), setting(t, "CALCO_CHAOS_MINUTES", 25)
	seed := setting(t, "CALCO_CHAOS_SEED", everydaySeed)
	t.Logf("to play this again: CALCO_CHAOS_SEED=%d CALCO_CHAOS_FAULTS=%d CALCO_CHAOS_MINUTES=%d make chaos", seed, faults, minutes)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it is to be repeatable

	w := newWorld(t)
	possible := func(k kind) bool {
		return (k != fillDisk || w.disk != nil) && (k != freezeServer || runtime.GOOS == "linux") // whose children are found
	}
	tally := newTally()
	defer func() { t.Log(tally) }()
	for until, n := time.Now().Add(time.Duration(minutes)*time.Minute), 1; tally.total() < int(faults); n++ { //nolint:gosec // a small number
		if time.Now().After(until) {
			t.Errorf("time is up after %d of %d faults", tally.total(), faults)
			return
		}
		p := draft(random, int(faults), possible) //nolint:gosec // as above
		p.clean = p.clean && n > 1
		t.Logf("round %d: clean %v, %d ms away, the writing ends before strike %d", n, p.clean, p.away, p.quiet)
		for i, s := range p.strikes {
			t.Logf("    %d: %v", i, s)
		}
		w.run(p, tally)
	}
}

// TestUndisturbed is a round without faults: what the harness asks for is there when nothing is taken away.
func TestUndisturbed(t *testing.T) {
	dbtest.Long(t)
	w, tally := newWorld(t), newTally()
	for _, p := range []plan{{quiet: 0}, {quiet: -1, clean: true}} {
		begun := time.Now()
		w.run(p, tally)
		t.Logf("quiet %d, clean %v: %v", p.quiet, p.clean, time.Since(begun).Round(time.Millisecond))
	}
	t.Log(tally)
}
