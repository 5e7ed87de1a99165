package web

import (
	"fmt"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/db/dbtest"
)

const (
	eve    = "eve@example.org" // a member who knows nobody
	secret = "hunter2-never-shown"
	// elsewhere is a URL that nobody connects to.
	elsewhere = "postgres://app:" + secret + "@db.example.org:5432/shop"
)

// save saves a database that need not be there.
func (a *app) save(c jobs.Connection, leadsTo string) jobs.Connection {
	a.t.Helper()
	if c.Name == "" {
		c.Name = "Shop"
	}
	if c.Environment == "" {
		c.Environment = jobs.Staging
	}
	id, err := a.store.AddConnection(a.t.Context(), c, dsn.URL(leadsTo))
	if err != nil {
		a.t.Fatal(err)
	}
	return a.saved(id, c.OwnerID)
}

// saved is a database as its owner sees it now.
func (a *app) saved(id, owner int64) jobs.Connection {
	a.t.Helper()
	c, err := a.server.jobs.Database(a.t.Context(), jobs.User{ID: owner}, id)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// at is a path of a saved database.
func at(c jobs.Connection, more string) string { return fmt.Sprintf("/databases/%d%s", c.ID, more) }

// fragment asks like htmx.
func (v *visitor) fragment(path string, form ...string) answer {
	v.app.t.Helper()
	v.header.Set("HX-Request", "true")
	defer v.header.Del("HX-Request")
	return v.post(path, form...)
}

func TestDatabaseList(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	bobs, eves := a.add(bob, jobs.RoleMember), a.add(eve, jobs.RoleMember)
	v := a.as(bobs)
	says(t, v.get("/databases"), "No databases yet")
	a.save(jobs.Connection{OwnerID: bobs.ID, Name: "Mine", Environment: jobs.Production, Protected: true}, elsewhere)
	a.save(jobs.Connection{OwnerID: eves.ID, Name: "Ours", Shared: true}, "postgres://postgres.abc@aws-0.pooler.supabase.com:6543/postgres")
	a.save(jobs.Connection{OwnerID: eves.ID, Name: "Hers alone"}, elsewhere)
	page := v.get("/databases")
	for _, text := range []string{
		"Mine", "Production", "Protected", "db.example.org:5432", "shop", "as app", "Private: only you see it", "Add a database",
		"Ours", "Staging", "Shared by " + eve, "Looks like a pooler in transaction mode",
	} {
		says(t, page, text)
	}
	if strings.Contains(page.body, "Hers alone") {
		t.Error("a private database is shown to somebody else")
	}
	v.header.Set("Accept-Language", "es")
	says(t, v.get("/databases"), "Privada: solo la ves tú")
}

// Nothing that was typed as a password or URL comes back, whatever happens, and nothing of it is logged.
func TestDatabaseSecrets(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	admin, member := a.add(ada, jobs.RoleAdmin), a.add(bob, jobs.RoleMember)
	v, other, boss := a.as(member), a.as(a.add(eve, jobs.RoleMember)), a.as(admin)
	refused := "postgres://app:" + secret + "@127.0.0.1:1/shop"
	fields := []string{"way", "fields", "host", "127.0.0.1", "port", "1", "database", "shop", "user", "app", "password", secret}
	c := a.save(jobs.Connection{OwnerID: member.ID, Shared: true}, refused)
	var got []answer
	for _, form := range [][]string{
		{"name", "", "url", elsewhere},
		{"name", "Shop", "environment", "staging", "url", elsewhere}, // the name is taken
		{"name", "", "url", "postgres://app:" + secret + "@/" + secret + "?x=y"},
		{"name", "", "url", secret},
		{"name", "", "url", "postgres://app:x/" + secret + "@db/shop"},
		append([]string{"name", ""}, fields...),
		append([]string{"name", "", "port", "none"}, fields[:4]...),
		{"name", "Second", "environment", "staging", "url", elsewhere},
	} {
		got = append(got, v.post("/databases", form...), v.post(at(c, ""), form...))
	}
	for _, form := range [][]string{{"url", refused, "name", ""}, append([]string{"name", ""}, fields...), {"name", "", "url", secret}, {"name", ""}} {
		got = append(got, v.post("/databases/test", form...), v.fragment("/databases/test", form...), v.post(at(c, "/test"), form...))
	}
	for _, v := range []*visitor{v, other, boss} {
		got = append(got, v.get("/databases"), v.get(at(c, "")), v.get("/databases/new"), v.post(at(c, "/test")), v.fragment(at(c, "/test")))
	}
	for i, answer := range got {
		if strings.Contains(answer.body, secret) || strings.Contains(fmt.Sprint(answer.header), secret) {
			t.Errorf("answer %d (%v) has the password:\n%.3000s", i, answer, answer.body)
		}
	}
	if strings.Contains(a.log.String(), secret) {
		t.Error("the log has the password")
	}
	if u, _, err := a.store.ConnectionURL(t.Context(), a.savedAs("Second", member)); err != nil || string(u) != elsewhere {
		t.Errorf("the URL was not saved: %v", err)
	}
}

// savedAs is the id of the database with a name that somebody sees.
func (a *app) savedAs(name string, u jobs.User) int64 {
	a.t.Helper()
	all, err := a.server.jobs.Databases(a.t.Context(), u)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range all {
		if c.Name == name {
			return c.ID
		}
	}
	a.t.Fatalf("no database %s", name)
	return 0
}

// A form that was not taken keeps what was typed, but for what is secret, and says so.
func TestDatabaseFormKeeps(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.as(a.add(bob, jobs.RoleMember))

	got := v.post("/databases", "name", "Typed name", "way", "fields", "host", "db.example.org", "port", "70000", "database", "typed_db",
		"user", "typed_user", "password", secret, "tls", "require", "environment", "development", "shared", "yes", "protected", "yes")
	want(t, "bad port", got, "422")
	for _, text := range []string{
		`value="Typed name"`, `value="db.example.org"`, `value="70000"`, `value="typed_db"`, `value="typed_user"`,
		`value="require" selected`, `id="environment-development" checked`, `id="way-fields" checked`,
		`name="shared" value="yes" checked`, `name="protected" value="yes" checked`,
		"A number up to 65535.", "Type it again: passwords are not sent back.",
	} {
		says(t, got, text)
	}

	got = v.post("/databases", "name", "", "environment", "staging", "url", elsewhere)
	want(t, "no name", got, "422")
	says(t, got, "Give it a name.")
	says(t, got, "it led to app@db.example.org:5432/shop, but URLs are not sent back")

	got = v.post("/databases", "name", "Shop", "environment", "staging", "url", "postgres://db.example.org/shop")
	want(t, "bad URL", got, "422")
	says(t, got, "The URL cannot be used: it names no user.")
	says(t, got, `aria-describedby="url-error url-hint"`)

	want(t, "no environment", v.post("/databases", "name", "Shop", "url", elsewhere), "422")
	want(t, "made-up environment", v.post("/databases", "name", "Shop", "url", elsewhere, "environment", "moon"), "422")
	want(t, "nothing", v.post("/databases", "name", "Shop", "environment", "staging"), "422")
	want(t, "too long a name", v.post("/databases", "name", strings.Repeat("é", 101), "environment", "staging", "url", elsewhere), "422")
	if n := a.query(`SELECT count(*) FROM connections`)[0][0]; n != "0" {
		t.Errorf("%s databases were saved", n)
	}
	want(t, "all there", v.post("/databases", "name", strings.Repeat("é", 100), "environment", "staging", "url", elsewhere), "303 /databases")
}

func TestChangeDatabase(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	v := a.as(u)
	c := a.save(jobs.Connection{OwnerID: u.ID, Name: "Old"}, elsewhere)
	leadsTo := func() string {
		t.Helper()
		u, _, err := a.store.ConnectionURL(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return string(u)
	}
	want(t, "name", v.post(at(c, ""), "name", "New", "environment", "other", "shared", "yes"), "303 /databases")
	if now := a.saved(c.ID, u.ID); now.Name != "New" || now.Environment != jobs.OtherUse || !now.Shared || now.Address != c.Address || leadsTo() != elsewhere {
		t.Errorf("got %+v", now)
	}
	want(t, "fields", v.post(at(c, ""), "name", "New", "environment", "other", "way", "fields", "host", "::1", "database", "a b", "user", "u", "password", "p@"),
		"303 /databases")
	if now := a.saved(c.ID, u.ID); now.Address != "[::1]:5432" || now.Database != "a b" || now.Shared || leadsTo() != "postgres://u:p%40@[::1]:5432/a%20b?sslmode=prefer" {
		t.Errorf("got %+v", now)
	}
	// Half of an address never meets the saved password.
	want(t, "another host alone", v.post(at(c, ""), "name", "New", "environment", "other", "way", "fields", "host", "evil.example.org"), "422")
	a.save(jobs.Connection{OwnerID: u.ID, Name: "Other"}, elsewhere)
	got := v.post(at(c, ""), "name", "Other", "environment", "other")
	want(t, "taken", got, "422")
	says(t, got, "Another database has this name.")
}

// Production is protected from the start, and only an admin takes that back, whoever owns the database.
func TestProtectedDatabases(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	admin, member := a.add(ada, jobs.RoleAdmin), a.add(bob, jobs.RoleMember)
	boss, v := a.as(admin), a.as(member)

	want(t, "member", v.post("/databases", "name", "P1", "environment", "production", "url", elsewhere, "shared", "yes"), "303 /databases")
	p1 := a.saved(a.savedAs("P1", member), member.ID)
	if !p1.Protected {
		t.Fatal("a member's production database is not protected")
	}
	want(t, "member, unprotected", v.post("/databases", "name", "P2", "environment", "production", "url", elsewhere, "unprotected", "yes"), "403")
	want(t, "owner unprotects", v.post(at(p1, ""), "name", "P1", "environment", "production", "shared", "yes", "unprotected", "yes"), "403")
	want(t, "owner makes it staging", v.post(at(p1, ""), "name", "P1", "environment", "staging", "shared", "yes"), "303 /databases")
	if !a.saved(p1.ID, member.ID).Protected {
		t.Error("its owner has unprotected it by another environment")
	}
	says(t, v.get(at(p1, "")), "Only an admin can unprotect it.")
	want(t, "admin unprotects", boss.post(at(p1, ""), "name", "P1", "environment", "staging", "shared", "yes"), "303 /databases")
	if a.saved(p1.ID, member.ID).Protected {
		t.Error("an admin could not unprotect it")
	}
	want(t, "owner makes it production", v.post(at(p1, ""), "name", "P1", "environment", "production", "shared", "yes"), "303 /databases")
	if !a.saved(p1.ID, member.ID).Protected {
		t.Error("what becomes production is not protected")
	}
	want(t, "admin", boss.post("/databases", "name", "P3", "environment", "production", "url", elsewhere), "303 /databases")
	want(t, "admin, unprotected", boss.post("/databases", "name", "P4", "environment", "production", "url", elsewhere, "unprotected", "yes"), "303 /databases")
	for name, protected := range map[string]bool{"P3": true, "P4": false} {
		if got := a.saved(a.savedAs(name, admin), admin.ID).Protected; got != protected {
			t.Errorf("%s: protected %v, want %v", name, got, protected)
		}
	}
}

// While a job uses a database, it stays where it is.
func TestDatabaseInUse(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	v := a.as(u)
	source := a.save(jobs.Connection{OwnerID: u.ID, Name: "Source"}, elsewhere)
	target := a.save(jobs.Connection{OwnerID: u.ID, Name: "Target"}, "postgres://app@other.example.org/shop")
	id, err := a.server.jobs.Start(t.Context(), u, jobs.NewTask{SourceID: source.ID, TargetID: target.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []jobs.Connection{source, target} {
		got := v.post(at(c, "/remove"))
		want(t, "remove", got, "409")
		says(t, got, "A clone that is queued or running uses this database.")
		got = v.post(at(c, ""), "name", "Kept as typed", "environment", "staging", "url", "postgres://app@third.example.org/shop")
		want(t, "lead elsewhere", got, "409")
		says(t, got, "where it is cannot be changed now")
		says(t, got, "Kept as typed")
	}
	want(t, "another name", v.post(at(source, ""), "name", "Source 2", "environment", "staging"), "303 /databases")
	if err := a.server.jobs.Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	got := v.post(at(source, "/remove"))
	want(t, "remove, afterwards", got, "303 /databases")
	says(t, v.get("/databases"), "The database is removed from Calco.")
}

// What a saved database is, is asked when it is saved, so that protection knows it at once. One that does not answer is saved
// all the same.
func TestSavingAsksWhatItIs(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.as(a.add(bob, jobs.RoleMember))
	for name, known := range map[string]bool{dbtest.Database(t): true, "postgres://u:p@127.0.0.1:1/x": false, "postgres://u:p@db.example.org/x": false} {
		want(t, name, v.post("/databases", "name", name[len(name)-10:], "environment", "staging", "url", name), "303 /databases")
		got := a.query(`SELECT system_identifier IS NOT NULL, answered FROM connections ORDER BY id DESC LIMIT 1`)
		if fmt.Sprint(got) != map[bool]string{true: "[[t t]]", false: "[[f f]]"}[known] {
			t.Errorf("%s: known, answered: %v, want %t", name, got, known)
		}
	}
	again := dbtest.Database(t)
	id := a.query(`SELECT id FROM connections WHERE NOT answered ORDER BY id LIMIT 1`)[0][0]
	want(t, "changed", v.post("/databases/"+id, "name", "again", "environment", "staging", "url", again), "303 /databases")
	if got := a.query(`SELECT system_identifier IS NOT NULL FROM connections WHERE id = ` + id); got[0][0] != "t" {
		t.Errorf("after the change: %v", got)
	}
}
