package cloner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// stageSQL fills a source whose clone can be stopped in the middle of every phase: the
// functions wait, in the target only, for an advisory lock that a test holds there.
const stageSQL = `
	CREATE FUNCTION wait_for(key int, n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN PERFORM pg_advisory_xact_lock_shared(key); RETURN n; END $$;
	CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE TABLE plain (id int PRIMARY KEY, mood mood DEFAULT 'sad', s text DEFAULT repeat('x', 100));
	INSERT INTO plain SELECT n FROM generate_series(1, 3000) n;
	CREATE TABLE child (id int PRIMARY KEY, plain_id int REFERENCES plain);
	INSERT INTO child SELECT n, n FROM generate_series(1, 3000) n;
	CREATE TABLE checked (n int CHECK (CASE n WHEN 2500 THEN wait_for(1, n) ELSE n END > 0));
	INSERT INTO checked SELECT generate_series(1, 3000);
	CREATE TABLE indexed (n int); INSERT INTO indexed SELECT generate_series(1, 3000);
	CREATE INDEX ON indexed ((CASE n WHEN 2500 THEN wait_for(2, n) ELSE n END));
	CREATE TABLE excluded (n int); INSERT INTO excluded SELECT generate_series(1, 300);
	ALTER TABLE excluded ADD EXCLUDE ((CASE n WHEN 250 THEN wait_for(3, n) ELSE n END) WITH =);
	CREATE POLICY p ON plain;
	CREATE SEQUENCE seq; SELECT setval('seq', 42);
	CREATE MATERIALIZED VIEW slow AS SELECT CASE n WHEN 2500 THEN wait_for(4, n) ELSE n END FROM plain, LATERAL (SELECT id AS n) x;
	SELECT lo_from_bytea(0, repeat('x', 1000)::bytea) FROM generate_series(1, 3)`

// stageRows are the tables of stageSQL and how many rows each has.
var stageRows = map[string]string{"plain": "3000", "child": "3000", "checked": "3000", "indexed": "3000", "excluded": "300"}

// stage is one way to stop a clone in the middle of a phase: locks are taken on a side
// when the phase "when" begins (at once if empty), and the clone is stuck when a backend
// of its own waits on that side.
type stage struct {
	name  string
	phase report.Phase
	when  report.Phase
	side  report.Side
	locks string
}

