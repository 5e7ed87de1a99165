package pgtools

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install writes a program that answers --version with a line, or exits with status 1 for an empty one.
func install(t *testing.T, dir, program, line string) string {
	t.Helper()
	script := "#!/bin/sh\necho '" + line + "'\n"
	if line == "" {
		script = "#!/bin/sh\nexit 1\n"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, program)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAll(t *testing.T) {
	root := t.TempDir()
	dir := func(name string) string { return filepath.Join(root, name) }
	v9 := install(t, dir("9"), "pg_dump", "pg_dump (PostgreSQL) 9.6.24")
	v17 := install(t, dir("17"), "pg_dump", "pg_dump (PostgreSQL) 17.2 (Debian 17.2-1.pgdg120+1)")
	wrapper := install(t, dir("path with space"), "pg_dump", "pg_dump (PostgreSQL) 17.2 (Debian 17.2-1.pgdg120+1)")
	v15 := install(t, dir("15"), "pg_dump", "pg_dump (PostgreSQL) 15.20")
	install(t, dir("broken"), "pg_dump", "")
	install(t, dir("foreign"), "pg_dump", "dump 99")
	if err := os.MkdirAll(dir("folder/pg_dump"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := install(t, dir("share"), "pg_wrapper", "pg_dump (PostgreSQL) 17.2 (Debian 17.2-1.pgdg120+1)")
	if err := errors.Join(os.Mkdir(dir("debian"), 0o755), os.Symlink(script, filepath.Join(dir("debian"), "pg_dump"))); err != nil {
		t.Fatal(err)
	}

	all, err := All(t.Context(), "pg_dump", dir("broken"), dir("foreign"), dir("folder"), dir("missing"), dir("debian"),
		dir("9"), dir("17"), dir("path with space"), dir("17"), dir("15"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Install{{v17, 170002}, {wrapper, 170002}, {v15, 150020}, {v9, 90624}}
	if len(all) != len(want) {
		t.Fatalf("All = %v, want %v", all, want)
	}
	for i := range want {
		if all[i] != want[i] {
			t.Errorf("All[%d] = %v, want %v", i, all[i], want[i])
		}
	}
}

func TestNewestSearchesPath(t *testing.T) {
	root := t.TempDir()
	want := install(t, filepath.Join(root, "bin"), "pg_calco_test", "pg_calco_test (PostgreSQL) 18beta1")
	install(t, filepath.Join(root, "configured"), "pg_calco_test", "pg_calco_test (PostgreSQL) 17.0")
	install(t, filepath.Join(root, "bin"), "pg_config", filepath.Join(root, "configured"))
	t.Setenv("PATH", filepath.Join(root, "bin")+string(filepath.ListSeparator)+"relative")

	path, v, err := Newest(t.Context(), "pg_calco_test")
	if err != nil {
		t.Fatal(err)
	}
	if path != want || v != 180000 {
		t.Errorf("Newest = %s, %s, want %s, 18.0", path, v, want)
	}

	if err := os.Remove(want); err != nil {
		t.Fatal(err)
	}
	path, v, err = Newest(t.Context(), "pg_calco_test")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(root, "configured", "pg_calco_test"); path != want || v != 170000 {
		t.Errorf("Newest through pg_config = %s, %s, want %s, 17.0", path, v, want)
	}
}

// Debian's /usr/bin/pg_dump chooses a version by the clusters of the machine, not by the newest program.
func TestNewestPrefersRealPrograms(t *testing.T) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	if len(installed) == 0 {
		if _, err := os.Stat("/etc/debian_version"); err == nil && os.Getenv("CI") != "" {
			t.Fatal("needs Debian's postgresql-client")
		}
		t.Skip("needs Debian's postgresql-client")
	}
	path, v, err := Newest(t.Context(), "pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(path, "/usr/bin/") || v.Major() < 10 {
		t.Errorf("Newest = %s, %s, want one of %s", path, v, installed)
	}
}

func TestNotFound(t *testing.T) {
	t.Setenv("PATH", "")
	for program, want := range map[string]string{
		"pg_no_such_program": "apt install postgresql-client",
		"postgres":           "dnf install postgresql-server",
		"initdb":             "brew install postgresql@",
	} {
		_, err := All(t.Context(), program, t.TempDir())
		var missing *NotFoundError
		if !errors.As(err, &missing) || missing.Program != program {
			t.Errorf("All(%s) = %v, want a NotFoundError", program, err)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	var missing *NotFoundError
	if _, _, err := Newest(t.Context(), "pg_no_such_program"); !errors.As(err, &missing) {
		t.Errorf("Newest = %v, want a NotFoundError", err)
	}
}

func TestAllCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	install(t, dir, "pg_dump", "pg_dump (PostgreSQL) 17.2")
	if _, err := All(ctx, "pg_dump", dir); !errors.Is(err, context.Canceled) {
		t.Errorf("All = %v, want context.Canceled and not that the program is missing", err)
	}
}
