package dsn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/report"
)

// HostPolicy says which servers saved databases may lead to. The rules of the operator are for everybody's; beyond them an
// admin's may lead anywhere, and a member's neither to a socket nor to an address of reserved. The zero value has no rules.
type HostPolicy struct {
	Allow, Deny []HostRule

	// Certificates is the folder whose files URLs may name as certificates and keys, everybody's. Empty: none may.
	Certificates string

	// Lookup and Dial, where they are set, take the place of the system's resolver and network.
	Lookup func(ctx context.Context, host string) ([]string, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// LoopbackPolicy is for a demo or a test, whose servers are on this machine: members' databases may lead to them.
func LoopbackPolicy() HostPolicy {
	return HostPolicy{Allow: []HostRule{{prefix: netip.MustParsePrefix("127.0.0.0/8")}, {prefix: netip.MustParsePrefix("::1/128")}}}
}

// reserved are the addresses that lead to Calco's own machine, to what is attached to it, and to the services by which a
// cloud gives a machine its credentials.
// https://www.iana.org/assignments/iana-ipv4-special-registry and https://www.iana.org/assignments/iana-ipv6-special-registry
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("64:ff9b:1::/48"),         // NAT64 of a network's own, whose IPv4 addresses nobody else can tell
	netip.MustParsePrefix("100.100.100.200/32"),     // metadata: Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud, once
	netip.MustParsePrefix("fd00:ec2::/32"),          // Amazon
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google Cloud
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
}

// HostRule is addresses in CIDR form, one address, the name of a host, or the path of a folder with sockets.
type HostRule struct {
	prefix netip.Prefix
	name   string // in lower case, without the dot at its end; or the path
}

// UnmarshalText reads a rule.
func (r *HostRule) UnmarshalText(text []byte) error {
	s := strings.Trim(strings.TrimSpace(string(text)), "[]")
	if prefix, err := netip.ParsePrefix(s); err == nil {
		*r = HostRule{prefix: unmapped(prefix).Masked()}
		return nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		*r = HostRule{prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}
		return nil
	}
	if strings.HasPrefix(s, "/") {
		*r = HostRule{name: path.Clean(s)}
		return nil
	}
	if s == "" || strings.ContainsAny(s, "/:*@ \t") {
		return fmt.Errorf("%q is no host: write an address, a range like 10.0.0.0/8, a name, or the path of a folder with sockets", text)
	}
	*r = HostRule{name: hostName(s)}
	return nil
}

// unmapped is a prefix of IPv4 addresses that is written as one of IPv6.
func unmapped(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p
}

func hostName(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// Hosts are the servers that one connection may lead to. Nil is any. They are safe for concurrent use.
type Hosts struct {
	policy HostPolicy
	admin  bool
}

// Of is the policy for a database that an admin has saved, or a member.
func (p HostPolicy) Of(admin bool) *Hosts { return &Hosts{policy: p, admin: admin} }

// ForbiddenError says that a connection may not be made. Nobody has tried: it tells nothing of what is there.
type ForbiddenError struct{ Host string }

func (e *ForbiddenError) Error() string {
	return e.Host + " is no host that saved databases may lead to"
}

// Hint is what to do about it.
func (e *ForbiddenError) Hint() report.Text {
	return report.T("reason.host_forbidden.hint")
}

// Check refuses a URL that leads to forbidden hosts alone, as far as that shows without asking what a name stands for.
func (h *Hosts) Check(u URL) error {
	c, err := Parse(string(u))
	if err != nil || h == nil {
		return err
	}
	var forbidden error
	for host := range strings.SplitSeq(c["host"], ",") {
		a, err := netip.ParseAddr(host)
		switch {
		case strings.HasPrefix(host, "/") && h.permitsSocket(host), err == nil && h.permits(host, a):
			return nil
		case !strings.HasPrefix(host, "/") && err != nil && !named(h.policy.Deny, hostName(host)):
			return nil
		}
		forbidden = &ForbiddenError{host}
	}
	return forbidden
}

// checkFiles refuses a URL that names files outside the folder that the operator allows.
func (h *Hosts) checkFiles(c Conninfo) error {
	if h == nil {
		return nil
	}
	for _, key := range fileKeywords {
		switch folder := h.policy.Certificates; {
		case !c.namesFile(key) || folder != "" && within(folder, c[key]):
		case folder == "":
			return fmt.Errorf("it names a file with %s, and no file of the machine that Calco runs on is read for a saved database; leave %s out", key, key)
		default:
			return fmt.Errorf("it names a file with %s that is not in %s, the only folder whose files are read for a saved database", key, folder)
		}
	}
	return nil
}

// within tells whether a file is in a folder or below it, wherever symbolic links lead.
func within(folder, file string) bool {
	root, err := filepath.EvalSymlinks(folder)
	if err != nil || !filepath.IsAbs(file) {
		return false
	}
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	inside, err := filepath.Rel(root, target)
	return err == nil && filepath.IsLocal(inside)
}

func named(rules []HostRule, name string) bool {
	return slices.ContainsFunc(rules, func(r HostRule) bool { return r.name == name && name != "" })
}

// permitsSocket tells whether the server may be asked that has its socket in a folder.
func (h *Hosts) permitsSocket(folder string) bool {
	folder = path.Clean(folder)
	if named(h.policy.Deny, folder) {
		return false
	}
	return h.admin || named(h.policy.Allow, folder)
}

// permits tells whether an address may be dialed that stands for a host. A rule for the name goes before those for
// addresses, and among these the narrowest decides. Where two are equal, it is forbidden.
func (h *Hosts) permits(host string, a netip.Addr) bool {
	name := hostName(host)
	if named(h.policy.Deny, name) {
		return false
	}
	if named(h.policy.Allow, name) {
		return true
	}
	return !slices.ContainsFunc(meanings(a), func(a netip.Addr) bool { return !h.permitsAddress(a) })
}

func (h *Hosts) permitsAddress(a netip.Addr) bool {
	allowed, denied := narrowest(h.policy.Allow, a), narrowest(h.policy.Deny, a)
	if allowed >= 0 || denied >= 0 {
		return allowed > denied
	}
	return h.admin || !slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) })
}

