package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/db/dbtest"
	"calco/db/embedded"
)

// settings are those of all servers. A server that crashes keeps what it has acknowledged, unless a session chose
// otherwise: it is the process that dies, not the machine.
var settings = map[string]string{
	"fsync":              "off",
	"full_page_writes":   "off",
	"synchronous_commit": "on",
	"shared_buffers":     "64MB",
	"max_connections":    "200",
	"max_wal_size":       "512MB",
}

// server is one of the three, and the wire to it. It is safe for concurrent use.
type server struct {
	name string // source, target or state
	wire *link
	url  string // of its database postgres, without the wire

	mu      sync.Mutex // one thing at a time is done to it
	running *embedded.Server
}

// newServer starts a server that goes with the test, or with the test process.
func newServer(t testing.TB, name string) *server {
	t.Helper()
	s := &server{name: name, running: dbtest.Cluster(t, settings)}
	t.Cleanup(func() { s.stop(t) })
	s.url = s.running.URL("")
	s.wire = newLink(t, name, s.url)
	return s
}

// stop ends the server. A second time it does nothing.
func (s *server) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(s.thaw(), s.running.Stop(ctx)); err != nil {
		t.Errorf("stop the %s: %v", s.name, err)
	}
}

// at returns the URL of a database, without the wire.
func (s *server) at(database string) string {
	return strings.Replace(s.url, "/postgres?", "/"+database+"?", 1)
}

// crash ends the server at once, as a failure of its machine would, and lets it come back after a while. It returns when
// it takes connections again.
func (s *server) crash(down time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.signal(syscall.SIGCONT); err != nil { // a frozen one would not end
		return err
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()                // no time for a clean shutdown,
	_ = s.running.Stop(now) // which is the error
	time.Sleep(down)
	started, err := s.start()
	for until := time.Now().Add(2 * time.Minute); err != nil && time.Now().Before(until); started, err = s.start() {
		time.Sleep(time.Second) // its disk may be full, which another fault does
	}
	if err != nil {
		return fmt.Errorf("start the %s again: %w", s.name, err)
	}
	s.running = started
	if started.URL("") != s.url {
		return fmt.Errorf("the port of the %s was taken while it was down", s.name)
	}
	return nil
}

func (s *server) start() (*embedded.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return embedded.Start(ctx, embedded.Options{Dir: s.running.Dir(), Loopback: true, Settings: settings, BinDir: os.Getenv("CALCO_TEST_BINDIR")})
}

// killBackend kills one of the server's backends, which makes it end all others and recover, without a new process.
// It tells whether there was one.
func (s *server) killBackend(which string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := s.pick(which)
	if err != nil || pid == 0 {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	witness, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return false, err
	}
	defer witness.Close(ctx) //nolint:errcheck // it ends with the others
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return false, fmt.Errorf("kill a backend of the %s: %w", s.name, err)
	}
	_, _ = witness.Exec(ctx, "SELECT pg_sleep(60)") // until the server has noticed
	return true, s.awaitAnswer()
}

// endBackend ends one backend politely. It tells whether there was one.
func (s *server) endBackend(which string) (bool, error) {
	pid, err := s.pick(which)
	if err != nil || pid == 0 {
		return false, err
	}
	_, err = s.ask(fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
	return true, err
}

// pick returns the process of any of the backends that have an application_name, or 0.
func (s *server) pick(which string) (pid int, err error) {
	text, err := s.ask(fmt.Sprintf(`SELECT coalesce((SELECT pid FROM pg_stat_activity
		WHERE application_name LIKE '%s' AND backend_type = 'client backend' ORDER BY md5(pid || now()::text) LIMIT 1), 0)::text`, which))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// ask returns the one value of a query.
func (s *server) ask(sql string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has answered
	err = conn.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&answer)
	return answer, err
}

// awaitAnswer waits until the server answers.
func (s *server) awaitAnswer() error {
	for until := time.Now().Add(time.Minute); ; {
		_, err := s.ask("SELECT ''")
		if err == nil || time.Now().After(until) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freeze stops all processes of the server, as a hanging machine does: its connections stay, and go on at thaw.
func (s *server) freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signal(syscall.SIGSTOP)
}

func (s *server) thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signal(syscall.SIGCONT)
}

// signal sends a signal to the server and to all its children, the server first: it makes no new ones then.
func (s *server) signal(sig syscall.Signal) error {
	text, err := os.ReadFile(filepath.Join(s.running.Dir(), "data", "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it does not run
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("read the pid of the %s: %w", s.name, err)
	}
	if err := syscall.Kill(postmaster, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%v to the %s: %w", sig, s.name, err)
	}
	for _, child := range children(postmaster) {
		_ = syscall.Kill(child, sig) // it may be gone
	}
	return nil
}

// children returns the processes that one has started. Nowhere else than on Linux are there any.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// pid (name of the program) state ppid …
		rest := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(rest) > 1 && rest[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}
