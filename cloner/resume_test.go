package cloner

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/marks"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// resumed is the same job under its next term.
func resumed(spec Spec) Spec {
	spec.Term = max(spec.Term, 1) + 1
	spec.Resume, spec.Touched = true, true
	return spec
}

// touchSQL changes rows of stageSQL in all ways, with what a proof could miss: a subtransaction, a no-op update, a row
// that goes and comes back.
const touchSQL = `
	UPDATE plain SET s = 'changed' WHERE id % 1000 = 7;
	DELETE FROM child WHERE id = 42; INSERT INTO child VALUES (42, 43);
	DELETE FROM child WHERE id BETWEEN 100 AND 120;
	INSERT INTO checked VALUES (3001);
	DO $$ BEGIN BEGIN UPDATE indexed SET n = 3001 WHERE n = 1; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$;
	UPDATE excluded SET n = n WHERE n = 5;
	SELECT lo_put((SELECT min(oid) FROM pg_largeobject_metadata), 0, 'new'); SELECT nextval('seq')`

// TestResume cancels a clone in the middle of each phase, changes the source, and resumes it: the target is then the
// source of now, whatever was kept.
func TestResume(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	for _, change := range []struct{ name, sql string }{{"quiet source", ""}, {"changed source", touchSQL}} {
		t.Run(change.name, func(t *testing.T) {
			t.Parallel()
			for _, st := range stages {
				t.Run(st.name, func(t *testing.T) {
					t.Parallel()
					source, target := dbtest.Database(t), dbtest.Database(t)
					dbtest.Exec(t, source, stageSQL)
					spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob(), PartSize: MinPartSize}
					if st.phase == report.PhaseClean {
						mustComplete(t, spec)
						spec.Job, spec.Clean = NewJob(), true
					}
					report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(report.ErrCancelled) })
					isCancelled(t, spec, report, err)
					filled := len(dbtest.Query(t, target, "SELECT 1 WHERE to_regclass('_calco.stage') IS NOT NULL")) > 0 &&
						len(dbtest.Query(t, target, "SELECT 1 FROM _calco.stage WHERE name = 'filled'")) > 0
					before := dbtest.Query(t, source, "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM plain t")
					if change.sql != "" {
						dbtest.Exec(t, source, change.sql)
					}
					report = mustComplete(t, resumed(spec))
					if filled { // then it is the source of then
						if got := dbtest.Query(t, target, "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM plain t"); fmt.Sprint(got) != fmt.Sprint(before) {
							t.Errorf("the target has %v, want %v", got, before)
						}
						if len(report.Epochs) > 0 {
							t.Errorf("epochs %+v, want one: all rows were there", report.Epochs)
						}
						return
					}
					hasAllRows(t, spec)
				})
			}
		})
	}
}