// narrowest is the length of the longest prefix of the rules that contains an address, or -1.
func narrowest(rules []HostRule, a netip.Addr) int {
	length := -1
	for _, r := range rules {
		if r.prefix.IsValid() && r.prefix.Contains(a) {
			length = max(length, r.prefix.Bits())
		}
	}
	return length
}

// meanings are the addresses that a packet to an address may arrive at: itself, and an IPv4 address that it carries.
func meanings(a netip.Addr) []netip.Addr {
	a = a.WithZone("").Unmap()
	all := []netip.Addr{a}
	if a.Is4() || a.IsLoopback() || a.IsUnspecified() {
		return all
	}
	b := a.As16()
	for _, in := range []struct {
		prefix netip.Prefix
		at     int
	}{
		{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, RFC 4291
		{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
		{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
	} {
		if in.prefix.Contains(a) {
			all = append(all, netip.AddrFrom4([4]byte(b[in.at:in.at+4])))
		}
	}
	return all
}

// lookup returns the addresses of a host that may be dialed. There is at least one, or an error.
func (h *Hosts) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ask := net.DefaultResolver.LookupHost
	if h.policy.Lookup != nil {
		ask = h.policy.Lookup
	}
	found, err := ask(ctx, host)
	if err != nil {
		return nil, err
	}
	var permitted []netip.Addr
	for _, s := range found {
		if a, err := netip.ParseAddr(s); err == nil && h.permits(host, a) {
			permitted = append(permitted, a)
		}
	}
	if len(permitted) == 0 {
		return nil, &ForbiddenError{host}
	}
	return permitted, nil
}

// guard has a configuration of pgx look up and dial permitted hosts alone. What is dialed is the very address that was
// looked at: no name is looked up twice.
func (h *Hosts) guard(config *pgconn.Config) {
	if h == nil {
		return
	}
	dialing := config.DialFunc
	if h.policy.Dial != nil {
		dialing = h.policy.Dial
	}
	var mu sync.Mutex
	passed := map[netip.Addr]bool{}
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		permitted, err := h.lookup(ctx, host)
		mu.Lock()
		defer mu.Unlock()
		var all []string
		for _, a := range permitted {
			passed[a.Unmap()] = true
			all = append(all, a.String())
		}
		return all, err
	}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "unix" {
			if !h.permitsSocket(path.Dir(address)) {
				return nil, &ForbiddenError{path.Dir(address)}
			}
			return dialing(ctx, network, address)
		}
		at, err := netip.ParseAddrPort(address)
		mu.Lock()
		known := passed[at.Addr().Unmap()]
		mu.Unlock()
		if err != nil || !known {
			return nil, &ForbiddenError{cmp.Or(at.Addr().String(), address)}
		}
		return dialing(ctx, network, address)
	}
}

// Pin puts the addresses of the hosts beside their names, for a program that would look them up by itself. TLS goes on to
// check the names.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOSTADDR
func (h *Hosts) Pin(ctx context.Context, c Conninfo) (Conninfo, error) {
	if h == nil {
		return c, nil
	}
	ports := strings.Split(c["port"], ",")
	var hosts, addresses, pinnedPorts []string
	var errs []error
	for i, host := range strings.Split(c["host"], ",") {
		found := []string{""} // for a socket
		if strings.HasPrefix(host, "/") {
			if !h.permitsSocket(host) {
				errs = append(errs, &ForbiddenError{host})
				continue
			}
		} else {
			permitted, err := h.lookup(ctx, host)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			found = nil
			for _, a := range permitted {
				found = append(found, a.String())
			}
		}
		for _, a := range found {
			hosts, addresses = append(hosts, host), append(addresses, a)
			pinnedPorts = append(pinnedPorts, cmp.Or(ports[min(i, len(ports)-1)], strconv.Itoa(5432)))
		}
	}
	if len(hosts) == 0 {
		return nil, errors.Join(errs...)
	}
	return c.With(Conninfo{
		"host": strings.Join(hosts, ","), "hostaddr": strings.Join(addresses, ","), "port": strings.Join(pinnedPorts, ","),
	}), nil
}
