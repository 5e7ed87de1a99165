package cloner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// A lane that loses a connection costs the part it carries, and no other: neither the snapshot nor the clone begins anew.
func TestLaneReplacesConnections(t *testing.T) {
	t.Parallel()
	for _, side := range []report.Side{report.Source, report.Target} {
		t.Run(string(side), func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, stageSQL)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob(), PartSize: MinPartSize}
			st := stage{"a row is slow to be checked", report.PhaseCopy, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(1)"}
			meter := &progress.Meter{}
			result, err := st.watched(t, spec, meter, func(_ context.CancelCauseFunc, release func()) {
				// The target's end of the lane waits for the lock, the source's has sent all or waits.
				which := map[report.Side]string{report.Target: "wait_event_type = 'Lock'", report.Source: "query LIKE '%COPY%checked%'"}[side]
				ended := dbtest.Query(t, map[report.Side]string{report.Source: source, report.Target: target}[side], fmt.Sprintf(
					"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'calco/%s/%%' AND %s", spec.Job, which))
				if len(ended) != 1 {
					t.Errorf("%d backends were ended, want one", len(ended))
				}
				release()
			})
			hasGoneOn(t, spec, result, err)
			retries, begun := 0, 0
			for _, e := range meter.Since(0).Events {
				if e.Kind == report.EventRetry {
					retries++
				}
				if e.Kind == report.EventPhaseEnded && e.Phase == report.PhasePreData {
					begun++
				}
			}
			if retries > 1 || side == report.Target && retries != 1 || begun != 1 {
				t.Errorf("%d connections were replaced and the clone began %d times", retries, begun)
			}
		})
	}
}

// A dead client's transaction may still commit: whoever goes on ends it before reading the marks.
func TestResumeEndsDeadClient(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	st := stages[3] // no row has arrived
	report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(report.ErrCancelled) })
	isCancelled(t, spec, report, err)
	dead, err := pgconn.Connect(t.Context(), strings.Replace(target, "?", "?application_name=calco%2F"+spec.Job+"%2F1&", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close(context.Background()) //nolint:errcheck // it is dead
	err = dead.Exec(t.Context(), `BEGIN; SELECT FROM _calco.job FOR SHARE; INSERT INTO plain (id) SELECT generate_series(1, 3000);
		INSERT INTO _calco.mark VALUES ('"public"."plain"', 0, 1, 0, 0, 0, false, 1, 1, 3000, 1)`).Close()
	if err != nil {
		t.Fatal(err)
	}
	mustComplete(t, resumed(spec))
	hasAllRows(t, spec)
	if err := dead.Exec(t.Context(), "COMMIT").Close(); err == nil {
		t.Error("the dead client's transaction was committed")
	}
}

// A run whose term is over stops, wherever it is, and does not come back.
func TestOldTermStops(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	var taken report.Report
	result, err := stages[5].play(t, spec, func(_ context.CancelCauseFunc, release func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			taken, _ = Clone(t.Context(), resumed(spec), Options{}) // judged below
		}()
		dbtest.Await(t, target, "SELECT EXISTS (SELECT FROM _calco.job WHERE term = 2)")
		release()
		<-done
	})
	if !errors.Is(err, session.ErrTermLost) || result.Status != report.StatusFailed || result.Resumable {
		t.Errorf("the old run: %s, %v", result.Status, err)
	}
	if taken.Status != report.StatusCompleted {
		t.Errorf("the new run: %+v", taken)
	}
	hasAllRows(t, spec)
	if result, err := Clone(t.Context(), confirmed(t, spec), Options{}); result.Status != report.StatusRefused {
		t.Errorf("the old run again: %s, %v, want a target that is not empty", result.Status, err)
	}
}

// After a crash of the target an unlogged table is empty, though its marks are there.
func TestUnloggedAfterCrash(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, nil)
	source := dbtest.Database(t)
	dbtest.Exec(t, source, `CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 500) AS n; CREATE TABLE logged AS SELECT generate_series(1, 500) AS n;
		CREATE FUNCTION wait_for(key int) RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_xact_lock_shared(key)';
		CREATE MATERIALIZED VIEW waiting AS SELECT wait_for(4)`)
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("by another process %t", again), func(t *testing.T) {
			target := newDatabase(t, s, fmt.Sprintf("again %t", again), "")
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
			st := stage{"a view", report.PhaseViews, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(4)"}
			result, err := st.play(t, spec, func(cancel context.CancelCauseFunc, release func()) {
				if again {
					cancel(report.ErrCancelled)
					return
				}
				crash(t, s)
				release()
			})
			if again {
				isCancelled(t, spec, result, err)
				crash(t, s)
				result, err = Clone(t.Context(), resumed(spec), Options{})
			}
			if err != nil || result.Status != report.StatusCompleted {
				t.Fatalf("%s, %v, %+v", result.Status, err, result.Differences)
			}
			for _, name := range []string{"scratch", "logged"} {
				dbtest.Equal(t, source, target, "SELECT count(*), sum(n) FROM "+name)
			}
			if len(result.Epochs) != 2 {
				t.Errorf("epochs %+v, want two: the rows were gone and the snapshot too", result.Epochs)
			}
		})
	}
}

