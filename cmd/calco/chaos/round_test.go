package chaos

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner"
	"calco/cloner/jobs"
	"calco/cloner/report"
)

// patience is how long a round may take after its last fault.
const patience = 5 * time.Minute

// plan is what is going to happen in a round.
type plan struct {
	clean   bool // the target has the copy of the round before, and is cleaned
	strikes []strike
	quiet   int   // the writing ends before the strike of this number; -1: with the round
	away    int64 // how far the servers are from the workers, in milliseconds there
	seed    uint64
}

// draft makes a plan with some faults, at most n.
func draft(random *rand.Rand, n int, possible func(kind) bool) plan {
	p := plan{clean: random.IntN(4) == 0, away: random.Int64N(2) * (1 + random.Int64N(6)), seed: random.Uint64()}
	for range min(n, 1+random.IntN(4)) {
		phase := phases[random.IntN(len(phases))]
		for phase == "clean" && !p.clean {
			phase = phases[random.IntN(len(phases))]
		}
		p.strikes = append(p.strikes, draw(random, phase, possible))
	}
	slices.SortStableFunc(p.strikes, func(a, b strike) int {
		return cmp.Compare(slices.Index(phases, a.phase), slices.Index(phases, b.phase))
	})
	switch random.IntN(3) {
	case 0:
		p.quiet = 0
	case 1:
		p.quiet = -1
	default:
		p.quiet = random.IntN(len(p.strikes) + 1)
	}
	return p
}

// round is one clone with all that befalls it.
type round struct {
	*world
	plan
	tally *tally
	load  *workload

	done      atomic.Bool  // the job has come to its end, and all is over
	held      atomic.Int32 // how many faults are in effect that keep Resume from being pressed
	inEffect  atomic.Int32 // faults
	effects   sync.WaitGroup
	quietFrom time.Time // nothing is written any more from then on; zero while it is

	mu          sync.Mutex
	id          string         // of the job
	due         map[string]int // ends that faults explain
	sourceLost  time.Time      // when the source crashed last
	workersLost int            // since the job last gave up for that
}

func (r *round) job() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// expect says that the job may end in a state, n times more.
func (r *round) expect(status string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due[status] += n
}

// fruitlessLives is how many workers in a row may die with a job that gets nothing done, until it fails.
const fruitlessLives = 3

// explained takes the explanation for an end, of which the page says a text.
func (r *round) explained(status, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if status == "failed" && r.workersLost >= fruitlessLives && strings.Contains(text, "workers in a row have died with this clone") {
		r.workersLost = 0
		return true
	}
	r.due[status]--
	return r.due[status] >= 0
}

// run plays a plan and looks at what has come of it.
func (w *world) run(p plan, tally *tally) {
	w.Helper()
	w.renew(p.clean)
	r := &round{world: w, plan: p, tally: tally, due: map[string]int{}}
	r.load = write(w.source.at(sourceDatabase)+"&application_name=writer", whole, p.seed)
	defer r.hush()
	if p.quiet == 0 {
		eventually(w, patience, "the source is written to", func() bool { return r.load.made.Load() > 100 })
		r.hush()
		time.Sleep(time.Second) // reports tell the time of a snapshot to the second
	}
	for _, s := range []*server{w.source, w.target} {
		if p.away == 0 {
			break
		}
		if _, err := s.wire.slow(p.away); err != nil {
			w.Fatal(err)
		}
	}
	r.id = w.create(p.clean)
	var playing sync.WaitGroup
	playing.Go(r.play)
	status := r.shepherd()
	r.done.Store(true)
	playing.Wait()
	r.effects.Wait()
	r.hush()
	w.restore()
	tally.end(status)
	switch status {
	case "completed":
		r.judge()
	case "never":
		w.FailNow() // the next round would find its target in use
	}
}

// create starts a clone. A state server that was restarted answers the second question, if not the first.
func (w *world) create(clean bool) (id string) {
	w.Helper()
	eventually(w, promised, "the clone is started", func() bool {
		n := jobs.NewTask{SourceID: w.sourceID, TargetID: w.targetID, Verify: report.VerifyContents}
		if clean {
			p, err := cloner.PreviewClean(w.Context(), cloner.Spec{Target: w.targetURL, Clean: true})
			if err != nil {
				w.Logf("look at the target: %v", err)
				return false
			}
			n.Clean = &p.Confirmation
		}
		var err error
		if id, err = jobs.New(w.store, jobs.Options{}).Start(w.Context(), w.user, n); err != nil {
			w.Logf("start a clone: %v", err)
		}
		return err == nil
	})
	return id
}

