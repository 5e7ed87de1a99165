package cloner

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/progress"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// watcher follows a clone as a page's store does: from revision to revision.
type watcher struct {
	revision int64
	tables   map[string]report.TableState
	events   []report.Event
}

func (w *watcher) look(m *progress.Meter) progress.Changes {
	c := m.Since(w.revision)
	w.revision = c.Revision
	if w.tables == nil {
		w.tables = map[string]report.TableState{}
	}
	for _, t := range c.Tables {
		w.tables[t.Relation] = t
	}
	w.events = append(w.events, c.Events...)
	return c
}

// TestSince samples a clone without rest and wants the changes to add up to what there is, tables
// to go only forwards, and one begin and one end of each phase.
func TestSince(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		DO $$ BEGIN
			FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT n, repeat(''x'', 100) AS s FROM generate_series(1, 200) n', i); END LOOP;
		END $$;
		CREATE TABLE big (n int PRIMARY KEY, s text UNIQUE, parent int REFERENCES big);
		INSERT INTO big SELECT n, md5(n::text), n FROM generate_series(1, 50000) n; CREATE INDEX ON big (s, n);
		ALTER TABLE big ADD CONSTRAINT late CHECK (n > 0) NOT VALID;
		CREATE TABLE tree (k int PRIMARY KEY, v int) PARTITION BY RANGE (k); CREATE INDEX ON tree (v);
		CREATE TABLE leaf PARTITION OF tree FOR VALUES FROM (0) TO (100); INSERT INTO tree SELECT n, n FROM generate_series(0, 99) n`)
	var m progress.Meter
	var w watcher
	ctx, stop := context.WithCancel(t.Context())
	order := map[report.TableStatus]int{report.TableWaiting: 0, report.TableCopying: 1, report.TableIndexing: 2, report.TableDone: 3}
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for ctx.Err() == nil {
			before := map[string]report.TableState{}
			for name, s := range w.tables {
				before[name] = s
			}
			for _, s := range w.look(&m).Tables {
				if was := before[s.Relation]; order[s.Status] < order[was.Status] || s.Rows < was.Rows || s.Bytes < was.Bytes || s.Built < was.Built {
					t.Errorf("from %+v\nto %+v", was, s)
				}
			}
		}
	})
	result, err := Clone(t.Context(), Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{Meter: &m})
	stop()
	sampling.Wait()
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("status %s, %v", result.Status, err)
	}
	w.look(&m)
	if len(w.tables) != result.Tables || result.Tables != 62 {
		t.Errorf("%d tables, the report has %d, want 62", len(w.tables), result.Tables)
	}
	var rows, bytes int64
	for name, s := range w.tables {
		rows += s.Rows
		bytes += s.Bytes
		built := map[string]int{"public.big": 5, "public.leaf": 2}[name]
		if s.Status != report.TableDone || s.Built != built || s.ToBuild != built || s.Size <= 0 {
			t.Errorf("at the end: %+v, want %d built", s, built)
		}
	}
	if rows != result.Rows || bytes != result.Bytes {
		t.Errorf("%d rows, %d bytes, the report has %d and %d", rows, bytes, result.Rows, result.Bytes)
	}
	for _, ph := range result.Phases {
		begun := slices.IndexFunc(w.events, func(e report.Event) bool { return e.Kind == report.EventPhaseBegun && e.Phase == ph.Name })
		ended := slices.IndexFunc(w.events, func(e report.Event) bool { return e.Kind == report.EventPhaseEnded && e.Phase == ph.Name })
		if begun < 0 || ended < begun {
			t.Errorf("%s: begun is event %d, ended event %d", ph.Name, begun, ended)
		}
	}
	if want := 2 * len(result.Phases); len(w.events) != want {
		t.Errorf("%d events, want %d: %+v", len(w.events), want, w.events)
	}
	if again := m.Since(w.revision); len(again.Tables)+len(again.Events) != 0 || again.Revision != w.revision {
		t.Errorf("nothing has happened since %d, got %+v", w.revision, again)
	}
	if all := m.Since(0); len(all.Tables) != 62 || !reflect.DeepEqual(all.Events, w.events) {
		t.Errorf("all there is: %d tables, %d events", len(all.Tables), len(all.Events))
	}
}

// TestSinceTrouble has rows, indexes and tables that cannot be made, and an extension's own table.
func TestSinceTrouble(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE TABLE good (n int PRIMARY KEY); INSERT INTO good VALUES (1);
		CREATE FUNCTION here(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
			IF current_database() <> '`+dsn.URL(source).Database()+`' THEN RAISE EXCEPTION 'not here' USING ERRCODE = 'XX000'; END IF; RETURN n; END $$;
		CREATE TABLE rowless (n int CHECK (here(n) > 0)); INSERT INTO rowless VALUES (1);
		CREATE TABLE indexless (n int UNIQUE); INSERT INTO indexless VALUES (1); CREATE INDEX bad ON indexless (here(n));
		CREATE SCHEMA other; CREATE TABLE other.there (n int); INSERT INTO other.there VALUES (1);
		CREATE VIEW v AS SELECT * FROM other.there`)
	dbtest.Exec(t, target, "CREATE SCHEMA other; CREATE TABLE other.there (n int)")
	var m progress.Meter
	result, err := Clone(t.Context(), Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"public"}}, Options{Meter: &m})
	if err != nil || result.Status != report.StatusDifferences {
		t.Fatalf("status %s, %v", result.Status, err)
	}
	var w watcher
	w.look(&m)
	want := map[string]report.TableState{
		"public.good":      {Status: report.TableDone, Rows: 1, Built: 1, ToBuild: 1},
		"public.rowless":   {Status: report.TableFailed},
		"public.indexless": {Status: report.TableFailed, Rows: 1, Built: 1, ToBuild: 2},
	}
	for name, s := range w.tables {
		if got := (report.TableState{Status: s.Status, Rows: s.Rows, Built: s.Built, ToBuild: s.ToBuild}); got != want[name] {
			t.Errorf("%s: got %+v, want %+v", name, got, want[name])
		}
	}
	if p := m.Progress(); len(w.tables) != len(want) || p.TablesTotal != len(want) || p.Tables != 2 {
		t.Errorf("%d tables, %d of %d arrived, want %d", len(w.tables), p.Tables, p.TablesTotal, len(want))
	}
	var troubles []string
	warnings := 0
	for _, e := range w.events {
		switch e.Kind {
		case report.EventTrouble:
			troubles = append(troubles, e.Object)
		case report.EventWarning:
			warnings++
		}
	}
	var ledger []string
	for _, e := range result.Ledger {
		ledger = append(ledger, e.Object)
	}
	if !slices.Equal(troubles, ledger) || len(ledger) == 0 || warnings != len(result.Warnings) || warnings == 0 {
		t.Errorf("troubles %q, ledger %q, %d warnings, report %q", troubles, ledger, warnings, result.Warnings)
	}
}

