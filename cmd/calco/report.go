package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"calco/cloner/report"
	"calco/views"
)

// listed bounds how many lines of a kind are printed; --json has them all.
const listed = 40

// printReport writes a report for people.
func printReport(out io.Writer, r report.Report) error {
	w := bufio.NewWriter(out)
	fmt.Fprintln(w, headline(r))
	printReasons(w, r.Reasons)
	if !r.Hint.IsZero() {
		fmt.Fprintf(w, "  → %s\n", say(r.Hint))
	}
	if r.Status == report.StatusFailed || r.Status == report.StatusCancelled {
		fmt.Fprintln(w, onTarget(r))
	}
	if len(r.Phases) > 0 && r.Status != report.StatusRefused {
		var phases []string
		for _, p := range r.Phases {
			phases = append(phases, fmt.Sprintf("%s %.1f s", p.Name, p.Seconds))
		}
		fmt.Fprintf(w, "Phases (they overlap): %s\n", strings.Join(phases, " · "))
	}
	if r.Contents != nil {
		fmt.Fprintln(w, contents(*r.Contents))
	}
	var differences, expected, ledger []string
	for _, d := range r.Differences {
		text := fmt.Sprintf("%s: %s", d.Kind, plain(d.Object))
		if !d.ExpectedBecause.IsZero() {
			expected = append(expected, text+": "+say(d.ExpectedBecause))
			continue
		}
		differences = append(differences, fmt.Sprintf("%s\n    source: %s\n    target: %s", text, shorten(d.Source), shorten(d.Target)))
	}
	for _, l := range r.Ledger {
		text := fmt.Sprintf("%s: %s", plain(l.Object), plain(l.Error))
		if l.SQLState != "" {
			text += " (" + l.SQLState + ")"
		}
		if !l.Hint.IsZero() {
			text += "\n    → " + say(l.Hint)
		}
		ledger = append(ledger, text)
	}
	section(w, "Snapshots that were read, one after the other", epochs(r))
	section(w, "Could not be made", ledger)
	section(w, "Differences", differences)
	section(w, "Harmless differences", expected)
	section(w, "Copied too, because the chosen schemas need it", plainAll(r.Dependencies))
	section(w, "Worth knowing", sayAll(r.Warnings))
	return w.Flush()
}

func headline(r report.Report) string {
	done := fmt.Sprintf("%s tables, %s rows, %s in %.1f s", grouped(int64(r.Tables)), grouped(r.Rows), bytesText(r.Bytes), r.Seconds)
	switch r.Status {
	case report.StatusCompleted:
		return fmt.Sprintf("Completed: %s.\nThe target was compared with the source as of %s: they agree.", done, r.SnapshotAt.Format("2006-01-02 15:04:05 MST"))
	case report.StatusDifferences:
		return fmt.Sprintf("Copied with differences: %s.\nThe target is not the same as the source as of %s.", done, r.SnapshotAt.Format("2006-01-02 15:04:05 MST"))
	case report.StatusRefused:
		return "Refused before anything was copied or dropped:"
	case report.StatusCancelled:
		return fmt.Sprintf("Cancelled after %.1f s.", r.Seconds)
	}
	if !r.Failure.IsZero() {
		return "Failed: " + say(r.Failure)
	}
	return "Failed: " + plain(r.Error)
}

// contents says how much of what rows hold was compared.
func contents(c report.Contents) string {
	tables := grouped(int64(c.Tables)) + " tables"
	if c.Tables == 1 {
		tables = "1 table"
	}
	text := fmt.Sprintf("Compared by contents: a sample of %s rows, of %s.", grouped(c.Rows), tables)
	if c.Verify == report.VerifyContents {
		text = fmt.Sprintf("Compared by contents: every row, of %s.", tables)
	}
	if len(c.Left) > 0 {
		text += " Compared by the number of rows only: " + strings.Join(plainAll(c.Left), ", ") + "."
	}
	return text
}

// onTarget says what a clone that did not come to its end has left behind, and how to go on.
func onTarget(r report.Report) string {
	text := "No table was filled on the target."
	if r.Tables > 0 {
		text = fmt.Sprintf("The target holds %s tables, whole; it is not a copy.", grouped(int64(r.Tables)))
	}
	switch {
	case r.Resumable:
		return text + "\ncalco clone … --resume goes on from here; with --clean it begins anew."
	case r.Tables > 0:
		return text + " Run the clone again with --clean."
	}
	return text
}

// epochs are the snapshots that a clone has read, when that is more than one.
func epochs(r report.Report) []string {
	var lines []string
	for _, e := range r.Epochs {
		lines = append(lines, fmt.Sprintf("%s: %s parts copied, %s of them again; %s kept from before", e.SnapshotAt.Format("2006-01-02 15:04:05 MST"),
			grouped(int64(e.Copied)), grouped(int64(e.Redone)), grouped(int64(e.Kept))))
	}
	return lines
}

func printReasons(w io.Writer, reasons []report.Reason) {
	for _, r := range reasons {
		fmt.Fprintf(w, "  %s\n    → %s\n", say(r.Text), say(r.Hint))
	}
}

func section(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "%s (%d):\n", title, len(lines))
	for _, l := range lines[:min(len(lines), listed)] {
		fmt.Fprintf(w, "  %s\n", l)
	}
	if more := len(lines) - listed; more > 0 {
		fmt.Fprintf(w, "  and %d more (--json has all)\n", more)
	}
}

func plainAll(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = plain(l)
	}
	return out
}

// say writes in English what the engine has to say, fit for a terminal: it may have names from a database.
func say(t report.Text) string { return plain(views.Say(context.Background(), t)) }

func sayAll(texts []report.Text) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = say(t)
	}
	return out
}

func shorten(s string) string { return truncate(plain(strings.Join(strings.Fields(s), " ")), 200) }
