package dsn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
)

func TestParseConninfo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, url string
		want      Conninfo
	}{
		{"uri", "postgres://u:p@h:1/d", Conninfo{"user": "u", "password": "p", "host": "h", "port": "1", "dbname": "d"}},
		{"the other scheme, the port left out", "postgresql://u@h/d", Conninfo{"user": "u", "password": "", "host": "h", "port": "5432", "dbname": "d"}},
		{"empty port and password", "postgres://u:@h:/d", Conninfo{"user": "u", "password": "", "host": "h", "port": "5432", "dbname": "d"}},
		{
			"percent-encoded", "postgres://u%40x:p%3A%2F%3F%23%5B%5D%40%25%20%C3%BC@h/d%2Fe%20f",
			Conninfo{"user": "u@x", "password": "p:/?#[]@% ü", "host": "h", "port": "5432", "dbname": "d/e f"},
		},
		{"an @ and a : in the password, as people write it", "postgres://u:p@q:r@h/d", Conninfo{"user": "u", "password": "p@q:r", "host": "h", "port": "5432", "dbname": "d"}},
		{"IPv6", "postgres://u@[::1]:2/d", Conninfo{"user": "u", "password": "", "host": "::1", "port": "2", "dbname": "d"}},
		{"IPv6 without port", "postgres://u@[fe80::1%25eth0]/d", Conninfo{"user": "u", "password": "", "host": "fe80::1%eth0", "port": "5432", "dbname": "d"}},
		// net/url refuses a percent-encoded slash in a host, and so did we.
		{"socket as host", "postgres://u@%2Frun%2Fpg:5433/d", Conninfo{"user": "u", "password": "", "host": "/run/pg", "port": "5433", "dbname": "d"}},
		{"socket as parameter", "postgres://u@/d?host=/run/pg&port=5433", Conninfo{"user": "u", "password": "", "host": "/run/pg", "port": "5433", "dbname": "d"}},
		// net/url knows one host only; lists with ports were refused.
		{"hosts with ports", "postgres://u@a:1,b:2/d", Conninfo{"user": "u", "password": "", "host": "a,b", "port": "1,2", "dbname": "d"}},
		{"hosts, one port", "postgres://u@a,b:2/d", Conninfo{"user": "u", "password": "", "host": "a,b", "port": ",2", "dbname": "d"}},
		{"hosts, no port", "postgres://u@a,b/d", Conninfo{"user": "u", "password": "", "host": "a,b", "port": "5432", "dbname": "d"}},
		{"IPv6 hosts with ports", "postgres://u@[::1]:1,[::2]:2,c:3/d", Conninfo{"user": "u", "password": "", "host": "::1,::2,c", "port": "1,2,3", "dbname": "d"}},
		{
			"parameters", "postgres://u@h/d?sslmode=verify-full&options=-c%20geqo%3Doff&connect_timeout=3",
			Conninfo{"user": "u", "password": "", "host": "h", "port": "5432", "dbname": "d", "sslmode": "verify-full", "options": "-c geqo=off", "connect_timeout": "3"},
		},
		{"everything in parameters", "postgres://?host=h&user=u&password=p&database=d", Conninfo{"user": "u", "password": "p", "host": "h", "port": "5432", "dbname": "d"}},
		// It was read as a space, which it is in no connection string, only in web forms.
		{"a plus in a parameter", "postgres://u@h/d?password=a+b%2B", Conninfo{"user": "u", "password": "a+b+", "host": "h", "port": "5432", "dbname": "d"}},
		{"a plus elsewhere", "postgres://u+v:a+b@h/d+e", Conninfo{"user": "u+v", "password": "a+b", "host": "h", "port": "5432", "dbname": "d+e"}},
		{"a semicolon in a parameter", "postgres://u@h/d?password=a;b", Conninfo{"user": "u", "password": "a;b", "host": "h", "port": "5432", "dbname": "d"}},
		{"the last of duplicates wins", "postgres://u@h/d?sslmode=a&sslmode=b&dbname=e", Conninfo{"user": "u", "password": "", "host": "h", "port": "5432", "dbname": "e", "sslmode": "b"}},
		{"JDBC's ssl", "postgres://u@h/d?ssl=true", Conninfo{"user": "u", "password": "", "host": "h", "port": "5432", "dbname": "d", "sslmode": "require"}},
		{"keywords", "host=h user=u dbname=d", Conninfo{"user": "u", "host": "h", "port": "5432", "dbname": "d"}},
		{
			"keywords with spaces and quotes", "  host = h\tuser='u v'\n dbname='it''s' ",
			nil, // libpq ends a quoted value at the quote: s'' is no keyword
		},
		{"escapes in keywords", `host=h user='u\'v' dbname=a\ b\\c password=''`, Conninfo{"user": "u'v", "host": "h", "port": "5432", "dbname": `a b\c`, "password": ""}},
		{"a password like a keyword", `host=h user=u dbname=d password='x host=y'`, Conninfo{"user": "u", "host": "h", "port": "5432", "dbname": "d", "password": "x host=y"}},
		{"duplicate keywords", "host=h host=i user=u dbname=d", Conninfo{"user": "u", "host": "i", "port": "5432", "dbname": "d"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(tt.url)
			if tt.want == nil {
				if err == nil {
					t.Fatalf("parseConninfo = %v, want an error", map[string]string(got))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", map[string]string(got), map[string]string(tt.want))
			}
			again, err := Parse(got.String())
			if err != nil || !maps.Equal(again, got) {
				t.Errorf("its String is read as %q, %v", map[string]string(again), err)
			}
		})
	}
}

