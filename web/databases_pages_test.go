package web

import (
	"fmt"
	"net"
	"net/url"
	"testing"

	"calco/cloner/jobs"
	"calco/db/dbtest"
	"calco/web/webtest"
)

// TestPagesDatabases looks at the pages of saved databases in each of their states, in both languages.
func TestPagesDatabases(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	there := dbtest.Database(t)
	dbtest.Exec(t, there, `CREATE SCHEMA app; CREATE TABLE app.orders (id int); CREATE TABLE public.notes (id int)`)
	for _, language := range []string{"en", "es"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			boss, member := a.add(ada, jobs.RoleAdmin), a.add(bob, jobs.RoleMember)
			p := a.openAs(boss)
			p.Language(language)
			look := func(name, path string) {
				t.Helper()
				p.Open(path)
				p.Look("databases/" + language + "-" + name)
			}
			tested := func(name string) {
				t.Helper()
				p.Click("#test .actions button")
				p.WaitFor("#result > *")
				p.Look("databases/" + language + "-" + name)
			}

			look("none", "/databases")
			production := a.save(jobs.Connection{OwnerID: boss.ID, Name: "Shop, production", Environment: jobs.Production, Shared: true, Protected: true}, there)
			a.save(jobs.Connection{OwnerID: boss.ID, Name: "Laptop", Environment: jobs.Development}, "postgres://ada@localhost/shop_dev")
			a.save(jobs.Connection{OwnerID: boss.ID, Name: "A database with a name as long as people make them", Environment: jobs.OtherUse},
				"postgres://postgres.abcdefghijklmnopqrst@aws-0-eu-central-1.pooler.supabase.com:6543/postgres")
			staging := a.save(jobs.Connection{OwnerID: member.ID, Name: "Shop, staging", Shared: true}, "postgres://app@127.0.0.1:1/shop")
			look("list", "/databases")

			look("new", "/databases/new")
			p.Click("#way-fields")
			p.Type("#host", "db:5432")
			tested("new-tested")
			p.Open("/databases/new")
			p.Type("#name", " ")
			p.Click("#environment-production")
			p.Type("#url", "postgres://db.example.org/shop")
			p.Follow("#settings .btn-primary")
			p.Look("databases/" + language + "-new-wrong")

			p.Open("/databases/new")
			p.Click("#settings .more-of summary")
			p.Look("databases/" + language + "-certificates")
			p.Type("#name", "Shop")
			p.Click("#environment-production")
			p.Type("#url", "postgres://app@db.example.org/shop")
			p.Type("#certificate", "not a certificate")
			p.Follow("#settings .btn-primary")
			p.Look("databases/" + language + "-certificates-wrong")

			look("edit", at(production, ""))
			p.Click("#remove summary")
			p.Look("databases/" + language + "-remove")
			p.Open(at(production, ""))
			p.Click(".more-of summary")
			p.Click("#way-fields")
			tested("edit-tested")
			p.Open(at(staging, ""))
			tested("edit-refused")

			other := a.openAs(member)
			other.Language(language)
			other.Open(at(production, ""))
			other.Click("#test .actions button")
			other.WaitFor("#result .found")
			other.Look("databases/" + language + "-look")
		})
	}
}

func TestDatabasesByClicks(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	there := dbtest.Database(t)
	p := a.openAs(u)

	p.Open("/databases")
	p.Follow("a", "Add a database")
	p.WaitGone("#host")
	p.Type("#name", "Shop")
	p.Click("#environment-staging")
	p.Type("#url", there)
	p.Click("button", "Test connection")
	p.WaitText("Connected:")
	p.Click("#way-fields")
	p.WaitGone("#url")
	p.Type("#host", "127.0.0.1")
	p.Type("#port", "1")
	p.Type("#database", "shop")
	p.Type("#user", "app")
	p.Type("#password", secret)
	p.Click("button", "Test connection")
	p.WaitText("No PostgreSQL server answers")
	p.Click("#way-url")
	p.Follow("button", "Save the database")
	p.WaitPath("/databases")
	p.WaitText("The database is saved.")

	p.Click("button", "Test the connection to Shop")
	p.WaitText("Connected:")
	if path := p.Path(); path != "/databases" {
		t.Errorf("the test has led to %s", path)
	}
	p.Follow("a", "Edit Shop")
	p.WaitGone("#url")
	p.WaitFor("input[name=protected]")
	p.Click("#environment-production")
	p.WaitGone("input[name=protected]")
	p.WaitText("Only an admin can unprotect it.")
	p.Follow("button", "Save the changes")
	p.WaitText("Protected")
	if c := a.saved(a.savedAs("Shop", u), u.ID); !c.Protected || c.Environment != jobs.Production {
		t.Errorf("got %+v", c)
	}

	// Somebody else's tab has it still.
	old := p.Tab()
	old.Open("/databases")
	p.Follow("a", "Edit Shop")
	p.Click("summary", "Remove…")
	p.Follow("button", "Remove it")
	p.WaitText("No databases yet")
	old.Click("button", "Test the connection to Shop")
	old.WaitText("Nothing here")
	old.WaitGone(".databases")
}

