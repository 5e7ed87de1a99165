package cloner

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// cutSQL fills a source with one of each thing that a clone writes in a way of its own.
const cutSQL = `
	CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 100);
	CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, born serial); INSERT INTO child SELECT n, n FROM generate_series(1, 100) n;
	CREATE INDEX ON child (parent);
	CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM child;
	GRANT SELECT ON child TO PUBLIC;
	CREATE FUNCTION fired() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
	CREATE EVENT TRIGGER fires ON ddl_command_end EXECUTE FUNCTION fired();
	SELECT lo_from_bytea(1234, 'x')`

// hasAllOfCut wants what cutSQL made on the target, once, and nothing of Calco.
func hasAllOfCut(t *testing.T, spec Spec, target string) {
	t.Helper()
	for _, sql := range []string{
		"SELECT * FROM parent ORDER BY id", "SELECT * FROM child ORDER BY id", "TABLE seen", "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata",
		"SELECT conname, convalidated FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1",
		"SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
		"SELECT evtname FROM pg_event_trigger", "SELECT last_value FROM child_born_seq", "SELECT to_regnamespace('_calco') IS NULL",
	} {
		dbtest.Equal(t, string(spec.Source), target, sql)
	}
}

// values are the parts of a statement that are others in each clone, the names of its tables, and its comments.
var values = regexp.MustCompile(`--[^\n]*|'[^']*'|\b\d+\b|"?public"?\."?\w+"?|"\w+"`)

// statementOf is a query of a clone without its fence, and without its values.
func statementOf(sql string) string {
	if fence, rest, ok := strings.Cut(sql, "own);"); ok && strings.HasPrefix(fence, "SET TRANSACTION READ WRITE; SELECT 1 / ") {
		sql = strings.TrimLeft(rest, "\n ")
	}
	return strings.Join(strings.Fields(values.ReplaceAllString(sql, "?")), " ")
}

// writes are the statements that change something on the target. The rest is read, by pg_dump for the most part.
var writes = regexp.MustCompile(`^(BEGIN READ WRITE; SET LOCAL|SET LOCAL|INSERT|UPDATE|DELETE|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|COMMENT|COPY|ANALYZE|REFRESH|SELECT setval|SELECT count\(lo_)`)

// statements are the queries that a clone writes to its target, in the order in which they come first.
type statements struct {
	mu   sync.Mutex
	list []string
}

func (s *statements) note(sql string) dbtest.Cut {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := statementOf(sql); writes.MatchString(st) && st != noted && !slices.Contains(s.list, st) {
		s.list = append(s.list, st)
	}
	return dbtest.Pass
}

// noted is what a keepalive writes once the snapshot is known to be durable, if the clone is not over by then.
const noted = "UPDATE _calco.epoch SET durable = true WHERE number = ?"

// cutAt cuts at a statement twice: when it comes first, before the server hears of it, and when it comes again, after the
// server has done it. No rows come before what is noted beside them was.
func cutAt(ctx context.Context, statement string) (at func(string) dbtest.Cut, cuts func() int) {
	var mu sync.Mutex
	left := []dbtest.Cut{dbtest.CutBefore, dbtest.CutAfter}
	done, cut := context.WithCancel(ctx)
	at = func(sql string) dbtest.Cut {
		if statement == noted && strings.HasPrefix(statementOf(sql), "COPY ") {
			<-done.Done()
		}
		mu.Lock()
		defer mu.Unlock()
		if len(left) == 0 || statementOf(sql) != statement {
			return dbtest.Pass
		}
		how := left[0]
		if left = left[1:]; len(left) == 0 {
			cut()
		}
		return how
	}
	return at, func() int {
		mu.Lock()
		defer mu.Unlock()
		return 2 - len(left)
	}
}

// isCutAt has a clone cut at a statement, and wants it to end like any other.
func isCutAt(t *testing.T, statement string, run func(t *testing.T, at func(string) dbtest.Cut)) {
	t.Helper()
	t.Run(fmt.Sprintf("%.70s", statement), func(t *testing.T) {
		t.Parallel()
		at, cuts := cutAt(t.Context(), statement)
		run(t, at)
		if got := cuts(); got != 2 {
			t.Errorf("the connection was cut %d times, want before and after", got)
		}
	})
}

// TestCutAtEachStatement cuts the connection at each statement that is written to the target. Whether the statement is
// lost or only its answer, the clone goes on by itself and ends equal.
func TestCutAtEachStatement(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source := dbtest.Database(t)
	dbtest.Exec(t, source, cutSQL)
	cut := func(t *testing.T, at func(string) dbtest.Cut) {
		t.Helper()
		target := dbtest.Database(t)
		spec := Spec{Source: dsn.URL(source), Target: dsn.URL(dbtest.Tap(t, target, at)), Lanes: 1}
		hasGoneOnOver(t, spec, target, 0)
	}
	var all statements
	cut(t, all.note)
	for _, statement := range append(all.list, noted) {
		isCutAt(t, statement, cut)
	}
}

// TestCutAtEachMarkOfResume does the same to what is written to the marks by a run that takes over a clone that was cancelled
// when its rows were there, of which one has changed since.
func TestCutAtEachMarkOfResume(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	var first statements
	cut := func(t *testing.T, at func(string) dbtest.Cut) {
		t.Helper()
		source, target := dbtest.Database(t), dbtest.Database(t)
		dbtest.Exec(t, source, cutSQL)
		spec := stopped(t, source, target, first.note)
		dbtest.Exec(t, source, "UPDATE child SET parent = 1 WHERE id = 7")
		spec.Target = dsn.URL(dbtest.Tap(t, target, at))
		hasGoneOnOver(t, spec, target, 2)
	}
	var all statements
	cut(t, all.note)
	isCutAt(t, noted, cut)
	for _, statement := range all.list {
		if strings.Contains(statement, "_calco.") && !slices.Contains(first.list, statement) {
			isCutAt(t, statement, cut)
		}
	}
}

// hasGoneOnOver wants a clone to end equal, with so many epochs in its report.
func hasGoneOnOver(t *testing.T, spec Spec, target string, epochs int) {
	t.Helper()
	result, err := Clone(t.Context(), spec, Options{})
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("status %s, error %v, want completed\ndifferences: %+v\nledger: %+v", result.Status, err, result.Differences, result.Ledger)
	}
	if len(result.Epochs) != epochs {
		t.Errorf("epochs %+v, want %d", result.Epochs, epochs)
	}
	hasAllOfCut(t, spec, target)
}
