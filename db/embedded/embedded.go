// Package embedded runs a private PostgreSQL server from the programs installed on this machine: for people who bring
// none, for the demo, and for tests. It downloads nothing, keeps everything in one folder, and knows nothing of Calco's
// tables.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	rootDir   = "/var/lib/calco"
	superuser = "postgres"

	// A dead server is started again up to maxAttempts times, with pauses that double from firstPause to maxGrowth
	// times that: for about two minutes. A session busy in a long query notices the death only at its end, and no
	// server starts before.
	maxAttempts = 30
	firstPause  = 100 * time.Millisecond
	maxGrowth   = 50
	// portAttempts is how often Start looks for a port that nobody takes before the server does.
	portAttempts = 3
)

// ErrInUse is the error of Start for a folder whose server runs already, in this process or in another one.
var ErrInUse = errors.New("the folder is in use by another server of Calco")

var errStopped = errors.New("restart PostgreSQL: it was stopped")

// Options says where and how a server runs. The zero value is a server in DefaultDir, on a Unix socket.
type Options struct {
	// Dir is the server's private folder, made if it is missing. A cluster that an earlier Start made in it is used
	// again, with its data.
	Dir string
	// Loopback makes the server listen on a free port of 127.0.0.1. Otherwise it has only a Unix socket in a folder
	// that nobody else can enter. Both ask for the password.
	Loopback bool
	// Settings are server settings by name, above those in postgresql.conf. Where the server listens cannot be set.
	Settings map[string]string
	// BinDir is the folder of PostgreSQL's programs. Empty takes the newest installed ones that can run the cluster.
	BinDir string
}

// DefaultDir returns the folder of the server of a person who chose none.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return rootDir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "calco"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the data: %w", err)
	}
	return filepath.Join(home, ".local", "share", "calco"), nil
}

// Server is a running PostgreSQL server. It is started again whenever it dies, at the same address, until Stop. Its
// methods are safe for concurrent use.
type Server struct {
	cluster *cluster
	cancel  context.CancelFunc // ends the supervision
	done    chan struct{}      // closed when the supervision ended
	err     error              // why it gave up; to be read after done

	mu   sync.Mutex
	live *postmaster   // the last one that ran; nil after Stop
	next chan struct{} // closed when the one after it takes connections
}

// Start runs the server of o.Dir and returns when it takes connections, or with an error and nothing left running. The
// server does not end with ctx; whoever starts it calls Stop. Where PostgreSQL is not installed the error is a
// *pgtools.NotFoundError.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		var err error
		if o.Dir, err = DefaultDir(); err != nil {
			return nil, err
		}
	}
	o.Settings = maps.Clone(o.Settings)
	c, err := openCluster(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", o.Dir, err)
	}
	p, err := c.firstLaunch(ctx)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", o.Dir, err)
	}
	return watch(context.WithoutCancel(ctx), c, p, firstPause), nil
}

// watch returns the Server of a running postmaster, and starts the supervision that Stop ends. The pause is the first
// one between two attempts to start a dead server again.
func watch(ctx context.Context, c *cluster, p *postmaster, pause time.Duration) *Server {
	ctx, cancel := context.WithCancel(ctx)
	s := &Server{cluster: c, cancel: cancel, done: make(chan struct{}), live: p, next: make(chan struct{})}
	go s.supervise(ctx, p, pause)
	return s
}

// firstLaunch launches the server on a port of its choice. Between choosing the port and listening on it another
// process can take it; then another one is chosen.
func (c *cluster) firstLaunch(ctx context.Context) (*postmaster, error) {
	if !c.loopback {
		return c.launch(ctx)
	}
	for attempt := 1; ; attempt++ {
		if err := c.choosePort(ctx); err != nil {
			return nil, err
		}
		p, err := c.launch(ctx)
		if err == nil || attempt == portAttempts || free(ctx, c.port) {
			return p, err
		}
	}
}

// Dir returns the server's private folder.
func (s *Server) Dir() string { return s.cluster.dir }

// URL returns the connection string of the superuser for a database, the name taken as it is; the empty one stands for
// "postgres". It holds the password. It stays true as long as the server lives.
func (s *Server) URL(database string) string { return s.cluster.url(database) }

func (c *cluster) url(database string) string {
	if database == "" {
		database = superuser
	}
	// libpq does not read + as a space, and pgx does: neither may see one.
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	if c.loopback {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", superuser, escape(c.password), c.port, escape(database))
	}
	return fmt.Sprintf("postgres://%s:%s@/%s?host=%s&port=%s&sslmode=disable",
		superuser, escape(c.password), escape(database), escape(c.socketDir), strconv.Itoa(c.port))
}

// Done returns a channel that is closed when nobody starts the server again any more: Stop was called, or it could not
// be kept alive, which Err tells.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server could not be kept alive, and nil as long as it is, and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends the server and gives its folder free; the data stays. It disconnects the clients and returns when the
// process is gone. When ctx ends before a clean shutdown the server is ended at once and recovers at its next start,
// which the error tells; no committed data is lost either way. A second Stop does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		return nil
	}
	var err error
	select {
	case <-s.live.exited: // it had died, and nobody had started it again yet: that is not how it was stopped
	default:
		err = s.live.shutdown(ctx)
	}
	s.live = nil
	s.cluster.close()
	if err != nil && s.err == nil {
		return fmt.Errorf("stop PostgreSQL in %s: %w", s.cluster.dir, err)
	}
	return nil
}

// Restart ends the server at once, as a crash would, and returns when it takes connections again.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	p, next := s.live, s.next
	s.mu.Unlock()
	if p == nil {
		return errStopped
	}
	p.crash()
	select {
	case <-next:
		return nil
	case <-s.done:
		if s.err != nil {
			return s.err
		}
		return errStopped
	case <-ctx.Done():
		return fmt.Errorf("restart PostgreSQL: %w", context.Cause(ctx))
	}
}

// supervise starts the server again each time it dies, until ctx ends or it cannot be started.
func (s *Server) supervise(ctx context.Context, p *postmaster, pause time.Duration) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.exited:
		}
		var err error
		if p, err = s.cluster.revive(ctx, pause); err != nil {
			if ctx.Err() == nil {
				s.err = fmt.Errorf("keep PostgreSQL in %s alive: %w", s.cluster.dir, err)
			}
			return
		}
		s.mu.Lock()
		s.live = p
		close(s.next)
		s.next = make(chan struct{})
		s.mu.Unlock()
	}
}

// revive starts a dead server again. It tries more than once, because what the dead one left behind takes a while to go.
func (c *cluster) revive(ctx context.Context, pause time.Duration) (*postmaster, error) {
	longest := maxGrowth * pause
	for attempt := 1; ; attempt++ {
		p, err := c.launch(ctx)
		if err == nil {
			return p, nil
		}
		if attempt == maxAttempts {
			return nil, fmt.Errorf("gave up after %d attempts: %w", attempt, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, longest)
	}
}
