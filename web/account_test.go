package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"calco/cloner/jobs"
)

func setCookies(t testing.TB, got answer) map[string]*http.Cookie {
	t.Helper()
	cookies := map[string]*http.Cookie{}
	for _, line := range got.header["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		cookies[c.Name] = c
	}
	return cookies
}

func TestCookies(t *testing.T) {
	t.Parallel()
	plain := newApp(t)
	secure := newApp(t, func(c *Config) { c.BaseURL = &url.URL{Scheme: "https", Host: "calco.example.org"} })
	for _, a := range []*app{plain, secure} {
		a.add(bob, jobs.RoleMember)
		v := a.visitor()
		signedIn := v.post("/signin", "email", bob, "password", password)
		v.setCookie(sessionCookie, setCookies(t, signedIn)[sessionCookie].Value) // the jar keeps secure ones from http
		out := v.post("/signout")
		v.setCookie(flashCookie, "done.signout")
		for _, got := range []answer{signedIn, out, v.get("/signin"), v.post("/language", "language", "es"), v.post("/theme", "theme", "dark")} {
			cookies := setCookies(t, got)
			if len(cookies) == 0 {
				t.Errorf("no cookie: %s", got)
			}
			for _, c := range cookies {
				if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Secure != (a == secure) {
					t.Errorf("cookie %s", c.Raw)
				}
			}
		}
		session := setCookies(t, signedIn)[sessionCookie]
		if left := time.Until(session.Expires); left < 29*24*time.Hour || left > 31*24*time.Hour {
			t.Errorf("the session ends in %s", left)
		}
		if gone := setCookies(t, out)[sessionCookie]; gone == nil || gone.MaxAge >= 0 || gone.Value != "" {
			t.Errorf("sign-out leaves the cookie: %v", gone)
		}
		hsts := signedIn.header.Get("Strict-Transport-Security")
		if (hsts != "") != (a == secure) {
			t.Errorf("Strict-Transport-Security = %q", hsts)
		}
	}
}

