package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/marks/markstest"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// testLane is a lane between two databases, under a snapshot, with marks on the target.
type testLane struct {
	*lane
	source, target string // URLs
	snapshot       string
	owner          *marks.Owner
}

// newTestLane connects a lane. The source must be filled before: the snapshot is taken here.
func newTestLane(t *testing.T, source, target string) *testLane {
	t.Helper()
	dial := func(ctx context.Context) (*session.Session, error) {
		return session.Open(ctx, report.Source, dsn.URL(source), nil, "calco/lane/7")
	}
	snap, err := snapshot.Take(t.Context(), dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(snap.Release)
	l := &testLane{
		lane: &lane{}, source: source, target: target, snapshot: snap.Name(),
		owner: markstest.Own(t, source, target, marks.Job{ID: "lane", Term: 7, Nonce: "lane"}),
	}
	t.Cleanup(func() { l.close() })
	l.reconnect(t)
	return l
}

func (l *testLane) close() {
	session.CloseAll(l.lane.source)
	if l.lane.target != nil {
		l.lane.target.Close()
	}
}

// reconnect replaces both sessions, as the engine does after a failure.
func (l *testLane) reconnect(t *testing.T) {
	t.Helper()
	l.close()
	var err error
	if l.lane.source, err = session.Open(t.Context(), report.Source, dsn.URL(l.source), nil, "calco/lane/7"); err != nil {
		t.Fatal(err)
	}
	if l.lane.target, err = l.owner.Writer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (l *testLane) run(ctx context.Context, out, in string) (int64, error) {
	return l.carryPart(ctx, &part{relation: "a part", progress: &progress.Part{}, read: out, write: in})
}

func (l *testLane) carryPart(ctx context.Context, p *part) (int64, error) {
	return l.copy(ctx, p, l.snapshot, func(rows int64, checksum string) string {
		return marks.InsertSQL(p.mark(1, rows, checksum), p.unlogged())
	})
}

// state is what is on the target: the rows of t, and the marks with their rows.
func (l *testLane) state(t *testing.T) (rows, marks string) {
	t.Helper()
	got := dbtest.Query(t, l.target, "SELECT (SELECT count(*) FROM public.t), (SELECT string_agg(relation || ' ' || rows, ', ') FROM _calco.mark)")
	return got[0][0], got[0][1]
}

func TestLaneRowSizes(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	const room = chunkSize - headerSize // of a chunk; a row takes one byte more than its text
	sizes := []int{0, 1, room - 2, room - 1, room, room + 1, chunkSize - 2, chunkSize - 1, chunkSize, chunkSize + 1, 2*room - 1, 2*room + 1, chunks * chunkSize, 10 << 20}
	dbtest.Exec(t, source, "CREATE TABLE t (n int, s text)")
	dbtest.Exec(t, target, "CREATE TABLE t (s text)")
	for i, size := range sizes {
		dbtest.Exec(t, source, fmt.Sprintf("INSERT INTO t VALUES (%d, repeat('x', %d)), (-1, repeat('%d', %d))", i, size, i%10, size))
	}
	l := newTestLane(t, source, target)
	for i, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			p := &part{relation: "a part", number: i, progress: &progress.Part{}, read: fmt.Sprintf("COPY (SELECT s FROM public.t WHERE n = %d) TO STDOUT", i), write: "COPY public.t FROM STDIN"}
			rows, err := l.carryPart(t.Context(), p)
			if err != nil || rows != 1 {
				t.Fatalf("carry = %d, %v, want 1 row", rows, err)
			}
			if got := p.progress.Bytes.Load(); got != int64(size)+1 {
				t.Errorf("%d bytes counted, want %d", got, size+1)
			}
		})
	}
	p := &part{relation: "the rest", progress: &progress.Part{}, read: "COPY (SELECT s FROM public.t WHERE n = -1) TO STDOUT", write: "COPY public.t FROM STDIN"}
	if rows, err := l.carryPart(t.Context(), p); err != nil || rows != int64(len(sizes)) {
		t.Fatalf("carry = %d, %v, want %d rows", rows, err, len(sizes))
	}
	dbtest.Equal(t, source, target, "SELECT md5(s) FROM public.t ORDER BY 1")
}

