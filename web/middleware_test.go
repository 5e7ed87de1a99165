package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/static"
)

func TestSameOrigin(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	public := newApp(t, func(c *Config) { c.BaseURL = &url.URL{Scheme: "https", Host: "calco.example.org"} })
	const done = "303 /"
	for _, c := range []struct {
		name   string
		app    *app
		header http.Header
		want   string
	}{
		{"a form of ours", a, http.Header{"Sec-Fetch-Site": {"same-origin"}}, done},
		{"another site", a, http.Header{"Sec-Fetch-Site": {"cross-site"}}, "403"},
		{"a sibling", a, http.Header{"Sec-Fetch-Site": {"same-site"}}, "403"},
		{"a browser over plain http in a LAN", a, http.Header{"Sec-Fetch-Site": nil, "Host": {"calco.lan:8080"}, "Origin": {"http://calco.lan:8080"}}, done},
		{"another site over plain http", a, http.Header{"Sec-Fetch-Site": nil, "Host": {"calco.lan:8080"}, "Origin": {"http://evil.example"}}, "403"},
		{"no origin", a, http.Header{"Sec-Fetch-Site": nil, "Origin": {"null"}}, "403"},
		{"curl", a, http.Header{"Sec-Fetch-Site": nil}, done},
		{"behind a proxy that changes the host", public, http.Header{"Sec-Fetch-Site": nil, "Host": {"10.0.0.1"}, "Origin": {"https://calco.example.org"}}, done},
	} {
		v := c.app.visitor()
		for name, values := range c.header {
			v.header[name] = values
		}
		want(t, c.name, v.post("/theme", "theme", "dark", "return", "/"), c.want)
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(c *Config) { c.BaseURL = &url.URL{Scheme: "https", Host: "calco.example.org"} })
	v := a.visitor()
	v.setCookie(sessionCookie, a.as(a.add(ada, jobs.RoleAdmin)).cookie(sessionCookie))
	says(t, v.post("/users", "email", bob), `value="https://calco.example.org/join?token=`)
	for _, bad := range []string{"ftp://x", "https://", "https://x/path", "x", "//x"} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Jobs: a.server.jobs, Accounts: a.store, BaseURL: u}); err == nil {
			t.Errorf("base URL %s is taken", bad)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.server.echo.GET("/panic", func(echo.Context) error { panic("secret panic") })
	signedIn := a.as(a.add(bob, jobs.RoleMember))
	foreign := a.visitor()
	foreign.header.Set("Sec-Fetch-Site", "cross-site")
	answers := map[string]answer{
		"page": signedIn.get("/account"), "redirect": a.visitor().get("/"), "404": signedIn.get("/nowhere"), "405": signedIn.get("/signout"),
		"403": signedIn.get("/users"), "another site": foreign.post("/signin"), "500": signedIn.get("/panic"), "healthz": a.visitor().get("/healthz"),
		"static": a.visitor().get(static.URL("app.css")), "no static": a.visitor().get("/static/nothing.css"), "410": a.visitor().get("/join?token=x"),
		"413": signedIn.post("/signin", "email", strings.Repeat("x", 2<<20)), "HEAD": signedIn.do("HEAD", "/account", nil, nil),
	}
	for name, got := range answers {
		for header, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
		} {
			if got.header.Get(header) != value {
				t.Errorf("%s: %s = %q", name, header, got.header.Get(header))
			}
		}
		if len(got.header.Get("X-Request-Id")) < 16 {
			t.Errorf("%s: X-Request-Id = %q", name, got.header.Get("X-Request-Id"))
		}
		if cache := got.header.Get("Cache-Control"); strings.Contains(got.body, "<html") && cache != "no-store" {
			t.Errorf("%s: Cache-Control = %q", name, cache)
		}
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	big := "email=" + strings.Repeat("x", 2<<20)
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	got := a.visitor().do("POST", "/signin", strings.NewReader(big), form)
	want(t, "with its length", got, "413")
	says(t, got, "That is more than the server takes at once.")
	// One whose length is not told was cut off and taken for an empty form.
	want(t, "without its length", a.visitor().do("POST", "/signin", io.MultiReader(strings.NewReader(big)), form), "413")
	want(t, "no form", a.visitor().do("POST", "/signin", strings.NewReader("email=%zz"), form), "400")
	want(t, "no query", a.visitor().get("/signin?a=%zz"), "400")
	want(t, "just large", a.visitor().do("POST", "/signin", strings.NewReader(big[:1000_000]), form), "422")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	e := a.server.echo
	e.GET("/panic", func(echo.Context) error { panic("secret panic") })
	e.GET("/fault", func(echo.Context) error { return errors.New("secret fault") })
	e.GET("/late", func(c echo.Context) error {
		if err := c.String(http.StatusOK, "begun"); err != nil {
			return err
		}
		return errors.New("secret late fault")
	})
	v := a.as(a.add(bob, jobs.RoleMember))
	for _, what := range []string{"panic", "fault"} {
		got := v.get("/" + what)
		want(t, what, got, "500")
		says(t, got, "Our mistake")
		says(t, got, got.header.Get("X-Request-Id"))
		if strings.Contains(got.body, "secret") || strings.Contains(got.body, "goroutine") {
			t.Errorf("the page tells: %s", got.body)
		}
		if n := strings.Count(a.log.String(), "secret "+what); n != 1 {
			t.Errorf("%s is logged %d times:\n%s", what, n, a.log)
		}
		if !strings.Contains(a.log.String(), "request="+got.header.Get("X-Request-Id")+" path=/"+what) {
			t.Errorf("the log does not name the request:\n%s", a.log)
		}
	}
	if got := v.get("/late"); got.status != 200 || got.body != "begun" {
		t.Errorf("late: %s %s", got, got.body)
	}
	if !strings.Contains(a.log.String(), "secret late fault") {
		t.Error("the late fault is not logged")
	}
	quiet := strings.Count(a.log.String(), "level=ERROR")
	v.get("/nowhere")
	v.get("/users")
	if n := strings.Count(a.log.String(), "level=ERROR"); n != quiet {
		t.Errorf("what is no fault is logged as one:\n%s", a.log)
	}
}

