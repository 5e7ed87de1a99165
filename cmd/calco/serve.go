package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"calco/cloner/jobs"
	"calco/cloner/runner"
	"calco/db"
	"calco/web"
)

type serveCommand struct {
	stateFlags
	Listen       string         `env:"CALCO_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address to listen on (${default})."`
	BaseURL      *url.URL       `name:"base-url" env:"CALCO_BASE_URL" placeholder:"URL" help:"Where browsers reach Calco, such as https://calco.example.org. With https, cookies are for https only."`
	TrustedProxy []netip.Prefix `env:"CALCO_TRUSTED_PROXY" placeholder:"CIDR" help:"Believe the X-Forwarded-For of proxies in this range. May be given more than once."`
	Workers      int            `env:"CALCO_WORKERS" default:"2" placeholder:"N" help:"How many clones to run at a time (${default}). With 0, they are left to calco worker."`
	engineFlags
	hostFlags
}

// Run serves the web app and runs its clones until Ctrl-C or SIGTERM.
func (c *serveCommand) Run(ctx context.Context, tty terminal) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer endInTime(ctx, tty)()
	if c.Workers < 0 {
		return usageError{fmt.Errorf("%d workers: choose 0 or more", c.Workers)}
	}
	if err := c.check(); err != nil {
		return err
	}
	// Before anything else: what is in use is known at once.
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // Run has closed it
	store, done, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	store.Limit(c.policy())
	log := slog.New(slog.NewTextHandler(tty.err, nil))
	app, err := newApp(store, web.Config{BaseURL: c.BaseURL, TrustedProxies: c.TrustedProxy, Log: log}, c.options(c.Workers))
	if err != nil {
		return usageError{err}
	}
	if err := announce(ctx, store, baseURL(c.BaseURL, listener.Addr()), tty); err != nil {
		return err
	}
	return app.run(ctx, listener)
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// app is the web app and its worker, in one process.
type app struct {
	server *web.Server
	runner *runner.Runner
}

func newApp(store *db.Store, config web.Config, options runner.Options) (*app, error) {
	config.Jobs, config.Accounts, config.Ready = jobs.New(store, jobs.Options{Log: config.Log}), store, store.Ping
	server, err := web.New(config)
	if err != nil {
		return nil, err
	}
	options.Log = config.Log
	return &app{server: server, runner: runner.New(store, options)}, nil
}

// run serves and works until ctx ends. Then it takes no more requests, puts the clones that run back into the queue, and
// returns when both are done.
func (a *app) run(ctx context.Context, listener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.server.Run(ctx, listener) })
	group.Go(func() error { return a.runner.Run(ctx) })
	return group.Wait()
}

// announce says where Calco is, and how to get in as long as nobody can.
func announce(ctx context.Context, store *db.Store, base string, tty terminal) error {
	fmt.Fprintf(tty.err, "Calco is at %s\n", base)
	has, err := store.HasUsers(ctx)
	if err != nil || has {
		return err
	}
	token, err := store.NewSetupLink(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(tty.out, "Set up: %s%s\n", base, web.LinkPath(jobs.LinkSetup, token))
	return err
}

// baseURL is where browsers reach the server, as far as it is known: on this machine, if nobody says otherwise.
func baseURL(given *url.URL, at net.Addr) string {
	if given != nil {
		return given.Scheme + "://" + given.Host
	}
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return "http://" + at.String()
	}
	if a, err := netip.ParseAddr(host); err != nil || a.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