func TestURLCheck(t *testing.T) {
	t.Parallel()
	const encode = "it cannot be read; special characters of the password, such as @ : / ? # %, must be percent-encoded"
	tests := []struct{ name, url, want string }{
		{"empty", "", "it names no host"},
		{"a word", "secret", "it cannot be read"},
		{"another scheme", "mysql://u:secret@h/d", "it cannot be read"},
		{"no host", "postgres://u:secret@/d", "it names no host"},
		{"no user", "postgres://h/d", "it names no user"},
		{"no database", "postgres://u:secret@h/", "it names no database"},
		{"port", "postgres://u:secret@h:secret/d", encode},
		{"bad escape", "postgres://u:secret%zz@h/d", encode},
		{"open bracket", "postgres://u:secret@[::1/d", encode},
		{"after the bracket", "postgres://u:secret@[::1]secret/d", encode},
		{"unknown parameter", "postgres://u:secret@h/d?pgbouncer=true", `it has the parameter "pgbouncer", which PostgreSQL's own tools do not know`},
		{"parameter without value", "postgres://u:secret@h/d?secret", encode},
		{"service", "postgres://u@h/d?service=x", `it has the parameter "service", which PostgreSQL's own tools do not know`},
		{"passfile", "host=h user=u dbname=d passfile=/x", `it has the parameter "passfile", which PostgreSQL's own tools do not know`},
		{"zero byte", "postgres://u:sec%00ret@h/d", "it holds a zero byte"},
		{"fragment", "postgres://u:sec#secret@h/d", "it holds a #, which must be written as %23"},
		// A password with an unescaped character ends up where something else is expected,
		// and was quoted in the error as the name of a parameter.
		{"? in the password", "postgres://u:12?secret@h/d", encode},
		{"?= in the password", "postgres://u:12?secret=x@h/d", "it names no user"},
		{"/ in the password", "postgres://u:12/secret@h/d", encode},
		{"@/ in the password", "postgres://u:12@34/secret@h/d", encode},
		{"@/? in the password", "postgres://u:12@34/56?secret=x@h/d", `it has the parameter "secret", which PostgreSQL's own tools do not know`},
		{"@/?= in the password", "postgres://u:12@34/56?secret@h=x/d", encode},
		{"unquoted password", "host=h user=u password=sec secret dbname=d", "it cannot be read"},
		{"open quote", "host=h user=u dbname=d password='secret", "it cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := URL(tt.url).Check()
			if err == nil || err.Error() != tt.want {
				t.Fatalf("Check = %v, want %q", err, tt.want)
			}
			if got := URL(tt.url).String(); got != "invalid connection URL" {
				t.Errorf("String = %q", got)
			}
		})
	}
	if err := URL("postgres://u:p@h/d?ssl=true&sslrootcert=/x").Check(); err != nil {
		t.Errorf("Check of a good one = %v", err)
	}
}

