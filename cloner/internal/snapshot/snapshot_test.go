package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// heldSnapshot is a snapshot of a database with a table t of one row, taken before more
// rows are inserted.
func heldSnapshot(t *testing.T) (s *Snapshot, source string) {
	t.Helper()
	source = dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE t AS SELECT 1 AS n")
	s, err := Take(t.Context(), func(ctx context.Context) (*session.Session, error) {
		return session.Open(ctx, report.Source, dsn.URL(source), nil, "calco/snapshot/1")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	dbtest.Exec(t, source, "INSERT INTO t SELECT generate_series(2, 10)")
	return s, source
}

// rowsAt counts the rows of t as the snapshot of that name sees them.
func rowsAt(t *testing.T, source, name string) string {
	t.Helper()
	return dbtest.Query(t, source, BeginAt(name)+"; SELECT count(*) FROM public.t")[0][0]
}

// endHolders ends the backends of some of the holders.
func endHolders(t *testing.T, source string, holders ...holder) {
	t.Helper()
	for _, h := range holders {
		dbtest.Exec(t, source, fmt.Sprintf("SELECT pg_terminate_backend(%d, 10000)", h.session.Conn.PgConn().PID()))
	}
}

func TestSnapshotOutlivesHolders(t *testing.T) {
	t.Parallel()
	s, source := heldSnapshot(t)
	// Each of the two dies in turn, more than once: what was exported again is exported again.
	for i := range 5 {
		endHolders(t, source, s.holders[i%2])
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(s.holders) != 2 || s.holders[0].name == s.holders[1].name {
			t.Fatalf("holders %v, want two with names of their own", s.holders)
		}
		for _, h := range s.holders {
			if got := rowsAt(t, source, h.name); got != "1" {
				t.Errorf("%s rows are seen after %d holders, want 1", got, i)
			}
		}
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Errorf("refresh with nothing to do: %v", err)
	}
	s.Release()
	s.Release()
	if got := dbtest.Query(t, source, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()")[0][0]; got != "0" {
		t.Errorf("%s backends still hold the horizon", got)
	}
	if name := s.Name(); name != "" {
		t.Errorf("name %q after release", name)
	}
}

func TestSnapshotLost(t *testing.T) {
	t.Parallel()
	s, source := heldSnapshot(t)
	endHolders(t, source, s.holders...)
	err := s.Refresh(t.Context())
	if !errors.Is(err, session.ErrSnapshotLost) || !session.CuredByWaiting(err) || session.SQLState(err) != "57P01" {
		t.Errorf("refresh = %v, want a lost snapshot, in the server's words too", err)
	}
}

// A source that had no connection to spare for a second holder lost the clone, though the
// first one held the snapshot.
func TestSnapshotWithOneHolder(t *testing.T) {
	t.Parallel()
	s, source := heldSnapshot(t)
	dial := s.dial
	full := errors.New("too many connections")
	s.dial = func(context.Context) (*session.Session, error) { return nil, full }
	endHolders(t, source, s.holders[0])
	if err := s.Refresh(t.Context()); err != nil || len(s.holders) != 1 {
		t.Fatalf("refresh = %v with %d holders, want one", err, len(s.holders))
	}
	s.dial = dial
	if err := s.Refresh(t.Context()); err != nil || len(s.holders) != 2 {
		t.Fatalf("refresh = %v with %d holders, want two", err, len(s.holders))
	}
	if got := rowsAt(t, source, s.Name()); got != "1" {
		t.Errorf("%s rows are seen, want 1", got)
	}
}

func TestSnapshotImporting(t *testing.T) {
	t.Parallel()
	s, source := heldSnapshot(t)
	importer := func() func(string) error {
		c, err := s.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return func(name string) error {
			return errors.Join(c.Exec(t.Context(), "ROLLBACK"), c.Exec(t.Context(), BeginAt(name)))
		}
	}
	t.Run("a live one", func(t *testing.T) {
		calls := 0
		do := importer()
		if err := s.Importing(t.Context(), func(name string) error { calls++; return do(name) }); err != nil || calls != 1 {
			t.Errorf("importing = %v after %d calls", err, calls)
		}
	})
	t.Run("a dead one, by many at a time", func(t *testing.T) {
		endHolders(t, source, s.holders[0])
		var wait sync.WaitGroup
		for range 4 {
			do := importer()
			wait.Go(func() {
				if err := s.Importing(t.Context(), do); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	})
	t.Run("an error that only looks like it", func(t *testing.T) {
		do := importer()
		calls := 0
		err := s.Importing(t.Context(), func(string) error { calls++; return do("nonsense") })
		if session.SQLState(err) != "22023" && session.SQLState(err) != "42704" || calls != 1 {
			t.Errorf("importing = %v after %d calls, want the error of the only one", err, calls)
		}
	})
	t.Run("all dead", func(t *testing.T) {
		endHolders(t, source, s.holders...)
		if err := s.Importing(t.Context(), importer()); !errors.Is(err, session.ErrSnapshotLost) {
			t.Errorf("importing = %v, want a lost snapshot", err)
		}
	})
}

// A context that ended while the holders were pinged closed them, alive as they were: the next attempt needed another
// snapshot, and all that nothing proved was copied again.
func TestSnapshotOutlivesContext(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	ctx, cancel := context.WithCancel(t.Context())
	var pings atomic.Int32
	tapped := dbtest.Tap(t, source, func(sql string) dbtest.Cut {
		if sql == "SELECT 1" {
			pings.Add(1)
			cancel()
		}
		return dbtest.Pass
	})
	s, err := Take(t.Context(), func(ctx context.Context) (*session.Session, error) {
		return session.Open(ctx, report.Source, dsn.URL(tapped), nil, "calco/snapshot/1")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	before := slices.Clone(s.holders)
	if err := s.KeepAlive(ctx, time.Millisecond); err != nil {
		t.Errorf("keep = %v, want nil at the end of its context", err)
	}
	if pings.Load() == 0 {
		t.Fatal("no holder was pinged")
	}
	if err := s.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("refresh = %v, want the end of its context", err)
	}
	if err := s.Refresh(t.Context()); err != nil || !slices.Equal(s.holders, before) {
		t.Errorf("refresh = %v with holders %v, want %v", err, s.holders, before)
	}
}
