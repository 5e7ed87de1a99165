package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"calco/cloner/jobs"
)

func id(n int64) string { return strconv.FormatInt(n, 10) }

func TestSignIn(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	v := a.visitor()
	wrong := v.post("/signin", "email", bob, "password", "wrong", "return", "/account?x=1")
	want(t, "wrong", wrong, "422")
	says(t, wrong, "E-mail and password do not match.")
	says(t, wrong, `value="/account?x=1"`)
	unknown := a.visitor().post("/signin", "email", "bop@example.org", "password", "wrong", "return", "/account?x=1")
	// Nobody learns from the answer who is a user.
	if got := bytes.ReplaceAll([]byte(unknown.body), []byte("bop@"), []byte("bob@")); string(got) != wrong.body || unknown.status != wrong.status {
		t.Errorf("for an unknown user: %s\nand for a known one: %s", got, wrong.body)
	}
	for _, form := range [][]string{{"", ""}, {bob, ""}, {bob, string(bytes.Repeat([]byte("x"), 300))}} {
		want(t, fmt.Sprintf("%q", form), a.visitor().post("/signin", "email", form[0], "password", form[1]), "422")
	}
	for _, email := range []string{"b\x00b", "\xff"} { // PostgreSQL takes no such text: this was a fault of the server
		want(t, fmt.Sprintf("%q", email), a.visitor().post("/signin", "email", email, "password", password), "400")
	}
	want(t, "right", v.post("/signin", "email", " BOB@example.org ", "password", password, "return", "/account?x=1"), "303 /account?x=1")
	want(t, "signed in", v.get("/account"), "200")
}

func TestReturn(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	for path, leads := range map[string]string{
		"/account":               "/account",
		"/clones/7?a=b&c=%2F":    "/clones/7?a=b&c=%2F",
		"":                       "/",
		"account":                "/",
		"//evil.example":         "/",
		"///evil.example":        "/",
		`/\evil.example`:         "/",
		"\t//evil.example":       "/",
		"/\t/evil.example":       "/",
		"https://evil.example":   "/",
		"javascript:alert(1)":    "/",
		"/%zz":                   "/",
		"/a\r\nSet-Cookie: b=c":  "/",
		"https:/evil.example":    "/",
		" /evil":                 "/",
		"/ok/../../evil.example": "/ok/../../evil.example",
	} {
		v := a.visitor()
		got := v.post("/signin", "email", bob, "password", password, "return", path)
		want(t, fmt.Sprintf("return=%q", path), got, "303 "+leads)
		want(t, fmt.Sprintf("language, return=%q", path), v.post("/language", "language", "es", "return", path), "303 "+leads)
	}
}

// attempts are counted per account, from whichever address they come.
func TestSignInWaits(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	for _, email := range []string{bob, "nobody@example.org"} {
		for i := range 5 {
			want(t, fmt.Sprintf("attempt %d", i+1), a.visitor().post("/signin", "email", email, "password", "wrong"), "422")
		}
		got := a.visitor().post("/signin", "email", email, "password", password)
		want(t, "one more, though it is right", got, "429")
		if s, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || s < 1 || s > 3 {
			t.Errorf("Retry-After = %q", got.header.Get("Retry-After"))
		}
		says(t, got, "Too many attempts for this account. Try again in ")
	}
	a.query("UPDATE signin_attempts SET next_at = now(); SELECT 1")
	v := a.visitor()
	want(t, "after the wait", v.post("/signin", "email", bob, "password", password), "303 /")
	for i := range 4 { // forgiven
		want(t, fmt.Sprintf("attempt %d", i+1), a.visitor().post("/signin", "email", bob, "password", "wrong"), "422")
	}
	// The change of password counts too: a browser left open must not be a way to guess.
	for range 5 {
		v.post("/account/password", "current", "wrong", "password", "another password")
	}
	says(t, v.post("/account/password", "current", password, "password", "another password"), "Too many attempts.")
}

