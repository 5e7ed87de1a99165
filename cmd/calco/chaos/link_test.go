package chaos

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"calco/db/dbtest"
)

// link is the wire to a server, which can be cut and slowed down. It is safe for concurrent use.
type link struct {
	proxy   *toxiproxy.Proxy
	poisons atomic.Int64 // so far
	next    atomic.Pointer[cut]
}

// cut is what will happen to the next statement that a clone writes.
type cut struct {
	how    dbtest.Cut
	struck chan struct{}
}

// newLink opens a wire to the server of a URL. It goes with the test.
func newLink(t testing.TB, name, to string) *link {
	t.Helper()
	l := &link{}
	u, err := url.Parse(dbtest.Tap(t, to, l.at))
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l.proxy = toxiproxy.NewProxy(server, name, "127.0.0.1:0", u.Host)
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.cut)
	return l
}

// through returns a URL that leads to the same database by this wire.
func (l *link) through(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		panic(err) // it is one of our own servers'
	}
	l.proxy.Lock()
	defer l.proxy.Unlock()
	u.Host = l.proxy.Listen
	return u.String()
}

// cut ends all connections and refuses new ones, until mend.
func (l *link) cut() { l.proxy.Stop() }

func (l *link) mend() error {
	err := l.proxy.Start()
	if err != nil && err != toxiproxy.ErrProxyAlreadyStarted { //nolint:errorlint // it is never wrapped
		return fmt.Errorf("mend the wire to the %s: %w", l.proxy.Name, err)
	}
	return nil
}

// poison does something to the data of both directions, with an attribute in milliseconds, until the function it returns
// is called.
func (l *link) poison(kind, attribute string, ms int64) (cure func(), err error) {
	name := fmt.Sprintf("%s-%d-", kind, l.poisons.Add(1))
	cure = func() {
		for _, stream := range []string{"upstream", "downstream"} {
			_ = l.proxy.Toxics.RemoveToxic(context.Background(), name+stream) // it may not be there
		}
	}
	for _, stream := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "attributes": {%q: %d}}`, name+stream, kind, stream, attribute, ms)
		if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			cure()
			return nil, fmt.Errorf("%s on the wire to the %s: %w", kind, l.proxy.Name, err)
		}
	}
	return cure, nil
}

// stall lets no data through. The connections stay, as they do when a network hangs, and end with the stall.
func (l *link) stall() (cure func(), err error) { return l.poison("timeout", "timeout", 0) }

// reset answers with a reset whoever sends anything.
func (l *link) reset() (cure func(), err error) { return l.poison("reset_peer", "timeout", 0) }

// slow delays all data.
func (l *link) slow(ms int64) (cure func(), err error) { return l.poison("latency", "latency", ms) }

// heal undoes all that was done.
func (l *link) heal() error {
	l.proxy.Toxics.ResetToxics(context.Background())
	return l.mend()
}

// writes tells a clone's writing queries from those that read: they begin with the fence or with the marks.
var writes = regexp.MustCompile(`^(SELECT 1 / |BEGIN; SET LOCAL |INSERT INTO _calco\.)`)

// at is shown each query.
func (l *link) at(sql string) dbtest.Cut {
	c := l.next.Load()
	if c == nil || !writes.MatchString(sql) || !l.next.CompareAndSwap(c, nil) {
		return dbtest.Pass
	}
	close(c.struck)
	return c.how
}

// cutNext ends the connection at the next statement that a clone writes, and returns when it has, or false if none came
// in that time.
func (l *link) cutNext(how dbtest.Cut, within time.Duration) bool {
	c := &cut{how, make(chan struct{})}
	l.next.Store(c)
	select {
	case <-c.struck:
		return true
	case <-time.After(within):
	}
	return !l.next.CompareAndSwap(c, nil)
}
