package web

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/db/dbtest"
)

func TestTestConnection(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	v := a.as(u)
	there := dbtest.Database(t)
	dbtest.Exec(t, there, `CREATE SCHEMA app; CREATE TABLE app.orders (id int); CREATE TABLE app.lines (id int); CREATE TABLE public.notes (id int)`)
	full := []string{"Connected:", "PostgreSQL", ">app<", ">public<", "As a source", "Nothing stands in the way.", "As a target, without clean", "app.orders"}

	with := func(change func(*url.URL)) string {
		u, err := url.Parse(there)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}

	saved := a.save(jobs.Connection{OwnerID: u.ID, Name: "There", Environment: jobs.Production, Protected: true}, there)
	for _, tt := range []struct {
		name   string
		path   string
		form   []string
		status string
		texts  []string
	}{
		{"saved", at(saved, "/test"), nil, "200", append(full, "It is protected, and can never be a target.")},
		{"typed", "/databases/test", []string{"name", "", "url", there}, "200", full},
		{"in fields", "/databases/test", fieldsOf(t, there), "200", full},
		{"typed for a saved one", at(saved, "/test"), []string{"name", "There", "url", "postgres://app@127.0.0.1:1/shop"}, "200", []string{"No connection", "No PostgreSQL server answers"}},
		{"the saved one, with its form", at(saved, "/test"), []string{"name", "Being typed"}, "200", full},
		{"no such database", "/databases/test", []string{"url", with(func(u *url.URL) { u.Path += "_none" })}, "200", []string{"No connection", "has no database"}},
		{
			"wrong password", "/databases/test",
			[]string{"url", with(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), secret) })},
			"200",
			[]string{"No connection", "refused the password of"},
		},
		{"nothing typed", "/databases/test", []string{"way", "url"}, "422", []string{"This is missing or wrong:", "<b>URL</b>"}},
		{"half typed", "/databases/test", []string{"way", "fields", "host", "db"}, "422", []string{"This is missing or wrong:", "<b>Database, User</b>"}},
		{"bad URL", "/databases/test", []string{"url", "postgres://db/shop"}, "422", []string{"The URL cannot be used:", "it names no user."}},
		{"Calco's own", "/databases/test", []string{"url", a.database}, "200", []string{"It holds the state of Calco itself"}},
	} {
		page, fragment := v.post(tt.path, tt.form...), v.fragment(tt.path, tt.form...)
		want(t, tt.name, page, tt.status)
		want(t, tt.name+", as a fragment", fragment, tt.status)
		if strings.Contains(page.body+fragment.body, secret) {
			t.Errorf("%s: the page has the password", tt.name)
		}
		if !strings.Contains(page.body, "<html") || strings.Contains(fragment.body, "<html") {
			t.Errorf("%s: the page or the fragment is not one", tt.name)
		}
		for _, text := range tt.texts {
			says(t, page, text)
			says(t, fragment, text)
		}
		// This one person may test no more than some in a row.
		a.forgetTests()
	}
	says(t, v.post(at(saved, "/test"), "name", "Being typed"), `value="Being typed"`)
	kept := dbtest.Query(t, a.database, `
		SELECT count(*) FROM connections, pg_control_system() s WHERE connections.system_identifier = s.system_identifier::text AND database_oid > 0`)
	if kept[0][0] != "1" {
		t.Error("the test did not keep what the database is")
	}
}

// fieldsOf is a URL as a form with fields.
func fieldsOf(t *testing.T, text string) []string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return []string{"way", "fields", "host", u.Hostname(), "port", u.Port(), "database", u.Path[1:], "user", u.User.Username(), "password", password}
}

func TestTooManyTests(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.as(a.add(bob, jobs.RoleMember))
	a.server.jobs = jobs.New(a.store, jobs.Options{Tests: jobs.TestLimits{AtATime: -1}})
	form := []string{"url", "postgres://app@127.0.0.1:1/shop"}
	got := v.fragment("/databases/test", form...)
	want(t, "one too many", got, "429")
	says(t, got, "Two of your tests are still running.")

	a.server.jobs = jobs.New(a.store, jobs.Options{Tests: jobs.TestLimits{InARow: 1, Every: time.Hour}})
	want(t, "the first", v.fragment("/databases/test", form...), "200")
	got = v.fragment("/databases/test", form...)
	want(t, "too soon", got, "429")
	says(t, got, "These were many tests in a short time.")
}

// A member's databases led to Calco's own machine, where the answers told open ports from closed ones.
func TestHostsOfMembers(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.store.Limit(dsn.HostPolicy{})
	admin, member := a.add("ana@example.org", jobs.RoleAdmin), a.add(bob, jobs.RoleMember)
	v := a.as(member)
	const forbidden = "This host may not be connected to"
	there := dbtest.Database(t)
	own := a.save(jobs.Connection{OwnerID: member.ID, Name: "Own", Shared: true}, there)
	theirs := a.save(jobs.Connection{OwnerID: admin.ID, Name: "Theirs", Shared: true}, there)
	var first string
	for _, leadsTo := range []string{there, "postgres://app:" + secret + "@127.0.0.1:1/shop", "postgres://postgres@%2Fvar%2Frun%2Fpostgresql/postgres"} {
		a.forgetTests()
		got := v.fragment("/databases/test", "url", leadsTo)
		want(t, "a member's", got, "200")
		says(t, got, forbidden)
		if first == "" {
			first = got.body
		}
		if got.body != first {
			t.Errorf("the answer tells what is there: %s\nand: %s", first, got.body)
		}
		want(t, "saved by a member", v.post("/databases", "name", "New", "environment", "staging", "url", leadsTo), "422")
		want(t, "changed by a member", v.post(at(own, ""), "name", "Own", "environment", "staging", "shared", "yes", "url", leadsTo), "422")
		want(t, "changed for a member", a.as(admin).post(at(own, ""), "name", "Own", "environment", "staging", "shared", "yes", "url", leadsTo), "422")
	}
	says(t, v.fragment(at(own, "/test")), forbidden)
	says(t, v.fragment(at(theirs, "/test")), "Connected:")
	says(t, v.get(fmt.Sprintf("/clones/new?source=%d&target=%d&clean=yes", theirs.ID, own.ID)), forbidden)
	says(t, v.get(fmt.Sprintf("/clones/new?source=%d&target=%d&scope=chosen", own.ID, theirs.ID)), forbidden)
	says(t, a.as(admin).fragment("/databases/test", "url", there), "Connected:")
	v.header.Set("Accept-Language", "es")
	says(t, v.fragment(at(own, "/test")), "No está permitido conectarse a este servidor")
}