// Whoever planted a cookie before is not signed in with it; and a browser that signs in again leaves no session behind.
func TestSessionIsRenewed(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	v := a.visitor()
	v.setCookie(sessionCookie, "planted")
	want(t, "sign in", v.post("/signin", "email", bob, "password", password), "303 /")
	first := v.cookie(sessionCookie)
	if first == "planted" || len(first) != 43 {
		t.Errorf("session cookie %q", first)
	}
	if got := a.query("SELECT count(*) FROM sessions s WHERE s::text LIKE '%" + first + "%' OR token_hash = '" + first + "'"); got[0][0] != "0" {
		t.Error("the token is in the database")
	}
	want(t, "sign in by a link", v.post("/signin/link", "token", a.mustLink(jobs.LinkSignIn, member)), "303 /")
	if v.cookie(sessionCookie) == first {
		t.Error("the session is the old one")
	}
	if got := a.query("SELECT count(*) FROM sessions"); got[0][0] != "1" {
		t.Errorf("%s sessions", got[0][0])
	}
	old := a.visitor()
	old.setCookie(sessionCookie, first)
	want(t, "the old session", old.get("/account"), "303 /signin?return=%2Faccount")
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	v, other := a.as(member), a.as(member)
	token := v.cookie(sessionCookie)
	want(t, "sign out", v.post("/signout"), "303 /signin")
	says(t, v.get("/signin"), "You are signed out.")
	if strings.Contains(v.get("/signin").body, "You are signed out.") {
		t.Error("the note is there twice")
	}
	v.setCookie(sessionCookie, token)
	want(t, "the old cookie", v.get("/account"), "303 /signin?return=%2Faccount")
	want(t, "the other browser", other.get("/account"), "200")
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member, admin := a.add(bob, jobs.RoleMember), a.add(ada, jobs.RoleAdmin)
	here, there := a.as(member), a.as(member)
	says(t, here.get("/account"), "Firefox · Linux")
	ids := a.query("SELECT id FROM sessions ORDER BY id")
	want(t, "of somebody else", a.as(admin).post("/account/sessions/"+ids[1][0]+"/end"), "404")
	want(t, "no number", here.post("/account/sessions/x/end"), "404")
	want(t, "end", here.post("/account/sessions/"+ids[1][0]+"/end"), "303 /account")
	says(t, here.get("/account"), "That browser is signed out.")
	want(t, "there", there.get("/account"), "303 /signin?return=%2Faccount")
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	for name, sql := range map[string]string{
		"a week unused":  "UPDATE sessions SET last_seen_at = now() - interval '8 days'",
		"a month old":    "UPDATE sessions SET created_at = now() - interval '31 days', expires_at = now() - interval '1 second'",
		"user is gone":   "DELETE FROM users",
		"session is cut": "DELETE FROM sessions",
	} {
		v := a.as(member)
		want(t, name, v.get("/account"), "200")
		a.query("BEGIN; " + sql + "; COMMIT; SELECT 1")
		want(t, name, v.get("/account"), "303 /signin?return=%2Faccount")
		if a.query("SELECT count(*) FROM users")[0][0] == "0" {
			member = a.add(bob, jobs.RoleMember)
		}
	}
	// A session in use is noted, so that it goes on; those of the cases above may still be there.
	v := a.as(member)
	a.query("UPDATE sessions SET last_seen_at = now() - interval '6 days'; SELECT 1")
	v.get("/account")
	if got := a.query("SELECT count(*) FROM sessions WHERE last_seen_at > now() - interval '1 minute'"); got[0][0] != "1" {
		t.Errorf("%s visits are noted, want one", got[0][0])
	}
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	here, there := a.as(member), a.as(member)
	for name, form := range map[string][]string{
		"This is not your current password.":            {"wrong", "another password"},
		"This is too short.":                            {password, "short"},
		"The password must not be the e-mail address.":  {password, strings.ToUpper(bob)},
		"This is too long: at most 256 characters.":     {password, strings.Repeat("x", 257)},
		"At least 10 characters. A few words in a row ": {password, "ñññññññññ"}, // nine
	} {
		got := here.post("/account/password", "current", form[0], "password", form[1])
		want(t, name, got, "422")
		says(t, got, name)
	}
	want(t, "change", here.post("/account/password", "current", password, "password", "contraseña nueva"), "303 /account")
	says(t, here.get("/account"), "The password is changed.")
	want(t, "there", there.get("/account"), "303 /signin?return=%2Faccount")
	want(t, "old password", a.visitor().post("/signin", "email", bob, "password", password), "422")
	want(t, "new password", a.visitor().post("/signin", "email", bob, "password", "contraseña nueva"), "303 /")
}

// Somebody who came by a sign-in link, as in the demo, may choose a password without having one.
func TestFirstPassword(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	u, err := a.store.AddUser(t.Context(), bob, jobs.RoleMember, "")
	if err != nil {
		t.Fatal(err)
	}
	want(t, "no password", a.visitor().post("/signin", "email", bob, "password", ""), "422")
	v := a.as(u)
	if strings.Contains(v.get("/account").body, `name="current"`) {
		t.Error("the page asks for a password that is not there")
	}
	want(t, "choose", v.post("/account/password", "password", password), "303 /account")
	want(t, "sign in", a.visitor().post("/signin", "email", bob, "password", password), "303 /")
}

func TestRemoveUser(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	first, second := a.add(ada, jobs.RoleAdmin), a.add(bob, jobs.RoleMember)
	admin, member := a.as(first), a.as(second)
	want(t, "oneself", admin.post("/users/"+id(first.ID)+"/remove"), "409")
	want(t, "remove", admin.post("/users/"+id(second.ID)+"/remove"), "303 /users")
	says(t, admin.get("/users"), "The user is removed.")
	want(t, "the removed", member.get("/account"), "303 /signin?return=%2Faccount")
	want(t, "again", admin.post("/users/"+id(second.ID)+"/remove"), "404")
}
