package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// poll is how often a state is looked at that PostgreSQL announces only in a file, or in the list of processes.
	poll = 20 * time.Millisecond
	// grace is how long a server may take for an immediate shutdown. PostgreSQL itself kills its children after 5 s.
	grace = 10 * time.Second
	// leftoverPatience is how long a server of an earlier run may take for its checkpoint.
	leftoverPatience = 30 * time.Second
)

// postmaster is one running server process.
type postmaster struct {
	process *os.Process
	exited  chan struct{} // closed when the process is gone
	end     error         // how it ended; to be read after exited
}

// launch starts the server and waits until it takes connections. The server does not end with ctx once launch returned;
// when launch fails nothing is left running.
func (c *cluster) launch(ctx context.Context) (*postmaster, error) {
	log, err := c.openLog()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the server writes to a copy
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	cmd := exec.Command(c.program("postgres"), c.arguments()...) //nolint:noctx // it outlives ctx
	c.equip(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run postgres: %w", err)
	}
	p := &postmaster{process: cmd.Process, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.end = cmd.Wait()
	}()
	if err := p.awaitReady(ctx, c.data()); err != nil {
		p.crash()
		return nil, fmt.Errorf("%w; %s says: %s", err, log.Name(), tail(log, before))
	}
	return p, nil
}

// arguments are the server's. What keeps it private comes last, where it wins.
func (c *cluster) arguments() []string {
	args := []string{"-D", c.data(), "-c", "logging_collector=off", "-c", "log_checkpoints=off"}
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		args = append(args, "-c", name+"="+c.settings[name])
	}
	listen, sockets := "", ""
	if c.loopback {
		listen = "127.0.0.1"
	} else { // the setting is a list, hence the quotes
		sockets = `"` + strings.ReplaceAll(c.socketDir, `"`, `""`) + `"`
	}
	return append(args,
		"-c", "listen_addresses="+listen,
		"-c", "port="+strconv.Itoa(c.port),
		"-c", "unix_socket_directories="+sockets,
	)
}

// awaitReady waits until the server says in its pid file that it takes connections, which pg_ctl waits for too.
// Recovery may keep it from that for as long as it needs.
func (p *postmaster) awaitReady(ctx context.Context, data string) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f, err := readPidFile(data)
			if err != nil {
				return err
			}
			if f.pid == p.process.Pid && (f.status == "ready" || f.status == "standby") {
				return nil
			}
		case <-p.exited:
			return fmt.Errorf("the server ended at its start: %w", p.end)
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w", context.Cause(ctx))
		}
	}
}

// shutdown ends the server: fast and clean, or, when ctx ends first, at once. It returns when the process is gone; the
// error says that it was not clean.
func (p *postmaster) shutdown(ctx context.Context) error {
	_ = p.process.Signal(syscall.SIGINT) // fails only when the process is gone
	select {
	case <-p.exited:
		return p.end
	case <-ctx.Done():
		p.crash()
		return fmt.Errorf("a clean shutdown took too long: %w", context.Cause(ctx))
	}
}

// crash ends the server at once, as a power failure would, and returns when the process is gone.
func (p *postmaster) crash() {
	_ = p.process.Signal(syscall.SIGQUIT)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		_ = p.process.Kill()
		<-p.exited
	}
}

// pidFile is what a server says about itself in its postmaster.pid.
type pidFile struct {
	pid    int    // 0: there is no file, or it was cut off
	status string // "starting", "ready", "standby", "stopping", or empty in the first moments
}

// readPidFile reads data/postmaster.pid. Its lines are listed in PostgreSQL's src/include/utils/pidfile.h.
func readPidFile(data string) (pidFile, error) {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return pidFile{}, nil
	}
	if err != nil {
		return pidFile{}, fmt.Errorf("read pid file: %w", err)
	}
	lines := strings.Split(string(content), "\n")
	var f pidFile
	f.pid, _ = strconv.Atoi(lines[0]) // 0 for what is no number
	if len(lines) > 7 {
		f.status = strings.TrimSpace(lines[7])
	}
	return f, nil
}

// stopLeftover ends the server that a killed process left behind on data, if it still runs, and returns when it is gone.
// Only the holder of the folder's lock may call it.
func stopLeftover(ctx context.Context, data string) error {
	f, err := readPidFile(data)
	if err != nil {
		return err
	}
	if f.pid < 0 || f.pid > 0 && errors.Is(syscall.Kill(f.pid, 0), syscall.ESRCH) {
		return nil // a session without a server, or a dead server: PostgreSQL knows what to do
	}
	if f.pid == 0 || !runs(ctx, f.pid, data) {
		// A file without a number stops PostgreSQL, and so does the number of a process that is somebody else by now.
		if err := os.Remove(filepath.Join(data, "postmaster.pid")); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	gone := func(ctx context.Context, limit time.Duration, sig syscall.Signal) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err := syscall.Kill(f.pid, sig)
		for ; err == nil; err = syscall.Kill(f.pid, 0) {
			if err := sleep(ctx, poll); err != nil {
				return fmt.Errorf("process %d: %w", f.pid, err)
			}
		}
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return fmt.Errorf("signal process %d: %w", f.pid, err)
	}
	err = gone(ctx, leftoverPatience, syscall.SIGINT)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = gone(ctx, grace, syscall.SIGQUIT)
	}
	return err
}

// runs reports whether process pid is a server on data: it was started with these arguments.
func runs(ctx context.Context, pid int, data string) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil { // not Linux
		args, _ = exec.CommandContext(ctx, "ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	}
	words := bytes.ReplaceAll(args, []byte{0}, []byte{' '})
	return bytes.Contains(words, []byte("postgres -D "+data+" "))
}

// tail returns the last lines that the server wrote to its log since offset.
func tail(log io.ReaderAt, offset int64) string {
	const most = 2000
	text, _ := io.ReadAll(io.NewSectionReader(log, offset, 1<<20)) // a diagnosis: what can be read will do
	if len(text) > most {
		text = text[len(text)-most:]
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return "nothing"
	}
	return string(text)
}
