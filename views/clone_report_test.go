package views

import (
	"strings"
	"testing"

	"calco/cloner/report"
)

// A frame is sent whole to each viewer, so a report of any size makes one of some size.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`ñ"<`, 5000)
	name := strings.Repeat("n", 63) + "." + strings.Repeat("m", 63)
	c := CloneProps{ID: "abcdefghij", Status: "differences", Report: &report.Report{Error: long, Hint: report.Said(long)}}
	r := c.Report
	for i := range 10_000 {
		r.Differences = append(r.Differences, report.Difference{Kind: differenceKinds[i%3], Object: name, Source: long, Target: long},
			report.Difference{Kind: "owner", Object: name, ExpectedBecause: report.Said("It is another role.")})
		r.Ledger = append(r.Ledger, report.LedgerEntry{Phase: report.PhaseIndexes, Object: name, SQLState: "23505", Error: long, Hint: report.Said(long)})
		r.Dependencies = append(r.Dependencies, name)
		r.Warnings = append(r.Warnings, report.Said(long))
	}
	for i := range 1000 {
		e := report.Epoch{Copied: i}
		for range 50 {
			e.RedoneTables = append(e.RedoneTables, name)
		}
		r.Epochs = append(r.Epochs, e)
	}
	var page strings.Builder
	if err := ClonePage(Page{Title: "Clone", Path: c.Path()}, ClonePageProps{Clone: c}).Render(in("en"), &page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		">3,334</span>",                                                  // the numbers are of all
		"This clone read 1,000 snapshots", "988 more are in the report.", // of which the last are shown
		"3,284 more are in the report.", "9,950 more are in the report.", "9,975 more are in the report.",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	var frame strings.Builder
	if err := JobFrame(c).Render(in("en"), &frame); err != nil {
		t.Fatal(err)
	}
	if frame.Len() > 256<<10 {
		t.Errorf("the frame has %d bytes", frame.Len())
	}
}