// TestResumeKeepsParts: parts that the source proves to be unchanged are kept, the others redone, whatever stands on them.
func TestResumeKeepsParts(t *testing.T) {
	t.Parallel()
	// The transactions of other tests would put every proof in doubt: they are older than the rows.
	source, target := dbtest.Cluster(t, nil).URL(""), dbtest.Database(t)
	// The view waits at the end: all is there then but the note that it is, which the test takes away.
	dbtest.Exec(t, source, `
		CREATE TABLE parent (id int PRIMARY KEY, s text);
		INSERT INTO parent SELECT n, repeat('x', 200) FROM generate_series(1, 5000) n;
		CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, u int UNIQUE);
		INSERT INTO child SELECT n, n, n FROM generate_series(1, 5000) n;
		CREATE RULE keep AS ON DELETE TO parent DO INSTEAD NOTHING;
		CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not allowed'; END $$;
		CREATE TABLE still (id int PRIMARY KEY, s text);
		INSERT INTO still SELECT n, repeat('x', 200) FROM generate_series(1, 5000) n;
		CREATE TABLE measure (day int, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day);
		CREATE TABLE measure_1 PARTITION OF measure FOR VALUES FROM (0) TO (10);
		CREATE TABLE measure_2 PARTITION OF measure FOR VALUES FROM (10) TO (20);
		INSERT INTO measure SELECT n % 20, n FROM generate_series(1, 4000) n;
		CREATE INDEX ON measure (n);
		CREATE TABLE twin_1 AS SELECT 1 AS n; CREATE TABLE twin_2 AS SELECT 2 AS n;
		CREATE PUBLICATION everything FOR ALL TABLES;
		CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 500) AS n;
		CREATE VIEW totals AS SELECT p.id, p.s, count(*) AS n FROM parent p JOIN child c ON c.parent_id = p.id GROUP BY p.id;
		CREATE MATERIALIZED VIEW filled AS SELECT count(*) AS n FROM totals;
		CREATE FUNCTION wait_for(key int) RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_xact_lock_shared(key)';
		CREATE MATERIALIZED VIEW waiting AS SELECT wait_for(4);
		ALTER TABLE child ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON child;
		SELECT lo_from_bytea(0, 'large');`)
	// On the target alone it would refuse rows that come after it.
	dbtest.Exec(t, source, "CREATE TRIGGER forbid BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION forbid(); ALTER TABLE child ENABLE ALWAYS TRIGGER forbid")
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob(), PartSize: MinPartSize, Verify: report.VerifyContents}
	st := stage{"a view", report.PhaseViews, report.PhaseCopy, report.Target, "SELECT pg_advisory_lock(4)"}
	report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) {
		dbtest.Await(t, target, "SELECT durable FROM _calco.epoch")
		cancel(report.ErrCancelled)
	})
	isCancelled(t, spec, report, err)
	dbtest.Exec(t, target, "DELETE FROM _calco.stage WHERE name = 'filled'")
	dbtest.Exec(t, source, `SET session_replication_role = replica;
		UPDATE parent SET s = repeat('y', 300) WHERE id = 17; -- which moves to another part
		ALTER TABLE parent DISABLE RULE keep;
		DELETE FROM child WHERE id > 4990; DELETE FROM parent WHERE id > 4990;
		ALTER TABLE parent ENABLE RULE keep; ALTER TABLE child DISABLE TRIGGER forbid; INSERT INTO child VALUES (5001, 1, 5001); ALTER TABLE child ENABLE ALWAYS TRIGGER forbid;
		UPDATE measure SET day = 11 WHERE n = 3;
		ALTER TABLE twin_1 RENAME TO twin_3; ALTER TABLE twin_2 RENAME TO twin_1; ALTER TABLE twin_3 RENAME TO twin_2;
		REFRESH MATERIALIZED VIEW filled; SELECT lo_from_bytea(0, 'more')`)
	report = mustComplete(t, resumed(spec))
	if len(report.Epochs) != 2 || report.Epochs[1].Kept == 0 || report.Epochs[1].Redone == 0 {
		t.Fatalf("epochs %+v, want a second one that kept parts and redid others", report.Epochs)
	}
	if c := report.Contents; c.Rows != report.Rows || len(c.Left) > 0 { // the checksums of what was kept are with its marks
		t.Errorf("contents %+v of %d rows", c, report.Rows)
	}
	for _, name := range []string{"still", "scratch"} {
		if strings.Contains(fmt.Sprint(report.Epochs[1].RedoneTables), name) {
			t.Errorf("redone: %v, want %s kept", report.Epochs[1].RedoneTables, name)
		}
	}
	for _, name := range []string{"parent", "child", "still", "measure", "measure_1", "measure_2", "scratch", "totals", "filled", "twin_1", "twin_2"} {
		dbtest.Equal(t, source, target, "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM "+name+" t")
	}
	dbtest.Equal(t, source, target, "SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2")
	dbtest.Equal(t, source, target, "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid::regclass::text !~ '^pg_' ORDER BY 1")
	dbtest.Equal(t, source, target, "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal")
	dbtest.Equal(t, source, target, "SELECT relrowsecurity FROM pg_class WHERE relname = 'child'")
	dbtest.Equal(t, source, target, "SELECT lo_get(oid) FROM pg_largeobject_metadata ORDER BY 1")
	dbtest.Equal(t, source, target, "SELECT to_regnamespace('_calco')")
}

