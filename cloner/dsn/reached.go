package dsn

import (
	"context"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// A URL may name several hosts, and the name of a host may stand for several addresses. All sessions of a side are with the
// one server that the first of them has reached: the locks, the snapshot and what was confirmed are there and nowhere else.
// An attempt that begins anew looks the address of that host up again, and has to find the same server there.

// Reached is the host that a session has got through to. The zero value is none.
type Reached struct {
	host, port string
	addr       netip.Addr // not valid for a socket
}

// NoteDialing has the dialing of a configuration noted. The function it returns is to be called once the connection stands.
func NoteDialing(config *pgx.ConnConfig, c Conninfo) (where func() Reached) {
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
	return func() Reached {
		mu.Lock()
		defer mu.Unlock()
		at, _ := netip.ParseAddrPort(address)
		for i, host := range hosts {
			r := Reached{host: host, port: ports[min(i, len(ports)-1)]}
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
		return Reached{}
	}
}

// Narrow is u with no host but this one.
func (at Reached) Narrow(u URL) URL {
	c, err := Parse(string(u))
	if err != nil || at.host == "" {
		return u
	}
	return URL(c.With(Conninfo{"host": at.host, "port": at.port}).String())
}

// Only are the hosts, with no address but this one.
func (at Reached) Only(hosts *Hosts) *Hosts {
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
