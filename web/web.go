// Package web is the user interface: pages, forms and the live feed. It knows nothing of SQL, and not who may do what: that
// is asked where it is done, in cloner/jobs. How people get in, it asks the state database through small interfaces,
// declared above the handlers that need them.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"

	"calco/cloner/jobs"
)

const (
	stopPatience = 10 * time.Second // for the requests that run when the server stops
	sweepEvery   = time.Hour
)

// Config is what a Server needs. Jobs and Accounts must be there.
type Config struct {
	Jobs     *jobs.Service
	Accounts Accounts
	// Ready tells whether the state database answers. Nil is always ready.
	Ready func(context.Context) error
	// BaseURL is where browsers reach the server, if that is not what their requests say. With https, cookies are for
	// https only.
	BaseURL *url.URL
	// TrustedProxies may say in X-Forwarded-For whom they speak for. Nobody else is believed.
	TrustedProxies []netip.Prefix
	// Log gets the access log and the faults. Nil is slog.Default.
	Log *slog.Logger
}

// Server is the web app. Its methods are safe for concurrent use.
type Server struct {
	config    Config
	accounts  Accounts
	jobs      *jobs.Service
	hub       *Hub[jobs.Task] // shows jobs, by their ids
	log       *slog.Logger
	passwords *passwords
	streams   streams
	limits    limits
	waiting   *waiting
	foreign   *http.CrossOriginProtection
	echo      *echo.Echo
	onStop    []func()
}

// New makes the web app. It opens nothing; Run does.
func New(config Config) (*Server, error) {
	if config.Jobs == nil || config.Accounts == nil {
		return nil, errors.New("make the web app: it needs jobs and accounts")
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Ready == nil {
		config.Ready = func(context.Context) error { return nil }
	}
	s := &Server{
		config: config, accounts: config.Accounts, jobs: config.Jobs,
		log: config.Log, foreign: http.NewCrossOriginProtection(), limits: usualLimits(),
	}
	s.waiting = newWaiting(s.limits.waiting)
	s.hub = NewHub(Feed[jobs.Task]{Snapshot: s.readTask, Log: config.Log})
	s.OnStop(s.hub.Close)
	var err error
	if s.passwords, err = newPasswords(); err != nil {
		return nil, err
	}
	if config.BaseURL != nil {
		if (config.BaseURL.Scheme != "http" && config.BaseURL.Scheme != "https") || config.BaseURL.Host == "" || config.BaseURL.Path != "" && config.BaseURL.Path != "/" {
			return nil, fmt.Errorf("the base URL %s is none: it is like https://calco.example.org, without a path", config.BaseURL)
		}
		// A proxy in between may give the request another Host than the browser's.
		if err := s.foreign.AddTrustedOrigin(config.BaseURL.Scheme + "://" + config.BaseURL.Host); err != nil {
			return nil, fmt.Errorf("trust the base URL: %w", err)
		}
	}
	s.echo = s.routes()
	return s, nil
}

// Handler returns the web app as a handler. HEAD is answered like GET; net/http leaves the body out.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			r = r.WithContext(r.Context()) // a copy: net/http still has to know
			r.Method = http.MethodGet
		}
		s.echo.ServeHTTP(w, r)
	})
}

// OnStop has f called when Run begins to stop, so that requests that would never end do. It must not be called once Run
// is.
func (s *Server) OnStop(f func()) { s.onStop = append(s.onStop, f) }

// Run serves until ctx ends, then lets the requests that run finish, for a while, and returns. It closes the listener.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := s.httpServer()
	for _, f := range s.onStop {
		server.RegisterOnShutdown(f)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			return errors.Join(fmt.Errorf("stop serving: %w", err), server.Close())
		}
		return nil
	})
	group.Go(func() error {
		s.sweep(ctx)
		return nil
	})
	group.Go(func() error {
		if err := s.jobs.Listen(ctx, s.hub.Kick); ctx.Err() == nil {
			return fmt.Errorf("listen for jobs that change: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// sweep removes what is over from the state database, now and then.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.accounts.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// address returns the URL of a path of this app, for a link that leaves the page. Without a base URL it is the path alone, to
// which the browser adds where it is: a request may say anything of that, and a link may be worth an account.
func (s *Server) address(path string) string {
	if base := s.config.BaseURL; base != nil {
		return base.Scheme + "://" + base.Host + path
	}
	return path
}

// secure tells whether cookies are for https only. A proxy that ends TLS says so.
func (s *Server) secure(c echo.Context) bool {
	if base := s.config.BaseURL; base != nil {
		return base.Scheme == "https"
	}
	return c.Scheme() == "https"
}
