// Package dbtest gives each test a PostgreSQL database of its own, on one server that the tests of a package share, or a
// whole server. The servers are fast and forgetful. They go with the test process, however it ends.
//
// With go test -short, which is make check, a package has its shared server and no other: Long and Cluster skip.
//
// CALCO_TEST_BINDIR names the folder of the PostgreSQL programs to test with; the newest installed ones are the default.
package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/pgtools"
	"calco/db/embedded"
)

// patience bounds each step that no test should wait for.
const patience = 5 * time.Minute

// shared is the server of the databases of this process: a test binary has no other place to share it.
var shared struct {
	start sync.Once
	home  *home
	err   error
	named atomic.Int64
}

// Main runs the tests of a package and stops the server they shared. Call it from TestMain, inside os.Exit. In CI it
// refuses to leave tests out.
func Main(m *testing.M) int {
	flag.Parse()
	if testing.Short() && os.Getenv("CI") != "" {
		fmt.Fprintln(os.Stderr, "CI runs all tests: go test without -short")
		return 1
	}
	code := m.Run()
	if shared.home != nil {
		if err := shared.home.close(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the shared test server:", err)
			return max(code, 1)
		}
	}
	return code
}

// Database makes an empty database for the test on the shared server, and returns its URL. The database goes with the
// test, even when sessions are still open on it. Without PostgreSQL on this machine the test is skipped, or fails in CI.
func Database(t testing.TB) string {
	t.Helper()
	return DatabaseNamed(t, fmt.Sprintf("test_%d", shared.named.Add(1)))
}

// DatabaseNamed is Database with a name of the test's choice, which may be any that PostgreSQL takes.
func DatabaseNamed(t testing.TB, name string) string {
	t.Helper()
	shared.start.Do(func() { shared.home, shared.err = open(nil) })
	check(t, shared.err)
	server := shared.home.server
	quoted := pgx.Identifier{name}.Sanitize()
	Exec(t, server.URL(""), "CREATE DATABASE "+quoted)
	t.Cleanup(func() { Exec(t, server.URL(""), "DROP DATABASE "+quoted+" WITH (FORCE)") })
	return server.URL(name)
}

// Long says, first of all, that a test takes long, so that make check leaves it out.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
}

// Cluster starts a server for this test alone, with settings above those of the shared one. It is stopped and removed
// with the test, which may stop or restart it before. It is Long.
func Cluster(t testing.TB, settings map[string]string) *embedded.Server {
	t.Helper()
	Long(t)
	h, err := open(settings)
	check(t, err)
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Errorf("stop the test's server: %v", err)
		}
	})
	return h.server
}

// Exec runs statements, separated by semicolons, without parameters.
func Exec(t testing.TB, url, sql string) {
	t.Helper()
	run(t, url, sql)
}

// Query runs statements like Exec and returns the rows of the last one as text. A null reads NULL.
func Query(t testing.TB, url, sql string) [][]string {
	t.Helper()
	results := run(t, url, sql)
	var rows [][]string
	for _, values := range results[len(results)-1].Rows {
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = "NULL"
			if v != nil {
				row[i] = string(v)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// Await asks again and again, over one connection, until the answer is true.
func Await(t testing.TB, url, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it was only read
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		results, err := conn.Exec(ctx, sql).ReadAll()
		if err != nil {
			t.Fatalf("never true: %.200q: %v", sql, err)
		}
		if string(results[len(results)-1].Rows[0][0]) == "t" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never true: %.200q", sql)
		}
	}
}

// StartedAgo has the server say, in this database, that it was started so long ago, such as "1 hour", whenever it was: what
// counts from a server's start can be tested without waiting for it. Sessions that have asked before go on with the truth.
func StartedAgo(t testing.TB, url, ago string) {
	t.Helper()
	Exec(t, url, fmt.Sprintf(`
		DO $$ BEGIN IF to_regproc('pg_catalog.true_start_time') IS NULL THEN
			ALTER FUNCTION pg_catalog.pg_postmaster_start_time() RENAME TO true_start_time;
		END IF; END $$;
		CREATE OR REPLACE FUNCTION pg_catalog.pg_postmaster_start_time() RETURNS timestamptz STABLE LANGUAGE sql
			AS $$ SELECT now() - interval '%s' $$`, ago))
}

// run opens a connection of its own. It does not use the test's context, which has ended when a Cleanup runs.
func run(t testing.TB, url, sql string) []*pgconn.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // all results have arrived
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("run %.200q: %v", sql, err)
	}
	return results
}

// check ends a test that got no server.
func check(t testing.TB, err error) {
	t.Helper()
	var missing *pgtools.NotFoundError
	switch {
	case err == nil:
	case errors.As(err, &missing) && os.Getenv("CI") == "":
		t.Skipf("needs a PostgreSQL server: %v", missing)
	default:
		t.Fatal(err)
	}
}

// open starts a server in a new folder.
func open(settings map[string]string) (*home, error) {
	all := map[string]string{
		"fsync":              "off",
		"synchronous_commit": "off",
		"full_page_writes":   "off",
		"shared_buffers":     "64MB",
		"max_connections":    "200",
		"jit":                "off", // pg_dump's queries took longer to be compiled than to run
		// scram-sha-256 takes 10 ms of a processor for each of the ten thousands of connections.
		"password_encryption": "md5",
	}
	maps.Copy(all, settings)
	h, err := newHome()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h.server, err = embedded.Start(ctx, embedded.Options{
		Dir:      h.dir,
		Loopback: true,
		Settings: all,
		BinDir:   os.Getenv("CALCO_TEST_BINDIR"),
	})
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// Role makes a role for one test on the server of a database, and returns its name.
func Role(t testing.TB, database string) string {
	t.Helper()
	name := "role_" + strings.ToLower(rand.Text()[:12])
	Exec(t, database, "CREATE ROLE "+name)
	return name
}

// Same wants one thing of a value, which has a name of its own in a failure.
func Same[T comparable](t testing.TB, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", name, got, want)
	}
}
