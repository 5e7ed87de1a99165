package web

import (
	"sync/atomic"
	"testing"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/web/webtest"
)

// TestPagesShell looks at every page of the shell, in both languages.
func TestPagesShell(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	for _, language := range []string{"en", "es"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			a.server.echo.GET("/broken", func(echo.Context) error { panic("on purpose") })
			p := a.open()
			p.Language(language)
			look := func(name, path string) {
				t.Helper()
				p.Open(path)
				p.Look("shell/" + language + "-" + name)
			}

			look("nousers", "/signin")
			setup := a.mustSetup()
			look("setup", "/setup?token="+setup)
			admin, member := a.add(ada, jobs.RoleAdmin), a.add("a.very.long.address.of.somebody.with.four.names@department.example.org", jobs.RoleMember)
			look("signin", "/signin?return=%2Faccount")
			p.Type("#email", bob)
			p.Type("#password", "wrong")
			p.Follow("main button")
			p.Look("shell/" + language + "-signin-wrong")
			look("signin-link", "/signin?token="+a.mustLink(jobs.LinkSignIn, member))
			look("reset", "/reset?token="+a.mustLink(jobs.LinkReset, member))
			look("410", "/setup?token="+setup)
			look("404-signed-out", "/nowhere")

			p.Cookie(sessionCookie, a.as(admin).cookie(sessionCookie))
			a.as(admin)
			a.as(member)
			look("account", "/account")
			p.Type("#current", "wrong")
			p.Type("#password", "short")
			p.Follow("#password-sheet button.btn-primary")
			p.Look("shell/" + language + "-account-wrong")
			p.Click("summary")
			p.Look("shell/" + language + "-menu")

			look("users", "/users")
			p.Type("#email", "bob")
			p.Press("\t") // the browser itself would refuse this one
			p.Type("#email", bob)
			p.Click("input[name=admin]")
			p.Follow("#invite button.btn-primary")
			p.Look("shell/" + language + "-users-link")
			look("join", webtest.Eval[string](p, `document.querySelector("#link").value`))
			look("users-invited", "/users")
			p.Click("details.confirm summary")
			p.Look("shell/" + language + "-users-remove")
			look("404", "/nowhere")
			look("500", "/broken")
		})
	}
}

// TestShellByClicks goes the way of the first user: set-up, account, out and in again.
func TestShellByClicks(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	p := a.open()
	p.Open("/setup?token=" + a.mustSetup())
	p.Type("#email", ada)
	p.Type("#password", password)
	p.Follow("button", "Create the account")
	p.WaitPath("/")

	p.Click("summary")
	p.WaitFor(".menu-sheet")
	p.Press(webtest.Escape)
	p.WaitGone(".menu-sheet")
	p.Click("summary")
	p.Click("h1") // elsewhere
	p.WaitGone(".menu-sheet")
	p.Click("summary")
	p.Follow("button", "Sign out")
	p.WaitText("You are signed out.")

	p.Type("#email", ada)
	p.Type("#password", "wrong password")
	p.Follow("button", "Sign in")
	p.WaitText("E-mail and password do not match.")
	p.Type("#password", password)
	p.Follow("button", "Sign in")
	p.WaitPath("/")

	p.Click("summary")
	p.Follow("a", "Users")
	p.Type("#email", bob)
	p.Follow("button", "Make the link")
	link := webtest.Eval[string](p, `document.querySelector("#link").value`)
	p.Click("button", "Copy")
	p.WaitFor("button", "Copied")
	p.WaitFor("button", "Copy")

	guest := a.open()
	guest.Language("es")
	guest.Open(link)
	guest.Type("#password", password)
	guest.Follow("button", "Entrar")
	guest.WaitText("Clona tu primera base de datos")

	p.Open("/users")
	p.Click("summary[aria-label='Remove " + bob + "']")
	p.Follow("details[open] button", "Remove")
	p.WaitText("The user is removed.")
	guest.Open("/account")
	guest.WaitPath("/signin?return=%2Faccount")
}

