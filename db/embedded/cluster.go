package embedded

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"calco/cloner/pgtools"
)

const (
	// maxSocketPath is the longest path of a Unix socket that every system takes.
	maxSocketPath = 103
	// maxLog is the size at which a log is put aside at the next start.
	maxLog = 16 << 20
	// socketPort numbers the Unix socket, which is alone in its folder.
	socketPort = 5432
)

// cluster is a private folder, locked for this process, and what it takes to run a server in it.
type cluster struct {
	dir       string // absolute, without symbolic links
	binDir    string
	account   account
	settings  map[string]string
	password  string
	loopback  bool
	port      int
	socketDir string // empty with loopback
	lock      *os.File
}

// openCluster locks the folder, makes the cluster in it if there is none, and stops a server that an earlier process
// left running. The caller closes the cluster.
func openCluster(ctx context.Context, o Options) (_ *cluster, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	binDir, err := findPrograms(ctx, o.BinDir, filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, binDir: binDir, settings: o.Settings, loopback: o.Loopback}
	if c.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.account, err = accountFor(c.data()); err != nil {
		return nil, err
	}
	if err := c.account.mayEnter(ctx, c.program("postgres"), dir); err != nil {
		return nil, err
	}
	if err := stopLeftover(ctx, c.data()); err != nil {
		return nil, fmt.Errorf("stop the server of an earlier run: %w", err)
	}
	if err := c.ensure(ctx); err != nil {
		return nil, err
	}
	if !c.loopback {
		c.port = socketPort
		if err := c.makeSocketDir(); err != nil {
			return nil, fmt.Errorf("make socket folder: %w", err)
		}
	}
	return c, nil
}

// close gives the folder free. No server may be running.
func (c *cluster) close() {
	if c.socketDir != "" {
		_ = os.RemoveAll(c.socketDir) // an empty folder left behind does no harm
	}
	// Closing is not enough: a child that is being started elsewhere in this process holds a copy for a moment.
	_ = syscall.Flock(int(c.lock.Fd()), syscall.LOCK_UN)
	_ = c.lock.Close()
}

func (c *cluster) path(name string) string    { return filepath.Join(c.dir, name) }
func (c *cluster) data() string               { return c.path("data") }
func (c *cluster) program(name string) string { return filepath.Join(c.binDir, name) }

// findPrograms returns the folder of the newest PostgreSQL server that can run the cluster in data: a cluster runs only
// on the major version that made it.
func findPrograms(ctx context.Context, binDir, data string) (string, error) {
	var dirs []string
	if binDir != "" {
		dirs = []string{binDir}
	}
	installs, err := pgtools.All(ctx, "postgres", dirs...)
	if err != nil {
		return "", err
	}
	made, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Dir(installs[0].Path), nil
	}
	if err != nil {
		return "", fmt.Errorf("read the version of the cluster: %w", err)
	}
	major := strings.TrimSpace(string(made))
	for _, in := range installs {
		if strconv.Itoa(in.Version.Major()) == major {
			return filepath.Dir(in.Path), nil
		}
	}
	return "", fmt.Errorf("the cluster in %s was made by PostgreSQL %s and needs it, but %s is the newest here: "+
		"install PostgreSQL %s beside it", data, major, installs[0].Version, major)
}

// makeDir makes the private folder, and its parents, unless they are there.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // the user who runs the server passes through to its own folders
	}
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	return os.Chmod(dir, mode) // whatever the umask
}

// lockDir takes the folder for this process. The system drops the lock when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// ensure reads the password of the cluster, and makes the cluster first if there is none.
func (c *cluster) ensure(ctx context.Context) error {
	if _, err := os.Stat(c.data()); errors.Is(err, fs.ErrNotExist) {
		if err := c.init(ctx); err != nil {
			return fmt.Errorf("make the cluster: %w", err)
		}
	}
	return c.readPassword()
}

