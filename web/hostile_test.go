package web

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
)

// hostile are values that nobody's browser sends by itself.
var hostile = []string{
	"", " ", "\x00", "a\x00b", "\xff", "\xc3(", "\xed\xa0\x80", "\ufeff\u200b\u202e", "a\r\nb: c", "😀",
	"-1", "0", "1", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "99999999999999999999999", "1e3", "0x10", "١",
	strings.Repeat("x", 5000), strings.Repeat("é", 101), strings.Repeat("9", 300), strings.Repeat("/", 50),
	"' OR 1 = 1; DROP TABLE users --", "../../../etc/passwd", "<script>alert(1)</script>", "{{.}}", "%00", "%", "%zz",
	"a\u2003b@example.org", "a\u0085b@example.org", "\u200b@\u200b", "\u2003a\u2003", "a@[127.0.0.1]", "a@b", "//evil.example", "postgres://u:p@/x?a=%zz", "postgres://[::1", "host=/tmp user=x",
}

// probe asks a whole app, in this process. Nobody is ever signed out of it, and it connects to no database.
type probe struct {
	*cloneFixture
	handler http.Handler
	values  map[string]string // that fields may well have
	paths   map[string]string // the ids of paths, by how these begin
	names   []string          // of all fields that the handlers look at

	mu   sync.Mutex
	sent int
}

// alwaysIn are accounts in which one is signed in as whoever the cookie names.
type alwaysIn struct {
	Accounts
	users map[jobs.Token]jobs.User
}

func (a alwaysIn) Session(_ context.Context, t jobs.Token) (jobs.Session, error) {
	u, ok := a.users[t]
	if !ok {
		return jobs.Session{}, jobs.ErrNotFound
	}
	return jobs.Session{ID: 1, User: u, CreatedAt: time.Now(), LastSeenAt: time.Now()}, nil
}

func (a alwaysIn) CheckSession(ctx context.Context, t jobs.Token) error {
	_, err := a.Session(ctx, t)
	return err
}

func newProbe(t testing.TB) *probe {
	t.Helper()
	f := newCloneFixture(t)
	config := f.server.config
	config.Accounts = alwaysIn{f.store, map[jobs.Token]jobs.User{"member": f.owner, "admin": f.admin}}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	f.server = server
	cheap := argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	server.passwords.params = &cheap
	if server.passwords.nobody, err = argon2id.CreateHash("nobody", &cheap); err != nil {
		t.Fatal(err)
	}
	server.jobs = jobs.New(f.store, jobs.Options{Tests: jobs.TestLimits{AtATime: -1}})

	gone := f.add("gone@example.org", jobs.RoleMember)
	source, target := f.pair(f.owner)
	job := f.ended("failed")
	return &probe{
		cloneFixture: f, handler: server.Handler(), names: fieldNames(t),
		values: map[string]string{
			"source": idOf(source), "target": idOf(target), "database": "shop", "clean": "yes", "confirm": target.Database, "scope": "chosen", "schema": "app",
			"name": "Shop", "environment": "staging", "way": "url", "url": nowhere("x"), "host": "127.0.0.1", "port": "1", "user": "u", "tls": "require",
			"email": "someone@example.org", "password": "a long password", "current": password, "state": "failed", "from": "50", "before": job, "table": "order",
			"token": f.mustLink(jobs.LinkReset, gone), "return": "/", "language": "en", "theme": "dark", "fork": "yes",
		},
		paths: map[string]string{"/clones/": job, "/databases/": idOf(source), "/users/": id(gone.ID), "/account/": "1", "/invitations/": "1"},
	}
}

// fieldNames are the names of fields and of other things that the handlers of this package ask for, by its source: what
// somebody adds is there by itself.
func fieldNames(t testing.TB) []string {
	t.Helper()
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	take := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if name, err := strconv.Unquote(lit.Value); err == nil && !strings.ContainsAny(name, " /.-:") && name == strings.ToLower(name) && name != "" {
				found[name] = true
			}
		}
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if len(n.Args) == 1 {
					take(n.Args[0])
				}
			case *ast.IndexExpr:
				take(n.Index)
			}
			return true
		})
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, known := range []string{"email", "password", "token", "database", "from", "table", "schema", "source", "host", "port"} {
		if !slices.Contains(names, known) {
			t.Fatalf("the field %s was not found in the source: %q", known, names)
		}
	}
	return names
}

// routes are the routes of the app, in order.
func (p *probe) routes() []*echo.Route {
	routes := slices.DeleteFunc(p.server.echo.Routes(), func(r *echo.Route) bool { return r.Method == echo.RouteNotFound })
	slices.SortFunc(routes, func(a, b *echo.Route) int { return strings.Compare(a.Path+a.Method, b.Path+b.Method) })
	return routes
}

