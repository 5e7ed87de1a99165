package cloner

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
	"calco/db/embedded"
)

// hasFailed wants a clone to have ended as failed, in words, with nothing of it left.
func hasFailed(t *testing.T, spec Spec, result report.Report, err error) report.Error {
	t.Helper()
	if result.Status != report.StatusFailed || err == nil {
		t.Fatalf("status %s, error %v, want failed\nledger: %+v", result.Status, err, result.Ledger)
	}
	var e *report.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %#v, want an *Error", err)
	}
	if e.Phase == "" {
		t.Errorf("error %v has no phase", err)
	}
	dbtest.Same(t, "error of the report", result.Error, err.Error())
	dbtest.Same(t, "hint of the report", result.Hint.String(), e.Hint.String())
	dbtest.Same(t, "phase of the report", result.Phase, e.Phase)
	dbtest.Same(t, "relation of the report", result.Relation, e.Relation)
	dbtest.Same(t, "SQLSTATE of the report", result.SQLState, session.SQLState(err))
	nothingRuns(t, spec)
	return *e
}

// endOf returns a statement that ends the backends of a job.
func endOf(job string) string {
	return fmt.Sprintf("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'calco/%s/%%'", job)
}

// hasGoneOn wants a clone to have got over it: the outcome is that of one that nothing happened to.
func hasGoneOn(t *testing.T, spec Spec, result report.Report, err error) {
	t.Helper()
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("status %s, error %v, want completed\ndifferences: %+v\nledger: %+v", result.Status, err, result.Differences, result.Ledger)
	}
	nothingRuns(t, spec)
	hasAllRows(t, spec)
}

// hasAllRows wants the rows of stageSQL on the target once, and nothing of Calco.
func hasAllRows(t *testing.T, spec Spec) {
	t.Helper()
	for name := range stageRows {
		dbtest.Equal(t, string(spec.Source), string(spec.Target), "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM "+name+" t")
	}
	dbtest.Equal(t, string(spec.Source), string(spec.Target), `SELECT conname, convalidated FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1`)
	dbtest.Equal(t, string(spec.Source), string(spec.Target), `SELECT (SELECT count(*) FROM slow), (SELECT last_value FROM seq), (SELECT count(*) FROM pg_largeobject_metadata)`)
	if got := dbtest.Query(t, string(spec.Target), "SELECT to_regnamespace('_calco')"); got[0][0] != "NULL" {
		t.Error("_calco is still there")
	}
}

// TestBackendsEnded ends all backends of the job on one side in the middle of each phase.
// Each clone cleans what the one before it left.
func TestBackendsEnded(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	for _, side := range []report.Side{report.Source, report.Target} {
		t.Run(string(side), func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, stageSQL)
			for _, st := range stages {
				t.Run(st.name, func(t *testing.T) {
					spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 2, Job: NewJob()}
					if st.phase == report.PhaseClean {
						mustComplete(t, spec)
						spec.Job = NewJob()
					}
					noGoroutines(t, func() {
						report, err := st.play(t, spec, func(_ context.CancelCauseFunc, release func()) {
							dbtest.Exec(t, map[report.Side]string{report.Source: source, report.Target: target}[side], endOf(spec.Job))
							release()
						})
						hasGoneOn(t, spec, report, err)
					})
				})
			}
		})
	}
}