func TestLanguageSwitch(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	a.add(ada, jobs.RoleAdmin)
	p := a.open()
	p.Open("/signin?return=%2Faccount")
	p.Follow("button[name=language]", "ES")
	p.WaitText("Iniciar sesión")
	p.WaitPath("/signin?return=%2Faccount")
	p.Type("#email", ada)
	p.Type("#password", password)
	p.Follow("button", "Iniciar sesión")
	p.WaitText("Sesiones abiertas")
	if got := webtest.Eval[string](p, "document.documentElement.lang"); got != "es" {
		t.Errorf("lang = %s", got)
	}
	p.Follow("button[name=language]", "EN")
	p.WaitText("Change the password")
}

func TestThemeSwitch(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	p := a.openAs(a.add(ada, jobs.RoleAdmin))
	const ground = `getComputedStyle(document.querySelector(".sheet")).backgroundColor`
	p.Open("/account")
	light := webtest.Eval[string](p, ground)
	p.Click("button[value=dark]")
	p.Wait(ground + ` !== "` + light + `"`)
	p.WaitFor("button[value=dark][aria-pressed=true]")
	p.Wait(`performance.getEntriesByType("resource").some((e) => e.name.endsWith("/theme") && e.responseEnd > 0)`)
	p.Open("/account") // it is kept
	p.WaitFor("button[value=dark][aria-pressed=true]")
	p.Wait(ground + ` !== "` + light + `"`)
	p.Click("button[value=auto]")
	p.Wait(ground + ` === "` + light + `"`)
	p.Theme("dark") // of the system
	p.Wait(ground + ` !== "` + light + `"`)
}

// TestKeyboard signs in without a mouse, and leaves a menu the way it came.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	a.add(ada, jobs.RoleAdmin)
	p := a.open()
	p.Open("/signin")
	p.Wait(`document.activeElement.id === "email"`)
	p.Press(ada + webtest.Tab + password)
	p.Leads(func() { p.Press(webtest.Enter) })
	p.WaitPath("/")
	p.Press(webtest.Tab)
	p.Wait(`document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().top >= 0`)
	p.Press(webtest.Enter)
	p.Wait(`document.activeElement.matches("main")`)
	p.Open("/account")
	for webtest.Eval[bool](p, `!document.activeElement.matches("#current")`) {
		p.Press(webtest.Tab)
	}
	p.Open("/account")
	for webtest.Eval[bool](p, `!document.activeElement.matches("summary")`) {
		p.Press(webtest.Tab)
	}
	p.Press(webtest.Enter)
	p.WaitFor(".menu-sheet")
	p.Press(webtest.Tab)
	p.Wait(`document.activeElement.matches("a[href='/account']")`)
	p.Press(webtest.Escape)
	p.WaitGone(".menu-sheet")
	p.Wait(`document.activeElement.matches("summary")`)
}

func TestWithoutScripts(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	a.add(ada, jobs.RoleAdmin)
	p := a.open()
	p.Scripts(false)
	p.Open("/users")
	p.WaitPath("/signin?return=%2Fusers")
	p.Type("#email", ada)
	p.Type("#password", password)
	p.Follow("button", "Sign in")
	p.WaitPath("/users")
	p.Type("#email", bob)
	p.Follow("button", "Make the link")
	p.WaitFor("#link")
	p.WaitGone("[data-copy]")
	p.Follow("button[value=dark]")
	p.WaitFor("html[data-theme=calco-night]")
	p.Click("summary")
	p.Follow("button", "Sign out")
	p.WaitText("You are signed out.")
}

// A form that is sent twice by an impatient hand is sent once.
func TestPressedTwice(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	a := newApp(t)
	var arrived atomic.Int64
	a.server.echo.POST("/users", func(c echo.Context) error {
		arrived.Add(1)
		return a.server.redirect(c, "/account", "")
	})
	p := a.openAs(a.add(ada, jobs.RoleAdmin))
	p.Open("/users")
	p.Type("#email", bob)
	p.Leads(func() {
		webtest.Eval[bool](p, `(() => { const b = document.querySelector("#invite .btn-primary"); for (let i = 0; i < 3; i++) b.click(); return true; })()`)
	})
	p.WaitPath("/account")
	if n := arrived.Load(); n != 1 {
		t.Errorf("the form was sent %d times", n)
	}
}
