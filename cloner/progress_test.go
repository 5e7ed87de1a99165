package cloner

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

func TestMeterIsBounded(t *testing.T) {
	t.Parallel()
	var m Meter
	m.start(nil)
	m.plan(1000, 0, 1000, nil)
	for i := range 1000 {
		m.takeOff(&flight{relation: fmt.Sprintf("a.t%d", i), size: int64(i)})
	}
	p := m.Progress()
	if len(p.Active) != activeTables {
		t.Fatalf("%d active tables, want %d", len(p.Active), activeTables)
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
	m.start(nil)
	m.plan(2, 0, 2*(tableWork+100), nil)
	leave := m.enter(report.PhaseCopy)
	m.expect(report.PhaseCopy, 2)
	arrived, lost := &flight{relation: "a.b", size: 100, work: tableWork + 100, table: 1}, &flight{relation: "a.c", size: 100, work: tableWork + 100, table: 1}
	for _, f := range []*flight{arrived, lost} {
		m.takeOff(f)
		f.rows.Add(10)
		f.bytes.Add(1000) // more than its size on disk
	}
	if p := m.Progress(); p.Rows != 20 || p.Bytes != 2000 || p.Done != almostDone || p.Tables != 0 || !p.Phases[0].Running {
		t.Errorf("in flight: %+v", p)
	}
	m.land(arrived, true)
	m.ditch(lost) // its rows were rolled back
	leave()
	p := m.Progress()
	if p.Rows != 10 || p.Bytes != 1000 || p.Done != almostDone || p.Tables != 1 || p.TablesTotal != 2 || len(p.Active) != 0 {
		t.Errorf("at the end: %+v", p)
	}
	if ph := p.Phases[0]; ph.Name != report.PhaseCopy || ph.Done != 1 || ph.Total != 2 || ph.Running || ph.Elapsed < 0 {
		t.Errorf("phase: %+v", ph)
	}
}

// TestMeterSampled samples clones without rest, for the race detector: one of which nothing is known before, and one
// with the report of the first. A part that had landed was in no total for a moment, so the work done went back to
// almost nothing; and all was said to be done while the last phases were still to come.
func TestMeterSampled(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		DO $$ BEGIN
			FOR i IN 1..120 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT n, repeat(''x'', 100) AS s FROM generate_series(1, 200) n', i); END LOOP;
		END $$;
		CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n; CREATE INDEX ON big (n);
		CREATE MATERIALIZED VIEW view AS SELECT count(*) FROM big; CREATE SEQUENCE s`)
	first := sampled(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{})
	if !usable(&first) {
		t.Errorf("the report of a whole clone is none to reckon with: %+v", first)
	}
	sampled(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true}, Options{Past: &first})
}

// The total of the rows is that of the planner, and none where a table has no statistics yet.
func TestRowsTotal(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	clone := func(want int64) {
		t.Helper()
		var m Meter
		report, err := Clone(t.Context(), confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true}), Options{Meter: &m})
		if err != nil {
			t.Fatal(err)
		}
		p := m.Progress()
		if p.RowsTotal != want || p.SourceVersion != report.Source.Version || p.TargetVersion != report.Target.Version || p.SourceVersion == "" {
			t.Errorf("%+v, want %d rows in all", p, want)
		}
	}
	dbtest.Exec(t, source, `
		CREATE TABLE a WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 1000);
		CREATE TABLE nothing (n int);
		CREATE TABLE b WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 500)`)
	clone(0)
	dbtest.Exec(t, source, `ANALYZE a`)
	clone(0)
	dbtest.Exec(t, source, `ANALYZE b`)
	clone(1500)
}

// sampled clones and wants each sample to be no less than the one before it.
func sampled(t *testing.T, spec Spec, o Options) report.Report {
	t.Helper()
	var m Meter
	o.Meter = &m
	ctx, stop := context.WithCancel(t.Context())
	var sampling sync.WaitGroup
	var over atomic.Bool
	o.Record = func(context.Context, report.Report) error {
		if p := m.Progress(); p.Done == 1 || p.Done < 0.5 {
			t.Errorf("before it is over, %v of it is done", p.Done)
		}
		over.Store(true)
		return nil
	}
	for range 2 {
		sampling.Go(func() {
			var last report.Progress
			for ctx.Err() == nil {
				ended := over.Load()
				p := m.Progress()
				switch {
				case p.Done < last.Done || p.Done > 1, p.Tables < last.Tables, p.Rows < last.Rows, p.Bytes < last.Bytes, p.Elapsed < last.Elapsed:
					t.Errorf("from %+v\nto %+v", last, p)
					return
				case p.Left < 0 || p.Left > time.Hour, len(p.Active) > activeTables, p.Done == 1 && (!ended && !over.Load() || p.Left != 0):
					t.Errorf("sample: %+v", p)
					return
				}
				last = p
			}
		})
	}
	result, err := Clone(t.Context(), confirmed(t, spec), o)
	stop()
	sampling.Wait()
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("status %s, %v", result.Status, err)
	}
	p := m.Progress()
	if p.Tables != 121 || p.TablesTotal != 121 || p.Rows != 120*200+50000 || p.Rows != result.Rows || p.Bytes != result.Bytes || p.Done != 1 || p.Left != 0 {
		t.Errorf("at the end: %+v", p)
	}
	for _, ph := range p.Phases {
		if ph.Running || ph.Done != ph.Total {
			t.Errorf("phase at the end: %+v", ph)
		}
	}
	return result
}
