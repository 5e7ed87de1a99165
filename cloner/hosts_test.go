package cloner

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// resolver is a resolver and a dialer of a test. Each lookup of a name takes the next of its answers; what is dialed is
// noted, and leads to one place on this machine.
type resolver struct {
	mu      sync.Mutex
	answers map[string][][]string
	dialed  []string
	to      string
}

func (r *resolver) policy(p dsn.HostPolicy) dsn.HostPolicy {
	p.Lookup = func(_ context.Context, host string) ([]string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, err := netip.ParseAddr(host); err == nil {
			return []string{host}, nil
		}
		answers := r.answers[host]
		if len(answers) == 0 {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		if len(answers) > 1 {
			r.answers[host] = answers[1:]
		}
		return answers[0], nil
	}
	p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		r.mu.Lock()
		r.dialed = append(r.dialed, address)
		r.mu.Unlock()
		if r.to == "" {
			return nil, errors.New("nothing is there")
		}
		var d net.Dialer
		return d.DialContext(ctx, network, r.to)
	}
	return p
}

// A name is looked up once for each connection, and what is dialed is what was looked at.
func TestHostsAtTheConnect(t *testing.T) {
	t.Parallel()
	there, err := url.Parse(dbtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	at := func(hosts string) dsn.URL { return dsn.URL(strings.Replace(there.String(), there.Host, hosts, 1)) }
	for _, tt := range []struct {
		name, hosts string
		answers     [][]string
		want        report.ReasonCode // or "" for a connection
		dialed      []string
	}{
		{"a public address", "db.test:5432", [][]string{{"203.0.113.7"}}, "", []string{"203.0.113.7:5432"}},
		{"loopback by name", "db.test:5432", [][]string{{"127.0.0.1", "::1"}}, report.ReasonHostForbidden, nil},
		{"some of its addresses", "db.test:5432", [][]string{{"127.0.0.1", "203.0.113.7"}}, "", []string{"203.0.113.7:5432"}},
		{"rebound after the look", "db.test:5432", [][]string{{"203.0.113.7"}, {"127.0.0.1"}}, "", []string{"203.0.113.7:5432"}},
		{"an address of numbers", "2130706433:5432", nil, report.ReasonHost, nil},
		{"metadata", "169.254.169.254:80", nil, report.ReasonHostForbidden, nil},
		{"a second host that is forbidden", "db.test:5432,127.0.0.1:22", [][]string{{"203.0.113.7"}}, "", []string{"203.0.113.7:5432"}},
		{"a first host that is forbidden", "127.0.0.1:22,db.test:5433", [][]string{{"203.0.113.7"}}, "", []string{"203.0.113.7:5433"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &resolver{answers: map[string][][]string{"db.test": tt.answers}, to: there.Host}
			hosts := r.policy(dsn.HostPolicy{}).Of(false)
			u := at(tt.hosts)
			s, err := session.Dial(t.Context(), report.Source, u, hosts, "a")
			var code report.ReasonCode
			if err == nil {
				s.Close()
			} else if reason, err := session.ConnectReason(t.Context(), report.Source, u, err); err != nil {
				t.Fatal(err)
			} else {
				code = reason.Code
			}
			if code != tt.want || !slices.Equal(r.dialed, tt.dialed) {
				t.Errorf("%q (%v), dialed %v; want %q, %v", code, err, r.dialed, tt.want, tt.dialed)
			}
		})
	}
}

// pg_dump would look names up by itself. It gets the addresses that were looked at, of names that nobody else knows.
func TestHostsOfPgDump(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)`)
	named := func(name, at string) dsn.URL {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = net.JoinHostPort(name, u.Port())
		return dsn.URL(u.String())
	}
	r := &resolver{answers: map[string][][]string{"source.test": {{"127.0.0.1"}}, "target.test": {{"127.0.0.1"}}}}
	var only dsn.HostRule
	if err := only.UnmarshalText([]byte("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	policy := r.policy(dsn.HostPolicy{Allow: []dsn.HostRule{only}})
	policy.Dial = nil
	spec := Spec{
		Source: named("source.test", source), SourceHosts: policy.Of(false),
		Target: named("target.test", target), TargetHosts: policy.Of(false),
	}
	result, err := Clone(t.Context(), spec, Options{})
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("%s, %v", result.Status, err)
	}
	// Should the name mean something else by then, a clone under way does not go there.
	dbtest.Exec(t, target, `DROP TABLE t`)
	result, err = Clone(t.Context(), spec, Options{notify: func(p report.Phase) {
		if p == report.PhaseSnapshot {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.answers["source.test"] = [][]string{{"127.0.0.2"}}
		}
	}})
	if err != nil || result.Status != report.StatusCompleted {
		t.Errorf("%s, %v", result.Status, err)
	}
	info, err := dsn.Parse(string(spec.Source))
	if err != nil {
		t.Fatal(err)
	}
	var forbidden *dsn.ForbiddenError
	if info, err = spec.SourceHosts.Pin(t.Context(), info); !errors.As(err, &forbidden) {
		t.Errorf("pg_dump gets %v, %v", info["hostaddr"], err)
	}
}

// A job that had begun fails where it would have been refused. What a person is told is the text of the reason, for the error
// has its code.
func TestRefusalAfterTheBeginHasAText(t *testing.T) {
	t.Parallel()
	reason := report.NewReason(report.ReasonHostForbidden, report.Target, "reason.host_forbidden")
	a := &attempt{run: &run{}, state: state{claimed: true}}
	e, ok := errors.AsType[*report.Error](gaveUp(a.notRefused(report.Refuse(reason)), time.Minute))
	if !ok || !e.Failure.Same(reason.Text) || e.Error() != "preflight: reason.host_forbidden" {
		t.Errorf("it fails with %#v", e)
	}
}
