package embedded_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"calco/db/dbtest"
	"calco/db/embedded"
)

func TestServerSurvivesItsDeath(t *testing.T) {
	t.Parallel()
	for _, loopback := range []bool{false, true} {
		t.Run(fmt.Sprintf("loopback %v", loopback), func(t *testing.T) {
			t.Parallel()
			s := start(t, embedded.Options{Dir: filepath.Join(newDir(t), "d"), Loopback: loopback})
			url := s.URL("")
			dbtest.Exec(t, url, "CREATE TABLE kept AS SELECT 42 AS n")
			for range 2 {
				dead := pid(t, s.Dir())
				if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				eventually(t, "another server answers at the same URL", func() bool {
					content, _ := os.ReadFile(filepath.Join(s.Dir(), "data", "postmaster.pid"))
					return !strings.HasPrefix(string(content), strconv.Itoa(dead)+"\n") && answers(t, url)
				})
				if got := dbtest.Query(t, url, "SELECT n FROM kept"); len(got) != 1 || got[0][0] != "42" {
					t.Fatalf("rows = %v, want 42", got)
				}
			}
			if err := s.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that is stopped while it is started again after its death was said not to have been stopped cleanly.
func TestStopAfterDeath(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{Dir: filepath.Join(newDir(t), "d"), Loopback: true})
	dead := pid(t, s.Dir())
	if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another one begins", func() bool {
		content, _ := os.ReadFile(filepath.Join(s.Dir(), "data", "postmaster.pid")) // or there is none for a moment
		return !strings.HasPrefix(string(content), strconv.Itoa(dead)+"\n")
	})
	stop(t, s)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{Dir: filepath.Join(newDir(t), "d"), Loopback: true})
	dbtest.Exec(t, s.URL(""), "CREATE TABLE kept AS SELECT 42 AS n")
	before := pid(t, s.Dir())
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := pid(t, s.Dir()); after == before {
		t.Errorf("process %d still runs", before)
	}
	if got := dbtest.Query(t, s.URL(""), "SELECT n FROM kept"); len(got) != 1 {
		t.Errorf("rows = %v, want one", got)
	}
}

// A process killed at once leaves its server running, and with it the lock that PostgreSQL keeps on the data.
func TestStartAfterKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), "left over")
	stop(t, start(t, embedded.Options{Dir: dir, Loopback: true})) // skips where there is no PostgreSQL
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	url := lines.Text()
	dbtest.Exec(t, url, "CREATE TABLE kept AS SELECT 42 AS n")

	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: dir}); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("Start beside a running process = %v, want ErrInUse", err)
	}
	left := pid(t, dir)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if !answers(t, url) {
		t.Fatal("the server went with its process: nothing to test")
	}

	s := start(t, embedded.Options{Dir: dir, Loopback: true})
	if alive(left) {
		t.Errorf("the left-over server %d still runs", left)
	}
	if got := s.URL(""); got != url {
		t.Errorf("URL = %s, want %s", got, url)
	}
	if got := dbtest.Query(t, url, "SELECT n FROM kept"); len(got) != 1 || got[0][0] != "42" {
		t.Errorf("rows = %v, want 42", got)
	}
}

// After a reboot the number in a pid file may be that of any process, which must neither be killed nor be in the way.
func TestStartWithStalePidFile(t *testing.T) {
	t.Parallel()
	o := embedded.Options{Dir: filepath.Join(newDir(t), "d")}
	s := start(t, o)
	content, err := os.ReadFile(filepath.Join(s.Dir(), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	other := exec.CommandContext(t.Context(), "cat")
	if _, err := other.StdinPipe(); err != nil { // it waits for input until the test ends
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Wait() })
	_, rest, _ := strings.Cut(string(content), "\n")
	for name, stale := range map[string]string{
		"a living stranger": strconv.Itoa(other.Process.Pid) + "\n" + rest,
		"a dead process":    "4194303\n" + rest,
		"no number":         "\n" + rest,
		"an empty file":     "",
	} {
		file := filepath.Join(o.Dir, "data", "postmaster.pid")
		if err := os.WriteFile(file, []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 { // it is PostgreSQL's own file
			if err := os.Chown(file, owner(t, o.Dir), -1); err != nil {
				t.Fatal(err)
			}
		}
		s := start(t, o)
		if !answers(t, s.URL("")) {
			t.Errorf("%s: the server does not answer", name)
		}
		stop(t, s)
	}
	if !alive(other.Process.Pid) {
		t.Error("Start killed a process that is no server")
	}
}

func owner(t *testing.T, dir string) int {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}