// A backend that has not noticed yet that its client is gone, as one of pg_dump on a busy machine, was left behind by a
// clone that had completed.
func TestBackendsGoneAtEnd(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
	result, err := Clone(t.Context(), spec, Options{Record: func(ctx context.Context, _ report.Report) error {
		for _, u := range []dsn.URL{spec.Source, spec.Target} {
			s, err := session.Dial(ctx, report.Source, u, nil, fmt.Sprintf("calco/%s/1", spec.Job))
			if err != nil {
				return err
			}
			t.Cleanup(s.Close)
			if err := s.Exec(ctx, "BEGIN; SELECT pg_catalog.pg_get_viewdef(0::oid)"); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil || result.Status != report.StatusCompleted || len(result.Warnings) > 0 {
		t.Errorf("status %s, error %v, warnings %q, want completed", result.Status, err, result.Warnings)
	}
	nothingRuns(t, spec)
}

// The phase in which the outcome was recorded took longer in the report that was returned than in the one on record.
func TestReportIsTheOneRecorded(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	var recorded report.Report
	report := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{Record: func(_ context.Context, r report.Report) error {
		recorded = r
		return nil
	}}, report.StatusCompleted)
	if !reflect.DeepEqual(report, recorded) {
		t.Errorf("returned %+v, recorded %+v", report, recorded)
	}
}

// TestBackendsEndedAtBeginning ends them on both sides at the first moment of each phase.
func TestBackendsEndedAtBeginning(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	for _, phase := range report.Phases()[1:] { // before preflight there are none
		t.Run(string(phase), func(t *testing.T) {
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 2, Job: NewJob()}
			report, err := Clone(t.Context(), confirmed(t, spec), Options{notify: func(p report.Phase) {
				if p == phase {
					dbtest.Exec(t, source, endOf(spec.Job))
					dbtest.Exec(t, target, endOf(spec.Job))
				}
			}})
			hasGoneOn(t, spec, report, err)
		})
	}
}

// TestCrash lets the server of one side crash in the middle of each phase.
func TestCrash(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	for _, side := range []report.Side{report.Source, report.Target} {
		t.Run(string(side), func(t *testing.T) {
			t.Parallel()
			s := dbtest.Cluster(t, map[string]string{"restart_after_crash": "off", "synchronous_commit": "on"})
			sides := map[report.Side]string{report.Source: dbtest.Database(t), report.Target: dbtest.Database(t)}
			sides[side] = s.URL("")
			dbtest.Exec(t, sides[report.Source], stageSQL)
			for _, st := range stages {
				t.Run(st.name, func(t *testing.T) {
					spec := Spec{Source: dsn.URL(sides[report.Source]), Target: dsn.URL(sides[report.Target]), Clean: true, Lanes: 2, Job: NewJob()}
					if st.phase == report.PhaseClean {
						mustComplete(t, spec)
						spec.Job = NewJob()
					}
					report, err := st.play(t, spec, func(_ context.CancelCauseFunc, release func()) {
						crash(t, s)
						release()
					})
					hasGoneOn(t, spec, report, err)
				})
			}
		})
	}
}

func crash(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestOneBackendEnded ends a single backend of the job. While one of the two that hold the snapshot
// lives, it is the same one.
func TestOneBackendEnded(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	const holder = "state = 'idle in transaction'"
	tests := []struct {
		name  string
		phase report.Phase
		side  report.Side
		which string
		epoch bool // another snapshot has to be taken
	}{
		// Parts failed with "invalid snapshot identifier", and went into the ledger.
		{"the first holder, before the rows", report.PhasePreData, report.Source, "pid = (SELECT min(pid) FROM pg_stat_activity WHERE datname = current_database() AND %[1]s AND " + holder + ")", false},
		{"the second holder, before the rows", report.PhasePreData, report.Source, "pid = (SELECT max(pid) FROM pg_stat_activity WHERE datname = current_database() AND %[1]s AND " + holder + ")", false},
		{"both holders, before the rows", report.PhaseCopy, report.Source, holder, true},
		{"both holders, after the rows", report.PhaseSequences, report.Source, holder, false},
		{"the one that asks the source", report.PhasePreData, report.Source, "NOT (" + holder + ")", false},
		{"the one that has the lock of the target", report.PhaseVerify, report.Target, "pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted)", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, stageSQL)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 1, Job: NewJob()} // no other lane has the snapshot then
			ours := fmt.Sprintf("application_name LIKE 'calco/%s/%%'", spec.Job)
			which := strings.ReplaceAll(tt.which, "%[1]s", ours)
			ended := 0
			result, err := Clone(t.Context(), confirmed(t, spec), Options{notify: func(p report.Phase) {
				if p == tt.phase {
					ended = len(dbtest.Query(t, map[report.Side]string{report.Source: source, report.Target: target}[tt.side],
						"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND "+ours+" AND "+which))
				}
			}})
			if ended == 0 && tt.phase != report.PhaseSequences {
				t.Fatal("no backend was ended")
			}
			hasGoneOn(t, spec, result, err)
			if got := len(result.Epochs) > 1; got != tt.epoch {
				t.Errorf("epochs %+v, want more than one: %t", result.Epochs, tt.epoch)
			}
		})
	}
}

