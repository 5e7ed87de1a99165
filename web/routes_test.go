package web

import (
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/static"
)

// nobody stands in paths for an id that is not there.
const nobody = "999999"

// access is what each route answers to whom, a form being sent empty: a status, and where it leads.
var access = []struct {
	route                    string
	signedOut, member, admin string
}{
	{"GET /healthz", "200", "200", "200"},
	{"GET /readyz", "200", "200", "200"},
	{"GET /static/*", "404", "404", "404"},

	{"GET /signin", "200", "303 /", "303 /"},
	{"POST /signin", "422", "422", "422"},
	{"POST /signin/link", "410", "410", "410"},
	{"GET /setup", "410", "410", "410"},
	{"POST /setup", "410", "410", "410"},
	{"GET /join", "410", "410", "410"},
	{"POST /join", "410", "410", "410"},
	{"GET /reset", "410", "410", "410"},
	{"POST /reset", "410", "410", "410"},
	{"POST /language", "422", "422", "422"},
	{"POST /theme", "422", "422", "422"},

	{"GET /", "303 /signin", "200", "200"},
	{"GET /clones/new", "303 /signin?return=%2Fclones%2Fnew", "200", "200"},
	{"GET /clones/schemas", "303 /signin?return=%2Fclones%2Fschemas", "200", "200"},
	{"GET /clones/check", "303 /signin?return=%2Fclones%2Fcheck", "200", "200"},
	{"GET /clones/clean", "303 /signin?return=%2Fclones%2Fclean", "200", "200"},
	{"POST /clones", "303 /signin", "422", "422"},
	{"GET /clones/:id", "303 /signin?return=%2Fclones%2F999999", "404", "404"},
	{"GET /clones/:id/events", "401", "404", "404"},
	{"GET /clones/:id/tables", "303 /signin?return=%2Fclones%2F999999%2Ftables", "404", "404"},
	{"GET /clones/:id/log", "303 /signin?return=%2Fclones%2F999999%2Flog", "404", "404"},
	{"GET /clones/:id/report.json", "303 /signin?return=%2Fclones%2F999999%2Freport.json", "404", "404"},
	{"POST /clones/:id/cancel", "303 /signin", "404", "404"},
	{"POST /clones/:id/reconnect", "303 /signin", "404", "404"},
	{"POST /clones/:id/resume", "303 /signin", "404", "404"},
	{"GET /clones/:id/retry", "303 /signin?return=%2Fclones%2F999999%2Fretry", "404", "404"},
	{"POST /clones/:id/retry", "303 /signin", "404", "404"},
	{"POST /clones/:id/again", "303 /signin", "404", "404"},
	{"GET /history", "303 /signin?return=%2Fhistory", "200", "200"},
	{"POST /signout", "303 /signin", "303 /signin", "303 /signin"},
	{"GET /account", "303 /signin?return=%2Faccount", "200", "200"},
	{"POST /account/password", "303 /signin", "422", "422"},
	{"POST /account/sessions/:id/end", "303 /signin", "404", "404"},

	{"GET /databases", "303 /signin?return=%2Fdatabases", "200", "200"},
	{"POST /databases", "303 /signin", "422", "422"},
	{"GET /databases/new", "303 /signin?return=%2Fdatabases%2Fnew", "200", "200"},
	{"POST /databases/test", "303 /signin", "422", "422"},
	{"GET /databases/:id", "303 /signin?return=%2Fdatabases%2F999999", "404", "404"},
	{"POST /databases/:id", "303 /signin", "404", "404"},
	{"POST /databases/:id/remove", "303 /signin", "404", "404"},
	{"POST /databases/:id/test", "303 /signin", "404", "404"},

	{"GET /users", "303 /signin?return=%2Fusers", "403", "200"},
	{"POST /users", "303 /signin", "403", "422"},
	{"POST /users/:id/reset", "303 /signin", "403", "404"},
	{"POST /users/:id/remove", "303 /signin", "403", "404"},
	{"POST /invitations/:id/remove", "303 /signin", "403", "404"},

	// What is not there is not there, for everybody; and whoever uses the wrong method is told so.
	{"GET /nowhere", "404", "404", "404"},
	{"GET /users/1/nowhere", "404", "404", "404"},
	{"POST /nowhere", "404", "404", "404"},
	{"GET /signout", "405", "405", "405"},
	{"POST /account", "405", "405", "405"},
	{"DELETE /users", "405", "405", "405"},
}

func TestAccess(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	admin, member := a.add(ada, jobs.RoleAdmin), a.add(bob, jobs.RoleMember)
	seen := map[string]bool{}
	for _, c := range access {
		seen[c.route] = true
		t.Run(strings.ReplaceAll(c.route, "/", "-"), func(t *testing.T) {
			t.Parallel()
			method, path, _ := strings.Cut(c.route, " ")
			path = strings.NewReplacer(":id", nobody, "*", nobody).Replace(path)
			for _, who := range []struct {
				name    string
				visitor *visitor
				want    string
			}{{"signed out", a.visitor(), c.signedOut}, {"member", a.as(member), c.member}, {"admin", a.as(admin), c.admin}} {
				want(t, who.name, who.visitor.do(method, path, nil, nil), who.want)
			}
		})
	}
	for _, r := range a.server.echo.Routes() {
		if route := r.Method + " " + r.Path; !seen[route] && r.Method != "echo_route_not_found" {
			t.Errorf("%s is not in the table", route)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.as(a.add(bob, jobs.RoleMember))
	for _, path := range []string{"/healthz", "/account", "/nowhere", static.URL("app.css"), "/"} {
		get, head := v.get(path), v.do("HEAD", path, nil, nil)
		if head.String() != get.String() || head.body != "" {
			t.Errorf("HEAD %s: %s with %d bytes, want %s without", path, head, len(head.body), get)
		}
		if got, want := head.header.Get("Content-Type"), get.header.Get("Content-Type"); got != want {
			t.Errorf("HEAD %s: content type %q, want %q", path, got, want)
		}
	}
}
