package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"calco/cloner/jobs"
)

// rights is what each route answers about a thing that is there, when it is sent what its form sends: a status, where it
// leads, and "!" where it changed the state database. A thing is private or shared, and whoever asks is its owner or not.
// A route of a job stands there once for each kind of job that it treats in a way of its own.
const rights = `
                                       | signed out  | stranger | viewer           | owner                 | admin, private        | admin, shared         | admin, own
POST /account/sessions/:id/end         | 303 /signin | 404      | 404              | 303 /account!         | 404                   | 404                   | 303 /account!
POST /clones                           | 303 /signin | 422      | 303 /clones/NEW! | 303 /clones/NEW!      | 422                   | 303 /clones/NEW!      | 303 /clones/NEW!
GET /clones/check                      | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /clones/clean                      | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /clones/new                        | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /clones/schemas                    | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /clones/:id, queued                | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
POST /clones/:id/again, refused        | 303 /signin | 403      | 403              | 303 /clones/NEW!      | 422                   | 303 /clones/NEW!      | 303 /clones/NEW!
POST /clones/:id/cancel, completed     | 303 /signin | 403      | 403              | 303 /clones/ID        | 303 /clones/ID        | 303 /clones/ID        | 303 /clones/ID
POST /clones/:id/cancel, queued        | 303 /signin | 403      | 403              | 303 /clones/ID!       | 303 /clones/ID!       | 303 /clones/ID!       | 303 /clones/ID!
GET /clones/:id/events, completed      | 401         | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /clones/:id/log, queued            | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
POST /clones/:id/reconnect, queued     | 303 /signin | 403      | 403              | 303 /clones/ID        | 303 /clones/ID        | 303 /clones/ID        | 303 /clones/ID
GET /clones/:id/report.json, completed | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /clones/:id/report.json, queued    | 303 /signin | 404      | 404              | 404                   | 404                   | 404                   | 404
POST /clones/:id/resume, failed        | 303 /signin | 403      | 403              | 303 /clones/ID        | 422                   | 303 /clones/ID        | 303 /clones/ID
POST /clones/:id/resume, queued        | 303 /signin | 403      | 403              | 303 /clones/ID        | 303 /clones/ID        | 303 /clones/ID        | 303 /clones/ID
POST /clones/:id/resume, resumable     | 303 /signin | 403      | 403              | 303 /clones/ID!       | 422                   | 303 /clones/ID!       | 303 /clones/ID!
GET /clones/:id/retry, failed          | 303 /signin | 403      | 403              | 200                   | 200                   | 200                   | 200
POST /clones/:id/retry, failed         | 303 /signin | 403      | 403              | 422                   | 422                   | 422                   | 422
GET /clones/:id/retry, queued          | 303 /signin | 403      | 403              | 200                   | 200                   | 200                   | 200
POST /clones/:id/retry, queued         | 303 /signin | 403      | 403              | 303 /clones/ID/retry! | 303 /clones/ID/retry! | 303 /clones/ID/retry! | 303 /clones/ID/retry!
GET /clones/:id/tables, queued         | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /databases                         | 303 /signin | 200      | 200              | 200                   | 200                   | 200                   | 200
GET /databases/:id                     | 303 /signin | 404      | 200              | 200                   | 404                   | 200                   | 200
POST /databases/:id                    | 303 /signin | 404      | 403              | 303 /databases!       | 404                   | 303 /databases!       | 303 /databases!
POST /databases/:id/remove             | 303 /signin | 404      | 403              | 303 /databases!       | 404                   | 303 /databases!       | 303 /databases!
POST /databases/:id/test               | 303 /signin | 404      | 200              | 200                   | 404                   | 200                   | 200
POST /invitations/:id/remove           | 303 /signin | 403      | 403              | 403                   | 303 /users!           | 303 /users!           | 303 /users!
POST /users/:id/remove                 | 303 /signin | 403      | 403              | 403                   | 303 /users!           | 303 /users!           | 409
POST /users/:id/reset                  | 303 /signin | 403      | 403              | 403                   | 200!                  | 200!                  | 200!
`

// asker is who asks for a thing, and whose it is.
type asker struct {
	name        string
	role        jobs.Role // none: nobody is signed in
	own, shared bool
}

var askers = []asker{
	{"signed out", "", false, true},
	{"stranger", jobs.RoleMember, false, false},
	{"viewer", jobs.RoleMember, false, true},
	{"owner", jobs.RoleMember, true, false},
	{"admin, private", jobs.RoleAdmin, false, false},
	{"admin, shared", jobs.RoleAdmin, false, true},
	{"admin, own", jobs.RoleAdmin, true, false},
}