func TestURLHidesPassword(t *testing.T) {
	t.Parallel()
	u := URL("postgres://u:sesame@h/d")
	type spec struct{ Source, Target URL }
	type wrapped struct {
		URL  URL
		List []URL
		Spec *spec
	}
	w := wrapped{u, []URL{u}, &spec{Source: u}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "url", u, "spec", spec{Source: u, Target: u}, "w", w)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "url", u, "spec", spec{Source: u, Target: u}, "w", w)
	j, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{
		"String": u.String(), "GoString": u.GoString(), "slog": log.String(), "json": string(j),
		"%v": fmt.Sprintf("%v %v %v", u, w, *w.Spec), "%+v": fmt.Sprintf("%+v %+v %+v", u, w, *w.Spec),
		"%#v": fmt.Sprintf("%#v %#v %#v", u, w, *w.Spec), "%s": fmt.Sprintf("%s %s", u, []URL{u}), "%q": fmt.Sprintf("%q", u),
	}
	for how, text := range shown {
		if strings.Contains(text, "sesame") {
			t.Errorf("%s shows the password: %s", how, text)
		}
		if !strings.Contains(text, "u@h:5432/d") {
			t.Errorf("%s does not show the rest: %s", how, text)
		}
	}
	info, err := Parse(string(u))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.ForLibpq("x", 15); strings.Contains(got, "sesame") {
		t.Errorf("pg_dump's command line shows the password: %s", got)
	}
}

// pg_dump of an older version stopped at a keyword that pgx knows, after the clone had begun.
func TestForLibpq(t *testing.T) {
	t.Parallel()
	info := Conninfo{"host": "h", "require_auth": "scram-sha-256", "sslnegotiation": "direct"}
	for version, want := range map[int]string{
		15: `application_name='a' connect_timeout='15' host='h' require_auth='scram-sha-256'`,
		16: `application_name='a' connect_timeout='15' host='h' require_auth='scram-sha-256'`,
		17: `application_name='a' connect_timeout='15' host='h' require_auth='scram-sha-256' sslnegotiation='direct'`,
	} {
		if got := info.ForLibpq("a", version); got != want {
			t.Errorf("%d: got %s, want %s", version, got, want)
		}
	}
}

// FuzzURL: no input makes the parser panic, and neither errors nor prints hold the password.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"postgres://u:%s@h:1/d?sslmode=require", "postgres://u@h/d?password=%s", "host=h user=u password=%s dbname=d",
		"postgres://u:%s@[::1]:1,b:2/d", "postgres://u:%s@%%2Ftmp/d", "%s", "postgres://u:%s@h", "postgres://u:%s%%zz@h/d",
		"password=%s =", "password='%s", "postgres://u:%s@h/d?x=1", "postgresql://u:%s@h:port/d", "user=u password=%s",
	} {
		f.Add(seed)
	}
	const secret = "Zx9sesame"
	f.Fuzz(func(t *testing.T, s string) {
		withSecret := strings.ReplaceAll(s, "%s", secret)
		u := URL(withSecret)
		info, err := Parse(withSecret)
		shown := fmt.Sprint(u, u.GoString(), u.Check())
		if err == nil {
			if c, err := Parse(info.String()); err != nil || !maps.Equal(c, info) {
				t.Fatalf("%q: its String is read as %q, %v", withSecret, map[string]string(c), err)
			}
			shown += info.ForLibpq("a", 15)
			for k, v := range info {
				if k != "password" && strings.Contains(v, secret) {
					return // it was written where everybody shows it
				}
			}
		} else if strings.Contains(err.Error(), `"`) {
			return // the name of a parameter, where a password is none
		}
		if strings.Contains(shown, secret) {
			t.Fatalf("%q shows its password: %s", withSecret, shown)
		}
	})
}