// A server that takes its time shows that something is going on.
func TestSlowTest(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // it may be closed
	a.save(jobs.Connection{OwnerID: u.ID}, "postgres://app@"+silent.Addr().String()+"/shop")
	p := a.openAs(u)
	p.Open("/databases")
	p.Click("button", "Test the connection to Shop")
	p.WaitText("Connecting…")
	p.Wait(`document.querySelector("[hx-post]").disabled`)
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	p.WaitText("No connection")
	p.WaitNoText("Connecting…")
	p.Wait(`!document.querySelector("[hx-post]").disabled`)
}

// Without scripts the same buttons lead to whole pages.
func TestDatabasesWithoutScripts(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	there, err := url.Parse(dbtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	p := a.openAs(u)
	p.Scripts(false)
	p.Open("/databases/new")
	p.Type("#name", "Shop")
	p.Click("#environment-development")
	p.Click("#way-fields")
	p.Type("#host", there.Hostname())
	p.Type("#port", there.Port())
	p.Type("#database", there.Path[1:])
	p.Type("#user", there.User.Username())
	word, _ := there.User.Password()
	p.Type("#password", word)
	p.Follow("button", "Test connection")
	p.WaitText("Connected:")
	p.WaitText("Type it again: passwords are not sent back.")
	if typed := webtest.Eval[string](p, `document.querySelector("#password").value`); typed != "" {
		t.Error("the password was sent back")
	}
	p.Type("#password", word)
	p.Follow("button", "Save the database")
	p.WaitPath("/databases")
	p.Follow("button", "Test the connection to Shop")
	p.WaitText("Connected:")
	if c := a.saved(a.savedAs("Shop", u), u.ID); p.Path() != at(c, "/test") {
		t.Errorf("got %s", p.Path())
	}
}

// What stands in the way of a clone was written a letter a line, in green: another part of the app had a class of the
// same name.
func TestTestedCanBeRead(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	u := a.add(bob, jobs.RoleMember)
	there := dbtest.Database(t)
	dbtest.Exec(t, there, `CREATE SCHEMA app; CREATE TABLE app.orders (id int); CREATE TABLE public.notes (id int)`)
	saved := a.save(jobs.Connection{OwnerID: u.ID, Name: "Shop"}, there)
	p := a.openAs(u)
	for _, place := range []struct {
		name, path, button string
	}{{"edit", at(saved, ""), "#test .actions button"}, {"list", "/databases", ".databases [hx-post]"}} {
		p.Open(place.path)
		p.Click(place.button)
		p.WaitFor(".found")
		for _, width := range []int{390, 1280, 1920} {
			p.SetWidth(width)
			p.NoOverflow()
			for _, theme := range []string{"light", "dark"} {
				p.Theme(theme)
				p.Screenshot(fmt.Sprintf("databases/tested-%s-%d-%s", place.name, width, theme))
			}
			// The narrowest text of a verdict, in the width of its letter o; how far the table's text is from its frame; the colours.
			got := webtest.Eval[struct {
				Letters, Padding float64
				Fine, Blocked    string
				FineMark, Mark   string
				Version          string
			}](p, `(() => {
				const all = (of) => [...document.querySelectorAll(of)];
				const letters = (e) => e.getBoundingClientRect().width / (parseFloat(getComputedStyle(e).fontSize) * .55);
				const side = (e) => getComputedStyle(e).borderInlineStartColor;
				const mark = (e) => getComputedStyle(e.querySelector("h3 svg")).color;
				const [fine, blocked] = [document.querySelector(".fitness:not(.blocked)"), document.querySelector(".fitness.blocked")];
				return {
					letters: Math.min(...all(".fitness p, .fitness h3").map(letters)),
					padding: Math.min(...all(".found-schemas td").flatMap((e) => [getComputedStyle(e).paddingLeft, getComputedStyle(e).paddingRight].map(parseFloat))),
					fine: side(fine), blocked: side(blocked), fineMark: mark(fine), mark: mark(blocked),
					version: document.querySelector(".found dd").textContent,
				};
			})()`)
			if got.Letters < 25 {
				t.Errorf("%s, %d pixels: a line has room for %.0f letters", place.name, width, got.Letters)
			}
			if got.Padding < 8 {
				t.Errorf("%s, %d pixels: the table's text is %.0f pixels from its frame", place.name, width, got.Padding)
			}
			if got.Fine == got.Blocked || got.FineMark == got.Mark {
				t.Errorf("%s, %d pixels: fine and blocked have one colour: %+v", place.name, width, got)
			}
			if len(got.Version) > 8 {
				t.Errorf("the version is %q", got.Version)
			}
		}
		p.SetWidth(1280)
		p.Theme("light")
	}
}
