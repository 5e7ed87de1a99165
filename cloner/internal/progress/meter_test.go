package progress

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"calco/cloner/report"
)

func TestMeterIsBounded(t *testing.T) {
	t.Parallel()
	var m Meter
	m.Start(nil)
	m.SetPlan(1000, 0, 1000, nil)
	for i := range 1000 {
		m.PartStarted(&Part{Relation: fmt.Sprintf("a.t%d", i), Size: int64(i)})
	}
	p := m.Progress()
	if len(p.Active) != ActiveTables {
		t.Fatalf("%d active tables, want %d", len(p.Active), ActiveTables)
	}
	for i, a := range p.Active {
		if want := int64(999 - i); a.Size != want {
			t.Errorf("active table %d has the size %d, want %d: the largest first", i, a.Size, want)
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 10<<10 {
		t.Errorf("%d bytes of JSON", len(text))
	}
}

// A Progress of nothing had null where lists belong, which a page would have to know.
func TestMeterEmpty(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal((&Meter{}).Progress())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "null") {
		t.Errorf("JSON of nothing: %s", text)
	}
}

func TestMeterTotals(t *testing.T) {
	t.Parallel()
	var m Meter
	m.Start(nil)
	m.SetPlan(2, 0, 2*(TableWork+100), nil)
	leave := m.Enter(report.PhaseCopy)
	m.Expect(report.PhaseCopy, 2)
	arrived, lost := &Part{Relation: "a.b", Size: 100, Work: TableWork + 100, Table: 1}, &Part{Relation: "a.c", Size: 100, Work: TableWork + 100, Table: 1}
	for _, f := range []*Part{arrived, lost} {
		m.PartStarted(f)
		f.Rows.Add(10)
		f.Bytes.Add(1000) // more than its size on disk
	}
	totals := func(p report.Progress) string {
		return fmt.Sprintf("%d rows, %d bytes, %v done, %d of %d tables, %d active, running %t",
			p.Rows, p.Bytes, p.Done, p.Tables, p.TablesTotal, len(p.Active), p.Phases[0].Running)
	}
	if got, want := totals(m.Progress()), fmt.Sprintf("20 rows, 2000 bytes, %v done, 0 of 2 tables, 2 active, running true", almostDone); got != want {
		t.Errorf("under way:\n got %s\nwant %s", got, want)
	}
	m.PartDone(arrived, true)
	m.PartAborted(lost) // its rows were rolled back
	leave()
	p := m.Progress()
	if got, want := totals(p), fmt.Sprintf("10 rows, 1000 bytes, %v done, 1 of 2 tables, 0 active, running false", almostDone); got != want {
		t.Errorf("at the end:\n got %s\nwant %s", got, want)
	}
	ph := p.Phases[0]
	if got, want := fmt.Sprintf("%s, %d of %d", ph.Name, ph.Done, ph.Total), fmt.Sprintf("%s, 1 of 2", report.PhaseCopy); got != want {
		t.Errorf("phase %s, want %s", got, want)
	}
	if ph.Elapsed < 0 {
		t.Errorf("the phase took %v", ph.Elapsed)
	}
}

func TestMeterKeepsLastEvents(t *testing.T) {
	t.Parallel()
	var m Meter
	for i := range keptEvents + 10 {
		m.Warned(report.Said(fmt.Sprint(i)))
	}
	all := m.Since(0).Events
	if len(all) != keptEvents || all[0].Text.String() != "10" || all[len(all)-1].Text.String() != fmt.Sprint(keptEvents+9) {
		t.Errorf("%d events, from %q to %q", len(all), all[0].Text, all[len(all)-1].Text)
	}
	if last := m.Since(m.Since(0).Revision - 1).Events; len(last) != 1 {
		t.Errorf("%d events since the last but one, want 1", len(last))
	}
}

// BenchmarkSince has 10,000 tables, of which a few change between two calls.
func BenchmarkSince(b *testing.B) {
	var m Meter
	for i := range 10_000 {
		m.AddTable(int64(i+1), fmt.Sprint("public.t", i), 0, 3)
	}
	revision := m.Since(0).Revision
	for i := 0; b.Loop(); i++ {
		m.IndexDone(int64(i%10_000)+1, true)
		c := m.Since(revision)
		if len(c.Tables) != 1 {
			b.Fatalf("%d tables, want 1", len(c.Tables))
		}
		revision = c.Revision
	}
}
