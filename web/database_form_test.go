package web

import (
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"calco/views"
)

// What is typed into the fields reaches the server as it was typed, whatever means something in a URL.
func TestURLOfFields(t *testing.T) {
	const secret = `p@:/?#[]&= +%41'"\ñ`
	for _, tt := range []struct{ name, host, port, database, user, password, wantHost string }{
		{"plain", "db.example.com", "5433", "shop", "app", "secret", "db.example.com"},
		{"port left out", "localhost", "", "shop", "app", "secret", "localhost"},
		{"no password", "db", "5432", "shop", "app", "", "db"},
		{"IPv6", "::1", "5432", "shop", "app", "secret", "::1"},
		{"IPv6 in brackets", "[2001:db8::7]", "5432", "shop", "app", "secret", "2001:db8::7"},
		{"IPv4", "192.0.2.7", "5432", "shop", "app", "secret", "192.0.2.7"},
		{"special characters", "db.example.com", "5432", secret, secret, secret, "db.example.com"},
		{"spaces around a password", "db.example.com", "5432", "shop", "app", " secret ", "db.example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := parseDatabase(url.Values{
				"way": {"fields"}, "host": {tt.host}, "port": {tt.port}, "database": {tt.database}, "user": {tt.user},
				"password": {tt.password}, "tls": {"require"},
			}, nil)
			if f.wrong() {
				t.Fatalf("got errors %v %q", f.seen.Errors, f.seen.BadURL)
			}
			config, err := pgx.ParseConfig(string(f.url))
			if err != nil {
				t.Fatal(err)
			}
			got := [4]string{config.Host, config.Database, config.User, config.Password}
			if want := [4]string{tt.wantHost, tt.database, tt.user, tt.password}; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if config.TLSConfig == nil {
				t.Error("TLS was required, and is off")
			}
		})
	}
}

func TestTLSModes(t *testing.T) {
	for _, tt := range []struct{ typed, want string }{
		{"", "sslmode=prefer"},
		{"prefer", "sslmode=prefer"},
		{"require", "sslmode=require"},
		{"verify-full", "sslmode=verify-full&sslrootcert=system"},
		{"disable&host=elsewhere", "sslmode=prefer"},
	} {
		f := parseDatabase(url.Values{"host": {"db"}, "database": {"shop"}, "user": {"app"}, "tls": {tt.typed}}, nil)
		if _, got, _ := strings.Cut(string(f.url), "?"); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.typed, got, tt.want)
		}
	}
}

func TestParseDatabaseErrors(t *testing.T) {
	fields := func(name, value string) url.Values {
		typed := url.Values{"way": {"fields"}, "host": {"db"}, "database": {"shop"}, "user": {"app"}, "password": {"hunter2"}}
		typed.Set(name, value)
		return typed
	}
	for _, tt := range []struct {
		name   string
		typed  url.Values
		field  string // with an error
		badURL string // a part of the engine's sentence
	}{
		{"no host", fields("host", ""), "host", ""},
		{"host with a port", fields("host", "db:5432"), "host", ""},
		{"several hosts", fields("host", "a,b"), "host", ""},
		{"folder of a socket", fields("host", "/var/run/postgresql"), "host", ""},
		{"abstract socket", fields("host", "@pg"), "host", ""},
		{"escaped host", fields("host", "%2fvar%2frun"), "host", ""},
		{"host with a zone", fields("host", "fe80::1%eth0"), "host", ""},
		{"port of letters", fields("port", "pg"), "port", ""},
		{"port too high", fields("port", "65536"), "port", ""},
		{"port 0", fields("port", "0"), "port", ""},
		{"no database", fields("database", ""), "database", ""},
		{"no user", fields("user", ""), "user", ""},
		{"zero byte", fields("password", "a\x00b"), "", "zero byte"},
		{"URL without a user", url.Values{"url": {"postgres://db.example.com/shop"}}, "", "names no user"},
		{"URL without a database", url.Values{"url": {"postgres://app:hunter2@db.example.com"}}, "", "names no database"},
		{"URL with an open /", url.Values{"url": {"postgres://app:hunt/er2@db.example.com/shop"}}, "", "cannot be read"},
		{"no URL at all", url.Values{"url": {"hunter2"}}, "", "cannot be read"},
		{"too long a URL", url.Values{"url": {"postgres://app@db/" + strings.Repeat("x", maxURL)}}, "", "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := parseDatabase(tt.typed, nil)
			if f.url != "" || !f.wrong() {
				t.Errorf("got the URL of %v", f.url)
			}
			if tt.field != "" && f.seen.Errors[tt.field] == "" {
				t.Errorf("no error at %s: %v", tt.field, f.seen.Errors)
			}
			if !strings.Contains(f.seen.BadURL, tt.badURL) || (tt.badURL == "") != (f.seen.BadURL == "") {
				t.Errorf("got the sentence %q, want one with %q", f.seen.BadURL, tt.badURL)
			}
		})
	}
}

