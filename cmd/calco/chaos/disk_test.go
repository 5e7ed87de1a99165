package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"calco/db/dbtest"
)

// disk is a small disk of the target, on which its databases are. Its write-ahead log is elsewhere: a server without room
// for that stops as a whole, which is a crash.
type disk struct {
	dir string
}

// diskSize is what two copies of the source have room on.
const diskSize = "500m"

// unmounter waits for the end of its input, and takes the disk $1 away: a test process that is killed runs no Cleanup.
const unmounter = `cat >/dev/null; umount -l "$1"; rmdir "$1"`

// newDisk mounts a disk and makes the tablespace small of a server on it. It is nil where this is not possible: only root
// may mount.
func newDisk(t testing.TB, s *server) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("no disk is filled: only root can mount a small one")
		return nil
	}
	dir, err := os.MkdirTemp("", "calco-disk-")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=0711,size="+diskSize, "calco-test", dir).CombinedOutput(); err != nil {
		t.Logf("no disk is filled: mount: %v: %s", err, out)
		_ = os.Remove(dir)
		return nil
	}
	watch := exec.Command("/bin/sh", "-c", unmounter, "sh", dir)
	watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	release, err := watch.StdinPipe()
	if err == nil {
		err = watch.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop(t) // it writes to the disk when it stops
		if err := errors.Join(release.Close(), watch.Wait()); err != nil {
			t.Errorf("take the disk away: %v", err)
		}
	})
	info, err := os.Stat(filepath.Join(s.running.Dir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	space := filepath.Join(dir, "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(space, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, s.url, fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", space))
	return &disk{dir}
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill takes all room that is left.
func (d *disk) fill() (err error) {
	f, err := os.Create(d.ballast())
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for block := make([]byte, 1<<20); len(block) > 0; {
		switch _, err := f.Write(block); {
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2] // down to the last byte
		case err != nil:
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
	return nil
}

// empty gives the room back.
func (d *disk) empty() error {
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("empty the disk: %w", err)
	}
	return nil
}
