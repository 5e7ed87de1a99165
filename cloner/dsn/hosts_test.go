package dsn

import (
	"net/url"
	"strings"
	"testing"
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
