package chaos

import (
	"testing"
	"time"

	"calco/cloner/jobs"
)

// lease is how long the worker of a job may be silent before another one has the job.
const lease = 20 * time.Second

// BenchmarkHalfway measures how long a clone takes whose worker is killed half-way, against one that nothing disturbs, on
// a machine that does nothing else.
func BenchmarkHalfway(b *testing.B) {
	w := newWorld(b)
	w.measure(false) // whatever is slow the first time
	var undisturbed, killed []time.Duration
	for range 3 {
		undisturbed = append(undisturbed, w.measure(false))
		killed = append(killed, w.measure(true))
	}
	best, worst := shortest(undisturbed), shortest(killed)
	b.Logf("undisturbed %v, killed half-way %v", undisturbed, killed)
	b.ReportMetric(ratio(worst, best), "killed/undisturbed")
	b.ReportMetric(ratio(worst-lease, best), "killed-lease/undisturbed")
}

func ratio(a, b time.Duration) float64 { return a.Seconds() / b.Seconds() }

func shortest(all []time.Duration) time.Duration {
	best := all[0]
	for _, d := range all {
		best = min(best, d)
	}
	return best
}

// measure clones a source that nobody writes to, and returns how long that took.
func (w *world) measure(kill bool) time.Duration {
	w.Helper()
	w.renew(false)
	begun := time.Now()
	id := w.create(false)
	var task jobs.Task
	eventually(w, patience, "the clone ends", func() bool {
		var err error
		if task, err = w.store.Task(w.Context(), id); err != nil {
			w.Fatal(err)
		}
		if kill && task.Progress.Done >= 0.5 {
			if owner := w.owner(id); owner != nil {
				owner.kill()
				w.addWorker()
				kill = false
			}
		}
		return task.Status.Ended()
	})
	took := time.Since(begun)
	if task.Status != jobs.Completed || kill {
		w.Fatalf("the clone is %s, killed: %v", task.Status, !kill)
	}
	for _, found := range examine(w, w.source.at(sourceDatabase), w.target.at(targetDatabase), true, "") {
		w.Error(found)
	}
	return took.Round(10 * time.Millisecond)
}