// TestSinceCancelled stops a clone while one index is built.
func TestSinceCancelled(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
	st := stages[slices.IndexFunc(stages, func(st stage) bool { return st.name == "a row is slow to be checked" })]
	var m progress.Meter
	result, err := st.watched(t, spec, &m, func(cancel context.CancelCauseFunc, _ func()) {
		var w watcher
		w.look(&m)
		if got := w.tables["public.checked"].Status; got != report.TableCopying {
			t.Errorf("while its rows are checked it is %s", got)
		}
		if c := w.look(&m); !slices.ContainsFunc(c.Tables, func(s report.TableState) bool { return s.Relation == "public.checked" }) {
			t.Errorf("a table on its way is not among the changes: %+v", c.Tables)
		}
		cancel(report.ErrCancelled)
	})
	if !errors.Is(err, report.ErrCancelled) {
		t.Fatal(err)
	}
	var w watcher
	w.look(&m)
	full := 0
	for name, want := range stageRows {
		got := w.tables["public."+name]
		arrived := dbtest.Query(t, target, "SELECT count(*) FROM "+name)[0][0]
		if arrived != "0" {
			full++
		}
		if arrived != "0" && (arrived != want || fmt.Sprint(got.Rows) != want || got.Status != report.TableDone && got.Status != report.TableIndexing) {
			t.Errorf("%s has %s rows and is %+v", name, arrived, got)
		}
		if arrived == "0" && (got.Rows != 0 || got.Status != report.TableWaiting) {
			t.Errorf("%s has no rows and is %+v", name, got)
		}
	}
	if result.Tables != full || result.TablesTotal != len(stageRows) || result.Size <= 0 {
		t.Errorf("%d of %d tables, %d bytes, want %d of %d", result.Tables, result.TablesTotal, result.Size, full, len(stageRows))
	}
}
