package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"calco/cloner"
	"calco/cloner/report"
)

// How often progress is shown: as a bar on a terminal, as a line elsewhere.
const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 5 * time.Second
)

// watch shows the progress of one clone.
type watch struct {
	file   *os.File
	meter  *cloner.Meter
	bar    bool
	ticker *time.Ticker
	speed  speed
}

func newWatch(file *os.File, m *cloner.Meter) *watch {
	w := &watch{file: file, meter: m, bar: term.IsTerminal(int(file.Fd()))}
	every := lineEvery
	if w.bar {
		every = barEvery
	}
	w.ticker = time.NewTicker(every)
	return w
}

func (w *watch) tick() <-chan time.Time { return w.ticker.C }

func (w *watch) stop() {
	w.ticker.Stop()
	w.clear()
}

// clear takes the bar off the terminal, so that something else can be said.
func (w *watch) clear() {
	if w.bar {
		fmt.Fprint(w.file, "\r\x1b[K")
	}
}

func (w *watch) show() {
	p := w.meter.Progress()
	rate := w.speed.of(p)
	if !w.bar {
		fmt.Fprintf(w.file, "%s  %s\n", clock(p.Elapsed), line(p, rate))
		return
	}
	width, _, err := term.GetSize(int(w.file.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	fmt.Fprintf(w.file, "\r%s\x1b[K", truncate(barText(p.Done)+" "+line(p, rate), width-1))
}

// barText is a bar of 20 cells with the percentage.
func barText(done float64) string {
	const cells = 20
	full := int(math.Round(done * cells))
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %3.0f %%", math.Floor(done*100))
}

// line says what is going on in one line.
func line(p report.Progress, rate float64) string {
	var running []string
	for _, ph := range p.Phases {
		if !ph.Running {
			continue
		}
		text := string(ph.Name)
		if ph.Total > 0 {
			text += fmt.Sprintf(" %d/%d", ph.Done, ph.Total)
		}
		running = append(running, text)
	}
	parts := []string{strings.Join(running, ", ")}
	if p.Waiting != nil {
		parts = []string{"waiting until " + p.Waiting.Until.Format("15:04:05") + " for an end of: " + say(p.Waiting.Text)}
	}
	if p.Rows > 0 {
		parts = append(parts, grouped(p.Rows)+" rows", bytesText(p.Bytes))
	}
	if rate > 0 {
		parts = append(parts, bytesText(int64(rate))+"/s")
	}
	if p.Left > 0 {
		parts = append(parts, "about "+clock(p.Left)+" left")
	}
	if p.Ledger > 0 {
		parts = append(parts, fmt.Sprintf("%d not made", p.Ledger))
	}
	return strings.Join(parts, " · ")
}

// speed is bytes a second over the last few samples.
type speed struct{ samples []sample }

type sample struct {
	at    time.Duration
	bytes int64
}

func (s *speed) of(p report.Progress) float64 {
	const window = 5 * time.Second
	s.samples = append(s.samples, sample{p.Elapsed, p.Bytes})
	for len(s.samples) > 2 && p.Elapsed-s.samples[0].at > window {
		s.samples = s.samples[1:]
	}
	first := s.samples[0]
	if p.Elapsed <= first.at || p.Bytes <= first.bytes {
		return 0
	}
	return float64(p.Bytes-first.bytes) / (p.Elapsed - first.at).Seconds()
}

func clock(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// bytesText writes a number of bytes in units of a thousand, as disks and networks count.
func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	if i == 0 || v >= 99.5 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// grouped writes a number with a comma between thousands.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func truncate(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	return string(runes[:max(width-1, 0)]) + "…"
}

// plain makes a name from a database fit for a terminal: no escape sequence gets through.
func plain(s string) string {
	quoted := strconv.Quote(s)
	quoted = quoted[1 : len(quoted)-1]
	return strings.ReplaceAll(quoted, `\"`, `"`)
}