// gone is a database that does not answer.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.as(a.add(bob, jobs.RoleMember))
	want(t, "ready", v.get("/readyz"), "200")
	a.store.Close()
	want(t, "alive", v.get("/healthz"), "200")
	want(t, "static", v.get(static.URL("app.css")), "200")
	got := v.get("/readyz")
	want(t, "ready", got, "503")
	if strings.Contains(got.body, "pool") {
		t.Errorf("readyz tells %q", got.body)
	}
	page := v.get("/account")
	want(t, "page", page, "500")
	says(t, page, "Our mistake")
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	v := a.as(member)
	token := a.mustLink(jobs.LinkReset, member)
	v.header.Set("X-Request-Id", "from-the-proxy.1")
	v.get("/reset?token=" + token)
	v.post("/reset", "token", token, "password", "hunter2 hunter2")
	v.header.Set("X-Request-Id", "bad id\"")
	v.get("/signin?token=" + token)
	log := a.log.String()
	for _, secret := range []string{token, "hunter2", v.cookie(sessionCookie)} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
	for _, want := range []string{"request=from-the-proxy.1 method=GET path=/reset status=200", "address=" + v.header.Get("X-Forwarded-For"), fmt.Sprintf("user=%d", member.ID)} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "bad id") {
		t.Errorf("the log has what anybody wrote:\n%s", log)
	}
}

// TestErrorsForMachines: a feed and a fragment are not led to a page that they would take for their own.
func TestErrorsForMachines(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	v := a.visitor()
	feed := v.do("GET", "/account", nil, http.Header{"Accept": {"text/event-stream"}})
	want(t, "feed", feed, "401")
	if feed.body != "" {
		t.Errorf("a feed gets a page: %s", feed.body)
	}
	part := v.do("POST", "/account/password", nil, http.Header{"Hx-Request": {"true"}, "Referer": {a.url + "/account?a=b"}})
	want(t, "fragment", part, "401")
	if got := part.header.Get("HX-Redirect"); got != "/signin?return=%2Faccount%3Fa%3Db" {
		t.Errorf("HX-Redirect = %q", got)
	}
	form := v.do("POST", "/account/password", nil, http.Header{"Referer": {a.url + "/account?a=b"}})
	want(t, "form", form, "303 /signin?return=%2Faccount%3Fa%3Db")
	want(t, "form of another host", v.do("POST", "/account/password", nil, http.Header{"Referer": {"http://evil.example/x"}}), "303 /signin")
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	const english, spanish = `<html lang="en"`, `<html lang="es"`
	for accept, page := range map[string]string{
		"": english, "es": spanish, "es-MX,es;q=0.9,en;q=0.8": spanish, "de": english, "en-GB": english, "gl": spanish, "fr, es;q=0.5": spanish, ";;q=x": english,
	} {
		v := a.visitor()
		v.header.Set("Accept-Language", accept)
		got := v.get("/signin")
		if !strings.Contains(got.body, page) {
			t.Errorf("Accept-Language %q: not %s", accept, page)
		}
		if vary := got.header.Get("Vary"); !strings.Contains(vary, "Accept-Language") || !strings.Contains(vary, "Cookie") {
			t.Errorf("Vary = %q", vary)
		}
	}
	v := a.visitor()
	v.header.Set("Accept-Language", "en")
	want(t, "choose Spanish", v.post("/language", "language", "es", "return", "/signin?return=%2Faccount"), "303 /signin?return=%2Faccount")
	says(t, v.get("/signin"), spanish)
	says(t, v.get("/nowhere"), "Aquí no hay nada")
	want(t, "choose Klingon", v.post("/language", "language", "tlh"), "422")
	v.setCookie(languageCookie, "tlh")
	says(t, v.get("/signin"), english)
}

func TestTheme(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	v := a.visitor()
	for theme, html := range map[string]string{"dark": `data-theme="calco-night"`, "light": `data-theme="calco"`} {
		want(t, theme, v.post("/theme", "theme", theme, "return", "/signin"), "303 /signin")
		says(t, v.get("/signin"), html)
	}
	want(t, "auto", v.post("/theme", "theme", "auto"), "303 /")
	if strings.Contains(v.get("/signin").body, "data-theme=") {
		t.Error("auto has a theme of its own")
	}
	want(t, "none", v.post("/theme", "theme", "pink"), "422")
}

// A note comes from the app itself, and not from whoever sets a cookie.
func TestFlash(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	v := a.visitor()
	for _, planted := range []string{"signin.title", "done.nothing", "<b>"} {
		v.setCookie(flashCookie, planted)
		if got := v.get("/signin"); strings.Contains(got.body, `class="note good"`) {
			t.Errorf("the note %q is shown", planted)
		}
	}
}