// play strikes when it is time.
func (r *round) play() {
	for i, s := range r.strikes {
		if i == r.quiet {
			r.hush()
		}
		r.strike(s)
	}
	if r.quiet == len(r.strikes) {
		r.hush()
	}
}

// hush ends the writing, and waits until none of it is still to come: a transaction whose client is gone may commit.
func (r *round) hush() {
	if !r.quietFrom.IsZero() {
		return
	}
	if err := r.load.stop(); err != nil {
		r.Errorf("the workload: %v", err)
	}
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if left, err := r.source.ask(`SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'writer'`); err == nil && left == "0" {
			break
		}
	}
	r.quietFrom = time.Now()
}

// strike waits for the moment of a fault and lets it happen. It returns when it is in effect.
func (r *round) strike(s strike) {
	job, phase := r.awaitMoment(s)
	if phase == "" {
		r.tally.miss(s)
		return
	}
	holds := s.kind == cancelJob || s.kind == fillDisk
	switch s.kind {
	case cancelJob:
		r.expect("cancelled", 1)
	case fillDisk:
		r.expect("failed", 1)
	}
	if holds {
		r.held.Add(1)
	}
	alone := r.inEffect.Add(1) == 1
	task, _ := r.store.Task(r.Context(), job) // of a state server that is away the term is 0, and any is newer
	struck := time.Now()
	e, err := r.inflict(s, job)
	if err == nil && (s.kind == killWorker || s.kind == freezeWorker) {
		r.mu.Lock()
		r.workersLost++
		r.mu.Unlock()
	}
	if s.side == "source" && (s.kind == crashServer || s.kind == killBackend) {
		r.mu.Lock()
		r.sourceLost = time.Now()
		r.mu.Unlock()
	}
	if err != nil {
		r.inEffect.Add(-1)
		if holds {
			r.held.Add(-1)
		}
		if !errors.Is(err, errMissed) {
			r.Errorf("%s: %v", s.name(), err)
		}
		r.tally.miss(s)
		return
	}
	r.Logf("%s in %s", s.name(), phase)
	r.effects.Go(func() {
		defer r.inEffect.Add(-1)
		var noticing sync.WaitGroup
		noticing.Go(func() { r.notice(s, e, job, phase, task.Term, struck, alone) })
		r.last(s, job)
		if err := e.undo(); err != nil {
			r.Errorf("undo %s: %v", s.name(), err)
		}
		if holds {
			r.held.Add(-1)
		}
		noticing.Wait()
	})
}

// last waits as long as a fault lasts. A crash waits itself, and what ends the job begins to count when it has.
func (r *round) last(s strike, job string) {
	if s.kind == crashServer {
		return
	}
	if s.kind == cancelJob || s.kind == fillDisk {
		for until := time.Now().Add(promised); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
			if now, err := r.see(job); err == nil && hasEnded(now, now) {
				break
			}
		}
	}
	time.Sleep(s.lasts)
}

// notice measures how long it takes until the page tells the truth. That is a promise where make chaos has the machine for
// itself; among other tests it only has to.
func (r *round) notice(s strike, e effect, job, phase string, term int64, struck time.Time, alone bool) {
	took, ok := r.awaitTruth(job, e.truth, term, struck)
	r.tally.struck(s, phase, took)
	limit := promised + looking
	if s.kind == cancelJob && alone && r.inEffect.Load() == 1 && r.owner(job) != nil {
		limit = cancelled + looking
	}
	if !ok || took > limit && setting(r, "CALCO_CHAOS_FAULTS", 0) > 0 {
		r.Errorf("%s in %s: the page told the truth after %v (%v)", s.name(), phase, took, ok)
	}
}

