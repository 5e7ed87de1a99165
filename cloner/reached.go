package cloner

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"calco/cloner/report"
)

// A URL may name several hosts, and the name of a host may stand for several addresses. All sessions of a side are with the
// one server that the first of them has reached: the locks, the snapshot and what was confirmed are there and nowhere else.
// An attempt that begins anew looks the address of that host up again, and has to find the same server there.

// reached is the host that a session has got through to. The zero value is none.
type reached struct {
	host, port string
	addr       netip.Addr // not valid for a socket
}

// errOtherServer is for a URL that leads to another server than when the clone began.
var errOtherServer = errors.New("another server answers there than the one that the clone began with")

// note has the dialing of a configuration noted. The function it returns is to be called once the connection stands.
func note(config *pgx.ConnConfig, c conninfo) (where func() reached) {
	var mu sync.Mutex
	hosts, ports := strings.Split(c["host"], ","), strings.Split(c["port"], ",")
	meant := map[string][]netip.Addr{}
	var network, address string
	lookup, dialing := config.LookupFunc, config.DialFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		found, err := lookup(ctx, host)
		mu.Lock()
		defer mu.Unlock()
		for _, s := range found {
			if a, err := netip.ParseAddr(s); err == nil {
				meant[host] = append(meant[host], a)
			}
		}
		return found, err
	}
	config.DialFunc = func(ctx context.Context, n, a string) (net.Conn, error) {
		mu.Lock()
		network, address = n, a
		mu.Unlock()
		return dialing(ctx, n, a)
	}
	return func() reached {
		mu.Lock()
		defer mu.Unlock()
		at, _ := netip.ParseAddrPort(address)
		for i, host := range hosts {
			r := reached{host: host, port: ports[min(i, len(ports)-1)]}
			if r.port == "" {
				r.port = "5432"
			}
			if network == "unix" && address == path.Join(host, ".s.PGSQL."+r.port) {
				return r
			}
			if r.addr = at.Addr(); slices.Contains(meant[host], r.addr) && r.port == strconv.Itoa(int(at.Port())) {
				return r
			}
		}
		return reached{}
	}
}

// narrow is u with no host but this one.
func (at reached) narrow(u URL) URL {
	c, err := parseConninfo(string(u))
	if err != nil || at.host == "" {
		return u
	}
	return URL(c.with(conninfo{"host": at.host, "port": at.port}).String())
}

// only are the hosts, with no address but this one.
func (at reached) only(hosts *Hosts) *Hosts {
	if !at.addr.IsValid() {
		return hosts
	}
	pinned := Hosts{admin: true}
	if hosts != nil {
		pinned = *hosts
	}
	pinned.policy.Lookup = func(context.Context, string) ([]string, error) { return []string{at.addr.String()}, nil }
	return &pinned
}

// way is how one side is reached: anew, or at the very address where the first session of the attempt is.
func (r *run) way(side report.Side, anew bool) (URL, *Hosts) {
	u, hosts := r.spec.Source, r.spec.SourceHosts
	if side == report.Target {
		u, hosts = r.spec.Target, r.spec.TargetHosts
	}
	at := r.reached[side]
	if u = at.narrow(u); anew {
		return u, hosts
	}
	return u, at.only(hosts)
}
