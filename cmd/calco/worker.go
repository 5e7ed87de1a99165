package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"calco/cloner/runner"
)

type workerCommand struct {
	stateFlags
	Workers int `env:"CALCO_WORKERS" default:"2" placeholder:"N" help:"How many clones to run at a time (${default})."`
	engineFlags
	hostFlags
}

// Run runs clones that are started in the web app of another process, until Ctrl-C or SIGTERM.
func (c *workerCommand) Run(ctx context.Context, tty terminal) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer endInTime(ctx, tty)()
	if c.Workers < 1 {
		return usageError{fmt.Errorf("%d workers clone nothing: choose at least 1", c.Workers)}
	}
	if err := c.check(); err != nil {
		return err
	}
	store, done, err := c.attach(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	store.Limit(c.policy())
	options := c.options(c.Workers)
	options.Log = slog.New(slog.NewTextHandler(tty.err, nil))
	fmt.Fprintf(tty.err, "Waiting for clones, to run %d at a time\n", c.Workers)
	return runner.New(store, options).Run(ctx)
}

// stopWithin is how long a process may take that was told to stop. What it has not written by then, the leases of its
// clones make up for.
const stopWithin = 14 * time.Second

// endInTime ends the process when it has not ended by itself a while after ctx, whatever it waits for. The function it
// returns calls that off.
func endInTime(ctx context.Context, tty terminal) (callOff func()) {
	done := make(chan struct{})
	context.AfterFunc(ctx, func() {
		select {
		case <-time.After(stopWithin):
			fmt.Fprintln(tty.err, "calco: not all has ended in time. The clones go on in another process.")
			os.Exit(exitFailed)
		case <-done:
		}
	})
	return func() { close(done) }
}
