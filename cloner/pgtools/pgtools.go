// Package pgtools finds the PostgreSQL programs installed on this machine. It runs them only to ask for their version,
// and knows nothing of servers or clones.
package pgtools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// folders are where distributions put PostgreSQL without always putting it in PATH.
var folders = []string{
	"/usr/lib/postgresql/*/bin",     // Debian, Ubuntu
	"/usr/pgsql-*/bin",              // RHEL and its kin, from PGDG
	"/usr/lib/postgresql[0-9]*/bin", // SUSE
	"/usr/libexec/postgresql*",      // Alpine
	"/opt/homebrew/opt/postgresql*/bin",
	"/opt/homebrew/opt/libpq/bin",
	"/usr/local/opt/postgresql*/bin",
	"/usr/local/opt/libpq/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/usr/local/pgsql/bin", // built from source
}

// patience is how long a program may take to say its version.
const patience = 10 * time.Second

// Install is one program of one installation.
type Install struct {
	Path    string // absolute
	Version Version
}

// NotFoundError says that a program is not on this machine, and its text says how to get it.
type NotFoundError struct {
	Program string
}

func (e *NotFoundError) Error() string {
	debian, rhel, macOS := "postgresql-client", "postgresql", "libpq"
	if e.Program == "postgres" || e.Program == "initdb" {
		debian, rhel, macOS = "postgresql", "postgresql-server", "postgresql@17"
	}
	return fmt.Sprintf("%s was not found on this machine; install it with \"apt install %s\" on Debian and Ubuntu, "+
		"\"dnf install %s\" on RHEL and Fedora, or \"brew install %s\" on macOS", e.Program, debian, rhel, macOS)
}

// Newest returns the path and the version of the newest installed program of that name, such as "pg_dump". Where there
// is none the error is a *NotFoundError.
func Newest(ctx context.Context, program string) (path string, v Version, err error) {
	all, err := All(ctx, program)
	if err != nil {
		return "", 0, err
	}
	return all[0].Path, all[0].Version, nil
}

// All returns every installed program of that name, the newest first, from dirs or, without any, from the places where
// PostgreSQL is usually installed. A program that cannot say its version is left out. Where none is left the error is a
// *NotFoundError.
func All(ctx context.Context, program string, dirs ...string) ([]Install, error) {
	if len(dirs) == 0 {
		dirs = places(ctx)
	}
	var all []Install
	seen := map[string]bool{}
	for _, dir := range dirs {
		path, err := filepath.Abs(filepath.Join(dir, program))
		if err != nil || seen[path] || isWrapper(path) {
			continue
		}
		seen[path] = true
		if v, err := ask(ctx, path); err == nil {
			all = append(all, Install{Path: path, Version: v})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look for %s: %w", program, err)
	}
	if len(all) == 0 {
		return nil, &NotFoundError{Program: program}
	}
	slices.SortStableFunc(all, func(a, b Install) int { return int(b.Version - a.Version) })
	return all, nil
}

// isWrapper tells Debian's /usr/bin/pg_dump and its like: a script that chooses one of those in /usr/lib/postgresql by its
// own rules, each time it runs, and takes longer for that than they take to answer.
func isWrapper(path string) bool {
	script, err := filepath.EvalSymlinks(path)
	return err == nil && filepath.Base(script) == "pg_wrapper"
}

// places lists the folders to search. The folders of distributions come before PATH, and with that win among equals.
func places(ctx context.Context) []string {
	var dirs []string
	for _, pattern := range folders {
		matches, _ := filepath.Glob(pattern) // fails only on a bad pattern
		dirs = append(dirs, matches...)
	}
	if out, err := output(ctx, "pg_config", "--bindir"); err == nil {
		dirs = append(dirs, out)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) { // a relative one would run what lies in the working directory
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func ask(ctx context.Context, path string) (Version, error) {
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	out, err := output(ctx, path, "--version")
	if err != nil {
		return 0, err
	}
	return parseVersion(out)
}

// output runs a program and returns what it prints, without surrounding space.
func output(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it does not answer"))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second // children that keep the pipe open are not waited for
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	return strings.TrimSpace(string(out)), nil
}