// TestRights asks every route about things that are there; TestAccess, about those that are not.
func TestRights(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.Trim(rights, "\n"), "\n")
	seen := map[string]bool{}
	for _, line := range lines[1:] {
		cells := strings.Split(line, "|")
		name := strings.TrimSpace(cells[0])
		route, kind, _ := strings.Cut(name, ", ")
		seen[route] = true
		t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
			t.Parallel()
			f := newCloneFixture(t)
			for i, who := range askers {
				if got, want := f.ask(route, kind, i, who), strings.TrimSpace(cells[i+1]); got != want {
					t.Errorf("%s: %s, want %s", who.name, got, want)
				}
			}
		})
	}
	for i, who := range askers {
		if head := strings.TrimSpace(strings.Split(lines[0], "|")[i+1]); head != who.name {
			t.Errorf("column %d is %s, want %s", i, head, who.name)
		}
	}
	for _, r := range newApp(t).server.echo.Routes() {
		if route := r.Method + " " + r.Path; strings.Contains(r.Path, ":id") && !seen[route] {
			t.Errorf("%s is not in the table", route)
		}
	}
}

// ask has somebody ask a route about a new thing, and returns what became of it.
func (f *cloneFixture) ask(route, kind string, turn int, who asker) string {
	t, n := f.t, strconv.Itoa(turn)
	t.Helper()
	owner := f.add("owner"+n+"@example.org", jobs.RoleMember)
	v := f.visitor()
	if who.role != "" {
		asking := f.add("asking"+n+"@example.org", who.role)
		if v = f.as(asking); who.own {
			owner = asking
		}
	}
	end := func(name string) jobs.Connection {
		return f.save(jobs.Connection{OwnerID: owner.ID, Name: name + n, Shared: who.shared}, nowhere(name+n))
	}
	source, target := end("private-source"), end("private-target")

	method, path, _ := strings.Cut(route, " ")
	fields := url.Values{"source": {idOf(source)}, "target": {idOf(target)}}
	var thing string
	switch {
	case path == "/clones/clean":
		fields.Set("clean", "yes")
	case strings.HasPrefix(path, "/clones/:id"):
		if thing = f.startBetween(source, target); kind != "queued" {
			f.end(thing, kind)
		}
		fields = nil
	case strings.HasPrefix(path, "/databases/:id"):
		thing = idOf(source)
		fields = url.Values{"name": {"Another name" + n}, "environment": {"staging"}}
		if who.shared {
			fields.Set("shared", "yes")
		}
	case strings.HasPrefix(path, "/account/sessions/"):
		f.as(owner)
		thing = f.query(fmt.Sprintf(`SELECT max(id) FROM sessions WHERE user_id = %d`, owner.ID))[0][0]
	case strings.HasPrefix(path, "/users/"):
		thing = id(owner.ID)
	case strings.HasPrefix(path, "/invitations/"):
		if _, err := f.store.Invite(t.Context(), "invited"+n+"@example.org", jobs.RoleMember); err != nil {
			t.Fatal(err)
		}
		thing = f.query(`SELECT max(id) FROM links`)[0][0]
	}
	path = strings.ReplaceAll(path, ":id", thing)

	before := f.kept()
	var got answer
	if method == http.MethodGet {
		got = v.get(path + "?" + fields.Encode())
	} else {
		got = v.do(method, path, strings.NewReader(fields.Encode()), formHeader)
	}
	answer, _, _ := strings.Cut(got.String(), "?") // what comes after signing in is TestAccess's
	if job, found := strings.CutPrefix(answer, "303 /clones/"); found {
		job, _, _ = strings.Cut(job, "/")
		answer = strings.Replace(answer, job, map[bool]string{true: "ID", false: "NEW"}[job == thing], 1)
	}
	if !slices.EqualFunc(before, f.kept(), slices.Equal[[]string]) {
		answer += "!"
	}
	if private := source.Name; strings.Contains(got.body, private) && !who.shared && !who.own && !strings.HasPrefix(path, "/clones/") {
		t.Errorf("%s: the page names a private database of somebody else:\n%.3000s", who.name, got.body)
	}
	return answer
}

// kept is what people have put into the state database.
func (a *app) kept() [][]string {
	return a.query(`SELECT to_jsonb(t)::text FROM users t UNION ALL SELECT to_jsonb(t)::text FROM connections t UNION ALL SELECT to_jsonb(t)::text FROM background_tasks t
		UNION ALL SELECT to_jsonb(t)::text FROM links t UNION ALL SELECT id::text FROM sessions t ORDER BY 1`)
}
