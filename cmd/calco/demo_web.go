package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/embedded"
	"calco/web"
)

//go:embed demo.sql
var demoSQL string

// demoUser is who a visitor of the demo is. Nobody gets mail there.
const demoUser = "demo@example.com"

// serve serves the web app, with a private server for its state, a sample and an empty target, until Ctrl-C.
func (c *demoCommand) serve(ctx context.Context, dir string, tty terminal) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer endInTime(ctx, tty)()
	defer func() {
		if err != nil && ctx.Err() != nil { // not of interest to whoever has pressed Ctrl-C
			err = exitError(exitCancelled)
		}
	}()
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // run has closed it
	fmt.Fprintln(tty.err, "Starting a private PostgreSQL server…")
	// Where stateFlags look for it: calco user works on a demo too.
	server, err := embedded.Start(ctx, embedded.Options{
		Dir: filepath.Join(dir, "state"), Loopback: true,
		Settings: map[string]string{"max_wal_size": "4GB", "shared_buffers": "256MB"},
	})
	if err != nil {
		return err
	}
	stopped := func() error { return stopServer(ctx, server) }
	for _, name := range []string{stateDatabase, demoSource, demoTarget} {
		if err := ensureDatabase(ctx, server, name); err != nil {
			return errors.Join(err, stopped())
		}
	}
	key, err := stateFlags{DataDir: dir}.key()
	if err != nil {
		return errors.Join(err, stopped())
	}
	store, done, err := openStore(ctx, server.URL(stateDatabase), key, stopped)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	store.Limit(dsn.LoopbackPolicy()) // whoever is invited may use the private server too
	if err := fillDemo(ctx, server.URL(demoSource), c.Percent, tty); err != nil {
		return err
	}
	link, err := furnish(ctx, store, server)
	if err != nil {
		return fmt.Errorf("set up the demo: %w", err)
	}
	// Requests are of no interest here, and would carry the link away.
	log := slog.New(slog.NewTextHandler(tty.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	app, err := newApp(store, web.Config{Log: log}, runner.Options{})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(tty.out, "Sign in: %s%s\n", baseURL(nil, listener.Addr()), link); err != nil {
		return err
	}
	return app.run(ctx, listener)
}

// fillDemo fills so much of the sample, unless an earlier demo has.
func fillDemo(ctx context.Context, url string, percent int, tty terminal) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("fill the sample database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what it did is done
	var filled bool
	if err := conn.QueryRow(ctx, `SELECT to_regnamespace('shop') IS NOT NULL`).Scan(&filled); err != nil {
		return fmt.Errorf("fill the sample database: %w", err)
	}
	if filled {
		return nil
	}
	fmt.Fprintln(tty.err, "Filling a sample database, which takes about half a minute…")
	// Statements that are sent together are one transaction.
	if err := conn.PgConn().Exec(ctx, fmt.Sprintf("SET calco.percent = %d; ", percent)+demoSQL).Close(); err != nil {
		return fmt.Errorf("fill the sample database: %w", err)
	}
	return nil
}

// furnish makes the user and the saved databases of the demo, unless they are there, and returns the path of a new link
// to sign in.
func furnish(ctx context.Context, store *db.Store, server *embedded.Server) (link string, err error) {
	user, err := store.UserByEmail(ctx, demoUser)
	if errors.Is(err, jobs.ErrNotFound) {
		user, err = store.AddUser(ctx, demoUser, jobs.RoleAdmin, "")
	}
	if err != nil {
		return "", err
	}
	people := jobs.New(store, jobs.Options{})
	saved, err := people.Databases(ctx, user)
	if err != nil {
		return "", err
	}
	for _, r := range []jobs.DatabaseRequest{
		{Name: "Demo source", Environment: jobs.Production, URL: dsn.URL(server.URL(demoSource))},
		{Name: "Demo target", Environment: jobs.Development, URL: dsn.URL(server.URL(demoTarget))},
	} {
		r.Shared = true
		i := slices.IndexFunc(saved, func(s jobs.Connection) bool { return s.OwnerID == user.ID && s.Name == r.Name })
		switch {
		case i < 0:
			_, err = people.AddDatabase(ctx, user, r)
		case saved[i].Address != r.URL.Endpoint().Address: // its port was taken by something else
			again := saved[i].Request()
			again.URL = r.URL
			err = people.ChangeDatabase(ctx, user, saved[i].ID, again)
		}
		if err != nil {
			return "", err
		}
	}
	token, err := store.NewUserLink(ctx, jobs.LinkSignIn, user.ID)
	return web.LinkPath(jobs.LinkSignIn, token), err
}