// TestCannotResume: what cannot go on says so, and clean and retry does.
func TestCannotResume(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	tests := []struct{ name, source, target, want string }{
		{"a column more", "ALTER TABLE plain ADD COLUMN z int DEFAULT 5", "", "the schema of the source has changed since"},
		// It looks the same, and its values are gone.
		{"a column dropped and made again", "ALTER TABLE plain DROP COLUMN s; ALTER TABLE plain ADD COLUMN s text DEFAULT repeat('x'::text, 100); UPDATE plain SET s = NULL", "", "the schema of the source has changed since"},
		{"an enum value renamed", "ALTER TYPE mood RENAME VALUE 'sad' TO 'gloomy'", "", "the schema of the source has changed since"},
		{"another source", "", "UPDATE _calco.job SET system = '1'", "the source is another server or database"},
		{"a failover", "", "UPDATE _calco.job SET timeline = timeline + 1", "failed over"},
		{"a table dropped", "", "DROP TABLE plain CASCADE", "somebody has dropped the table"},
		{"no marks", "", "DROP SCHEMA _calco CASCADE", "marks of an earlier run are not there"},
		{"a pg_dump of another minor version", "", "UPDATE _calco.job SET definitions = '13.1 x'", "it was begun with pg_dump 13.1, and this is pg_dump "},
		{"a table made", "", "CREATE TABLE intruder (id int)", "somebody has made TABLE public.intruder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, stageSQL)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
			st := stages[len(stages)-3] // a view
			report, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) { cancel(report.ErrCancelled) })
			isCancelled(t, spec, report, err)
			if !report.Resumable {
				t.Error("a cancelled clone cannot be resumed")
			}
			if tt.source != "" {
				dbtest.Exec(t, source, tt.source)
			}
			if tt.target != "" {
				dbtest.Exec(t, target, tt.target)
			}
			again := resumed(spec)
			again.Clean = true // which was confirmed for what was there then
			report, err = Clone(t.Context(), confirmed(t, again), Options{})
			e := hasFailed(t, again, report, err)
			if !strings.Contains(report.Error, tt.want) || e.Hint.String() != "Clean the target and start the clone again." || report.Resumable {
				t.Errorf("error %q, hint %q, resumable %t, want %q", report.Error, e.Hint, report.Resumable, tt.want)
			}
			again.Term, again.Touched, again.Resume, again.Job = 1, false, false, NewJob()
			mustComplete(t, again)
			hasAllRows(t, again)
		})
	}
}

// TestResumeFromMarksAlone is what the terminal does: it knows no job.
func TestResumeFromMarksAlone(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	st := stages[5]
	result, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) {
		// As long as it runs nobody else goes on with it.
		result := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Resume: true}, Options{}, report.StatusRefused)
		if result.Reasons[0].Code != report.ReasonBusy {
			t.Errorf("reasons %+v, want a clone that is under way", result.Reasons)
		}
		cancel(report.ErrCancelled)
	})
	isCancelled(t, spec, result, err)

	other := dbtest.Database(t)
	dbtest.Exec(t, other, "CREATE TABLE t AS SELECT 1 AS n")
	for _, s := range []Spec{{Source: dsn.URL(other), Target: dsn.URL(target), Resume: true}, {Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"public"}, Resume: true}} {
		result := mustEnd(t, s, Options{}, report.StatusRefused)
		if r := result.Reasons[0]; r.Code != report.ReasonNotEmpty || !strings.Contains(r.Text.String(), "an interrupted clone of another source") {
			t.Errorf("reason %+v", r)
		}
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Resume: true})
	hasAllRows(t, spec)

	// With nothing to resume it starts on an empty target, and refuses another.
	result = mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Resume: true}, Options{}, report.StatusRefused)
	if result.Reasons[0].Code != report.ReasonNotEmpty {
		t.Errorf("reason %+v", result.Reasons)
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(dbtest.Database(t)), Resume: true})
}

