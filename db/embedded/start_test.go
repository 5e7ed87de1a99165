package embedded_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"calco/cloner/pgtools"
	"calco/db/embedded"
)

func TestStartAfterInterruptedInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), "d")
	half := filepath.Join(dir, "initdb", "data")
	if err := os.MkdirAll(half, 0o711); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{filepath.Join(half, "PG_VERSION"): "15\n", filepath.Join(dir, "password"): "old\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s := start(t, embedded.Options{Dir: dir})
	if !answers(t, s.URL("")) {
		t.Error("the server does not answer")
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the interrupted cluster: %v, want it gone", err)
	}
}

func TestStartCancelled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), "d")
	stop(t, start(t, embedded.Options{Dir: filepath.Join(newDir(t), "d")})) // skips where there is no PostgreSQL
	ctx, cancel := context.WithCancel(t.Context())
	var begun sync.WaitGroup
	begun.Go(func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "initdb", "data", "PG_VERSION")); err == nil {
				cancel()
			}
		}
	})
	s, err := embedded.Start(ctx, embedded.Options{Dir: dir, Settings: fast})
	cancel()
	begun.Wait()
	if err == nil {
		stop(t, s)
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Start = %v, want context.Canceled", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cluster after a cancelled Start: %v, want none", err)
	}
	s = start(t, embedded.Options{Dir: dir})
	if !answers(t, s.URL("")) {
		t.Error("the server does not answer")
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	foreign := filepath.Join(newDir(t), "foreign")
	if err := os.MkdirAll(filepath.Join(foreign, "data"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(foreign, 0o711); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(newDir(t), "old")
	if err := os.MkdirAll(filepath.Join(old, "data"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "data", "PG_VERSION"), []byte("9.6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dir, want string
	}{
		{"a cluster of somebody else", foreign, "choose another folder"},
		{"a cluster of a version that is not installed", old, "made by PostgreSQL 9.6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := embedded.Start(t.Context(), embedded.Options{Dir: tt.dir})
			var missing *pgtools.NotFoundError
			if errors.As(err, &missing) && os.Getenv("CI") == "" {
				t.Skip(err)
			}
			if err == nil {
				stop(t, s)
				t.Fatal("Start did not fail")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestStartWithoutPrograms(t *testing.T) {
	t.Setenv("PATH", "")
	dir := filepath.Join(t.TempDir(), "d")
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, BinDir: t.TempDir()})
	var missing *pgtools.NotFoundError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt install postgresql") {
		t.Errorf("Start = %v, want a NotFoundError that says what to install", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder: %v, want none made", err)
	}
}

func TestStartInClosedFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, who hands the server to another user")
	}
	closed := filepath.Join(newDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(closed, "a", "b")})
	var missing *pgtools.NotFoundError
	if errors.As(err, &missing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), "cannot enter "+closed+";") || !strings.Contains(err.Error(), "/var/lib/calco") {
		t.Errorf("Start = %v, want an error that names %s", err, closed)
	}
}

func TestDefaultDir(t *testing.T) {
	data, home := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	for _, tt := range []struct{ xdg, want string }{
		{data, filepath.Join(data, "calco")},
		{"", filepath.Join(home, ".local", "share", "calco")},
		{"relative", filepath.Join(home, ".local", "share", "calco")}, // which the XDG specification says to ignore
	} {
		t.Setenv("XDG_DATA_HOME", tt.xdg)
		if os.Geteuid() == 0 {
			tt.want = "/var/lib/calco"
		}
		if got, err := embedded.DefaultDir(); err != nil || got != tt.want {
			t.Errorf("DefaultDir with XDG_DATA_HOME=%q = %q, %v, want %q", tt.xdg, got, err, tt.want)
		}
	}
}
