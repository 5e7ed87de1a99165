package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/db/embedded"
)

//go:embed sample.sql
var sampleSQL string

const (
	demoSource = "demo_source"
	demoTarget = "demo_target"
)

type demoCommand struct {
	Listen   string `env:"CALCO_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address to listen on (${default})."`
	DataDir  string `env:"CALCO_DATA_DIR" placeholder:"DIR" type:"path" help:"Folder to keep the demo in, for the next time. Without one, nothing of it is left at the end."`
	Percent  int    `default:"100" placeholder:"PERCENT" help:"How much of the sample to make, in percent. All of it has 5 million rows."`
	Terminal bool   `help:"Clone a small sample in the terminal instead, and show the report."`
}

// Run shows what Calco does with a private server and a sample: in the browser, or in the terminal.
func (c *demoCommand) Run(ctx context.Context, tty terminal) (err error) {
	if c.Percent < 1 || c.Percent > 100 {
		return usageError{fmt.Errorf("%d percent of the sample: choose 1 to 100", c.Percent)}
	}
	dir := c.DataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "calco-demo-"); err != nil {
			return fmt.Errorf("make a folder for the demo: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		// PostgreSQL refuses to run as root; the user it runs as must get into the folder.
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // the server's own folder in it is private
			return fmt.Errorf("make a folder for the demo: %w", err)
		}
	}
	if c.Terminal {
		return demoInTerminal(ctx, dir, tty)
	}
	return c.serve(ctx, dir, tty)
}

// demoInTerminal fills a small sample, clones it and shows the report.
func demoInTerminal(ctx context.Context, dir string, tty terminal) (err error) {
	starting, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintln(tty.err, "Starting a private PostgreSQL server and filling the sample database…")
	server, err := embedded.Start(starting, embedded.Options{Dir: filepath.Join(dir, "server"), Loopback: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServer(ctx, server)) }()
	if err := fillSample(starting, server); err != nil {
		return err
	}
	stop()
	spec := cloner.Spec{Job: cloner.NewJob(), Source: dsn.URL(server.URL(demoSource)), Target: dsn.URL(server.URL(demoTarget))}
	report := cloneInTerminal(ctx, spec, cloner.Options{}, tty)
	if err := printReport(tty.out, report); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return exitError(exitCode(report.Status))
}

// fillSample makes the two databases, and the sample in one of them.
func fillSample(ctx context.Context, server *embedded.Server) error {
	for _, step := range []struct{ database, sql string }{
		{"postgres", "CREATE DATABASE " + demoSource},
		{"postgres", "CREATE DATABASE " + demoTarget},
		{demoSource, sampleSQL},
	} {
		if err := execute(ctx, server.URL(step.database), step.sql); err != nil {
			return fmt.Errorf("fill the sample database: %w", err)
		}
	}
	return nil
}

func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what it did is done
	return conn.PgConn().Exec(ctx, sql).Close()
}
