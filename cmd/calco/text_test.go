package main

import (
	"strings"
	"testing"
	"time"

	"calco/cloner/report"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`app."Order"`:       `app."Order"`,
		"café 🦉":            "café 🦉",
		"\x1b[2Jgone":       `\x1b[2Jgone`,
		"two\nlines\r":      `two\nlines\r`,
		"right \u202e left": `right \u202e left`,
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, got, want string }{
		{"no bytes", bytesText(0), "0 B"},
		{"bytes", bytesText(999), "999 B"},
		{"rounds up to the next unit", bytesText(999_999), "1.0 MB"},
		{"megabytes", bytesText(36_049_999), "36.0 MB"},
		{"hundreds without fraction", bytesText(850_400_000), "850 MB"},
		{"small number", grouped(999), "999"},
		{"thousands", grouped(1234567), "1,234,567"},
		{"negative", grouped(-123456), "-123,456"},
		{"seconds", clock(42 * time.Second), "00:42"},
		{"hours", clock(3*time.Hour + 5*time.Minute + 7*time.Second), "3:05:07"},
		{"empty bar", barText(0), strings.Repeat("░", 20) + "   0 %"},
		{"not quite full", barText(0.999), strings.Repeat("█", 20) + "  99 %"},
	}
	for _, c := range cases {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	p := report.Progress{
		Phases: []report.PhaseProgress{
			{Name: report.PhasePreData, Done: 9, Total: 9},
			{Name: report.PhaseCopy, Done: 3, Total: 10, Running: true},
			{Name: report.PhaseIndexes, Done: 1, Total: 4, Running: true},
		},
		Rows: 1500, Bytes: 2_000_000, Ledger: 2, Left: 65 * time.Second,
	}
	want := "copy 3/10, indexes 1/4 · 1,500 rows · 2.0 MB · 500 kB/s · about 01:05 left · 2 not made"
	if got := line(p, 500_000); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What a clone waits for comes before what it does.
func TestLineInTrouble(t *testing.T) {
	t.Parallel()
	p := report.Progress{
		Phases:  []report.PhaseProgress{{Name: report.PhaseCopy, Done: 3, Total: 10, Running: true}},
		Rows:    1500,
		Waiting: &report.Wait{Text: report.Said("the target does not answer\n"), Until: time.Date(2026, 7, 4, 12, 30, 0, 0, time.UTC)},
	}
	want := `waiting until 12:30:00 for an end of: the target does not answer\n · 1,500 rows · 0 B`
	if got := line(p, 0); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestByteSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]byteSize{
		"64MB": 64 << 20, "64 mb": 64 << 20, "128kB": 128 << 10, "1GB": 1 << 30, "2tb": 2 << 40, "65536": 65536, "65536B": 65536, " 1 MB ": 1 << 20,
	} {
		var got byteSize
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want {
			t.Errorf("%q is %d, want %d: %v", in, got, want, err)
		}
	}
	for _, in := range []string{"", "MB", "-1MB", "1.5MB", "64M", "64MiB", "9999999TB", "0x10"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is %d", in, got)
		}
	}
}

// What ended early says how to go on, where that is possible.
func TestReportSaysHowToGoOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		report    report.Report
		want, not string
	}{
		"resumable": {report.Report{Status: report.StatusFailed, Tables: 2, Resumable: true}, "calco clone … --resume goes on from here", "again with --clean"},
		"cancelled": {report.Report{Status: report.StatusCancelled, Resumable: true}, "calco clone … --resume goes on from here", "it is not a copy"},
		"for good":  {report.Report{Status: report.StatusFailed, Tables: 2}, "again with --clean", "--resume"},
		"completed": {
			report.Report{Status: report.StatusCompleted, Epochs: []report.Epoch{{Number: 1, Copied: 10}, {Number: 2, Kept: 8, Redone: 2, Copied: 1200}}},
			"1,200 parts copied, 2 of them again; 8 kept from before", "--resume",
		},
	} {
		var out strings.Builder
		if err := printReport(&out, c.report); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), c.not) {
			t.Errorf("%s: want %q and not %q:\n%s", name, c.want, c.not, &out)
		}
	}
}

func TestSpeed(t *testing.T) {
	t.Parallel()
	var s speed
	got := []float64{}
	for i := range 10 { // ten seconds at a megabyte a second, then nothing for a while
		got = append(got, s.of(report.Progress{Elapsed: time.Duration(i) * time.Second, Bytes: int64(min(i, 5)) * 1_000_000}))
	}
	if got[0] != 0 || got[5] != 1_000_000 || got[9] >= got[5] {
		t.Errorf("speeds %v", got)
	}
}

// What Calco itself says of a failure stands for the error, in English.
func TestReportShowsFailure(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]report.Report{
		"Failed: This host may not be connected to": {Error: "preflight: reason.host_forbidden", Failure: report.T("reason.host_forbidden")},
		"Failed: no \\x1b space":                    {Error: "no \x1b space"},
	} {
		r.Status = report.StatusFailed
		if got := headline(r); !strings.HasPrefix(got, want) {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

// TestReportShowsAll: every part of a report is printed, and no name writes to the terminal.
func TestReportShowsAll(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := printReport(&out, report.Report{
		Status: report.StatusDifferences, Tables: 2, Rows: 10,
		Differences: []report.Difference{
			{Kind: "rows", Object: "TABLE app.\x1b[31mred", Source: "10", Target: "9"},
			{Kind: "definition", Object: "TABLE app.child", ExpectedBecause: report.Said("Only the order.")},
		},
		Ledger:       []report.LedgerEntry{{Object: "INDEX app.i", Error: "no function f", SQLState: "42883", Hint: report.Said("Name its schema.")}},
		Dependencies: []string{"TABLE public.lookup"},
		Warnings:     []report.Text{report.Said("No statistics of app.t")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Copied with differences", `app.\x1b[31mred`, "source: 10", "Only the order.", "(42883)", "Name its schema.", "public.lookup", "No statistics"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("an escape sequence got through: %q", out.String())
	}
}
