package dbtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"calco/db/dbtest"
)

// childEnv makes this test binary a test process that is killed: it starts the shared server, says where, and waits.
const childEnv = "CALCO_DBTEST_CHILD"

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

func TestDatabase(t *testing.T) {
	t.Parallel()
	one, two := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, one, "CREATE TABLE a (n int, s text); INSERT INTO a VALUES (1, 'x'), (2, NULL)")

	want := [][]string{{"1", "x"}, {"2", "NULL"}}
	if got := dbtest.Query(t, one, "SET search_path = public; SELECT * FROM a ORDER BY n"); !reflect.DeepEqual(got, want) {
		t.Errorf("rows = %v, want %v", got, want)
	}
	if got := dbtest.Query(t, two, "SELECT to_regclass('public.a')"); got[0][0] != "NULL" {
		t.Errorf("the table of one database is in another one")
	}
}

func TestDatabaseGoesWithTheTest(t *testing.T) {
	t.Parallel()
	names := "SELECT datname FROM pg_database WHERE datname = 'short-lived'"
	var url string
	t.Run("while it runs", func(t *testing.T) {
		url = dbtest.DatabaseNamed(t, "short-lived")
		if got := dbtest.Query(t, url, names); len(got) != 1 {
			t.Errorf("databases = %v, want one", got)
		}
	})
	if got := dbtest.Query(t, dbtest.Database(t), names); len(got) != 0 {
		t.Errorf("databases after the test = %v, want none", got)
	}
}

func TestDatabaseNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"With Capitals and Spaces",
		`quotes " and ' and \`,
		"url ?host=x&user=y#z%41+@:/",
		"ünïcödé 数据库",
		"$(rm)`;--",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.DatabaseNamed(t, name)
			if got := dbtest.Query(t, url, "SELECT current_database()"); got[0][0] != name {
				t.Errorf("current_database() = %q, want %q", got[0][0], name)
			}
		})
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("while it runs", func(t *testing.T) {
		s := dbtest.Cluster(t, map[string]string{"wal_level": "logical", "shared_buffers": "32MB"})
		dir = s.Dir()
		for name, want := range map[string]string{"wal_level": "logical", "shared_buffers": "32MB", "fsync": "off"} {
			if got := dbtest.Query(t, s.URL(""), "SHOW "+name); got[0][0] != want {
				t.Errorf("%s = %s, want %s", name, got[0][0], want)
			}
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("stat of the server's folder after the test: %v, want it gone", err)
	}
}

// A server outlives Ctrl-C by design, and used to outlive the test process that was ended by it.
func TestServerGoesWithAKilledProcess(t *testing.T) {
	t.Parallel()
	if os.Getenv(childEnv) != "" {
		s := dbtest.Cluster(t, nil)
		fmt.Println("dir:", s.Dir())
		select {}
	}
	dbtest.Database(t) // skips where there is no PostgreSQL
	child := exec.Command(os.Args[0], "-test.run=^TestServerGoesWithAKilledProcess$")
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		dir, _ = strings.CutPrefix(lines.Text(), "dir: ")
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); err != nil {
		t.Fatalf("the child's server does not run: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is still there", dir)
		}
	}
}