// TestDiskFull: a server without disk space ends the clone, wherever it says so. The error
// is raised by functions, which say what the disk would.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	tests := []struct {
		name, sql string
		phase     report.Phase
		relation  string
	}{
		{"a row", "CREATE TABLE t (n int CHECK (full_disk(n) > 0)); INSERT INTO t VALUES (1)", report.PhaseCopy, "public.t"},
		{"an index", "CREATE TABLE t (n int); INSERT INTO t VALUES (1); CREATE INDEX i ON t (full_disk(n))", report.PhaseIndexes, "INDEX public.i"},
		{"a constraint", "CREATE TABLE t (n int); INSERT INTO t VALUES (1); ALTER TABLE t ADD CONSTRAINT c EXCLUDE (full_disk(n) WITH =)", report.PhaseConstraints, "CONSTRAINT public.t c"},
		{"a view", "CREATE TABLE t AS SELECT 1 AS n; CREATE MATERIALIZED VIEW v AS SELECT full_disk(n) FROM t", report.PhaseViews, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, fmt.Sprintf(`
				CREATE FUNCTION full_disk(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
					IF current_database() <> %s THEN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END IF; RETURN n; END $$;`,
				session.QuoteLiteral(dsn.URL(source).Database()))+tt.sql)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
			report, err := Clone(t.Context(), confirmed(t, spec), Options{})
			e := hasFailed(t, spec, report, err)
			if e.Phase != tt.phase || e.Relation != tt.relation || session.SQLState(err) != "53100" {
				t.Errorf("phase %s, relation %q, error %v, want %s and %q", e.Phase, e.Relation, err, tt.phase, tt.relation)
			}
			if want := "Free disk space on the server, then start again."; e.Hint.String() != want {
				t.Errorf("hint %q, want %q", e.Hint, want)
			}
			dbtest.Exec(t, source, "CREATE OR REPLACE FUNCTION full_disk(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n'")
			spec.Clean = true
			mustComplete(t, spec)
		})
	}
}

// TestObjectsThatFail: what cannot be made is listed with PostgreSQL's words and what to
// do, and the rest of the clone is there.
func TestObjectsThatFail(t *testing.T) {
	t.Parallel()
	// In the target everything is equal to the function, and nothing is allowed.
	const other = `CREATE FUNCTION here() RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN current_database() = %s; END $$;
		CREATE FUNCTION same(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN here() THEN n ELSE 0 END; END $$;
		CREATE FUNCTION allowed(n int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN here(); END $$;
		CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2);`
	tests := []struct {
		name, sql, object, state, hint string
		phase                          report.Phase
	}{
		{"unique index", "CREATE UNIQUE INDEX i ON t (same(n))", "INDEX public.i", "23505", "The source holds duplicates", report.PhaseIndexes},
		{
			"primary key", "ALTER TABLE t ADD PRIMARY KEY (n); SET session_replication_role = replica; UPDATE pg_index SET indisunique = false WHERE indrelid = 't'::regclass; INSERT INTO t VALUES (1); UPDATE pg_index SET indisunique = true WHERE indrelid = 't'::regclass",
			"CONSTRAINT public.t t_pkey", "23505", "The source holds duplicates", report.PhaseIndexes,
		},
		{
			"foreign key", "CREATE TABLE u (n int PRIMARY KEY); ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES u NOT VALID; UPDATE pg_constraint SET convalidated = true WHERE conname = 'f'",
			"FK CONSTRAINT public.t f", "23503", "The source holds rows that break this foreign key", report.PhaseConstraints,
		},
		{"rows", "ALTER TABLE t ADD CHECK (allowed(n))", "ROWS OF public.t", "23514", "", report.PhaseCopy},
		{"view", "CREATE MATERIALIZED VIEW v AS SELECT 1 / same(n) FROM t", "DATA OF MATERIALIZED VIEW public.v", "22012", "", report.PhaseViews},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "SET search_path = public; "+fmt.Sprintf(other, session.QuoteLiteral(dsn.URL(source).Database())))
			dbtest.Exec(t, source, tt.sql)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
			report := mustEnd(t, spec, Options{}, report.StatusDifferences)
			nothingRuns(t, spec)
			e := inLedger(t, report, tt.object)
			if e.Phase != tt.phase || e.SQLState != tt.state || e.Error == "" || !strings.HasPrefix(e.Hint.String(), tt.hint) {
				t.Errorf("ledger %+v, want %s in %s and the hint %q", e, tt.state, tt.phase, tt.hint)
			}
			if len(report.Differences) == 0 {
				t.Error("no differences")
			}
			if got := dbtest.Query(t, target, "SELECT to_regnamespace('_calco')"); got[0][0] != "NULL" {
				t.Error("_calco is still there")
			}
		})
	}
}

