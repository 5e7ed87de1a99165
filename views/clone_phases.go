package views

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"calco/cloner/report"
)

// phaseGroups are the lines of the list of phases. Those that are one for a reader are one line.
var phaseGroups = [][]report.Phase{
	{report.PhasePreflight},
	{report.PhaseSnapshot},
	{report.PhaseClean},
	{report.PhasePreData},
	{report.PhaseCopy},
	{report.PhaseIndexes},
	{report.PhaseConstraints},
	{report.PhasePostData},
	{report.PhaseSequences, report.PhaseViews},
	{report.PhaseAnalyze},
	{report.PhaseVerify},
}

// phaseLine is one of them: done, now, todo, skipped, stopped, rests until there is more to do, or failed for the one that
// the job failed in.
type phaseLine struct {
	phases      []report.Phase
	state       string
	done, total int
	elapsed     time.Duration
}

// phaseLines are all phases of a job, whether they have begun or not.
func (c CloneProps) phaseLines() []phaseLine {
	begun := map[report.Phase]report.PhaseProgress{}
	for _, p := range c.Phases {
		begun[p.Name] = p
	}
	lines := make([]phaseLine, len(phaseGroups))
	last := -1
	for i, group := range phaseGroups {
		lines[i] = phaseLine{phases: group, state: "todo"}
		seen, running, over := false, false, true
		for _, name := range group {
			p, ok := begun[name]
			seen, running, over = seen || ok, running || p.Running, over && p.Ended
			lines[i].done += p.Done
			lines[i].total += p.Total
			lines[i].elapsed += p.Elapsed
		}
		switch {
		case !seen:
			continue
		case running, c.between(group[0], begun):
			lines[i].state = "now"
		case over, c.ended():
			lines[i].state = "done"
		default:
			lines[i].state = "rests"
		}
		last = i
	}
	for i := range lines {
		l := &lines[i]
		switch {
		case l.state == "todo" && (i < last || c.Status == "completed" || c.Status == "differences"):
			l.state = "skipped"
		case c.failedIn(l.phases):
			l.state = "failed"
		case c.ended() && l.state == "now", c.stopped() && l.state == "done" && l.done < l.total:
			l.state = "stopped"
		}
	}
	return lines
}

// between tells whether a phase rests only until the copy brings it more to do: the indexes of a table follow its rows.
func (c CloneProps) between(name report.Phase, begun map[report.Phase]report.PhaseProgress) bool {
	return !c.ended() && begun[report.PhaseCopy].Running && (name == report.PhaseIndexes || name == report.PhaseConstraints)
}

func (c CloneProps) failedIn(phases []report.Phase) bool {
	return c.Status == "failed" && slices.Contains(phases, c.verdict().Phase)
}

// name is that of its text.
func (l phaseLine) name() string {
	names := make([]string, len(l.phases))
	for i, p := range l.phases {
		names[i] = string(p)
	}
	return strings.Join(names, "+")
}

// took is the time at the end of the line.
func (l phaseLine) took(ctx context.Context) string {
	switch l.state {
	case "now":
		return Clock(l.elapsed)
	case "done", "stopped", "failed":
		return Duration(ctx, l.elapsed)
	case "skipped":
		return T(ctx, "phase.skipped")
	}
	return ""
}

// The chart is drawn in these units and stretched to the width there is.
const (
	chartWidth   = 600
	chartHeight  = 100
	chartSamples = 90
)

// chart is the picture of the last speeds.
type chart struct {
	top     int64 // what the upper edge stands for
	max     int64
	seconds int
	line    string // points of the polyline
	area    string
}

func newChart(speeds []int64) chart {
	speeds = speeds[max(0, len(speeds)-chartSamples):]
	c := chart{seconds: len(speeds)}
	for _, s := range speeds {
		c.max = max(c.max, s)
	}
	c.top = roundUp(c.max)
	var line strings.Builder
	step := float64(chartWidth) / (chartSamples - 1)
	first := chartWidth - step*float64(len(speeds)-1)
	for i, s := range speeds {
		y := chartHeight * (1 - float64(max(s, 0))/float64(c.top))
		fmt.Fprintf(&line, "%.1f,%.1f ", first+step*float64(i), y)
	}
	c.line = strings.TrimSpace(line.String())
	c.area = fmt.Sprintf("%.1f,%d %s %d,%d", first, chartHeight, c.line, chartWidth, chartHeight)
	return c
}

// roundUp returns a round number above, so that the scale is read at a glance and seldom changes.
func roundUp(n int64) int64 {
	if n <= 1000 {
		return 1000
	}
	unit := math.Pow(10, math.Floor(math.Log10(float64(n))))
	for _, f := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if float64(n) <= f*unit {
			return int64(f * unit)
		}
	}
	return int64(10 * unit)
}