// TestSplit: a table in parts is the whole table, with what its first and last pages have.
func TestSplit(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE TABLE big (id int PRIMARY KEY, s text); INSERT INTO big SELECT n, repeat('x', n % 500) FROM generate_series(1, 20000) n;
		DELETE FROM big WHERE id % 7 = 0; INSERT INTO big SELECT n, 'late' FROM generate_series(20001, 21000) n;
		CREATE TABLE toasted (id int, s text); ALTER TABLE toasted ALTER s SET STORAGE EXTERNAL; INSERT INTO toasted SELECT n, repeat('y', 20000) FROM generate_series(1, 300) n;
		CREATE TABLE parent (id int, v int GENERATED ALWAYS AS (id * 2) STORED); CREATE TABLE heir () INHERITS (parent);
		INSERT INTO parent SELECT generate_series(1, 30000); INSERT INTO heir SELECT generate_series(1, 30000);
		CREATE TABLE bare (); INSERT INTO bare SELECT FROM generate_series(1, 30000)`)
	for _, size := range []int64{MinPartSize, 1 << 20, 0} {
		report := mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, PartSize: size})
		if report.Tables != 5 || report.Rows != countedRows(report, t, target) {
			t.Errorf("%d tables and %d rows", report.Tables, report.Rows)
		}
		for _, name := range []string{"big", "toasted", "ONLY parent", "heir"} {
			dbtest.Equal(t, source, target, "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM "+name+" t")
		}
		dbtest.Equal(t, source, target, "SELECT count(*) FROM bare")
	}
}

func countedRows(r report.Report, t *testing.T, database string) (rows int64) {
	t.Helper()
	got := dbtest.Query(t, database, "SELECT (SELECT count(*) FROM big) + (SELECT count(*) FROM toasted) + (SELECT count(*) FROM parent) + (SELECT count(*) FROM bare)")
	if _, err := fmt.Sscan(got[0][0], &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// Marks of another version are no marks that can be read: an older one's clone cannot go on, and a newer one's is left
// alone, whoever asks.
func TestMarksOfOtherVersions(t *testing.T) {
	t.Parallel()
	const older = "DROP TABLE _calco.version; ALTER TABLE _calco.epoch DROP nonce"
	const newer = "UPDATE _calco.version SET number = 2; DROP TABLE _calco.job CASCADE"
	for _, tt := range []struct {
		name, marks string
		resume, own bool
		status      report.Status
		says        string
	}{
		{"older, of this job", older, true, true, report.StatusFailed, "an earlier version of Calco has begun it, whose marks this one cannot read"},
		{"older, adopted", older, true, false, report.StatusFailed, "an earlier version of Calco has begun it, whose marks this one cannot read"},
		{"older, of another job", older, false, false, report.StatusCompleted, ""},
		{"newer, resumed", newer, true, true, report.StatusRefused, "by a newer version of Calco, which this one cannot read"},
		{"newer, another clone", newer, false, false, report.StatusRefused, "by a newer version of Calco, which this one cannot read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "CREATE TABLE t AS SELECT 1 AS n")
			dbtest.Exec(t, target, marks.CreateSQL()+"; "+jobRow("interrupted", 1)+"; "+tt.marks)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Resume: tt.resume}
			if tt.own {
				spec.Job, spec.Term = "interrupted", 2
			}
			result, err := Clone(t.Context(), spec, Options{})
			said := fmt.Sprint(err)
			if result.Status != tt.status || !strings.Contains(said, tt.says) || result.Resumable {
				t.Errorf("status %s, resumable %t: %s, want %s and not resumable: %s", result.Status, result.Resumable, said, tt.status, tt.says)
			}
			if left := dbtest.Query(t, target, "SELECT to_regnamespace('_calco') IS NOT NULL")[0][0] == "t"; left != (tt.status != report.StatusCompleted) {
				t.Errorf("the marks are left: %t", left)
			}
		})
	}
}

// stopped is a clone that was cancelled when its rows were there, of a snapshot that a crash takes nothing from. Each query
// to the target is shown to see, if there is one.
func stopped(t *testing.T, source, target string, see func(sql string) dbtest.Cut) Spec {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	filled, ended := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(filled) })
	spec := Spec{Source: dsn.URL(source), Lanes: 1, Job: NewJob()}
	spec.Target = dsn.URL(dbtest.Tap(t, target, func(sql string) dbtest.Cut {
		switch {
		case strings.Contains(sql, "('filled'"):
			once()
			<-ctx.Done()
			return dbtest.CutBefore
		case see != nil:
			return see(sql)
		}
		return dbtest.Pass
	}))
	var result report.Report
	var err error
	go func() {
		defer close(ended)
		result, err = Clone(ctx, spec, Options{})
	}()
	select {
	case <-filled:
		dbtest.Await(t, target, "SELECT durable FROM _calco.epoch")
	case <-ended: // which is no cancelled clone
	}
	cancel(report.ErrCancelled)
	<-ended
	if result.Status != report.StatusCancelled || !result.Resumable {
		t.Fatalf("status %s, error %v, want cancelled and resumable", result.Status, err)
	}
	spec.Target = dsn.URL(target)
	return resumed(spec)
}

// A table all of whose parts have to be copied again was emptied of rows that somebody else had put there since, without
// a word.
func TestRedoLeavesRowsOfOthers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{"put there": "INSERT INTO t VALUES (1000)", "changed": "UPDATE t SET n = 1000 WHERE n = 1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
			spec := stopped(t, source, target, nil)
			dbtest.Exec(t, source, "UPDATE t SET n = 20 WHERE n = 2")
			dbtest.Exec(t, target, change)
			report, err := Clone(t.Context(), spec, Options{})
			hasFailed(t, spec, report, err)
			if want := `somebody has put rows into "public"."t" on the target since, or changed some`; !strings.Contains(report.Error, want) || report.Resumable {
				t.Errorf("error %q, resumable %t, want %q", report.Error, report.Resumable, want)
			}
			if got := dbtest.Query(t, target, "SELECT count(*) FROM t WHERE n = 1000")[0][0]; got != "1" {
				t.Errorf("%s rows of somebody else are left, want 1", got)
			}
		})
	}
}

// The definitions are what counts. That pg_dump had a minor upgrade between two lives kept a clone from going on.
func TestResumeWithAnotherDump(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
	spec := stopped(t, source, target, nil)
	dbtest.Exec(t, target, "UPDATE _calco.job SET definitions = '13.1 ' || split_part(definitions, ' ', 2)")
	mustComplete(t, spec)
}

// A source that does not tell where its log is proves nothing, which was said when it was too late.
func TestUnprovableIsSaidEarly(t *testing.T) {
	t.Parallel()
	for _, function := range []string{"pg_current_wal_lsn", "pg_current_wal_insert_lsn"} {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			role := "teller_" + function
			dbtest.Exec(t, source, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'x'; REVOKE EXECUTE ON FUNCTION pg_catalog.%s() FROM PUBLIC;
				CREATE TABLE t AS SELECT 1 AS n; ALTER TABLE t OWNER TO %[1]s`, role, function))
			t.Cleanup(func() {
				dbtest.Exec(t, target, "DROP OWNED BY "+role)
				dbtest.Exec(t, source, fmt.Sprintf("DROP OWNED BY %s; DROP ROLE %[1]s", role))
			})
			report, err := Clone(t.Context(), Spec{Source: dsn.URL(as(t, source, role, "x")), Target: dsn.URL(target)}, Options{})
			want := "The source does not tell where its write-ahead log is (ERROR: permission denied for function " + function
			if err != nil || len(report.Warnings) != 1 || !strings.HasPrefix(report.Warnings[0].String(), want) || !strings.HasSuffix(report.Warnings[0].String(), "all rows have to be copied again.") {
				t.Errorf("warnings %q, error %v, want one that begins with %q", report.Warnings, err, want)
			}
		})
	}
}
