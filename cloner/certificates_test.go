package cloner

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"calco/cloner/report"
	"calco/db/dbtest"
)

// authority signs the certificates of a test.
type authority struct {
	testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{TB: t}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a.pem, _, a.key = a.issue(a.certificate)
	return a
}

// issue makes a key, and a certificate of it that the authority has signed, or the key itself while there is none.
func (a *authority) issue(c *x509.Certificate) (certificate, keyPEM string, key *ecdsa.PrivateKey) {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, &key.PublicKey, signer)
	if err != nil {
		a.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.Fatal(err)
	}
	inPEM := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return inPEM("CERTIFICATE", der), inPEM("PRIVATE KEY", private), key
}

func (a *authority) of(name string) (certificate, keyPEM string) {
	a.Helper()
	certificate, keyPEM, _ = a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	})
	return certificate, keyPEM
}

// Without a file of Calco's machine there was no way to a server that has an authority of its own, or asks for certificates.
func TestPastedCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	server := dbtest.Cluster(t, nil)
	at := server.URL("postgres")
	write := func(content, where string) {
		dbtest.Exec(t, at, fmt.Sprintf(`COPY (SELECT unnest(string_to_array(%s, chr(10)))) TO PROGRAM 'umask 077; %s'`, quoteLiteral(content), where))
	}
	certificate, key := a.of("localhost")
	write(certificate, "cat > server.crt")
	write(key, "cat > server.key")
	write(a.pem, "cat > root.crt")
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
	plain := URL("postgres://certified@localhost:" + u.Port() + "/postgres?sslmode=verify-full")
	own, ownKey := a.of("certified")
	source, err := plain.WithCertificates(a.pem, own, ownKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.CheckRemote(nil); err != nil {
		t.Error(err)
	}
	result, err := Clone(t.Context(), Spec{Source: source, Target: URL(dbtest.Database(t))}, Options{})
	if err != nil || result.Status != report.StatusCompleted {
		t.Fatalf("%s, %v, %+v", result.Status, err, result.Reasons)
	}
	said, err := json.Marshal(result)
	if err != nil || strings.Contains(string(said)+fmt.Sprintf("%v %#v", source, source), "BEGIN") {
		t.Errorf("the report has a certificate: %v", err)
	}
	for name, with := range map[string][3]string{
		"another authority": {stranger.pem, own, ownKey},
		"no certificate":    {a.pem, "", ""},
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
		ErrAuthority: {"canary", "", ""},
		ErrKeyPair:   {"", own, key},
	} {
		if _, err := plain.WithCertificates(with[0], with[1], with[2]); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
