package cloner

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// A URL with several hosts led the sessions of one clone to whichever of them answered: what was cleaned was not always
// what was shown, or filled.
func TestOneServerOfSeveral(t *testing.T) {
	t.Parallel()
	first, err := url.Parse(dbtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse(dbtest.Cluster(t, nil).URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, first.String(), `CREATE ROLE several LOGIN SUPERUSER PASSWORD 'several'`)
	t.Cleanup(func() { dbtest.Exec(t, first.String(), `DROP ROLE several`) })
	dbtest.Exec(t, other.String(), `CREATE ROLE several LOGIN SUPERUSER PASSWORD 'several'`)
	dbtest.Exec(t, other.String(), `CREATE DATABASE `+session.QuoteName(first.Path[1:]))

	// Two names, the second of two addresses. What is behind them the test says.
	var mu sync.Mutex
	var dialed []string
	behind := map[string]string{"203.0.113.2:5432": first.Host, "203.0.113.3:5432": other.Host}
	policy := dsn.HostPolicy{
		Lookup: func(_ context.Context, host string) ([]string, error) {
			return map[string][]string{"a.test": {"203.0.113.1"}, "b.test": {"203.0.113.2", "203.0.113.3"}, "c.test": {"203.0.113.3"}}[host], nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			to := behind[address]
			dialed = append(dialed, address)
			mu.Unlock()
			if to == "" {
				return nil, net.UnknownNetworkError("nothing is there")
			}
			var d net.Dialer
			return d.DialContext(ctx, network, to)
		},
	}
	lead := func(address, to string) {
		mu.Lock()
		defer mu.Unlock()
		behind[address], dialed = to, nil
	}
	u := dsn.URL("postgres://several:several@a.test,b.test,c.test" + first.Path + "?sslmode=disable")
	w := session.Way{Side: report.Target, URL: u, Hosts: policy.Of(false), Name: "calco/reached/1"}
	at, reason, err := session.Connect(t.Context(), w, 0, "")
	if reason != nil || err != nil {
		t.Fatal(reason, err)
	}
	t.Cleanup(at.Control.Close)
	if got := at.Endpoint().Address; got != "a.test,b.test,c.test:5432" {
		t.Errorf("the report says %s", got)
	}
	const pinned = "203.0.113.2:5432"
	lead("203.0.113.1:5432", other.Host) // the first of the hosts answers now
	s, err := at.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	lead(pinned, "") // away: the others are not asked
	if s, err := at.Open(t.Context()); err == nil {
		t.Error("a session went to another server")
		s.Close()
	}
	if !slices.Equal(dialed, []string{pinned}) {
		t.Errorf("dialed %v", dialed)
	}
	u, hosts := at.Pinned()
	info, err := dsn.Parse(string(u))
	if err != nil {
		t.Fatal(err)
	}
	if info, err = hosts.Pin(t.Context(), info); err != nil || info["host"] != "b.test" || info["hostaddr"] != "203.0.113.2" {
		t.Errorf("pg_dump gets %s at %s, %v", info["host"], info["hostaddr"], err)
	}
	// The next attempt looks the name up again, and waits while another server answers.
	_, reason, err = session.Connect(t.Context(), at.Way, 0, at.SystemIdentifier)
	if !errors.Is(err, session.ErrOtherServer) || !session.CuredByWaiting(err) {
		t.Errorf("%+v, %v, want to wait for the server", reason, err)
	}
	lead(pinned, first.Host)
	again, reason, err := session.Connect(t.Context(), at.Way, 0, at.SystemIdentifier)
	if reason != nil || err != nil {
		t.Fatal(reason, err)
	}
	again.Control.Close()
}
