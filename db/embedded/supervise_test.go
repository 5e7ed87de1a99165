package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"calco/cloner/pgtools"
)

func TestSupervisionGivesUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server of its own: make test runs it") // dbtest.Long would be an import cycle
	}
	parent, err := os.MkdirTemp("", "calco-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(parent); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	c, err := openCluster(t.Context(), Options{Dir: filepath.Join(parent, "d"), Settings: map[string]string{"fsync": "off"}})
	var missing *pgtools.NotFoundError
	if errors.As(err, &missing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.firstLaunch(t.Context())
	if err != nil {
		c.close()
		t.Fatal(err)
	}
	s := watch(t.Context(), c, p, time.Microsecond)
	if err := os.Rename(c.data(), c.data()+" gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("Restart without data did not fail")
	}
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "gave up after 30 attempts") ||
		!strings.Contains(err.Error(), c.data()) {
		t.Errorf("Err = %v, want it to say that it gave up, and what the server said", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if _, err := os.Stat(c.socketDir); !os.IsNotExist(err) {
		t.Errorf("socket folder: %v, want it gone", err)
	}
}
