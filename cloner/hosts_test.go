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

	"calco/cloner/report"
	"calco/db/dbtest"
)

func hostRules(t testing.TB, texts ...string) []HostRule {
	t.Helper()
	rules := make([]HostRule, len(texts))
	for i, text := range texts {
		if err := rules[i].UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return rules
}

func TestHostRule(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "*.example.org", "10.0.0.0/33", "a/b", "db:5432", "u@h", "fe80::1%eth0"} {
		var r HostRule
		if err := r.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %+v", bad, r)
		}
	}
}

// Databases of members led to everything that Calco's own machine reaches: its sockets, its loopback, its cloud's metadata.
func TestHosts(t *testing.T) {
	t.Parallel()
	rules := func(allow, deny string) HostPolicy {
		return HostPolicy{Allow: hostRules(t, strings.Fields(allow)...), Deny: hostRules(t, strings.Fields(deny)...)}
	}
	for _, tt := range []struct {
		name          string
		policy        HostPolicy
		host          string
		member, admin bool
	}{
		{"a public address", HostPolicy{}, "203.0.113.7", true, true},
		{"a private address", HostPolicy{}, "10.1.2.3", true, true},
		{"a public address, IPv6", HostPolicy{}, "2001:db8::7", true, true},
		{"loopback", HostPolicy{}, "127.0.0.1", false, true},
		{"all of loopback", HostPolicy{}, "127.9.9.9", false, true},
		{"loopback, IPv6", HostPolicy{}, "::1", false, true},
		{"loopback, mapped", HostPolicy{}, "::ffff:127.0.0.1", false, true},
		{"loopback, compatible", HostPolicy{}, "::127.0.0.1", false, true},
		{"loopback by NAT64", HostPolicy{}, "64:ff9b::127.0.0.1", false, true},
		{"NAT64 of a network's own", HostPolicy{}, "64:ff9b:1::7f00:1", false, true},
		{"a public address by NAT64", HostPolicy{}, "64:ff9b::203.0.113.7", true, true},
		{"loopback by 6to4", HostPolicy{}, "2002:7f00:1::", false, true},
		{"unspecified", HostPolicy{}, "0.0.0.0", false, true},
		{"this network", HostPolicy{}, "0.1.2.3", false, true},
		{"unspecified, IPv6", HostPolicy{}, "::", false, true},
		{"metadata", HostPolicy{}, "169.254.169.254", false, true},
		{"metadata, mapped", HostPolicy{}, "::ffff:169.254.169.254", false, true},
		{"metadata of Amazon, IPv6", HostPolicy{}, "fd00:ec2::254", false, true},
		{"metadata of Alibaba", HostPolicy{}, "100.100.100.200", false, true},
		{"link-local, IPv6", HostPolicy{}, "fe80::1", false, true},
		{"link-local with a zone", HostPolicy{}, "fe80::1%lo", false, true},
		{"multicast", HostPolicy{}, "224.0.0.1", false, true},
		{"multicast, IPv6", HostPolicy{}, "ff02::1", false, true},
		{"broadcast", HostPolicy{}, "255.255.255.255", false, true},
		{"a socket", HostPolicy{}, "/var/run/postgresql", false, true},
		{"loopback, allowed", rules("127.0.0.0/8", ""), "127.0.0.1", true, true},
		{"loopback, IPv6, allowed", rules("::1", ""), "::1", true, true},
		{"loopback, allowed and mapped", rules("127.0.0.0/8", ""), "::ffff:127.0.0.1", true, true},
		{"the rest of loopback", rules("127.0.0.1", ""), "127.0.0.2", false, true},
		{"a socket, allowed", rules("/var/run/postgresql", ""), "/var/run/postgresql/", true, true},
		{"another socket", rules("/var/run/postgresql", ""), "/var/run/postgresql/../other", false, true},
		{"a socket, denied", rules("", "/tmp"), "/tmp", false, false},
		{"denied to all", rules("", "10.0.0.0/8"), "10.1.2.3", false, false},
		{"denied to all, by NAT64", rules("", "10.0.0.0/8"), "64:ff9b::10.1.2.3", false, false},
		{"an exception", rules("10.1.0.0/16", "10.0.0.0/8"), "10.1.2.3", true, true},
		{"an exception of an exception", rules("10.1.0.0/16", "10.0.0.0/8 10.1.2.3"), "10.1.2.3", false, false},
		{"both", rules("10.0.0.0/8", "10.0.0.0/8"), "10.1.2.3", false, false},
		{"all but some", rules("10.0.0.0/8", "0.0.0.0/0 ::/0"), "203.0.113.7", false, false},
		{"some of all", rules("10.0.0.0/8", "0.0.0.0/0 ::/0"), "10.1.2.3", true, true},
		{"a range written as IPv6", rules("", "::ffff:10.0.0.0/104"), "10.1.2.3", false, false},
	} {
		u := URL("postgres://u:p@" + url.PathEscape(tt.host) + "/d")
		if strings.Contains(tt.host, ":") {
			u = URL("postgres://u:p@[" + strings.ReplaceAll(tt.host, "%", "%25") + "]/d")
		}
		for _, as := range []struct {
			admin, want bool
		}{{false, tt.member}, {true, tt.admin}} {
			if err := tt.policy.Of(as.admin).Check(u); (err == nil) != as.want {
				t.Errorf("%s, admin %v: %v, want it permitted: %v", tt.name, as.admin, err, as.want)
			}
		}
	}
	if err := rules("", "DB.example.org.").Of(true).Check("postgres://u@db.example.org/d"); err == nil {
		t.Error("a name that is denied can be used")
	}
}

// resolver is a resolver and a dialer of a test. Each lookup of a name takes the next of its answers; what is dialed is
// noted, and leads to one place on this machine.
type resolver struct {
	mu      sync.Mutex
	answers map[string][][]string
	dialed  []string
	to      string
}

func (r *resolver) policy(p HostPolicy) HostPolicy {
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
	at := func(hosts string) URL { return URL(strings.Replace(there.String(), there.Host, hosts, 1)) }
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
			hosts := r.policy(HostPolicy{}).Of(false)
			u := at(tt.hosts)
			s, err := dial(t.Context(), report.Source, u, hosts, "a")
			var code report.ReasonCode
			if err == nil {
				s.close()
			} else if reason, err := connectReason(t.Context(), report.Source, u, err); err != nil {
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
	named := func(name, at string) URL {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = net.JoinHostPort(name, u.Port())
		return URL(u.String())
	}
	r := &resolver{answers: map[string][][]string{"source.test": {{"127.0.0.1"}}, "target.test": {{"127.0.0.1"}}}}
	policy := r.policy(HostPolicy{Allow: hostRules(t, "127.0.0.1")})
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
	info, err := parseConninfo(string(spec.Source))
	if err != nil {
		t.Fatal(err)
	}
	var forbidden *forbiddenError
	if info, err = spec.SourceHosts.pin(t.Context(), info); !errors.As(err, &forbidden) {
		t.Errorf("pg_dump gets %v, %v", info["hostaddr"], err)
	}
}
