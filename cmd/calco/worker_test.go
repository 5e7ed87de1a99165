package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"calco/db/dbtest"
)

// startWorker runs calco worker, and waits until it is there.
func startWorker(t *testing.T, env []string, args ...string) *service {
	t.Helper()
	s := &service{t: t, said: &output{}}
	s.cmd = exec.Command(calco, append([]string{"worker"}, args...)...) //nolint:gosec // built by this test
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			_ = s.cmd.Wait()
		}
	})
	s.eventually("it waits for clones", func() bool { return strings.Contains(s.said.String(), "Waiting for clones") })
	return s
}

// A process that only serves, beside its private server a worker: the page of a clone that runs there is live, and the
// worker goes on when the page's process is gone.
func TestWorker(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, dir := dbtest.Database(t), dbtest.Database(t), folder(t)
	dbtest.Exec(t, source, library)
	s := startService(t, "serve", "--data-dir", dir, "--workers", "0")
	s.setUp()
	page := s.startClone(source, target)
	if body := s.get(page); !strings.Contains(body, `data-status="queued"`) {
		t.Errorf("without a worker it is not queued:\n%.2000s", body)
	}
	worker := startWorker(t, nil, "--data-dir", dir)
	s.awaitStatus(page, "completed")
	if code := worker.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, worker.said)
	}
}

// Workers on other machines need the state database and the key. One that is killed is noticed by a process that runs no
// clones, and another worker has the job within 30 seconds; one that is told to stop hands it on at once.
func TestWorkersTakeOver(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, state, dir := dbtest.Database(t), dbtest.Database(t), dbtest.Database(t), folder(t)
	dbtest.Exec(t, source, slowIndex)
	s := startService(t, "serve", "--database-url", state, "--data-dir", dir, "--workers", "0")
	s.setUp()
	page := s.startClone(source, target)
	key, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"CALCO_DATABASE_URL=" + state, "CALCO_KEY=" + strings.TrimSpace(string(key))}
	elsewhere := func() *service {
		return startWorker(t, env, "--data-dir", filepath.Join(t.TempDir(), "none"), "--workers", "1")
	}
	first := elsewhere()
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	first.stop(syscall.SIGKILL)
	second := elsewhere()
	dbtest.Await(t, state, `SELECT term = 2 AND worker IS NOT NULL FROM background_tasks`)
	s.eventually("the page says so", func() bool { return strings.Contains(s.get(page), "The clone goes on in another one.") })
	s.awaitStatus(page, "completed")
	if code := second.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, second.said)
	}
}

// A server that does not answer holds up nobody who is told to stop: the lease makes up for what is not written.
func TestStopsInTime(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, state, dir := dbtest.Database(t), dbtest.Database(t), dbtest.Database(t), folder(t)
	dbtest.Exec(t, source, slowIndex)
	s := startService(t, "serve", "--database-url", state, "--data-dir", dir)
	s.setUp()
	s.startClone(source, target)
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	pid, err := strconv.Atoi(dbtest.Query(t, target, building)[0][0])
	if err != nil {
		t.Fatal(err)
	}
	kill(t, pid, syscall.SIGSTOP)
	defer kill(t, pid, syscall.SIGCONT)
	s.stop(syscall.SIGTERM)
	got := fmt.Sprint(dbtest.Query(t, state, `SELECT status, term FROM background_tasks`))
	if got != "[[queued 2]]" && got != "[[running 1]]" {
		t.Errorf("the job: %s", got)
	}
}

func TestWorkerUsage(t *testing.T) {
	t.Parallel()
	state, dir := dbtest.Database(t), t.TempDir()
	u, err := url.Parse(state)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	for name, c := range map[string]struct {
		args []string
		env  []string
		code int
		says string
	}{
		"nobody":            {[]string{"--workers", "0"}, nil, exitUsage, "choose at least 1"},
		"no patience":       {[]string{"--give-up-after", "1ms"}, nil, exitUsage, "at least 1s"},
		"no server":         {[]string{"--data-dir", dir}, nil, exitFailed, "start calco serve first"},
		"no key":            {[]string{"--database-url", state, "--data-dir", dir}, nil, exitUsage, "CALCO_KEY"},
		"a key that is not": {[]string{"--database-url", state}, []string{"CALCO_KEY=short"}, exitUsage, "CALCO_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runCalco(t, c.env, append([]string{"worker"}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.stderr, c.says) || strings.Contains(got.stderr, secret) {
				t.Errorf("exit code %d, want %d and %q:\n%s", got.code, c.code, c.says, got.stderr)
			}
			if _, err := os.Stat(filepath.Join(dir, "key")); err == nil {
				t.Error("it has made a key of its own")
			}
		})
	}
}

// Another installation's key is refused before anything is done with it.
func TestWorkerWithAnotherKey(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	state := dbtest.Database(t)
	s := startService(t, "serve", "--database-url", state, "--data-dir", folder(t), "--workers", "0")
	s.setUp()
	other := "CALCO_KEY=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	got := runCalco(t, []string{other}, "worker", "--database-url", state)
	if got.code != exitFailed || !strings.Contains(got.stderr, "key") {
		t.Errorf("exit code %d:\n%s", got.code, got.stderr)
	}
}