// readPassword reads the password that lies beside the cluster.
func (c *cluster) readPassword() error {
	password, err := os.ReadFile(c.path("password"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there, but without the password that a cluster of Calco has beside it: choose another folder", c.data())
	}
	if err != nil {
		return err
	}
	c.password = strings.TrimSpace(string(password))
	return nil
}

// init makes the cluster beside its place and renames it at the end, so that one that was interrupted is never taken
// for a whole one.
func (c *cluster) init(ctx context.Context) error {
	work := c.path("initdb")
	if err := os.RemoveAll(work); err != nil { // of an interrupted run
		return err
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(work) //nolint:errcheck // what stays goes at the next start
	password := []byte(rand.Text() + "\n")
	copied := filepath.Join(work, "password") // initdb's user cannot read ours
	for _, file := range []string{c.path("password"), copied} {
		if err := os.WriteFile(file, password, 0o600); err != nil {
			return err
		}
	}
	for _, path := range []string{copied, work} {
		if err := c.account.own(path); err != nil {
			return err
		}
	}
	data := filepath.Join(work, "data")
	err := c.initdb(ctx, data, copied, "C.UTF-8")
	if err != nil && ctx.Err() == nil { // a system without that locale, or an error that comes again
		err = c.initdb(ctx, data, copied, "C")
	}
	if err != nil {
		return err
	}
	return os.Rename(data, c.data())
}

func (c *cluster) initdb(ctx context.Context, data, passwordFile, locale string) error {
	// A password that is stored as md5 cannot be asked for in another way.
	auth := cmp.Or(c.settings["password_encryption"], "scram-sha-256")
	args := []string{
		"--pgdata=" + data, "--username=" + superuser, "--pwfile=" + passwordFile, "--auth=" + auth,
		"--encoding=UTF8", "--locale=" + locale, "--data-checksums",
	}
	if c.settings["fsync"] == "off" { // who does not fear for the data does not fear for the empty cluster
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, c.program("initdb"), args...)
	c.equip(cmd)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with its children
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("run initdb: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("run initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// equip prepares a command to run as the server's user, in a session of its own, so that a Ctrl-C in the terminal does
// not reach it, and without the settings that the user keeps in the environment for other servers.
func (c *cluster) equip(cmd *exec.Cmd) {
	cmd.Dir = "/" // the caller's may be closed to the server's user
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.account.cred}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
}

// makeSocketDir makes the folder of the Unix socket, open to the caller and the server's user only. It is the folder
// "socket" unless the path is too long for a socket, or has a comma, which clients take for a list of hosts.
func (c *cluster) makeSocketDir() (err error) {
	dir := c.path("socket")
	if len(dir)+len("/.s.PGSQL.")+len(strconv.Itoa(socketPort)) > maxSocketPath || strings.Contains(dir, ",") {
		// Not os.TempDir, which may be long, or closed to the server's user.
		dir, err = os.MkdirTemp("/tmp", "calco-")
	} else if err = os.RemoveAll(dir); err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return err
	}
	c.socketDir = dir
	return c.account.own(dir)
}

// choosePort takes the port of the last run, if it is still free, so that the server keeps its URL, or any free one.
func (c *cluster) choosePort(ctx context.Context) error {
	kept, err := os.ReadFile(c.path("port"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	port, _ := strconv.Atoi(strings.TrimSpace(string(kept))) // anything else is as good as none
	if port == 0 || !free(ctx, port) {
		l, err := listen(ctx, 0)
		if err != nil {
			return fmt.Errorf("look for a free port: %w", err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
	}
	c.port = port
	return os.WriteFile(c.path("port"), []byte(strconv.Itoa(port)+"\n"), 0o600)
}

func free(ctx context.Context, port int) bool {
	l, err := listen(ctx, port)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// openLog opens the server's log for appending. A long one is put aside first.
func (c *cluster) openLog() (*os.File, error) {
	name := c.path("server.log")
	if info, err := os.Stat(name); err == nil && info.Size() > maxLog {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
}

// sleep waits for d, or returns the cause of the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