// What can be seen counts: the URL by default, the fields when they are chosen, and what is filled in when the chosen
// one is empty.
func TestWay(t *testing.T) {
	const typedURL = "postgres://url@db/shop"
	fields := url.Values{"host": {"db"}, "database": {"shop"}, "user": {"fields"}}
	for _, tt := range []struct {
		name, way, url string
		fields         bool
		wantWay, want  string
	}{
		{"URL", "url", typedURL, false, views.WayURL, "url@db:5432/shop"},
		{"URL wins", "", typedURL, true, views.WayURL, "url@db:5432/shop"},
		{"fields chosen", "fields", typedURL, true, views.WayFields, "fields@db:5432/shop"},
		{"fields empty", "fields", typedURL, false, views.WayURL, "url@db:5432/shop"},
		{"URL empty", "url", "", true, views.WayFields, "fields@db:5432/shop"},
		{"nothing", "fields", "", false, views.WayFields, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			typed := url.Values{"way": {tt.way}, "url": {tt.url}}
			if tt.fields {
				for name, v := range fields {
					typed[name] = v
				}
			}
			f := parseDatabase(typed, nil)
			got := ""
			if f.url != "" {
				got = f.url.String()
			}
			if f.seen.Way != tt.wantWay || got != tt.want {
				t.Errorf("got %s by %s, want %s by %s", got, f.seen.Way, tt.want, tt.wantWay)
			}
			if f.empty != (tt.want == "") {
				t.Errorf("got empty %v", f.empty)
			}
		})
	}
}

// A form names no file of the machine that Calco runs on.
func TestFormReachesNothingOfTheMachine(t *testing.T) {
	for _, typed := range []string{
		"postgres://u:p@127.0.0.1/x?sslrootcert=/dev/zero", "postgres://u:p@h/x?sslkey=/etc/calco/key",
	} {
		f := parseDatabase(url.Values{"way": {"url"}, "url": {typed}}, nil)
		if f.seen.BadURL == "" || f.url != "" {
			t.Errorf("%s can be used", typed)
		}
	}
}

// What is pasted goes into the URL, which never comes back.
func TestPastedPEM(t *testing.T) {
	for _, tt := range []struct{ name, field string }{{"authority", "authority"}, {"certificate", "certificate"}, {"key", "certificate"}} {
		f := parseDatabase(url.Values{"url": {"postgres://app@db/shop"}, tt.name: {"-----BEGIN canary"}}, nil)
		if f.url != "" || f.seen.Errors[tt.field] == "" || !f.seen.Retype {
			t.Errorf("%s: %v, %v", tt.name, f.url, f.seen)
		}
	}
	f := parseDatabase(url.Values{"key": {"-----BEGIN canary"}}, nil)
	f.needURL(true)
	if f.seen.Errors["url"] == "" {
		t.Error("a key without a URL is taken, and gets lost")
	}
}
