package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/db"
	"calco/db/dbtest"
	"calco/web/webtest"
)

func TestMain(m *testing.M) {
	code := dbtest.Main(m)
	webtest.Close()
	os.Exit(code)
}

const (
	ada      = "ada@example.org" // an admin
	bob      = "bob@example.org" // a member
	password = "correct horse battery"
)

// hashed is the hash of password, made once.
var hashed = sync.OnceValues(func() (string, error) {
	p, err := newPasswords()
	if err != nil {
		return "", err
	}
	return p.hash(context.Background(), password)
})

// app is a web app that serves, with a state database of its own.
type app struct {
	t        testing.TB
	server   *Server
	store    *db.Store
	database string // its URL
	key      db.Key
	url      string
	log      *logBook
}

// newApp starts an app without users. Requests from this machine may say in X-Forwarded-For whom they are for.
func newApp(t testing.TB, configure ...func(*Config)) *app {
	t.Helper()
	a := &app{t: t, database: dbtest.Database(t), log: &logBook{}}
	_, _ = rand.Read(a.key[:])
	a.store = a.openStore()
	var err error
	config := Config{
		Jobs: jobs.New(a.store, jobs.Options{Log: a.log.debug()}), Accounts: a.store, Ready: a.store.Ping, Log: a.log.debug(),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	for _, c := range configure {
		c(&config)
	}
	if a.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(a.server.Handler())
	t.Cleanup(listener.Close)
	a.url = listener.URL
	return a
}

// openStore opens the state database once more, as another process does.
func (a *app) openStore() *db.Store {
	a.t.Helper()
	store, err := db.Open(a.t.Context(), a.database, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(store.Close)
	policy := dsn.LoopbackPolicy()
	policy.Lookup = func(_ context.Context, host string) ([]string, error) {
		switch _, err := netip.ParseAddr(host); {
		case err == nil:
			return []string{host}, nil
		case host == "localhost":
			return []string{"127.0.0.1"}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	policy.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if at, err := netip.ParseAddrPort(address); network != "unix" && (err != nil || !at.Addr().IsLoopback()) {
			return nil, fmt.Errorf("dial %s: tests stay on this machine", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	store.Limit(policy)
	return store
}

// add makes a user whose password is password.
func (a *app) add(email string, role jobs.Role) jobs.User {
	a.t.Helper()
	hash, err := hashed()
	if err != nil {
		a.t.Fatal(err)
	}
	u, err := a.store.AddUser(a.t.Context(), email, role, hash)
	if err != nil {
		a.t.Fatal(err)
	}
	return u
}

// resave saves a database as it is now.
func (a *app) resave(c jobs.Connection, url dsn.URL) error {
	a.t.Helper()
	return a.store.ChangeConnection(a.t.Context(), c.ID, url, func(jobs.Connection) (jobs.Connection, error) { return c, nil })
}

// forget removes a saved database.
func (a *app) forget(c jobs.Connection) error {
	a.t.Helper()
	return a.store.RemoveConnection(a.t.Context(), c.ID, func(jobs.Connection) error { return nil })
}

// forgetTests lets everybody test databases as if nobody had.
func (a *app) forgetTests() { a.server.jobs = jobs.New(a.store, jobs.Options{Log: a.log.debug()}) }

// query asks the state database.
func (a *app) query(sql string) [][]string {
	a.t.Helper()
	return dbtest.Query(a.t, a.database, sql)
}

// logBook is what the app has logged. It is safe for concurrent use.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// debug logs all there is to say.
func (l *logBook) debug() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// visitor is a browser that runs no scripts and follows no redirects.
type visitor struct {
	app    *app
	client *http.Client
	header http.Header // sent with each request
}

// visitor returns a browser in which nobody is signed in. Each has an address of its own.
func (a *app) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return &visitor{
		app: a,
		client: &http.Client{
			Jar: jar,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		header: http.Header{"Sec-Fetch-Site": {"same-origin"}, "X-Forwarded-For": {nextAddress()}, "User-Agent": {"Firefox/140.0 Linux"}},
	}
}

var addresses struct {
	sync.Mutex
	n int
}

// nextAddress returns an address that nobody else has.
func nextAddress() string {
	addresses.Lock()
	defer addresses.Unlock()
	addresses.n++
	return fmt.Sprintf("198.51.%d.%d", addresses.n/250, addresses.n%250+1)
}

// as returns a browser in which a user is signed in.
func (a *app) as(u jobs.User) *visitor {
	a.t.Helper()
	v := a.visitor()
	token, _, err := a.store.StartSession(a.t.Context(), u.ID, jobs.Client{Address: "192.0.2.1", Agent: "Firefox/140.0 Linux"})
	if err != nil {
		a.t.Fatal(err)
	}
	v.setCookie(sessionCookie, string(token))
	return v
}

// open returns a real browser in which nobody is signed in.
func (a *app) open() *webtest.Page {
	a.t.Helper()
	return webtest.New(a.t, a.url)
}

// openAs returns a real browser in which a user is signed in.
func (a *app) openAs(u jobs.User) *webtest.Page {
	a.t.Helper()
	p := a.open()
	p.Cookie(sessionCookie, a.as(u).cookie(sessionCookie))
	return p
}

func (v *visitor) setCookie(name, value string) {
	u, err := url.Parse(v.app.url)
	if err != nil {
		v.app.t.Fatal(err)
	}
	v.client.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// cookie returns a cookie that the browser has, or "".
func (v *visitor) cookie(name string) string {
	u, err := url.Parse(v.app.url)
	if err != nil {
		v.app.t.Fatal(err)
	}
	for _, c := range v.client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location() string { return a.header.Get("Location") }

// String is the status, and where it leads.
func (a answer) String() string {
	if a.location() == "" {
		return fmt.Sprint(a.status)
	}
	return fmt.Sprint(a.status, " ", a.location())
}

func (v *visitor) do(method, path string, body io.Reader, header http.Header) answer {
	v.app.t.Helper()
	r, err := http.NewRequestWithContext(v.app.t.Context(), method, v.app.url+path, body)
	if err != nil {
		v.app.t.Fatal(err)
	}
	for _, h := range []http.Header{v.header, header} {
		for name, values := range h {
			r.Header[name] = values
		}
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	res, err := v.client.Do(r)
	if err != nil {
		v.app.t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(res.Body)
	if err != nil {
		v.app.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

func (v *visitor) get(path string) answer {
	v.app.t.Helper()
	return v.do(http.MethodGet, path, nil, nil)
}

// post sends a form: names and values in turn.
func (v *visitor) post(path string, form ...string) answer {
	v.app.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	return v.do(http.MethodPost, path, strings.NewReader(values.Encode()), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
}

// want fails the test unless an answer is as it is written: a status, and where it leads.
func want(t testing.TB, what string, got answer, status string) {
	t.Helper()
	if got.String() != status {
		t.Errorf("%s: %s, want %s\n%.2000s", what, got, status, got.body)
	}
}

// says fails the test unless a page says a text.
func says(t testing.TB, got answer, text string) {
	t.Helper()
	if !strings.Contains(got.body, text) {
		t.Errorf("the page does not say %q:\n%.3000s", text, got.body)
	}
}

var tokens = regexp.MustCompile(`[?]token=([A-Za-z0-9_-]{43})`)

// tokenIn returns the token of the one-time link that a page shows.
func tokenIn(t testing.TB, page string) string {
	t.Helper()
	found := tokens.FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no link in %.3000s", page)
	}
	return found[1]
}
