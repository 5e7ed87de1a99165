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
	if p := m.Progress(); p.Rows != 20 || p.Bytes != 2000 || p.Done != almostDone || p.Tables != 0 || !p.Phases[0].Running {
		t.Errorf("in flight: %+v", p)
	}
	m.PartDone(arrived, true)
	m.PartAborted(lost) // its rows were rolled back
	leave()
	p := m.Progress()
	if p.Rows != 10 || p.Bytes != 1000 || p.Done != almostDone || p.Tables != 1 || p.TablesTotal != 2 || len(p.Active) != 0 {
		t.Errorf("at the end: %+v", p)
	}
	if ph := p.Phases[0]; ph.Name != report.PhaseCopy || ph.Done != 1 || ph.Total != 2 || ph.Running || ph.Elapsed < 0 {
		t.Errorf("phase: %+v", ph)
	}
}

func TestMeterKeepsLastEvents(t *testing.T) {
	t.Parallel()
	var m Meter
	for i := range keptEvents + 10 {
		m.Warned(fmt.Sprint(i))
	}
	all := m.Since(0).Events
	if len(all) != keptEvents || all[0].Text != "10" || all[len(all)-1].Text != fmt.Sprint(keptEvents+9) {
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