// TestRolesThatAreMissing: roles belong to the server. The objects are made, their owners
// and grants are differences.
func TestRolesThatAreMissing(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, nil)
	source, target := s.URL(""), dbtest.Database(t)
	dbtest.Exec(t, source, `CREATE ROLE absent; CREATE TABLE t AS SELECT 1 AS n; CREATE TABLE u AS SELECT 1 AS n;
		ALTER TABLE t OWNER TO absent; GRANT SELECT ON u TO absent; CREATE POLICY p ON u TO absent`)
	report := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{}, report.StatusDifferences)
	for _, object := range []string{"OWNER OF TABLE public.t", "ACL public.TABLE u", "POLICY public.u p"} {
		e := inLedger(t, report, object)
		if e.SQLState != "42704" || !strings.HasPrefix(e.Hint.String(), "Create the role on the target server") {
			t.Errorf("%s: %+v", object, e)
		}
	}
	dbtest.Equal(t, source, target, "SELECT n, (SELECT n FROM u) FROM t")
}

// TestEventTriggerOfTarget: what the target's own event triggers refuse is not forced.
func TestEventTriggerOfTarget(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	dbtest.Exec(t, target, `CREATE TABLE kept AS SELECT 1 AS n;
		CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'hands off'; END $$;
		CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()`)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Job: NewJob()}
	report, err := Clone(t.Context(), confirmed(t, spec), Options{})
	hasFailed(t, spec, report, err)
	if !strings.Contains(report.Error, "hands off") {
		t.Errorf("error %q, want the trigger's own words", report.Error)
	}
	if got := dbtest.Query(t, target, "SELECT n, to_regnamespace('_calco') FROM kept"); !slices.Equal(got[0], []string{"1", "NULL"}) {
		t.Errorf("the target holds %v, want what it held", got)
	}
	dbtest.Exec(t, target, "DROP EVENT TRIGGER refuse")
	mustComplete(t, spec)
}

// A phase that finds the clone ended before it begins is the phase of what ended it.
func TestPhaseOfCause(t *testing.T) {
	t.Parallel()
	ctx, abort := context.WithCancelCause(t.Context())
	abort(session.ErrTermLost)
	a := &attempt{run: &run{meter: &progress.Meter{}}}
	err := a.in(ctx, report.PhaseViews, func(context.Context) error { return nil })
	e, ok := errors.AsType[*report.Error](err)
	if !ok || e.Phase != report.PhaseViews || !errors.Is(err, session.ErrTermLost) || e.Hint.IsZero() {
		t.Errorf("error %#v, want a takeover in the phase views", err)
	}
}

