package cloner

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/locks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// TestCleanSaysWhoIsInTheWay: a session uses what clean drops. Clean names it, lets others read meanwhile, and goes on when
// it is gone.
func TestCleanSaysWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	dbtest.Exec(t, target, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int REFERENCES t); CREATE SCHEMA s; CREATE TABLE s.v (id int)")
	release := dbtest.Hold(t, target, "SET application_name = 'reporter'; BEGIN; LOCK TABLE t IN ACCESS SHARE MODE")
	spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
	var m progress.Meter
	ended := make(chan error, 1)
	go func() {
		_, err := Clone(t.Context(), spec, Options{Meter: &m})
		ended <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	says := regexp.MustCompile(`^Waiting for locks on the target\. .*table public\.t is in use by session \d+ \(reporter, role postgres\), since 20.* UTC.*\.$`)
	for p := (report.Progress{}); p.Waiting == nil || !says.MatchString(p.Waiting.Text.String()); p = m.Progress() {
		if session.Pause(ctx, 20*time.Millisecond) != nil {
			t.Fatalf("the clone says %+v", p.Waiting)
		}
	}
	if got := dbtest.Query(t, target, "SELECT count(*), to_regclass('s.v') FROM t"); got[0][0] != "0" || got[0][1] != "NULL" {
		t.Errorf("meanwhile: %q", got)
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if p := m.Progress(); p.Waiting != nil {
		t.Errorf("in the end there is %+v", p.Waiting)
	}
	if !slices.ContainsFunc(m.Since(0).Events, func(e report.Event) bool { return says.MatchString(e.Text.String()) }) {
		t.Error("it is not in the log")
	}
}

// TestPreparedTransactionInTheWay has a name, though no process.
func TestPreparedTransactionInTheWay(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, map[string]string{"max_prepared_transactions": "2"})
	target := newDatabase(t, server, "t", "")
	dbtest.Exec(t, target, "CREATE TABLE t (id int); CREATE TABLE u (id int)")
	dbtest.Exec(t, target, "BEGIN; SAVEPOINT a; INSERT INTO t VALUES (1); RELEASE a; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'half'")
	want := regexp.MustCompile(`^the prepared transaction 'half' \(role postgres\), since 20.* UTC$`)
	for range 2 {
		s, err := session.Dial(t.Context(), report.Target, dsn.URL(target), nil, "test")
		if err != nil {
			t.Fatal(err)
		}
		holders, err := locks.ReadHolders(t.Context(), s)
		s.Close()
		if err != nil || len(holders) != 1 {
			t.Fatalf("%v, %v", holders, err)
		}
		for _, of := range holders {
			if len(of) != 1 || !want.MatchString(of[0].String()) {
				t.Errorf("in the way: %q", of)
			}
		}
		if err := server.Restart(t.Context()); err != nil { // which gives it another virtual transaction
			t.Fatal(err)
		}
	}
}

// TestBuildSaysWhoIsInTheWay: a session that sits in its transaction after it has read a new table keeps the clone from building
// on it. That is said, and given up in the end; when the session is gone the clone goes on.
func TestBuildSaysWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
	var m progress.Meter
	var release func()
	says := regexp.MustCompile(`^Waiting for locks on the target\. public\.child is in use by session \d+ \(reader, role postgres\), since 20.* UTC.*\.$`)
	result, err := Clone(t.Context(), spec, Options{Meter: &m, Patience: time.Second, notify: func(p report.Phase) {
		if p == report.PhaseCopy {
			release = dbtest.Hold(t, target, "SET application_name = 'reader'; BEGIN; LOCK TABLE child IN ACCESS SHARE MODE")
		}
	}})
	if result.Status != report.StatusFailed || !errors.Is(err, locks.ErrLocked) || !result.Resumable {
		t.Errorf("status %s, error %v, resumable %t", result.Status, err, result.Resumable)
	}
	if hint := result.Hint.String(); !strings.HasPrefix(hint, "End those sessions") || strings.Count(result.Error, string(result.Phase)+":") != 1 {
		t.Errorf("error %q in %q, hint %q", result.Error, result.Phase, hint)
	}
	if !slices.ContainsFunc(m.Since(0).Events, func(e report.Event) bool { return says.MatchString(e.Text.String()) }) {
		t.Errorf("it is not in the log: %+v", m.Since(0).Events)
	}
	release()
	mustComplete(t, resumed(spec))
}

// TestCleanGivesUp when nobody lets go of the lock, and can go on later.
func TestCleanGivesUp(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	for name, sql := range map[string]string{"a table": "LOCK TABLE t IN ACCESS SHARE MODE", "a schema": "CREATE TABLE s.uncommitted (id int)"} {
		dbtest.Exec(t, target, "DROP TABLE IF EXISTS new; CREATE SCHEMA s; CREATE TABLE t (id int)")
		release := dbtest.Hold(t, target, "BEGIN; "+sql)
		spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Job: NewJob()})
		result, err := Clone(t.Context(), spec, Options{Patience: time.Second})
		var e *report.Error
		if !errors.As(err, &e) || !errors.Is(err, locks.ErrLocked) {
			t.Fatalf("%s: error %v, want a lock that is held", name, err)
		}
		dbtest.Same(t, name+": status", result.Status, report.StatusFailed)
		dbtest.Same(t, name+": phase", e.Phase, report.PhaseClean)
		dbtest.Same(t, name+": resumable", result.Resumable, true)
		if !strings.HasPrefix(e.Hint.String(), "End those sessions") {
			t.Errorf("%s: hint %q", name, e.Hint)
		}
		release()
		mustComplete(t, resumed(spec))
	}
}

// TestEndBlockers ends who is in the way where that is wanted, and says so. A role that may not says that too.
func TestEndBlockers(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	name, limited := role(t, target, "LOGIN")
	dbtest.Exec(t, target, fmt.Sprintf("ALTER DATABASE %s OWNER TO %s; CREATE TABLE t (id int); ALTER TABLE t OWNER TO %[2]s", session.QuoteName(dsn.URL(target).Database()), name))
	dbtest.Hold(t, target, "SET application_name = 'idle'; BEGIN; LOCK TABLE t IN ACCESS SHARE MODE")

	spec := confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(limited), Clean: true, EndBlockers: true, Job: NewJob()})
	report, err := Clone(t.Context(), spec, Options{Patience: time.Second})
	if !errors.Is(err, locks.ErrLocked) || !strings.Contains(report.Error, "(idle, role postgres), which this role may not end") {
		t.Errorf("status %s, error %v", report.Status, err)
	}
	if text := fmt.Sprint(report.Warnings); !strings.Contains(text, "The role "+name+" may not end session") {
		t.Errorf("warnings %q", report.Warnings)
	}

	spec = Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, EndBlockers: true}
	report = mustComplete(t, spec)
	if text := fmt.Sprint(report.Warnings); !regexp.MustCompile(`Ended session \d+ \(idle, role postgres\), since .* UTC, which was in the way of the drop of table public\.t\.`).MatchString(text) {
		t.Errorf("warnings %q", report.Warnings)
	}
	if got := dbtest.Query(t, target, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idle' AND datname = current_database()"); got[0][0] != "0" {
		t.Error("the session goes on")
	}
}