// shepherd does what a person would who looks at the page: where the job has ended early, it goes on. It returns how it
// ended.
func (r *round) shepherd() (status string) {
	last := time.Now()
	for time.Since(last) < patience {
		time.Sleep(250 * time.Millisecond)
		if r.inEffect.Load() > 0 {
			last = time.Now()
		}
		now, err := r.see(r.job())
		if err != nil || r.held.Load() > 0 && now.status != "completed" {
			continue
		}
		switch now.status {
		case "completed":
			return now.status
		case "refused":
			if err := r.askAgain(); err == nil {
				continue
			}
			fallthrough
		case "differences":
			report, _ := r.browser.report(r.job())
			r.Errorf("the job %s is %s: %.2000s\n%+v\n%+v", r.job(), now.status, now.text, report.Differences, report.Ledger)
			return now.status
		case "failed", "cancelled":
			if !r.explained(now.status, now.text) {
				r.Errorf("the job %s is %s, which nothing explains: %.1500s", r.job(), now.status, now.text)
			}
			r.tally.stopped(now.status)
			if err := r.resume(now.page); err != nil {
				r.Logf("go on: %v", err)
			}
		}
	}
	page, err := r.browser.look(r.job())
	r.Errorf("the job %s never ends: %.2000s %v\n%s", r.job(), page.text, err, r.log())
	return "never"
}

// resume presses Resume or, where there is nothing to resume from, tries again on a cleaned target.
func (r *round) resume(p page) error {
	if p.resume != "" {
		_, err := r.browser.press(p.resume, nil)
		r.tally.resumed(err == nil)
		return err
	}
	return r.confirm("/clones/" + r.job() + "/retry")
}

// confirm tries again on a target that is cleaned of what the page of a retry shows.
func (r *round) confirm(retry string) error {
	shown, err := r.browser.shown(retry)
	if err != nil {
		return err
	}
	return r.follow(r.browser.press(retry, url.Values{"shown": {shown}, "confirm": {targetDatabase}}))
}

// errBegun is the error of a job that was refused though it had begun to write.
var errBegun = errors.New("it had begun")

// askAgain tries a refused job again, once nothing is in effect any more: a server that is away when a clone has not yet
// begun is a reason to refuse it, and none afterwards.
func (r *round) askAgain() error {
	for until := time.Now().Add(promised); r.inEffect.Load() > 0 && time.Now().Before(until); {
		time.Sleep(100 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(r.Context(), promised)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.target.at(targetDatabase))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has answered
	var begun bool
	if err := conn.QueryRow(ctx, `SELECT to_regnamespace('_calco') IS NOT NULL`).Scan(&begun); err != nil || begun || len(r.strikes) == 0 {
		return errors.Join(errBegun, err)
	}
	to, err := r.browser.press("/clones/"+r.job()+"/again", nil)
	if err == nil && strings.HasSuffix(to, "/retry") { // what it cleans is to be confirmed once more
		return r.confirm(to)
	}
	return r.follow(to, err)
}

// follow goes on with the job that a form led to.
func (r *round) follow(to string, err error) error {
	if err != nil {
		return err
	}
	r.tally.stopped("tried again")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id = to[len("/clones/"):]
	return nil
}

// restore brings back all that is not there, for the next round.
func (w *world) restore() {
	w.addWorkers()
	for _, s := range []*server{w.source, w.target, w.state} {
		if err := errors.Join(s.thaw(), s.wire.heal(), s.awaitAnswer()); err != nil {
			w.Errorf("restore the %s: %v", s.name, err)
		}
	}
}

// judge looks at what a completed clone has left on the target.
func (r *round) judge() {
	result, err := r.browser.report(r.job())
	if err != nil {
		r.Error(err)
		return
	}
	if result.Status != report.StatusCompleted {
		r.Errorf("the page says completed, and the report %s", result.Status)
	}
	for _, s := range []*server{r.source, r.target} {
		r.awaitQuiet(s)
	}
	exact, lost := !result.SnapshotAt.Before(r.quietFrom), ""
	if r.sourceLost.After(result.SnapshotAt) {
		lost = "bank.cache" // an unlogged table is empty after a crash
	}
	for _, found := range examine(r, r.source.at(sourceDatabase), r.target.at(targetDatabase), exact, lost) {
		r.Errorf("the copy of %s: %s", r.job(), found)
	}
	r.tally.parts(result, exact)
	r.Logf("job %s: completed, exact comparison %v, %d transactions meanwhile, epochs %+v", r.job(), exact, r.load.made.Load(), result.Epochs)
}

// awaitQuiet waits until no session of a clone is left on a server.
func (w *world) awaitQuiet(s *server) {
	left := ""
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		var err error
		left, err = s.ask(`SELECT coalesce(string_agg(application_name || ': ' || query, '; '), '') FROM pg_stat_activity WHERE application_name LIKE 'calco/%'`)
		if err == nil && left == "" {
			return
		}
	}
	w.Errorf("left on the %s: %s", s.name, left)
}