// path is that of a route, with an id that is there.
func (p *probe) path(route string) string {
	for begin, id := range p.paths {
		if strings.HasPrefix(route, begin) {
			route = strings.Replace(route, ":id", id, 1)
		}
	}
	return route
}

// The ways to send fields.
const (
	inQuery = iota
	inForm
	inMultipart
	inJSON
	ways
)

// send sends fields to a route, and fails the test if that is a fault of the server.
func (p *probe) send(t testing.TB, method, path, who string, way int, fields url.Values) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var body bytes.Buffer
	kind := ""
	switch way {
	case inForm:
		body.WriteString(fields.Encode())
		kind = echo.MIMEApplicationForm
	case inMultipart:
		w := multipart.NewWriter(&body)
		for name, values := range fields {
			for _, v := range values {
				if err := w.WriteField(name, v); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		kind = w.FormDataContentType()
	case inJSON:
		fmt.Fprintf(&body, "%q", fields)
		kind = echo.MIMEApplicationJSON
	}
	r, err := http.NewRequestWithContext(ctx, method, p.url, &body)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path = path
	if way == inQuery {
		r.URL.RawQuery = fields.Encode()
	}
	r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:1"
	r.Header.Set("X-Forwarded-For", nextAddress())
	if kind != "" {
		r.Header.Set(echo.HeaderContentType, kind)
	}
	if who != "" {
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who})
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	if w.Code >= http.StatusInternalServerError || ctx.Err() != nil {
		t.Errorf("%s %.200q, way %d, as %q, with %.300q: %d\n%.300s", method, path, way, who, fields.Encode(), w.Code, p.log.since(w.Header().Get("X-Request-Id")))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
}

// since is what the log says of a request that was a fault.
func (l *logBook) since(request string) string {
	_, after, _ := strings.Cut(l.String(), "level=ERROR msg=fault request="+request)
	return after
}

// No plain request is a fault of the server, whatever is in its path, its query or its body, and whoever sends it. The
// routes come from the app itself, and the names of the fields from its source.
func TestNoRequestIsAFault(t *testing.T) {
	t.Parallel()
	p := newProbe(t)
	people := []string{"", "member", "admin"}
	var all sync.WaitGroup
	defer all.Wait()
	turns := make(chan int)
	for range 2 {
		all.Go(func() {
			for i := range turns {
				r := p.routes()[i]
				path := p.path(r.Path)
				for n, value := range hostile {
					fields := url.Values{}
					for _, name := range p.names {
						fields[name] = []string{value, value}
						if len(value) > 1000 {
							fields[name] = []string{value}
						}
					}
					who := people[(i+n)%len(people)]
					p.send(t, r.Method, path, "admin", (i+n)%2, fields)
					p.send(t, r.Method, path, who, (i+n)%ways, fields)
					p.send(t, r.Method, strings.NewReplacer(":id", value, "*", value).Replace(r.Path), "admin", inForm, url.Values{})
				}
				for n, name := range p.names {
					fields := url.Values{}
					for other, value := range p.values {
						fields.Set(other, value)
					}
					fields.Set(name, hostile[(i*7+n)%len(hostile)])
					way := inForm
					if r.Method == http.MethodGet {
						way = inQuery
					}
					p.send(t, r.Method, path, people[1+n%2], way, fields)
				}
			}
		})
	}
	for i := range p.routes() {
		turns <- i
	}
	close(turns)
	all.Wait()
	t.Logf("%d requests", p.sent)
}

// FuzzRequests goes on where TestNoRequestIsAFault ends: go test -fuzz FuzzRequests ./web
func FuzzRequests(f *testing.F) {
	p := newProbe(f)
	for n, value := range hostile {
		f.Add(n, n%3, n%ways, n, value, value)
	}
	people := []string{"", "member", "admin"}
	f.Fuzz(func(t *testing.T, route, who, way, name int, value, place string) {
		at := func(n, of int) int { return int(uint(n) % uint(of)) } //nolint:gosec // any number is as good
		r := p.routes()[at(route, len(p.routes()))]
		fields := url.Values{}
		for other, v := range p.values {
			fields.Set(other, v)
		}
		fields.Set(p.names[at(name, len(p.names))], value)
		p.send(t, r.Method, p.path(r.Path), people[at(who, 3)], at(way, ways), fields)
		p.send(t, r.Method, strings.NewReplacer(":id", place, "*", place).Replace(r.Path), people[at(who, 3)], at(way, ways), fields)
	})
}