// TestTakeover raises the term at the beginning of each phase: from then on no write of the
// old owner may succeed.
func TestTakeover(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	const state = `SELECT xact_commit - xact_commit, (SELECT count(*) FROM _calco.mark), (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
		(SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_stats WHERE schemaname = 'public') FROM pg_stat_database WHERE datname = current_database()`
	for _, phase := range []report.Phase{report.PhaseClean, report.PhasePreData, report.PhaseCopy, report.PhaseSequences, report.PhaseAnalyze, report.PhaseViews, report.PhaseVerify} {
		t.Run(string(phase), func(t *testing.T) {
			if phase == report.PhaseClean || phase == report.PhasePreData {
				dbtest.Exec(t, target, "DROP SCHEMA IF EXISTS _calco CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public; SELECT lo_from_bytea(0, 'x')")
			}
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 1, Job: NewJob()}
			var before [][]string
			result, err := Clone(t.Context(), confirmed(t, spec), Options{notify: func(p report.Phase) {
				if p == phase && dbtest.Query(t, target, "SELECT to_regclass('_calco.job')")[0][0] != "NULL" {
					dbtest.Exec(t, target, "UPDATE _calco.job SET term = term + 1")
					before = dbtest.Query(t, target, state)
				}
			}})
			if before == nil { // pre-data begins with writing the job
				dbtest.Exec(t, target, "DROP SCHEMA IF EXISTS _calco CASCADE")
				return
			}
			e := hasFailed(t, spec, result, err)
			if !errors.Is(err, session.ErrTermLost) || !strings.Contains(result.Error, "another run has taken over this target") || e.Hint.String() != "Open the newer run of this clone; this one has stopped." {
				t.Errorf("error %v, hint %q, want a takeover", err, e.Hint)
			}
			after := dbtest.Query(t, target, state)
			if phase != report.PhaseCopy && !slices.Equal(after[0], before[0]) {
				t.Errorf("the target went from %v to %v", before, after)
			}
			if phase == report.PhaseCopy && after[0][1] != before[0][1] {
				t.Errorf("marks went from %s to %s", before[0][1], after[0][1])
			}
			isAllOrNothing(t, target)
		})
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
}

// A run that lost its target swept by a prefix of its name: the first term of a job ended the
// backends of its tenth.
func TestSweepSparesOtherTerms(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob(), Term: 1}
	newer := spec
	newer.Term = 10
	u := strings.Replace(target, "?", "?application_name="+strings.ReplaceAll((marks.Job{ID: newer.Job, Term: newer.Term}).ApplicationName(), "/", "%2F")+"&", 1)
	c, err := pgconn.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background()) //nolint:errcheck // nothing to lose
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	if _, err := Clone(ctx, spec, Options{notify: func(p report.Phase) {
		if p == report.PhaseCopy {
			cancel(report.ErrCancelled)
		}
	}}); !errors.Is(err, report.ErrCancelled) {
		t.Fatalf("Clone: %v", err)
	}
	if err := c.Exec(t.Context(), "SELECT 1").Close(); err != nil {
		t.Errorf("the backend of term 10 was ended: %v", err)
	}
}

// TestInterruptedJobIsEnded: a dead client's backend can still commit rows and their mark,
// so the next clone ends it before it looks at the target.
func TestInterruptedJobIsEnded(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	dbtest.Exec(t, target, marks.CreateSQL()+"; "+jobRow("old", 3)+"; CREATE TABLE plain (id int)")
	old := strings.Replace(target, "?", "?application_name=calco%2Fold%2F3&", 1)
	c, err := pgconn.Connect(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background()) //nolint:errcheck // it is dead
	if err := c.Exec(t.Context(), "BEGIN; INSERT INTO plain VALUES (1); INSERT INTO _calco.mark VALUES ('public.plain', 0, 1, 0, 0, 0, false, 1, 1, 1, 1)").Close(); err != nil {
		t.Fatal(err)
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
	if err := c.Exec(t.Context(), "COMMIT").Close(); session.SQLState(err) != "57P01" {
		t.Errorf("the old backend: %v, want it ended", err)
	}
}