// Whoever has signed in before gets in, however often strangers try: anybody could lock an account, for as long as he wanted.
// The owner's own browser is no way to guess either.
func TestStrangersLockNobodyOut(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	a.add("eve@example.org", jobs.RoleMember)
	owner, eve := a.visitor(), a.visitor()
	want(t, "the owner", owner.post("/signin", "email", bob, "password", password), "303 /")
	want(t, "out", owner.post("/signout"), "303 /signin")
	want(t, "somebody else", eve.post("/signin", "email", "eve@example.org", "password", password), "303 /")
	want(t, "out", eve.post("/signout"), "303 /signin")
	want(t, "a wrong password", a.visitor().post("/signin", "email", bob, "password", "wrong"), "422")
	a.query("UPDATE signin_attempts SET next_at = now() + interval '5 minutes'; SELECT 1")
	want(t, "a stranger", a.visitor().post("/signin", "email", bob, "password", password), "429")
	want(t, "whose browser is known for another account", eve.post("/signin", "email", bob, "password", password), "429")
	want(t, "the owner", owner.post("/signin", "email", bob, "password", password), "303 /")
	want(t, "changes the password", owner.post("/account/password", "current", password, "password", "another password"), "303 /account")
	want(t, "out", owner.post("/signout"), "303 /signin")
	want(t, "a wrong one", owner.post("/signin", "email", bob, "password", "wrong"), "422")
	a.query("UPDATE signin_attempts SET next_at = now() + interval '5 minutes'; SELECT 1")
	want(t, "too many of the owner's own", owner.post("/signin", "email", bob, "password", "another password"), "429")
}

// A statement that counted attempts made at the same time used to find no row, and the answer was 404.
func TestAttemptsAtOnce(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.add(bob, jobs.RoleMember)
	const n = 30
	answers := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		v := a.visitor()
		all.Go(func() { answers[i] = v.post("/signin", "email", bob, "password", "wrong").String() })
	}
	all.Wait()
	got := map[string]int{}
	for _, s := range answers {
		got[s]++
	}
	if got["422"]+got["429"] != n || got["422"] < 5 || got["422"] > 8 { // a wait may end meanwhile
		t.Errorf("answers = %v, want about 5 wrong passwords, and the others to wait", got)
	}
}

func TestLimitPerAddress(t *testing.T) {
	t.Parallel()
	proxy := newApp(t)
	direct := newApp(t, func(c *Config) { c.TrustedProxies = nil })
	tries := func(a *app, address func(int) string) (limited int) {
		for i := range 8 {
			v := a.visitor()
			v.header.Set("X-Forwarded-For", address(i))
			if got := v.post("/signin", "email", fmt.Sprintf("u%d@example.org", i), "password", "wrong"); got.status == http.StatusTooManyRequests {
				limited++
				if got.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				says(t, got, "Too many attempts")
			}
		}
		return limited
	}
	one := func(int) string { return "203.0.113.9" }
	each := func(i int) string { return fmt.Sprintf("203.0.113.%d", 100+i) }
	house := func(i int) string { return fmt.Sprintf("2001:db8:1:2::%d", i) }
	spoofed := func(i int) string { return fmt.Sprintf("203.0.113.%d, 198.51.100.200", i) }
	for _, c := range []struct {
		name    string
		app     *app
		address func(int) string
		limited int
	}{
		{"one address, by a trusted proxy", proxy, one, 3},
		{"many addresses, by a trusted proxy", proxy, each, 0},
		{"one house with IPv6", proxy, house, 3},
		{"made-up addresses before the one that the proxy saw", proxy, spoofed, 3},
		{"made-up addresses, without a proxy", direct, each, 3},
	} {
		if got := tries(c.app, c.address); got != c.limited {
			t.Errorf("%s: %d of 8 attempts are limited, want %d", c.name, got, c.limited)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"10.1.2.3:1", "203.0.113.1", "203.0.113.1"},
		{"10.1.2.3:1", "1.1.1.1, 203.0.113.1, 10.9.9.9", "203.0.113.1"},
		{"[2001:db8::1]:1", "203.0.113.1", "203.0.113.1"},
		{"10.1.2.3:1", "rubbish", "10.1.2.3"},
		{"192.168.0.1:1", "203.0.113.1", "192.168.0.1"}, // private, and not trusted
		{"127.0.0.1:1", "203.0.113.1", "127.0.0.1"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = c.peer
		r.Header.Set("X-Forwarded-For", c.forwarded)
		if got := clientAddress(proxies)(r); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

func TestPasswordSlots(t *testing.T) {
	t.Parallel()
	p, err := newPasswords()
	if err != nil {
		t.Fatal(err)
	}
	for range hashSlots {
		if err := p.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.check(ctx, password, ""); ctx.Err() == nil || err == nil {
		t.Errorf("check with all slots taken: %v, want it to wait", err)
	}
	done := make(chan error)
	go func() { _, err := p.hash(t.Context(), password); done <- err }()
	p.give()
	if err := <-done; err != nil {
		t.Errorf("hash with a slot: %v", err)
	}
}
