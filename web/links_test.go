package web

import (
	"strings"
	"sync"
	"testing"

	"calco/cloner/jobs"
)

// mustLink makes a one-time link for a user, past the pages.
func (a *app) mustLink(kind jobs.LinkKind, u jobs.User) string {
	a.t.Helper()
	token, err := a.store.NewUserLink(a.t.Context(), kind, u.ID)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(token)
}

func (a *app) mustSetup() string {
	a.t.Helper()
	token, err := a.store.NewSetupLink(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	return string(token)
}

func TestSetup(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	token, other := a.mustSetup(), a.mustSetup()
	v := a.visitor()
	says(t, v.get("/signin"), "Calco has no users yet")
	says(t, v.get("/setup?token="+token), `name="token" value="`+token+`"`)

	bad := v.post("/setup", "token", token, "email", "ada", "password", "short")
	want(t, "a bad form", bad, "422")
	says(t, bad, `value="ada"`)
	says(t, bad, "This is not an e-mail address.")
	says(t, bad, "This is too short.")

	want(t, "set-up", v.post("/setup", "token", token, "email", " "+ada+" ", "password", password), "303 /")
	want(t, "the page after it", v.get("/users"), "200") // an admin
	for what, token := range map[string]string{"the same link": token, "another link": other} {
		want(t, what, a.visitor().get("/setup?token="+token), "410")
		want(t, what, a.visitor().post("/setup", "token", token, "email", bob, "password", password), "410")
	}
	if got := a.query("SELECT email, role FROM users"); len(got) != 1 || got[0][0] != ada || got[0][1] != "admin" {
		t.Errorf("users = %v", got)
	}
	if _, err := a.store.NewSetupLink(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "a link made when somebody is there", a.visitor().get("/setup?token="+a.mustSetup()), "410")
}

// Two people may open the set-up link, or two links, at once.
func TestSetupAtOnce(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	links := []string{a.mustSetup(), a.mustSetup()}
	links = append(links, links...)
	answers := make([]answer, len(links))
	var all sync.WaitGroup
	for i, token := range links {
		v := a.visitor()
		all.Go(func() {
			answers[i] = v.post("/setup", "token", token, "email", []string{ada, bob, "eve@example.org", "mal@example.org"}[i], "password", password)
		})
	}
	all.Wait()
	made := map[string]int{}
	for _, got := range answers {
		made[got.String()]++
	}
	if made["303 /"] != 1 || made["410"] != 3 {
		t.Errorf("answers = %v, want one user and three used-up links", made)
	}
	if got := a.query("SELECT count(*) FROM users"); got[0][0] != "1" {
		t.Errorf("%s users", got[0][0])
	}
}

func TestInvite(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	admin := a.as(a.add(ada, jobs.RoleAdmin))
	want(t, "no address", admin.post("/users", "email", "bob"), "422")
	want(t, "a user", admin.post("/users", "email", "ADA@example.org"), "422")
	first := admin.post("/users", "email", bob)
	says(t, first, `value="/join?token=`) // to which the browser adds where it is
	again := admin.post("/users", "email", "Bob@example.org", "admin", "yes")
	v := a.visitor()
	want(t, "the earlier invitation", v.get("/join?token="+tokenIn(t, first.body)), "410")

	token := tokenIn(t, again.body)
	says(t, v.get("/join?token="+token), `value="Bob@example.org"`)
	want(t, "the wrong page", v.get("/setup?token="+token), "410")
	want(t, "the wrong page", v.get("/reset?token="+token), "410")
	want(t, "the wrong page", v.get("/signin?token="+token), "410")
	want(t, "the address as password", v.post("/join", "token", token, "password", "BOB@EXAMPLE.ORG"), "422")
	// Who is invited cannot choose to be somebody else.
	want(t, "join", v.post("/join", "token", token, "password", password, "email", "eve@example.org"), "303 /")
	says(t, v.get("/account"), "Bob@example.org")
	want(t, "join again", a.visitor().post("/join", "token", token, "password", password), "410")
	if got := a.query("SELECT email, role FROM users ORDER BY id"); len(got) != 2 || got[1][0] != "Bob@example.org" || got[1][1] != "admin" {
		t.Errorf("users = %v", got)
	}
}

func TestUninvite(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	admin := a.as(a.add(ada, jobs.RoleAdmin))
	token := tokenIn(t, admin.post("/users", "email", bob).body)
	id := a.query("SELECT id FROM links WHERE email = '" + bob + "'")[0][0]
	want(t, "take back", admin.post("/invitations/"+id+"/remove"), "303 /users")
	says(t, admin.get("/users"), "The invitation is taken back.")
	want(t, "the link", a.visitor().get("/join?token="+token), "410")
	want(t, "take back again", admin.post("/invitations/"+id+"/remove"), "404")
}

func TestReset(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	admin, member := a.as(a.add(ada, jobs.RoleAdmin)), a.add(bob, jobs.RoleMember)
	elsewhere := a.as(member)
	made := admin.post("/users/" + id(member.ID) + "/reset")
	token := tokenIn(t, made.body)
	says(t, made, `value="/reset?token=`+token)
	other := a.mustLink(jobs.LinkSignIn, member)

	v := a.visitor()
	says(t, v.get("/reset?token="+token), bob)
	want(t, "reset", v.post("/reset", "token", token, "password", "another password"), "303 /")
	want(t, "signed in", v.get("/account"), "200")
	want(t, "the other browser", elsewhere.get("/account"), "303 /signin?return=%2Faccount")
	want(t, "the link again", a.visitor().post("/reset", "token", token, "password", password), "410")
	want(t, "a sign-in link from before", a.visitor().post("/signin/link", "token", other), "410")
	want(t, "the old password", a.visitor().post("/signin", "email", bob, "password", password), "422")
	want(t, "the new password", a.visitor().post("/signin", "email", bob, "password", "another password"), "303 /")
	want(t, "the admin stays", admin.get("/account"), "200")
}

func TestSignInLink(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	token := a.mustLink(jobs.LinkSignIn, member)
	v := a.visitor()
	for range 3 { // programs that look into mails visit it too
		says(t, v.get("/signin?token="+token), "Sign in as "+bob)
	}
	want(t, "HEAD", v.do("HEAD", "/signin?token="+token, nil, nil), "200")
	want(t, "the button", v.post("/signin/link", "token", token), "303 /")
	want(t, "signed in", v.get("/account"), "200")
	want(t, "visit again", a.visitor().get("/signin?token="+token), "410")
	want(t, "press again", a.visitor().post("/signin/link", "token", token), "410")
}

func TestBadTokens(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	member := a.add(bob, jobs.RoleMember)
	old := a.mustLink(jobs.LinkReset, member)
	a.query("UPDATE links SET created_at = now() - interval '2 days', expires_at = now() - interval '1 second'; SELECT 1")
	for name, token := range map[string]string{
		"unknown": string(jobs.NewToken()), "empty": "", "expired": old, "long": strings.Repeat("x", 5000),
	} {
		v := a.visitor()
		want(t, name, v.post("/reset", "token", token, "password", password), "410")
		want(t, name, v.post("/signin/link", "token", token), "410")
	}
	want(t, "expired", a.visitor().get("/reset?token="+old), "410")
	// The database holds no token that could be used.
	fresh := a.mustLink(jobs.LinkReset, member)
	if got := a.query("SELECT count(*) FROM links l WHERE l::text LIKE '%" + fresh + "%'"); got[0][0] != "0" {
		t.Error("the token is in the database")
	}
}
