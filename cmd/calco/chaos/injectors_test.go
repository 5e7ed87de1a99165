package chaos

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/db/dbtest"
)

// victim is a session that a fault strikes.
type victim struct {
	*testing.T
	conn *pgx.Conn
}

// connect opens a session with an application_name.
func connect(t *testing.T, url string) victim {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url+"&application_name=victim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return victim{t, conn}
}

// ask runs a query, and returns how long it took and its error.
func (v victim) ask(patience time.Duration) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(v.Context(), patience)
	defer cancel()
	begun := time.Now()
	_, err = v.conn.Exec(ctx, "SELECT 1")
	return time.Since(begun), err
}

// works wants the session to be alive.
func (v victim) works() {
	v.Helper()
	if _, err := v.ask(time.Minute); err != nil {
		v.Errorf("the session does not answer: %v", err)
	}
}

// fails wants the session to end by itself, without an answer.
func (v victim) fails() {
	v.Helper()
	if took, err := v.ask(time.Minute); err == nil || errors.Is(err, context.DeadlineExceeded) {
		v.Errorf("the session answers with %v after %v, want it to be gone", err, took)
	}
}

// reachable tells whether somebody gets through to a server.
func reachable(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false
	}
	_ = conn.Close(ctx)
	return true
}

// TestWire: each thing that is done to a wire does what it says, and nothing of it stays.
func TestWire(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	direct := dbtest.Database(t)
	wire := newLink(t, "test", direct)
	url := wire.through(direct)
	poisoned := func(poison func() (func(), error)) (cure func()) {
		t.Helper()
		cure, err := poison()
		if err != nil {
			t.Fatal(err)
		}
		return cure
	}

	t.Run("cut", func(t *testing.T) {
		v := connect(t, url)
		wire.cut()
		v.fails()
		if reachable(url) {
			t.Error("somebody gets through")
		}
		if err := wire.mend(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		v := connect(t, url)
		cure := poisoned(wire.reset)
		v.fails()
		if reachable(url) {
			t.Error("somebody gets through")
		}
		cure()
	})
	t.Run("stall", func(t *testing.T) {
		v, idle := connect(t, url), connect(t, url)
		cure := poisoned(wire.stall)
		if took, err := v.ask(time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the session answers with %v after %v, want it to hang", err, took)
		}
		if reachable(url) {
			t.Error("somebody gets through")
		}
		cure()
		idle.fails()
	})
	t.Run("slow", func(t *testing.T) {
		v := connect(t, url)
		cure, err := wire.slow(150)
		if err != nil {
			t.Fatal(err)
		}
		if took, err := v.ask(time.Minute); err != nil || took < 300*time.Millisecond {
			t.Errorf("it took %v, %v, want 300 ms", took, err)
		}
		cure()
		v.works()
	})
	for how, done := range map[dbtest.Cut]string{dbtest.CutBefore: "f", dbtest.CutAfter: "t"} {
		t.Run("cut a statement", func(t *testing.T) {
			v := connect(t, url)
			dbtest.Exec(t, direct, "DROP TABLE IF EXISTS written")
			struck := make(chan bool)
			go func() { struck <- wire.cutNext(how, time.Minute) }()
			for wire.next.Load() == nil {
				runtime.Gosched()
			}
			v.works() // it only reads
			if _, err := v.conn.Exec(t.Context(), "BEGIN; SET LOCAL synchronous_commit = on; CREATE TABLE written (); COMMIT"); err == nil {
				t.Error("the session has an answer")
			}
			if !<-struck {
				t.Error("nothing was cut")
			}
			if got := dbtest.Query(t, direct, "SELECT to_regclass('written') IS NOT NULL")[0][0]; got != done {
				t.Errorf("the server has done it: %s, want %s", got, done)
			}
		})
	}
	connect(t, url).works()
	poisoned(wire.stall)
	wire.cut()
	if err := wire.heal(); err != nil {
		t.Fatal(err)
	}
	connect(t, url).works()
}

// TestServerFaults: what is done to a server happens to it, and it is there again afterwards with what it had promised.
func TestServerFaults(t *testing.T) {
	t.Parallel()
	s := newServer(t, "target")
	dbtest.Exec(t, s.url, "CREATE TABLE kept (n int); CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n")
	started := func() string { return dbtest.Query(t, s.url, "SELECT pg_postmaster_start_time()")[0][0] }

	t.Run("freeze", func(t *testing.T) {
		v := connect(t, s.wire.through(s.url))
		if err := s.freeze(); err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		go func() {
			_, err := v.conn.Exec(t.Context(), "SELECT 1")
			answered <- err
		}()
		select {
		case err := <-answered:
			t.Errorf("a frozen server answers: %v", err)
		case <-time.After(500 * time.Millisecond):
		}
		if reachable(s.url) {
			t.Error("somebody gets through")
		}
		if err := s.thaw(); err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("the session did not go on: %v", err)
		}
	})
	t.Run("end a backend", func(t *testing.T) {
		v, other := connect(t, s.url), connect(t, s.wire.through(s.url))
		if _, err := other.conn.Exec(t.Context(), "SET application_name = 'other'"); err != nil {
			t.Fatal(err)
		}
		if struck, err := s.endBackend("victim"); err != nil || !struck {
			t.Fatal(struck, err)
		}
		v.fails()
		other.works()
		if struck, err := s.endBackend("nobody"); err != nil || struck {
			t.Errorf("ended a backend that is not there: %v, %v", struck, err)
		}
	})
	t.Run("kill a backend", func(t *testing.T) {
		before := started()
		connect(t, s.url)
		other := connect(t, s.url)
		if _, err := other.conn.Exec(t.Context(), "SET application_name = 'other'"); err != nil {
			t.Fatal(err)
		}
		if struck, err := s.killBackend("victim"); err != nil || !struck {
			t.Fatal(struck, err)
		}
		other.fails() // with all the others
		if n := dbtest.Query(t, s.url, "SELECT count(*) FROM fleeting")[0][0]; n != "0" || started() != before {
			t.Errorf("%s rows in an unlogged table, started at %s, before at %s: want a recovery of the same process", n, started(), before)
		}
	})
	t.Run("crash", func(t *testing.T) {
		dbtest.Exec(t, s.url, "INSERT INTO fleeting VALUES (1)")
		v, before, down := connect(t, s.wire.through(s.url)), started(), make(chan error, 1)
		dbtest.Exec(t, s.url, "INSERT INTO kept VALUES (1)")
		go func() { down <- s.crash(time.Second) }()
		eventually(t, time.Minute, "it is down", func() bool { return !reachable(s.url) })
		v.fails()
		if err := <-down; err != nil {
			t.Fatal(err)
		}
		if got := dbtest.Query(t, s.url, "SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM fleeting)"); got[0][0] != "1" || got[0][1] != "0" {
			t.Errorf("it has %v rows, want what was promised", got)
		}
		if started() == before {
			t.Error("it was not started again")
		}
		connect(t, s.wire.through(s.url)).works()
	})
	t.Run("crash while frozen", func(t *testing.T) {
		if err := s.freeze(); err != nil {
			t.Fatal(err)
		}
		if err := s.crash(0); err != nil {
			t.Fatal(err)
		}
		connect(t, s.url).works()
	})
}

// TestDisk: a disk that is full is full, and has room again.
func TestDisk(t *testing.T) {
	t.Parallel()
	s := newServer(t, "target")
	d := newDisk(t, s)
	if d == nil {
		t.Skip("there is no disk to fill")
	}
	dbtest.Exec(t, s.url, "CREATE DATABASE small TABLESPACE small")
	v := connect(t, s.at("small"))
	exec := func(sql string) error {
		_, err := v.conn.Exec(t.Context(), sql)
		return err
	}
	if err := exec("CREATE TABLE t (a text)"); err != nil {
		t.Fatal(err)
	}
	if err := d.fill(); err != nil {
		t.Fatal(err)
	}
	const insert = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
	if err := exec(insert); sqlState(err) != "53100" {
		t.Errorf("a full disk answers %v", err)
	}
	if err := d.empty(); err != nil {
		t.Fatal(err)
	}
	if err := exec(insert); err != nil {
		t.Errorf("an empty disk answers %v", err)
	}
}
