package progress

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"calco/cloner/report"
)

// clock plays a clone of steady speed on a Meter, with a time of its own: a head of 10 seconds, a filling of 100, and
// a tail of 20, of which 10 are the dump of the target.
type clock struct {
	m   Meter
	now time.Time
}

const (
	clockSpeed = usualSpeed // work a second
	clockWork  = 100 * clockSpeed
	clockTotal = 130.0
)

// at moves the clone to a second of it.
func (c *clock) at(second float64) {
	f := &c.m.forecast
	c.now = c.m.started.Add(seconds(second))
	switch {
	case second < 10:
	case second < 110:
		if f.begun.IsZero() {
			f.setWork(clockWork, map[report.Phase]float64{report.PhaseAnalyze: 10 * clockSpeed}, 10, 10, 1000, c.now)
		}
		f.worked = (second - 10) * clockSpeed
	default:
		if f.ended.IsZero() {
			f.worked = clockWork
			f.endBody(c.now)
			f.at, f.atSince = report.PhaseAnalyze, c.now
		}
		if second >= 120 && f.at == report.PhaseAnalyze {
			f.at, f.atSince = report.PhaseVerify, c.now
		}
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	past := func(scale float64) *report.Report {
		return &report.Report{Status: report.StatusCompleted, Size: int64(1000 * scale), Seconds: 10 + 120*scale, Phases: []report.PhaseReport{
			{Name: report.PhaseCopy, Begun: 10, Seconds: 90 * scale},
			{Name: report.PhaseSequences, Begun: 10 + 100*scale},
			{Name: report.PhaseAnalyze, Begun: 10 + 100*scale, Seconds: 10 * scale},
			{Name: report.PhaseVerify, Begun: 10 + 110*scale, Seconds: 10 * scale},
		}}
	}
	slow := past(1)
	slow.Seconds, slow.Phases[1].Begun = 230, 210
	tests := []struct {
		name  string
		past  *report.Report
		since float64 // the second from which it is to be right
		error float64 // how far the estimated total may be off, as a share of the true one
	}{
		{"nothing known", nil, 20, 0.02},
		{"the same", past(1), 0, 0.02},
		{"of half the size", past(0.5), 20, 0.02},
		{"of half the speed", slow, 70, 0.05},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := clock{m: Meter{started: time.Now()}}
			if Usable(tt.past) {
				c.m.forecast.past = tt.past
			} else if tt.past != nil {
				t.Fatal("the past cannot be used")
			}
			c.m.size = 1000
			last := 0.0
			for second := 0.0; second < 126; second += 0.25 {
				c.at(second)
				done, left := c.m.estimate(c.now)
				if done < last || done >= 1 || left < 0 {
					t.Fatalf("at %v s: %v done after %v, %v left", second, done, last, left)
				}
				last = done
				if total := second + left.Seconds(); second > tt.since && math.Abs(total-clockTotal) > tt.error*clockTotal+2 {
					t.Errorf("at %v s: %v left, want %v", second, left, seconds(clockTotal-second))
				}
			}
			c.m.Stop(true)
			if done, left := c.m.estimate(c.now); done != 1 || left != 0 || last < 0.9 {
				t.Errorf("from %v to %v done, %v left", last, done, left)
			}
		})
	}
}

// A long index says nothing while it is built. The time left stays finite, and goes on.
func TestEstimateOfSilence(t *testing.T) {
	t.Parallel()
	c := clock{m: Meter{started: time.Now()}}
	c.at(10)
	c.at(60)
	c.m.forecast.sample(c.now, c.m.forecast.worked)
	c.m.forecast.running = map[*piece]struct{}{{work: clockWork / 2, begun: c.now, expected: 50}: {}}
	before, _ := c.m.estimate(c.now)
	for range 40 {
		c.now = c.now.Add(5 * time.Second)
		done, left := c.m.estimate(c.now)
		if done < before || left < 0 || left > time.Hour {
			t.Fatalf("%v done after %v, %v left", done, before, left)
		}
		before = done
	}
	if before < 0.8 || before >= 1 {
		t.Errorf("%v done", before)
	}
}

// A clone of nothing divides by nothing.
func TestEstimateOfNothing(t *testing.T) {
	t.Parallel()
	past := report.Report{Status: report.StatusCompleted, Size: 1, Seconds: 3, Phases: []report.PhaseReport{{Name: report.PhaseCopy, Begun: 1}, {Name: report.PhaseSequences, Begun: 2}}}
	for name, p := range map[string]*report.Report{"without a past": nil, "with one": &past} {
		var m Meter
		m.Start(p)
		m.SetPlan(0, 0, 0, TailWork(nil, 0, 0))
		for _, step := range append([]report.Phase{report.PhaseCopy}, tailPhases...) {
			if step == report.PhaseSequences {
				m.BodyDone()
			}
			m.SetTailPhase(step)
			p := m.Progress()
			if _, err := json.Marshal(p); err != nil || p.Done < 0 || p.Done >= 1 || p.Left < 0 {
				t.Errorf("%s, at %s: %+v, %v", name, step, p, err)
			}
		}
	}
}

func TestEstimateWithoutAClone(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*report.Report{
		"none": nil, "failed": {Status: report.StatusFailed}, "of an older version": {Status: report.StatusCompleted, Seconds: 10, Phases: []report.PhaseReport{{Name: report.PhaseCopy, Seconds: 5}}},
	} {
		var m Meter
		m.Start(r)
		if done, left := m.estimate(time.Now()); m.forecast.past != nil || done != 0 || left != 0 {
			t.Errorf("%s: %v done, %v left", name, done, left)
		}
		m.Stop(false)
		if done, left := m.estimate(time.Now()); done != 0 || left != 0 {
			t.Errorf("%s, stopped: %v done, %v left", name, done, left)
		}
	}
}