// stages has every phase. A clean that is stuck needs tables on the target.
var stages = []stage{
	{"preflight", report.PhasePreflight, "", report.Target, "LOCK TABLE pg_catalog.pg_largeobject_metadata"},
	{"pg_dump waits for a table", report.PhaseSnapshot, "", report.Source, "LOCK TABLE plain"},
	{"the schema of a table that is being altered", report.PhasePreData, "", report.Target, "LOCK TABLE pg_catalog.pg_enum IN SHARE MODE"},
	{"a lane waits for a table of the source", report.PhaseCopy, report.PhasePreData, report.Source, "LOCK TABLE plain, child, checked, indexed, excluded"},
	{"a row is slow to be checked", report.PhaseCopy, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(1)"},
	{"a slow index", report.PhaseIndexes, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(2)"},
	{"a slow constraint", report.PhaseConstraints, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(3)"},
	{"a policy", report.PhasePostData, report.PhaseCopy, report.Target, "LOCK TABLE pg_catalog.pg_policy IN SHARE MODE"},
	{"a sequence of the source", report.PhaseSequences, report.PhaseSequences, report.Source, "ALTER SEQUENCE seq AS bigint CYCLE; DROP SEQUENCE seq"},
	{"statistics", report.PhaseAnalyze, report.PhaseAnalyze, report.Target, "LOCK TABLE child"},
	{"a slow view", report.PhaseViews, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(4)"},
	{"a count", report.PhaseVerify, report.PhaseVerify, report.Target, "LOCK TABLE child"},
	{"a table to be dropped", report.PhaseClean, "", report.Target, "LOCK TABLE child IN ACCESS SHARE MODE"},
}

// play runs a clone until it is stuck in the middle of the stage's phase, calls act, and
// returns how the clone ended. release gives the locks back.
func (st stage) play(t *testing.T, spec Spec, act func(cancel context.CancelCauseFunc, release func())) (report.Report, error) {
	t.Helper()
	return st.watched(t, spec, nil, act)
}

// watched is play with a meter of the caller's.
func (st stage) watched(t *testing.T, spec Spec, m *progress.Meter, act func(cancel context.CancelCauseFunc, release func())) (report.Report, error) {
	t.Helper()
	spec = confirmed(t, spec)
	url := string(spec.Target)
	if st.side == report.Source {
		url = string(spec.Source)
	}
	release := func() {}
	lock := func() {
		sql := "BEGIN; " + st.locks
		release = dbtest.Hold(t, url, sql)
	}
	if st.when == "" {
		lock()
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	type end struct {
		report report.Report
		err    error
	}
	ended := make(chan end, 1)
	locked := make(chan struct{})
	go func() {
		r, err := Clone(ctx, spec, Options{Meter: m, notify: func(p report.Phase) {
			if p == st.when {
				lock()
			}
			if p == st.phase || st.when != "" && p == st.when {
				select {
				case <-locked:
				default:
					close(locked)
				}
			}
		}})
		ended <- end{r, err}
	}()
	look, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = look.Close(context.Background()) }()
	e, over := end{}, false
	for stuck := false; !stuck && !over; {
		select {
		case e = <-ended:
			over = true
		case <-locked:
			_ = session.Pause(t.Context(), 20*time.Millisecond)
			stuck = len(look.ExecParams(t.Context(), `SELECT 1 FROM pg_stat_activity
				WHERE datname = current_database() AND application_name LIKE $1 AND wait_event_type = 'Lock'`,
				[][]byte{[]byte("calco/" + spec.Job + "/%")}, nil, nil, nil).Read().Rows) > 0
		}
	}
	if over {
		release()
		t.Fatalf("the clone was not stopped: %s, %v\n%+v", e.report.Status, e.err, e.report)
	}
	act(cancel, release)
	e = <-ended
	release()
	return e.report, e.err
}

// isCancelled wants a clone to have ended as cancelled, and nothing of it to be left.
func isCancelled(t *testing.T, spec Spec, result report.Report, err error) {
	t.Helper()
	if result.Status != report.StatusCancelled || !errors.Is(err, report.ErrCancelled) || result.Error != report.ErrCancelled.Error() {
		t.Errorf("status %s, error %v, report %q, want cancelled", result.Status, err, result.Error)
	}
	nothingRuns(t, spec)
}

// nothingRuns wants no backend of the job on either side, now and not later, and no pg_dump.
func nothingRuns(t *testing.T, spec Spec) {
	t.Helper()
	for _, u := range []dsn.URL{spec.Source, spec.Target} {
		left := dbtest.Query(t, string(u), fmt.Sprintf(
			"SELECT application_name, state, wait_event, query FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'calco/%s/%%'", spec.Job))
		if len(left) > 0 {
			t.Errorf("left on %s: %q", u, left)
		}
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline") // nowhere else than on Linux
	for _, name := range commands {
		line, err := os.ReadFile(name)
		if err == nil && bytes.Contains(line, []byte("calco/"+spec.Job+"/")) && bytes.Contains(line, []byte("pg_dump")) {
			t.Errorf("still running: %q", line)
		}
	}
}

// noGoroutines runs do and wants every goroutine that came of it to be gone afterwards. They
// inherit a label, which tells them from those of other tests.
func noGoroutines(t *testing.T, do func()) {
	t.Helper()
	label := NewJob()
	pprof.Do(context.Background(), pprof.Labels("clone", label), func(context.Context) { do() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for {
		var all bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(all.String(), label) {
			return
		}
		if session.Pause(ctx, 20*time.Millisecond) != nil {
			for stack := range strings.SplitSeq(all.String(), "\n\n") {
				if strings.Contains(stack, label) {
					t.Errorf("goroutine left:\n%s", stack)
				}
			}
			return
		}
	}
}

// TestCancelAtBeginning cancels at the first moment of each phase. The target is cleaned
// by each clone of what the one before it left.
func TestCancelAtBeginning(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	for _, phase := range report.Phases() {
		t.Run(string(phase), func(t *testing.T) {
			spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 2, Job: NewJob()})
			noGoroutines(t, func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				report, err := Clone(ctx, spec, Options{notify: func(p report.Phase) {
					if p == phase {
						cancel(report.ErrCancelled)
					}
				}})
				isCancelled(t, spec, report, err)
			})
			isAllOrNothing(t, target)
		})
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
}

// TestCancelInMiddle cancels while a statement of the phase waits on a server, for a lock that is there until the clone has
// ended.
func TestCancelInMiddle(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	dbtest.Exec(t, target, "CREATE TABLE child (n int)")
	for _, st := range stages {
		t.Run(st.name, func(t *testing.T) {
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 2, Job: NewJob()}
			if st.phase == report.PhaseClean {
				mustComplete(t, spec)
				spec.Job = NewJob()
			}
			noGoroutines(t, func() {
				report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(report.ErrCancelled) })
				isCancelled(t, spec, report, err)
			})
			if st.phase != report.PhaseClean { // which had only begun with what an earlier clone had copied
				isAllOrNothing(t, target)
			}
		})
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
}

// TestCancelBeforeAnswer cancels while a server is silent.
func TestCancelBeforeAnswer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing to lose
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		if c, err := l.Accept(); err == nil {
			cancel(report.ErrCancelled)
			<-t.Context().Done()
			_ = c.Close()
		}
	}()
	silent := dsn.URL("postgres://u:p@" + l.Addr().String() + "/d?sslmode=disable")
	result, err := Clone(ctx, Spec{Source: silent, Target: silent}, Options{})
	if result.Status != report.StatusCancelled || !errors.Is(err, report.ErrCancelled) {
		t.Errorf("status %s, error %v, want cancelled", result.Status, err)
	}
}

// The end of a context for another cause is a failure, with that cause.
func TestEndWithContext(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		cause error
		want  report.Status
	}{
		{"cancelled", report.ErrCancelled, report.StatusCancelled},
		{"without cause", nil, report.StatusCancelled},
		{"another cause", errors.New("the worker stops"), report.StatusFailed},
		{"deadline", context.DeadlineExceeded, report.StatusFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			report, err := Clone(ctx, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{notify: func(p report.Phase) {
				if p == report.PhasePreData {
					cancel(tt.cause)
				}
			}})
			want := tt.cause
			if want == nil {
				want = context.Canceled
			}
			if report.Status != tt.want || !errors.Is(err, want) || report.Error != err.Error() {
				t.Errorf("status %s, error %v, want %s and %v", report.Status, err, tt.want, want)
			}
		})
	}
}

// isAllOrNothing wants each table of stageSQL that is on the target to have all its rows
// and a mark, or neither, as long as marks are there.
func isAllOrNothing(t *testing.T, target string) {
	t.Helper()
	there := dbtest.Query(t, target, `SELECT relname FROM pg_class
		WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND to_regclass('_calco.mark') IS NOT NULL`)
	if len(there) == 0 {
		return
	}
	var counts []string
	for _, row := range there {
		counts = append(counts, fmt.Sprintf("SELECT '%s' AS name, count(*) AS rows FROM public.%[1]s", row[0]))
	}
	found := dbtest.Query(t, target, fmt.Sprintf(`SELECT c.name, c.rows, (SELECT m.rows FROM _calco.mark m WHERE m.relation = '"public"."' || c.name || '"')
		FROM (%s) c`, strings.Join(counts, " UNION ALL ")))
	for _, row := range found {
		name, rows, marked := row[0], row[1], row[2]
		if (rows != "0" || marked != "NULL") && (rows != stageRows[name] || marked != stageRows[name]) {
			t.Errorf("%s has %s rows and the mark %s, want %s or none", name, rows, marked, stageRows[name])
		}
	}
}
