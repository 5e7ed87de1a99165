package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"calco/db/dbtest"
)

// kind is a way in which something is taken away.
type kind string

// The kinds of faults. Those of a side come once for each side that they can strike.
const (
	killWorker   kind = "kill a worker"
	stopWorker   kind = "stop a worker" // as a new version does
	freezeWorker kind = "freeze a worker"
	restartWeb   kind = "kill the web process"
	cancelJob    kind = "cancel"
	fillDisk     kind = "fill the target's disk"
	crashServer  kind = "crash the"
	killBackend  kind = "kill a backend of the"
	endBackend   kind = "end a backend of the"
	freezeServer kind = "freeze the"
	cutAnswer    kind = "cut a statement to the" // before the server hears of it, or after it has done it
	cutWire      kind = "cut the wire to the"
	resetWire    kind = "reset the wire to the"
	stallWire    kind = "stall the wire to the"
	slowWire     kind = "slow the wire to the"
)

// strike is one fault of a plan.
type strike struct {
	kind  kind
	side  string        // source, target or state, or empty
	phase string        // when: as soon as this phase runs,
	delay time.Duration // and after a while
	lasts time.Duration
	pick  uint64 // which worker, how slow
}

func (s strike) name() string { return strings.TrimSpace(string(s.kind) + " " + s.side) }

func (s strike) String() string {
	return fmt.Sprintf("%s for %v, %v after the begin of %s", s.name(), s.lasts.Round(time.Millisecond), s.delay.Round(time.Millisecond), s.phase)
}

// choice is a kind of fault with how often it comes, and how long it lasts at most.
type choice struct {
	kind    kind
	sides   []string
	weight  int
	shortly time.Duration
	longest time.Duration
}

var (
	allSides = []string{"source", "target", "state"}
	bothEnds = []string{"source", "target"}
	nowhere  = []string{""}
)

var choices = []choice{
	{killWorker, nowhere, 6, 0, 8 * time.Second}, // until another one is started
	{stopWorker, nowhere, 2, 0, 3 * time.Second},
	{freezeWorker, nowhere, 2, 5 * time.Second, 40 * time.Second}, // beyond its lease, and then it comes back
	{restartWeb, nowhere, 1, 0, 3 * time.Second},
	{cancelJob, nowhere, 2, 0, 3 * time.Second}, // until Resume
	{fillDisk, nowhere, 2, 0, 3 * time.Second},  // after the job has said so
	{crashServer, allSides, 2, 0, 5 * time.Second},
	{killBackend, bothEnds, 1, 0, 0},
	{endBackend, bothEnds, 1, 0, 0},
	{freezeServer, bothEnds, 1, 5 * time.Second, 40 * time.Second},
	{cutAnswer, []string{"target"}, 3, 2 * time.Second, 5 * time.Second}, // until one comes
	{cutWire, allSides, 1, 0, 5 * time.Second},
	{resetWire, allSides, 1, 0, 3 * time.Second},
	{stallWire, allSides, 1, 5 * time.Second, 40 * time.Second},
	{slowWire, allSides, 1, 2 * time.Second, 8 * time.Second},
}

// draw chooses a fault, which strikes in the phase.
func draw(random *rand.Rand, phase string, possible func(kind) bool) strike {
	var all []strike
	for _, c := range choices {
		for _, side := range c.sides {
			for range c.weight {
				all = append(all, strike{kind: c.kind, side: side, lasts: c.shortly + time.Duration(random.Int64N(int64(c.longest-c.shortly)+1))})
			}
		}
	}
	for {
		s := all[random.IntN(len(all))]
		s.phase, s.delay, s.pick = phase, time.Duration(random.IntN(400))*time.Millisecond, random.Uint64()
		if phase == "copy" {
			s.delay *= 6 // it takes that much longer
		}
		if possible(s.kind) {
			return s
		}
	}
}

// errMissed is the error of a fault that found nothing to strike.
var errMissed = errors.New("there was nothing to strike")

// effect is a fault in effect.
type effect struct {
	undo  func() error // what is not over by itself after a while
	truth truth        // what the page has to say
}

// inflict does what a fault is, and returns at once, or when what it waits for has come.
func (r *round) inflict(s strike, job string) (effect, error) {
	switch s.kind {
	case killWorker, stopWorker, freezeWorker:
		return r.inflictWorker(s, job)
	case restartWeb:
		r.killWeb()
		return effect{func() error { r.startWeb(); return nil }, answers}, nil
	case cancelJob:
		if _, err := r.browser.press("/clones/"+job+"/cancel", nil); err != nil {
			return effect{}, fmt.Errorf("%w: %w", errMissed, err)
		}
		return effect{nothing, hasEnded}, nil
	case fillDisk:
		if _, err := r.target.ask(`SELECT '1'`); err != nil {
			return effect{nothing, hasEnded}, errMissed // nobody is there to whom it would be full
		}
		return effect{r.disk.empty, hasEndedOrWaits}, r.disk.fill()
	case crashServer, killBackend, endBackend, freezeServer:
		undo, err := inflictServer(r.serverOf(s.side), s, "calco/"+job+"/%")
		return effect{undo, goesOn}, err
	default:
		undo, err := inflictWire(r.serverOf(s.side).wire, s)
		return effect{undo, goesOn}, err
	}
}

func nothing() error { return nil }

func (w *world) serverOf(side string) *server {
	return map[string]*server{"source": w.source, "target": w.target, "state": w.state}[side]
}

// inflictWorker strikes mostly the worker that has the job.
func (r *round) inflictWorker(s strike, job string) (effect, error) {
	workers := r.living()
	if len(workers) == 0 {
		return effect{}, errMissed
	}
	victim, owner := workers[int(s.pick%uint64(len(workers)))], r.owner(job) //nolint:gosec // far below
	if owner != nil && s.pick%5 != 0 {
		victim = owner
	}
	e := effect{func() error { r.addWorker(); return nil }, goesOn}
	switch s.kind {
	case killWorker:
		victim.kill()
	case stopWorker:
		victim.send(syscall.SIGTERM)
	default:
		victim.send(syscall.SIGSTOP)
		return effect{func() error { victim.send(syscall.SIGCONT); return nil }, goesOn}, nil
	}
	if victim == owner {
		e.truth = changesHands
	}
	return e, nil
}

// inflictServer strikes a server, or one of the backends that have an application_name.
func inflictServer(on *server, s strike, backends string) (undo func() error, err error) {
	switch s.kind {
	case crashServer:
		ended := make(chan error, 1)
		go func() { ended <- on.crash(s.lasts) }()
		return func() error { return <-ended }, nil
	case killBackend:
		return nothing, missed(on.killBackend(backends))
	case endBackend:
		return nothing, missed(on.endBackend(backends))
	default:
		return on.thaw, on.freeze()
	}
}

// missed turns the answer that there was none into an error.
func missed(struck bool, err error) error {
	if err != nil || !struck { // a server that does not answer has none either
		return errors.Join(errMissed, err)
	}
	return nil
}

func inflictWire(on *link, s strike) (undo func() error, err error) {
	var cure func()
	switch s.kind {
	case cutAnswer:
		how := dbtest.CutBefore
		if s.pick%2 == 0 {
			how = dbtest.CutAfter
		}
		return nothing, missed(on.cutNext(how, s.lasts), nil)
	case cutWire:
		on.cut()
		return on.mend, nil
	case resetWire:
		cure, err = on.reset()
	case stallWire:
		cure, err = on.stall()
	default:
		cure, err = on.slow(50 + int64(s.pick%200)) //nolint:gosec // far below
	}
	return func() error { cure(); return nil }, err
}