func TestLaneOddParts(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE TABLE t (); INSERT INTO t SELECT FROM generate_series(1, 3);
		CREATE FUNCTION loud(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'at %', repeat('x', 100); RETURN n; END $$;
		ALTER DATABASE `+session.QuoteName(dsn.URL(source).Database())+` SET client_min_messages = notice`)
	dbtest.Exec(t, target, `
		CREATE TABLE t (); CREATE TABLE u (n int);
		CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'at %', repeat('x', 100); RETURN NEW; END $$;
		CREATE TRIGGER loud BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION loud();
		CREATE TABLE none (n int)`)
	l := newTestLane(t, source, target)
	loud := "SET LOCAL client_min_messages = notice; "
	tests := []struct {
		name, out, in string
		want          int64
	}{
		{"no columns", "COPY public.t TO STDOUT", "COPY public.t FROM STDIN", 3},
		{"no rows", "COPY (SELECT 1 WHERE false) TO STDOUT", "COPY public.none FROM STDIN", 0},
		{"notices on both sides", loud + "COPY (SELECT public.loud(n) FROM generate_series(1, 5000) n) TO STDOUT", loud + "COPY public.u FROM STDIN", 5000},
		{"statements before", "SELECT 1; COPY (SELECT 1) TO STDOUT", "SELECT 1; DELETE FROM public.u; COPY public.u FROM STDIN", 1},
		{"only nulls", `COPY (SELECT NULL::int FROM generate_series(1, 10)) TO STDOUT`, "COPY public.u FROM STDIN", 10},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := l.carryPart(t.Context(), &part{relation: tt.name, number: i, progress: &progress.Part{}, read: tt.out, write: tt.in})
			if err != nil || rows != tt.want {
				t.Fatalf("carry = %d, %v, want %d rows", rows, err, tt.want)
			}
			got := dbtest.Query(t, target, fmt.Sprintf("SELECT rows FROM _calco.mark WHERE part = %d", i))
			if len(got) != 1 || got[0][0] != fmt.Sprint(tt.want) {
				t.Errorf("mark %v, want %d rows", got, tt.want)
			}
		})
	}
}

// TestLaneFailures: whatever fails, the error names the side that did, neither rows nor a
// mark are on the target, and the part can be carried again.
func TestLaneFailures(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	const rows = 20000
	dbtest.Exec(t, source, fmt.Sprintf("CREATE TABLE t AS SELECT n, repeat('x', 100) AS s FROM generate_series(1, %d) n", rows))
	dbtest.Exec(t, target, "CREATE TABLE t (n int, s text)")
	const plainOut, plainIn = "COPY public.t TO STDOUT", "COPY public.t FROM STDIN"
	// refuse makes the target refuse the row with that number.
	refuseRow := func(n int) string { return fmt.Sprintf("ALTER TABLE t ADD CONSTRAINT c CHECK (n <> %d)", n) }
	tests := []struct {
		name, before string // before is run on the target
		out, in      string
		side         report.Side
		code         string
	}{
		{"the first row on the target", refuseRow(1), plainOut, plainIn, report.Target, "23514"},
		{"a row in the middle on the target", refuseRow(rows / 2), plainOut, plainIn, report.Target, "23514"},
		{"the last row on the target", refuseRow(rows), plainOut, plainIn, report.Target, "23514"},
		{"the commit on the target", "ALTER TABLE t ADD UNIQUE (s) DEFERRABLE INITIALLY DEFERRED", plainOut, plainIn, report.Target, "23505"},
		{"no table on the target", "", plainOut, "COPY nothing FROM STDIN", report.Target, "42P01"},
		{"the mark is there already", "INSERT INTO _calco.mark VALUES ('a part', 0, 1, 0, 0, 0, false, 1, 1, 1, 1)", plainOut, plainIn, report.Target, "23505"},
		// The query with the COPY could not even be parsed, so it left no failed transaction
		// behind, and a mark without rows was committed.
		{"nonsense on the target", "", plainOut, "COPY public.t FROM STDIN WITH NONSENSE (", report.Target, "42601"},
		{"too many columns", "", "COPY (SELECT *, 1 FROM public.t) TO STDOUT", plainIn, report.Target, "22P04"},
		{"the first row on the source", "", "COPY (SELECT 1 / (n - 1), s FROM public.t) TO STDOUT", plainIn, report.Source, "22012"},
		{"a row in the middle on the source", "", fmt.Sprintf("COPY (SELECT 1 / (n - %d), s FROM public.t) TO STDOUT", rows/2), plainIn, report.Source, "22012"},
		{"the last row on the source", "", fmt.Sprintf("COPY (SELECT (CASE n WHEN %d THEN 'x' ELSE '1' END)::int, s FROM public.t) TO STDOUT", rows), plainIn, report.Source, "22P02"},
		{"after the last row on the source", "", "COPY public.t TO STDOUT; SELECT nothing()", plainIn, report.Source, "42883"},
		{"no table on the source", "", "COPY nothing TO STDOUT", plainIn, report.Source, "42P01"},
		{"nonsense on the source", "", "COPY public.t TO STDOUT WITH NONSENSE (", plainIn, report.Source, "42601"},
		{"both sides", refuseRow(1), "COPY nothing TO STDOUT", plainIn, report.Source, "42P01"},
	}
	l := newTestLane(t, source, target)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dbtest.Exec(t, target, "TRUNCATE _calco.mark; DROP TABLE t; CREATE TABLE t (n int, s text); "+tt.before)
			marked := strings.Contains(tt.before, "_calco.mark")
			_, err := l.run(t.Context(), tt.out, tt.in)
			var f *failure
			if !errors.As(err, &f) || f.side != tt.side || session.SQLState(err) != tt.code {
				t.Fatalf("carry = %v, want an error %s of the %s", err, tt.code, tt.side)
			}
			if rows, marks := l.state(t); rows != "0" || marks != map[bool]string{false: "NULL", true: "a part 1"}[marked] {
				t.Errorf("%s rows on the target and the marks %s, want none of ours", rows, marks)
			}
			if err := l.lane.target.Exec(t.Context(), "BEGIN; ROLLBACK"); err != nil {
				t.Errorf("the target's session is of no use: %v", err)
			}
			if tt.side == report.Source {
				if err := l.lane.source.Exec(t.Context(), "BEGIN; ROLLBACK"); err != nil {
					t.Errorf("the source's session is of no use: %v", err)
				}
			} else {
				l.lane.source.Close() // as carry's comment wants it
				if l.lane.source, err = session.Open(t.Context(), report.Source, dsn.URL(source), nil, "calco/lane/7"); err != nil {
					t.Fatal(err)
				}
			}
			dbtest.Exec(t, target, "TRUNCATE _calco.mark; DROP TABLE t; CREATE TABLE t (n int, s text)")
			if got, err := l.run(t.Context(), plainOut, plainIn); err != nil || got != rows {
				t.Fatalf("carry afterwards = %d, %v", got, err)
			}
			if rows, marks := l.state(t); rows != "20000" || marks != "a part 20000" {
				t.Errorf("%s rows and the marks %s afterwards", rows, marks)
			}
		})
	}
}

// A table that was truncated or rewritten after the snapshot looks empty, without an error.
func TestLaneGuard(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"truncated": "TRUNCATE t", "rewritten": "ALTER TABLE t ALTER n TYPE bigint", "vacuumed": "VACUUM FULL t",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "CREATE TABLE t AS SELECT 1 AS n")
			dbtest.Exec(t, target, "CREATE TABLE t (n int)")
			l := newTestLane(t, source, target)
			dbtest.Exec(t, source, change)
			oid := dbtest.Query(t, source, "SELECT 't'::regclass::oid::bigint")[0][0]
			tab := &schema.Table{Schema: "public", Name: "t", Columns: []string{"n"}, Split: schema.Split{Parts: 1}}
			if _, err := fmt.Sscan(oid, &tab.OID); err != nil {
				t.Fatal(err)
			}
			r := &Copier{Reader: Reader{Plan: &schema.Plan{}}}
			_, err := l.carryPart(t.Context(), r.tablePart(&tableState{Table: tab, split: tab.Split}, 0))
			if !errors.Is(err, errRewritten) {
				t.Fatalf("carry = %v, want %v", err, errRewritten)
			}
			if rows, marks := l.state(t); rows != "0" || marks != "NULL" {
				t.Errorf("%s rows on the target and the marks %s", rows, marks)
			}
		})
	}
}

func TestLaneFence(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE t AS SELECT 1 AS n")
	dbtest.Exec(t, target, "CREATE TABLE t (n int)")
	l := newTestLane(t, source, target)
	dbtest.Exec(t, target, "UPDATE _calco.job SET term = 8")
	if _, err := l.run(t.Context(), "COPY public.t TO STDOUT", "COPY public.t FROM STDIN"); !errors.Is(err, session.ErrTermLost) {
		t.Errorf("carry = %v, want %v", err, session.ErrTermLost)
	}
	if rows, marks := l.state(t); rows != "0" || marks != "NULL" {
		t.Errorf("%s rows on the target and the marks %s", rows, marks)
	}
}

// TestLaneInterrupted stops a part in its middle, in every way there is.
func TestLaneInterrupted(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	const waitOut = "COPY (SELECT n, CASE n WHEN 5000 THEN pg_advisory_xact_lock_shared(1)::text ELSE 'x' END FROM public.t) TO STDOUT"
	const plainOut = "COPY public.t TO STDOUT"
	stop := func(function string, side report.Side) func(*testing.T, *testLane, context.CancelCauseFunc) {
		return func(t *testing.T, l *testLane, _ context.CancelCauseFunc) {
			s, u := l.lane.source, l.source
			if side == report.Target {
				s, u = l.lane.target.Session, l.target
			}
			dbtest.Exec(t, u, fmt.Sprintf("SELECT %s(%d)", function, s.Conn.PgConn().PID()))
		}
	}
	cancel := func(_ *testing.T, _ *testLane, cancel context.CancelCauseFunc) { cancel(report.ErrCancelled) }
	tests := []struct {
		name    string
		waiting report.Side // which side is in the middle of something
		act     func(*testing.T, *testLane, context.CancelCauseFunc)
		side    report.Side // that is to blame, or "" for ErrCancelled
		code    string
		size    int // of a row: more than all buffers hold, or less
	}{
		{"cancel while the source is at it", report.Source, cancel, "", "", 500},
		{"cancel while the target is at it", report.Target, cancel, "", "", 500},
		// The cancel requests were given up before they were sent, so the target went on alone,
		// and committed.
		{"cancel when the target has it all", report.Target, cancel, "", "", 10},
		// The CopyFail that follows made the target say 57014 too, and it was blamed.
		{"somebody cancels the statement on the source", report.Source, stop("pg_cancel_backend", report.Source), report.Source, "57014", 500},
		{"somebody cancels the statement on the target", report.Target, stop("pg_cancel_backend", report.Target), report.Target, "57014", 500},
		{"somebody ends the backend of the source", report.Source, stop("pg_terminate_backend", report.Source), report.Source, "57P01", 500},
		{"somebody ends the backend of the target", report.Target, stop("pg_terminate_backend", report.Target), report.Target, "57P01", 500},
		// Nobody told the source, so the lane stayed until that had something to say.
		{"the target ends while the source is at it", report.Source, stop("pg_terminate_backend", report.Target), report.Target, "57P01", 500},
		{"the source ends while the target is at it", report.Target, stop("pg_terminate_backend", report.Source), report.Source, "57P01", 2000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "CREATE TABLE t AS SELECT n, repeat('x', "+fmt.Sprint(tt.size)+") AS s FROM generate_series(1, 15000) n")
			dbtest.Exec(t, target, `
				CREATE FUNCTION wait(n int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF n = 1 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN true; END $$;
				CREATE TABLE t (n int, s text, CHECK (wait(n)))`)
			l := newTestLane(t, source, target)
			out, waiting := waitOut, l.source
			if tt.waiting == report.Target {
				out, waiting = plainOut, l.target
			}
			release := dbtest.Hold(t, waiting, "SELECT pg_advisory_lock(1)")
			defer release()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			done := make(chan error, 1)
			go func() {
				_, err := l.run(ctx, out, "COPY public.t FROM STDIN")
				done <- err
			}()
			dbtest.Await(t, waiting, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'calco/lane/7' AND wait_event_type = 'Lock')")
			tt.act(t, l, cancel)
			if tt.name == "the source ends while the target is at it" {
				release() // until then the target cannot know
			}
			err := <-done // while the lock is held
			var f *failure
			switch {
			case tt.side == "":
				if !errors.Is(err, report.ErrCancelled) {
					t.Errorf("carry = %v, want %v", err, report.ErrCancelled)
				}
			case errors.As(err, &f) && f.side == tt.side && errors.Is(err, io.ErrUnexpectedEOF): // its socket was full, so it could not say why
			case !errors.As(err, &f) || f.side != tt.side || session.SQLState(err) != tt.code:
				t.Errorf("carry = %v, want an error %s of the %s", err, tt.code, tt.side)
			case !session.Classify(err).Ends():
				t.Errorf("%v does not end the clone", err)
			}
			release()
			l.lane.source.Close()
			l.lane.target.Close()
			dbtest.Await(t, l.target, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'calco/lane/7'") // the owner
			if rows, marks := l.state(t); rows != "0" || marks != "NULL" {
				t.Errorf("%s rows on the target and the marks %s", rows, marks)
			}
			l.reconnect(t)
			if rows, err := l.run(t.Context(), plainOut, "COPY public.t FROM STDIN"); err != nil || rows != 15000 {
				t.Errorf("carry afterwards = %d, %v", rows, err)
			}
		})
	}
}

// The answer to the COMMIT of a part may be all that is lost: then it is on the target, and must not come again.
func TestCommittedPartStays(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
	dbtest.Exec(t, target, "CREATE TABLE t (n int)")
	l := newTestLane(t, source, target)
	dbtest.Exec(t, target, "INSERT INTO _calco.epoch (number, nonce, snapshot_at, oldest_xid) VALUES (1, 'x', now(), '1')")
	r := &Copier{Reader: Reader{Source: &session.Server{Facts: session.Facts{Encoding: "UTF8"}, SearchPath: "public"}}, Owner: l.owner, Epoch: 1}
	p := &part{relation: "t", progress: &progress.Part{}, read: "COPY public.t TO STDOUT", write: "COPY public.t FROM STDIN"}
	if _, err := l.carryPart(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"t": true, "another": false} {
		rows, here, err := r.replaceTarget(t.Context(), l.lane, &part{relation: name, progress: &progress.Part{}})
		if err != nil || here != there || there && rows != 1000 {
			t.Errorf("%s: %d rows, there: %t, %v", name, rows, here, err)
		}
	}
}
