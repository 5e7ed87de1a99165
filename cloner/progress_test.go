package cloner

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/progress"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// TestMeterSampled samples clones without rest, for the race detector: one of which nothing is known before, and one
// with the report of the first. A part that had arrived was in no total for a moment, so the work done went back to
// almost nothing; and all was said to be done while the last phases were still to come.
func TestMeterSampled(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		DO $$ BEGIN
			FOR i IN 1..120 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT n, repeat(''x'', 100) AS s FROM generate_series(1, 200) n', i); END LOOP;
		END $$;
		CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n; CREATE INDEX ON big (n);
		CREATE MATERIALIZED VIEW view AS SELECT count(*) FROM big; CREATE SEQUENCE s`)
	first := sampled(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{})
	if !progress.Usable(&first) {
		t.Errorf("the report of a whole clone is none to reckon with: %+v", first)
	}
	sampled(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true}, Options{Past: &first})
}

// The total of the rows is that of the planner, and none where a table has no statistics yet.
func TestRowsTotal(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	clone := func(want int64) {
		t.Helper()
		var m progress.Meter
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
	var m progress.Meter
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
				case p.Left < 0 || p.Left > time.Hour, len(p.Active) > progress.ActiveTables, p.Done == 1 && (!ended && !over.Load() || p.Left != 0):
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
	dbtest.Same(t, "tables", p.Tables, 121)
	dbtest.Same(t, "tables in all", p.TablesTotal, 121)
	dbtest.Same(t, "rows", p.Rows, 120*200+50000)
	dbtest.Same(t, "rows of the report", result.Rows, p.Rows)
	dbtest.Same(t, "bytes of the report", result.Bytes, p.Bytes)
	dbtest.Same(t, "done", p.Done, 1)
	dbtest.Same(t, "time left", p.Left, 0)
	for _, ph := range p.Phases {
		if ph.Running || ph.Done != ph.Total {
			t.Errorf("phase at the end: %+v", ph)
		}
	}
	return result
}