// Trouble that does not pass ends the clone after a while, in words, and it can be resumed; a crash loop too, though each
// round gets something done.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, nil)
	source, target := dbtest.Database(t), s.URL("")
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	meter := &progress.Meter{}
	var shown atomic.Pointer[report.Wait]
	result, err := Clone(t.Context(), confirmed(t, spec), Options{Meter: meter, Patience: 2 * time.Second, notify: func(p report.Phase) {
		if p == report.PhaseIndexes {
			if err := s.Stop(context.Background()); err != nil {
				t.Error(err)
			}
			go func() {
				for shown.Load() == nil && t.Context().Err() == nil {
					shown.Store(meter.Progress().Waiting)
					_ = session.Pause(t.Context(), 20*time.Millisecond)
				}
			}()
		}
	}})
	if result.Status != report.StatusFailed || !result.Resumable || !strings.Contains(result.Hint.String(), "Nothing got done for 2s.") {
		t.Fatalf("%s, resumable %t, hint %q, error %v", result.Status, result.Resumable, result.Hint, err)
	}
	if tr := shown.Load(); tr == nil || tr.Text.IsZero() || tr.Until.Sub(tr.Since) != 2*time.Second {
		t.Errorf("trouble %+v while it waited", tr)
	}
}

// After a crash of the source the number of a transaction that had not reached the disk is given out again: a row of now
// can look older than the snapshot of then. Only a snapshot that was on the disk proves anything.
func TestProofNeedsDurableSnapshot(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, map[string]string{"checkpoint_timeout": "1d", "autovacuum": "off", "synchronous_commit": "on"})
	source, target := s.URL(""), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	stopWALWriter(t, source) // so that what is rolled back stays in memory
	dbtest.Exec(t, source, "BEGIN; SELECT pg_current_xact_id(); ROLLBACK")
	st := stages[4] // nearly all rows have arrived
	report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) {
		if got := dbtest.Query(t, target, "SELECT durable FROM _calco.epoch"); got[0][0] != "f" {
			t.Fatal("the snapshot counts as durable")
		}
		cancel(report.ErrCancelled)
	})
	isCancelled(t, spec, report, err)
	crash(t, s)
	dbtest.Exec(t, source, "UPDATE plain SET s = 'other' WHERE id = 1")
	report = mustComplete(t, resumed(spec))
	hasAllRows(t, spec)
	if len(report.Epochs) != 2 || report.Epochs[1].Kept > 0 {
		t.Errorf("epochs %+v, want nothing kept", report.Epochs)
	}
}

// stopWALWriter leaves it to the transactions of a server to flush their own WAL. The server's next crash ends it.
func stopWALWriter(t testing.TB, url string) {
	t.Helper()
	pid, err := strconv.Atoi(dbtest.Query(t, url, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")[0][0])
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A target that crashes takes all lanes with it. Whichever notices first, those that hold the snapshot on the source stay,
// and all is of one snapshot.
func TestCrashOfTargetKeepsTheSnapshot(t *testing.T) {
	t.Parallel()
	const lanes = 8
	s := dbtest.Cluster(t, map[string]string{"restart_after_crash": "off"})
	source, target := dbtest.Database(t), s.URL("")
	dbtest.Exec(t, source, `CREATE FUNCTION wait_for(key int, n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(key); RETURN n; END $$`)
	for i := range lanes {
		dbtest.Exec(t, source, fmt.Sprintf("CREATE TABLE t%d (n int CHECK (public.wait_for(1, n) > 0)); INSERT INTO t%[1]d VALUES (1)", i))
	}
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: lanes, Job: NewJob()}
	st := stage{phase: report.PhaseCopy, when: report.PhaseCopy, side: report.Target, locks: "SELECT pg_advisory_lock(1)"}
	result, err := st.play(t, spec, func(_ context.CancelCauseFunc, release func()) {
		dbtest.Await(t, target, fmt.Sprintf("SELECT count(*) = %d FROM pg_stat_activity WHERE application_name LIKE 'calco/%s/%%' AND wait_event_type = 'Lock'", lanes, spec.Job))
		crash(t, s)
		release()
	})
	if err != nil || result.Status != report.StatusCompleted || len(result.Epochs) > 0 {
		t.Errorf("status %s, error %v, epochs %+v, want completed with one snapshot", result.Status, err, result.Epochs)
	}
	nothingRuns(t, spec)
}
