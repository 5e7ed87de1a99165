package cloner

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// Without a file of Calco's machine there was no way to a server that has an authority of its own, or asks for certificates.
func TestPastedCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := dbtest.NewAuthority(t), dbtest.NewAuthority(t)
	server := dbtest.Cluster(t, nil)
	at := server.URL("postgres")
	write := func(content, where string) {
		dbtest.Exec(t, at, fmt.Sprintf(`COPY (SELECT unnest(string_to_array(%s, chr(10)))) TO PROGRAM 'umask 077; %s'`, session.QuoteLiteral(content), where))
	}
	certificate, key := a.Of("localhost")
	write(certificate, "cat > server.crt")
	write(key, "cat > server.key")
	write(a.PEM, "cat > root.crt")
	write("hostssl all certified all cert\nhostnossl all certified all reject", "cat - pg_hba.conf > new && mv new pg_hba.conf")
	dbtest.Exec(t, at, `CREATE ROLE certified LOGIN SUPERUSER`)
	dbtest.Exec(t, at, `ALTER SYSTEM SET ssl_ca_file = 'root.crt'`)
	dbtest.Exec(t, at, `ALTER SYSTEM SET ssl = on`)
	dbtest.Exec(t, at, `SELECT pg_reload_conf()`)
	dbtest.Await(t, at, `SELECT current_setting('ssl') = 'on'`)
	dbtest.Exec(t, at, `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)`)

	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	plain := dsn.URL("postgres://certified@localhost:" + u.Port() + "/postgres?sslmode=verify-full")
	own, ownKey := a.Of("certified")
	source, err := plain.WithCertificates(a.PEM, own, ownKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.CheckRemote(nil); err != nil {
		t.Error(err)
	}
	result, err := Clone(t.Context(), Spec{Source: source, Target: dsn.URL(dbtest.Database(t))}, Options{})
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("%s, %v, %+v", result.Status, err, result.Reasons)
	}
	said, err := json.Marshal(result)
	if err != nil || strings.Contains(string(said)+fmt.Sprintf("%v %#v", source, source), "BEGIN") {
		t.Errorf("the report has a certificate: %v", err)
	}
	for name, with := range map[string][3]string{
		"another authority": {stranger.PEM, own, ownKey},
		"no certificate":    {a.PEM, "", ""},
	} {
		u, err := plain.WithCertificates(with[0], with[1], with[2])
		if err != nil {
			t.Fatal(err)
		}
		var refused *report.RefusedError
		if _, err := Inspect(t.Context(), u, nil); !errors.As(err, &refused) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	for want, with := range map[error][3]string{
		dsn.ErrAuthority: {"canary", "", ""},
		dsn.ErrKeyPair:   {"", own, key},
	} {
		if _, err := plain.WithCertificates(with[0], with[1], with[2]); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
