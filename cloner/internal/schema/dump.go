package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"calco/cloner/archive"
	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/pgtools"
	"calco/cloner/report"
)

// Dumper reads schemas with pg_dump. Both sides are dumped by the same program with the same options, so that the results
// can be compared.
type Dumper struct {
	Path     string
	Version  pgtools.Version
	Excluded []string // schemas that pg_dump may not even look at
	PlainLz4 bool     // no compression method is dumped, since the target does not know lz4
}

// Dump reads the schema of a server, under a snapshot unless its name is empty.
func (d Dumper) Dump(ctx context.Context, server *session.Server, snapshot string) (*archive.Archive, error) {
	side := server.Side
	u, hosts := server.Pinned()
	info, err := dsn.Parse(string(u))
	if err != nil {
		return nil, err
	}
	if info, err = hosts.Pin(ctx, info); err != nil {
		err = fmt.Errorf("connect pg_dump to the %s: %w", side, err)
		if ctx.Err() == nil && session.Classify(err) == session.Lost {
			err = &session.LostError{Side: side, Err: err}
		}
		return nil, err
	}
	const firstExtraFile = 3 // see exec.Cmd
	info, files, err := info.InFiles(func(i int, _ *os.File) string { return dsn.Descriptor(uintptr(firstExtraFile + i)) })
	if err != nil {
		return nil, err
	}
	defer dsn.CloseFiles(files)
	// --schema-only rather than --section: the latter reads every sequence and runs out
	// of locks where there are many tables.
	args := []string{
		"--format=custom", "--schema-only", "--encoding=UTF8", "--no-password", "--lock-wait-timeout=60000",
		"--exclude-schema=" + dumpPattern(calcoSchema),
	}
	for _, schema := range d.Excluded {
		args = append(args, "--exclude-schema="+dumpPattern(schema))
	}
	if d.PlainLz4 {
		args = append(args, "--no-toast-compression")
	}
	if snapshot != "" {
		args = append(args, "--snapshot="+snapshot)
	}
	if options := server.DumpOptions; options != "" {
		info = info.With(dsn.Conninfo{"options": strings.TrimSpace(info["options"] + " " + options)})
	}
	args = append(args, "--dbname="+info.ForLibpq(server.Name, d.Version.Major()))

	cmd := exec.CommandContext(ctx, d.Path, args...)
	// Constants in definitions, such as the bounds of partitions, are written in the session's time zone.
	cmd.ExtraFiles = files
	cmd.Env = []string{"LC_ALL=C", "PGTZ=UTC", "HOME=/nonexistent", "PGPASSFILE=/nonexistent", "PGGSSENCMODE=disable", "PATH=" + os.Getenv("PATH")}
	if info["password"] != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+info["password"])
	}
	// A Ctrl-C in the terminal is for Calco to handle; SIGTERM lets pg_dump cancel what
	// it runs on the server before it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = session.CancelPatience
	var stderr tail
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("run pg_dump: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run pg_dump: %w", err)
	}
	a, readErr := archive.Read(stdout)
	_, _ = io.Copy(io.Discard, stdout) // what follows the table of contents; an error shows in Wait
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && stderr.Len() > 0:
		return nil, whyDumpFailed(ctx, server, dumpError(side, strings.TrimSpace(stderr.String())))
	case readErr != nil:
		return nil, fmt.Errorf("read pg_dump of the %s: %w", side, readErr)
	case err != nil:
		return nil, fmt.Errorf("pg_dump of the %s: %w", side, err)
	case !a.StdStrings:
		// Backslashes in its literals would mean something else in our sessions.
		return nil, &report.Error{
			Phase: report.PhaseSnapshot, Err: fmt.Errorf("the %s has standard_conforming_strings off", side),
			Hint: report.Said("Set it on for the role of the connection: ALTER ROLE … SET standard_conforming_strings = on."),
		}
	}
	return a, nil
}

// whyDumpFailed asks the control session whether the server is there, where pg_dump has only passed on what a server says in
// its own language.
func whyDumpFailed(ctx context.Context, server *session.Server, err error) error {
	if errors.As(err, new(*session.LostError)) || errors.Is(err, session.ErrSnapshotLost) {
		return err
	}
	if server.Control != nil && server.Control.Ping(ctx) != nil && ctx.Err() == nil {
		return &session.LostError{Side: server.Side, Err: err}
	}
	return err
}

// dumpError tells a lost connection, which pg_dump reports in words only, from other failures. It writes its own in English.
func dumpError(side report.Side, said string) error {
	err := fmt.Errorf("pg_dump of the %s: %s", side, said)
	for _, lost := range []string{
		"server closed the connection unexpectedly", "terminating connection", "Connection refused", "Connection reset", "Connection timed out",
		"could not receive data", "could not send data", "the database system is", "timeout expired", "no connection to the server",
		"SSL connection has been closed", "SSL SYSCALL error", "lost synchronization", "too many clients",
		"remaining connection slots", "too many connections", "could not translate host name", "No route to host", "Network is unreachable",
		"invalid client encoding \"UTF8\"", // which every server knows: the connection was lost when it was set
	} {
		if strings.Contains(said, lost) {
			return &session.LostError{Side: side, Err: err}
		}
	}
	if strings.Contains(said, "invalid snapshot identifier") || strings.Contains(said, "snapshot \"") && strings.Contains(said, "does not exist") {
		return fmt.Errorf("%w: %w", session.ErrSnapshotLost, err)
	}
	return err
}

// dumpPattern writes a schema's name as a pattern that matches only it.
// https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS
func dumpPattern(schema string) string {
	return `"` + strings.ReplaceAll(schema, `"`, `""`) + `"`
}

// tail keeps the last of what is written to it: the reason of a failure comes last.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const enough = 16 << 10
	t.Buffer.Write(p[max(0, len(p)-enough):])
	if over := t.Len() - enough; over > 0 {
		t.Next(over)
	}
	return len(p), nil
}
