package cloner

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/internal/preflight"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/pgtools"
	"calco/cloner/report"
	"calco/db/dbtest"
	"calco/db/embedded"
)

// everything is what a database holds, Calco's own schema included.
const everything = `SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_toast'
	UNION ALL SELECT nspname, NULL, NULL FROM pg_namespace WHERE nspname !~ '^pg_'
	UNION ALL SELECT proname, NULL, NULL FROM pg_proc WHERE oid >= 16384 UNION ALL SELECT typname, NULL, NULL FROM pg_type WHERE oid >= 16384
	UNION ALL SELECT extname, NULL, NULL FROM pg_extension ORDER BY 1, 2, 3`

// want is the refusal that a test expects.
type want struct {
	code    report.ReasonCode
	side    report.Side
	text    string // all of it, or with … at its end the beginning
	objects []string
}

// mustRefuse clones and wants exactly these reasons, in whole sentences with a hint, without
// a password, and nothing to be left on either side.
func mustRefuse(t *testing.T, spec Spec, wants ...want) report.Report {
	t.Helper()
	if spec.Job == "" {
		spec.Job = NewJob()
	}
	spec = confirmed(t, spec)
	var result report.Report
	var err error
	noGoroutines(t, func() { result, err = Clone(t.Context(), spec, Options{}) })
	if result.Status != report.StatusRefused || err == nil {
		t.Fatalf("status %s, error %v, want refused", result.Status, err)
	}
	if result.Error != "" || result.Tables != 0 || result.Rows != 0 {
		t.Errorf("report %+v, want only reasons", result)
	}
	if len(result.Reasons) != len(wants) {
		t.Fatalf("reasons %+v, want %d", result.Reasons, len(wants))
	}
	for i, w := range wants {
		r := result.Reasons[i]
		if r.Code != w.code || r.Side != w.side || !slices.Equal(r.Objects, w.objects) {
			t.Errorf("reason %s of the %s about %q, want %s of the %s about %q", r.Code, r.Side, r.Objects, w.code, w.side, w.objects)
		}
		if start, cut := strings.CutSuffix(w.text, "…"); r.Text.String() != w.text && (!cut || !strings.HasPrefix(r.Text.String(), start)) {
			t.Errorf("text %q, want %q", r.Text, w.text)
		}
		for _, sentence := range []string{r.Text.String(), r.Hint.String()} {
			if len(sentence) < 10 || !strings.HasSuffix(strings.TrimSuffix(sentence, ")"), ".") && !strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "%!") || strings.Contains(sentence, "..") {
				t.Errorf("%q is no sentence", sentence)
			}
		}
		if !strings.Contains(err.Error(), r.Text.String()) {
			t.Errorf("error %q does not say %q", err, r.Text)
		}
	}
	text, jerr := json.Marshal(result)
	if jerr != nil {
		t.Fatal(jerr)
	}
	shown := fmt.Sprintf("%s %v %+v %#v %v", text, result, result, result.Reasons, err)
	for _, u := range []dsn.URL{spec.Source, spec.Target} {
		if info, err := dsn.Parse(string(u)); err == nil && info["password"] != "" && strings.Contains(shown, info["password"]) {
			t.Errorf("the password of %s is in %s", u, shown)
		}
	}
	return result
}

// refusesUntouched is mustRefuse, and wants the target to hold what it held.
func refusesUntouched(t *testing.T, spec Spec, target string, wants ...want) {
	t.Helper()
	before := dbtest.Query(t, target, everything)
	mustRefuse(t, spec, wants...)
	if after := dbtest.Query(t, target, everything); !reflect.DeepEqual(after, before) {
		t.Errorf("the target went from %v to %v", before, after)
	}
}

// role makes a login role on the shared server, with which it goes, and returns the URL of a
// database for it.
func role(t *testing.T, database, options string) (name, u string) {
	t.Helper()
	name = "role_" + NewJob()[:12]
	dbtest.Exec(t, database, fmt.Sprintf("CREATE USER %s PASSWORD 'sesame-%s'; ALTER ROLE %[1]s %[3]s", name, name, options))
	return name, as(t, database, name, "sesame-"+name)
}

// changed is a URL with another host, or with another parameter where value has a name.
func changed(t *testing.T, database string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

func TestRefuseConnection(t *testing.T) {
	t.Parallel()
	good := dbtest.Database(t)
	info, err := dsn.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	_, full := role(t, good, "CONNECTION LIMIT 0")
	barred, noLogin := role(t, good, "NOLOGIN")
	at := func(host string) string { return changed(t, good, func(u *url.URL) { u.Host = host }) }
	with := func(k, v string) string {
		return changed(t, good, func(u *url.URL) { q := u.Query(); q.Set(k, v); u.RawQuery = q.Encode() })
	}
	tests := []struct {
		name, url string
		code      report.ReasonCode
		text      string // %s is the side
	}{
		{"url", "postgres://u:sesame@/d", report.ReasonURL, "The URL of the %s cannot be used: it names no host."},
		{"empty url", "", report.ReasonURL, "The URL of the %s cannot be used: it names no host."},
		// It was called a server that does not answer.
		{"sslmode", with("sslmode", "nonsense"), report.ReasonURL, "The URL of the %s cannot be used: a port, TLS or other setting in it is not valid, or a file that it names cannot be read."},
		{"certificate file", changed(t, good, func(u *url.URL) { u.RawQuery = "sslmode=verify-ca&sslrootcert=/nonexistent" }), report.ReasonURL, "The URL of the %s cannot be used: a port, TLS or other setting in it is not valid, or a file that it names cannot be read."},
		{"port", at("127.0.0.1:99999"), report.ReasonURL, "The URL of the %s cannot be used: a port, TLS or other setting in it is not valid, or a file that it names cannot be read."},
		{"unknown host", at("calco.invalid"), report.ReasonHost, "The host of the %s, calco.invalid, is not known."},
		{"closed port", at(closed.Addr().String()), report.ReasonHost, "No PostgreSQL server answers for the %s at " + closed.Addr().String() + "."},
		{"no socket", "postgres://u:sesame@/d?host=/nonexistent", report.ReasonHost, "No PostgreSQL server answers for the %s at /nonexistent:5432."},
		{"silence", changed(t, at(silent.Addr().String()), func(u *url.URL) { u.RawQuery = "sslmode=disable&connect_timeout=1" }), report.ReasonHost, "The %s at " + silent.Addr().String() + " did not answer in time."},
		{"wrong password", as(t, good, info["user"], "sesame"), report.ReasonCredentials, fmt.Sprintf("The %%s refused the password of %s.", dsn.URL(good))},
		{"no such role", as(t, good, "nobody", "sesame"), report.ReasonCredentials, fmt.Sprintf("The %%s refused the password of nobody@%s/%s.", info.Address(), info["dbname"])},
		{"role that may not log in", noLogin, report.ReasonCredentials, fmt.Sprintf("The %%s does not let %s@%s/%s in: role %q is not permitted to log in.", barred, info.Address(), info["dbname"], barred)},
		{"no TLS", with("sslmode", "require"), report.ReasonTLS, "No encrypted connection to the %s at " + info.Address() + " can be made: server refused TLS connection."},
		{"no database", changed(t, good, func(u *url.URL) { u.Path = "/nothing" }), report.ReasonNoDatabase, "The %s has no database nothing."},
		{"too many connections", full, report.ReasonNoConnection, "The %s at " + info.Address() + " takes no connection now: too many connections for role…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := func(side report.Side) string { return strings.Replace(tt.text, "%s", string(side), 1) }
			mustRefuse(t, Spec{Source: dsn.URL(tt.url), Target: dsn.URL(tt.url)},
				want{code: tt.code, side: report.Source, text: text(report.Source)}, want{code: tt.code, side: report.Target, text: text(report.Target)})
			refusesUntouched(t, Spec{Source: dsn.URL(tt.url), Target: dsn.URL(good)}, good, want{code: tt.code, side: report.Source, text: text(report.Source)})
		})
	}
}

// TestRefuseByServer needs a server of its own: TLS with a certificate that nobody signed,
// and few connections.
func TestRefuseByServer(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, map[string]string{"max_connections": "6", "superuser_reserved_connections": "0", "max_wal_senders": "0"})
	secured := changed(t, s.URL(""), func(u *url.URL) { u.RawQuery = "" })
	useTLS(t, s)
	target := dbtest.Database(t)
	address := func() string { info, _ := dsn.Parse(secured); return info.Address() }()
	with := func(query string) dsn.URL {
		return dsn.URL(changed(t, secured, func(u *url.URL) { u.RawQuery = query }))
	}

	root := filepath.Join(t.TempDir(), "root.crt")
	other, _ := certificate(t)
	if err := os.WriteFile(root, other, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, query, cause string }{
		{"of nobody we know", "sslmode=verify-full", "x509: certificate signed by unknown authority"},
		{"of another root", "sslmode=verify-ca&sslrootcert=" + url.QueryEscape(root), "x509: certificate signed by unknown authority…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := fmt.Sprintf("No encrypted connection to the source at %s can be made: %s", address, tt.cause)
			refusesUntouched(t, Spec{Source: with(tt.query), Target: dsn.URL(target)}, target,
				want{code: report.ReasonTLS, side: report.Source, text: strings.TrimSuffix(text, "…") + map[bool]string{true: "…", false: "."}[strings.HasSuffix(text, "…")]})
		})
	}
	t.Run("encrypted", func(t *testing.T) {
		mustComplete(t, Spec{Source: with("sslmode=require"), Target: dsn.URL(target), Lanes: 1})
	})
	t.Run("full", func(t *testing.T) {
		var releases []func()
		for range 6 {
			releases = append(releases, dbtest.Hold(t, secured, "SELECT 1"))
		}
		refusesUntouched(t, Spec{Source: dsn.URL(secured), Target: dsn.URL(target)}, target, want{
			code: report.ReasonNoConnection, side: report.Source, text: fmt.Sprintf("The source at %s takes no connection now: sorry, too many clients already.", address),
		})
		for _, release := range releases {
			release()
		}
	})
}

// certificate makes a self-signed certificate for 127.0.0.1, and its key, as PEM.
func certificate(t *testing.T) (crt, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func useTLS(t *testing.T, s *embedded.Server) {
	t.Helper()
	crt, key := certificate(t)
	for name, content := range map[string][]byte{"server.crt": crt, "server.key": key} {
		path := filepath.Join(s.Dir(), "data", name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		own(t, path, s)
	}
	dbtest.Exec(t, s.URL(""), "ALTER SYSTEM SET ssl = on")
	dbtest.Exec(t, s.URL(""), "SELECT pg_reload_conf()")
	dbtest.Await(t, s.URL(""), "SELECT current_setting('ssl') = 'on'")
}

// account is the user who runs a server, which is another one where the tests run as root.
func account(t *testing.T, s *embedded.Server) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.Dir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
}

func own(t *testing.T, path string, s *embedded.Server) {
	t.Helper()
	a := account(t, s)
	if err := os.Chown(path, int(a.Uid), int(a.Gid)); err != nil {
		t.Fatal(err)
	}
}

func asAccount(t *testing.T, s *embedded.Server, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account(t, s)}
	}
	return cmd
}

// A pooler that gives its connections a name of its own hid the backends of a job from those who have to end them.
func TestPoolerWithANameOfItsOwn(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, nil)
	pooled := newDatabase(t, s, "pooled", "")
	port, _ := bouncer(t, s, "pooled", "session\napplication_name_add_host = 1")
	through := dsn.URL(fmt.Sprintf("postgres://postgres:x@127.0.0.1:%s/pooled?sslmode=disable", port))
	const name = "calco/named/1"
	lane, err := session.Open(t.Context(), report.Target, through, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lane.Close)
	control, reason, err := session.Connect(t.Context(), session.Way{Side: report.Source, URL: through, Name: name}, 0, "")
	if err != nil || reason != nil {
		t.Fatalf("connect: %v, %v", reason, err)
	}
	t.Cleanup(control.Control.Close)
	if got := dbtest.Query(t, pooled, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'pooled' AND application_name = '"+name+"'")[0][0]; got != "2" {
		t.Errorf("%s backends have the name of the job, want 2", got)
	}
}

// bouncer runs a pgbouncer before a server, with the port and the folder of its socket.
func bouncer(t *testing.T, s *embedded.Server, database, mode string) (port, socket string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip("needs pgbouncer: install the package of that name")
		}
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	dir, err := os.MkdirTemp("", "calco-bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	own(t, dir, s)
	info, err := dsn.Parse(s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "bouncer.ini")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir = %s
auth_type = any
pool_mode = %s
default_pool_size = 50
`, info["host"], info["port"], info["user"], info["password"], port, dir, mode)), 0o600); err != nil {
		t.Fatal(err)
	}
	own(t, config, s)
	// It ends with this process, however that ends: the pipe is closed then.
	cmd := asAccount(t, s, exec.Command("/bin/sh", "-c", `"$1" -q "$2" & cat >/dev/null; kill $!; wait`, "sh", program, config))
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pipe.Close()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close()
			return port, dir
		}
		if session.Pause(ctx, 5*time.Millisecond) != nil {
			t.Fatalf("pgbouncer does not answer: %v", err)
		}
	}
}

func TestPoolers(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, nil)
	pooled := newDatabase(t, s, "pooled", "")
	direct := dbtest.Database(t)
	through := func(port string) dsn.URL {
		return dsn.URL(changed(t, pooled, func(u *url.URL) { u.Host = "127.0.0.1:" + port }))
	}
	t.Run("transaction mode", func(t *testing.T) {
		port, _ := bouncer(t, s, "pooled", "transaction")
		u := through(port)
		text := "The %s at " + u.String() + " is reached through a pooler in transaction mode, which cannot hold a snapshot or a lock."
		for range 3 { // whatever backends the pool has by now
			refusesUntouched(t, Spec{Source: u, Target: dsn.URL(direct)}, direct, want{code: report.ReasonPooler, side: report.Source, text: fmt.Sprintf(text, report.Source)})
			refusesUntouched(t, Spec{Source: dsn.URL(direct), Target: u}, pooled, want{code: report.ReasonPooler, side: report.Target, text: fmt.Sprintf(text, report.Target)})
		}
		mustRefuse(t, Spec{Source: u, Target: u},
			want{code: report.ReasonPooler, side: report.Source, text: fmt.Sprintf(text, report.Source)}, want{code: report.ReasonPooler, side: report.Target, text: fmt.Sprintf(text, report.Target)})
		// No setting of ours may stay with a backend that others will get.
		if got := dbtest.Query(t, string(u), "SELECT current_setting('search_path'), current_setting('default_transaction_read_only')"); !slices.Equal(got[0], []string{`"$user", public`, "off"}) {
			t.Errorf("settings left in the pool: %q", got[0])
		}
	})
	t.Run("session mode", func(t *testing.T) {
		port, socket := bouncer(t, s, "pooled", "session")
		dbtest.Exec(t, direct, stageSQL)
		mustComplete(t, Spec{Source: dsn.URL(direct), Target: through(port), Lanes: 2})
		back := dbtest.Database(t)
		mustComplete(t, Spec{Source: through(port), Target: dsn.URL(back), Lanes: 2})
		dbtest.Equal(t, direct, back, "SELECT * FROM plain ORDER BY id")

		same := func(u dsn.URL) want {
			return want{code: report.ReasonSameDatabase, side: report.Target, text: fmt.Sprintf("Source and target are the same database, %s.", u)}
		}
		info, err := dsn.Parse(pooled)
		if err != nil {
			t.Fatal(err)
		}
		bySocket := dsn.URL(dsn.Conninfo{"host": socket, "port": port, "user": info["user"], "password": info["password"], "dbname": "pooled"}.String())
		refusesUntouched(t, Spec{Source: dsn.URL(pooled), Target: through(port)}, pooled, same(through(port)))
		refusesUntouched(t, Spec{Source: bySocket, Target: dsn.URL(pooled), Clean: true}, pooled, same(dsn.URL(pooled)))
		refusesUntouched(t, Spec{Source: dsn.URL(pooled), Target: bySocket, Clean: true}, pooled, same(bySocket))
	})
}

func TestRefuseSameDatabase(t *testing.T) {
	t.Parallel()
	database := dbtest.Database(t)
	dbtest.Exec(t, database, "CREATE TABLE t (n int)")
	byName := changed(t, database, func(u *url.URL) { u.Host = "localhost:" + u.Port() })
	_, other := role(t, database, "SUPERUSER")
	for name, target := range map[string]string{"same URL": database, "another name of the host": byName, "another role": other} {
		t.Run(name, func(t *testing.T) {
			refusesUntouched(t, Spec{Source: dsn.URL(database), Target: dsn.URL(target), Clean: true}, database, want{
				code: report.ReasonSameDatabase, side: report.Target, text: fmt.Sprintf("Source and target are the same database, %s.", dsn.URL(target)),
			})
		})
	}
	mustComplete(t, Spec{Source: dsn.URL(database), Target: dsn.URL(dbtest.Database(t))}) // another database of the same server
}

// TestStandby has a primary, its standby, and that standby promoted: a physical copy of the
// primary that is a database of its own.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := dbtest.Cluster(t, map[string]string{"hot_standby_feedback": "on"})
	dbtest.Exec(t, primary.URL(""), stageSQL)
	standby := baseBackup(t, primary)
	dbtest.Await(t, standby.URL(""), "SELECT pg_is_in_recovery()")
	apart := dbtest.Database(t)
	info, err := dsn.Parse(standby.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	one := func(u dsn.URL) want {
		return want{code: report.ReasonSameDatabase, side: report.Target, text: fmt.Sprintf("Source and target are one database: one is a standby of the other (%s).", u)}
	}
	refusesUntouched(t, Spec{Source: dsn.URL(standby.URL("")), Target: dsn.URL(primary.URL("")), Clean: true}, primary.URL(""), one(dsn.URL(primary.URL(""))))
	refusesUntouched(t, Spec{Source: dsn.URL(primary.URL("")), Target: dsn.URL(standby.URL("")), Clean: true}, standby.URL(""), one(dsn.URL(standby.URL(""))))
	refusesUntouched(t, Spec{Source: dsn.URL(apart), Target: dsn.URL(standby.URL("")), Clean: true}, standby.URL(""), want{
		code: report.ReasonReadOnly, side: report.Target, text: fmt.Sprintf("The target postgres@%s/postgres is a standby, which takes no writes.", info.Address()),
	})
	version := dbtest.Query(t, standby.URL(""), "SELECT current_setting('server_version_num')::int, current_setting('server_version')")[0]
	var number int
	if _, err := fmt.Sscan(version[0], &number); err != nil {
		t.Fatal(err)
	}
	if preflight.StandbySnapshotsTrusted(number) {
		mustComplete(t, Spec{Source: dsn.URL(standby.URL("")), Target: dsn.URL(apart)})
	} else {
		refusesUntouched(t, Spec{Source: dsn.URL(standby.URL("")), Target: dsn.URL(apart)}, apart, want{
			code: report.ReasonStandby, side: report.Source,
			text: fmt.Sprintf("The source is a standby with PostgreSQL %s, whose exported snapshots can show wrong rows and damage the standby.", version[1]),
		})
	}
	dbtest.Exec(t, standby.URL(""), "SELECT pg_promote()")
	r := mustComplete(t, Spec{Source: dsn.URL(primary.URL("")), Target: dsn.URL(standby.URL("")), Clean: true})
	if !slices.ContainsFunc(r.Warnings, func(w report.Text) bool { return strings.Contains(w.String(), "descend from one physical copy") }) {
		t.Errorf("warnings %q, want one about the physical copy", r.Warnings)
	}
}

// baseBackup makes a standby of a server. It stands in the place of a cluster of dbtest, so
// that it goes with the test process too.
func baseBackup(t *testing.T, primary *embedded.Server) *embedded.Server {
	t.Helper()
	place := dbtest.Cluster(t, nil)
	if err := place.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := dsn.Parse(primary.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	program, _, err := pgtools.Newest(t.Context(), "pg_basebackup")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(place.Dir(), "data")
	entries, err := os.ReadDir(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(data, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	cmd := asAccount(t, place, exec.Command(program, "--pgdata="+data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
		"--host="+info["host"], "--port="+info["port"], "--username="+info["user"]))
	cmd.Env = []string{"PGPASSWORD=" + info["password"], "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(place.Dir(), "password"), []byte(info["password"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), embedded.Options{
		Dir: place.Dir(), Loopback: true, BinDir: os.Getenv("CALCO_TEST_BINDIR"),
		Settings: map[string]string{"fsync": "off", "shared_buffers": "64MB", "max_connections": "200"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

func TestRefuseNotEmpty(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	tests := []struct{ name, sql, object string }{
		{"table", "CREATE TABLE t (n int)", "table public.t"},
		{"partitioned table", "CREATE TABLE t (n int) PARTITION BY LIST (n)", "table public.t"},
		{"foreign table", "CREATE EXTENSION file_fdw; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE t (n int) SERVER s OPTIONS (filename '/x')", "foreign table public.t"},
		{"view", "CREATE VIEW v AS SELECT 1 AS n", "view public.v"},
		{"materialized view", "CREATE MATERIALIZED VIEW v AS SELECT 1 AS n", "materialized view public.v"},
		{"sequence", "CREATE SEQUENCE s", "sequence public.s"},
		{"enum", "CREATE TYPE e AS ENUM ('a')", "type public.e"},
		{"composite type", "CREATE TYPE c AS (n int)", "type public.c"},
		{"domain", "CREATE DOMAIN d AS int", "type public.d"},
		{"range", "CREATE TYPE r AS RANGE (subtype = int)", "type public.r"},
		{"function", "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f(integer)"},
		{"procedure", "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'", "procedure public.p()"},
		{"aggregate", "CREATE AGGREGATE a(int) (sfunc = int4pl, stype = int)", "aggregate public.a(integer)"},
		{"operator", "CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq)", "operator public.===(integer,integer)"},
		{"operator family", "CREATE OPERATOR FAMILY f USING btree", "operator family public.f USING btree"},
		{"collation", `CREATE COLLATION c FROM "C"`, "collation public.c"},
		{"conversion", "CREATE CONVERSION c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8", "conversion public.c"},
		{"text search configuration", "CREATE TEXT SEARCH CONFIGURATION c (COPY = simple)", "text search configuration public.c"},
		{"text search dictionary", "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple)", "text search dictionary public.d"},
		{"large object", "SELECT lo_from_bytea(0, 'x')", "1 large object"},
		{"another schema", `CREATE SCHEMA "Other"; CREATE TABLE "Other"."T" (n int)`, `table "Other"."T"`},
	}
	source := dbtest.Database(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, tt.sql)
			refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, target, want{
				code: report.ReasonNotEmpty, side: report.Target, objects: []string{tt.object},
				text: fmt.Sprintf("The target %s is not empty: it holds %s.", dsn.URL(target), tt.object),
			})
		})
	}
	t.Run("more than a sentence can hold", func(t *testing.T) {
		t.Parallel()
		target := dbtest.Database(t)
		dbtest.Exec(t, target, "DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $$")
		var names []string
		for i := range report.ListedObjects {
			names = append(names, fmt.Sprintf("table public.t%d", 60-i))
		}
		refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, target, want{
			code: report.ReasonNotEmpty, side: report.Target, objects: names,
			text: fmt.Sprintf("The target %s is not empty: it holds %s and 55 more.", dsn.URL(target), strings.Join(names[:5], ", ")),
		})
	})
	t.Run("empty enough", func(t *testing.T) {
		t.Parallel()
		target := dbtest.Database(t)
		dbtest.Exec(t, target, "CREATE SCHEMA nothing; CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION file_fdw; CREATE EXTENSION citext; ALTER DATABASE "+session.QuoteName(dsn.URL(target).Database())+" SET work_mem = '5MB'")
		report := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{}, report.StatusDifferences) // what is additional
		if len(report.Ledger) > 0 {
			t.Errorf("ledger %+v", report.Ledger)
		}
	})
	t.Run("only the chosen schema", func(t *testing.T) {
		t.Parallel()
		from, target := dbtest.Database(t), dbtest.Database(t)
		dbtest.Exec(t, from, "CREATE SCHEMA app; CREATE TABLE app.t (n int)")
		dbtest.Exec(t, target, "CREATE SCHEMA app; CREATE TABLE other (n int); SELECT lo_from_bytea(0, 'x')")
		mustComplete(t, Spec{Source: dsn.URL(from), Target: dsn.URL(target), Schemas: []string{"app"}})
		refusesUntouched(t, Spec{Source: dsn.URL(from), Target: dsn.URL(target), Schemas: []string{"app"}}, target, want{
			code: report.ReasonNotEmpty, side: report.Target, objects: []string{"table app.t"},
			text: fmt.Sprintf("The target %s is not empty: it holds table app.t.", dsn.URL(target)),
		})
	})
}

func TestRefuseUnreadable(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	name, reader := role(t, source, "LOGIN")
	dbtest.Exec(t, source, fmt.Sprintf(`
		CREATE SCHEMA open; CREATE SCHEMA closed; CREATE SCHEMA hidden; GRANT USAGE ON SCHEMA open, hidden TO %[1]s;
		CREATE TABLE open.free (n int); CREATE TABLE open.forbidden (n int); CREATE SEQUENCE open.counter; CREATE TABLE closed.t (n int);
		CREATE TABLE hidden.t (n int); INSERT INTO hidden.t VALUES (1); ALTER TABLE hidden.t ENABLE ROW LEVEL SECURITY;
		GRANT SELECT ON open.free, closed.t, hidden.t TO %[1]s`, name))
	spec := Spec{Source: dsn.URL(reader), Target: dsn.URL(target)}
	refusesUntouched(t, spec, target,
		want{
			code: report.ReasonUnreadable, side: report.Source, objects: []string{"closed.t", "open.counter", "open.forbidden"},
			text: fmt.Sprintf("The role %s may not read 3 tables or sequences on the source: closed.t, open.counter, open.forbidden.", name),
		},
		want{
			code: report.ReasonUnreadable, side: report.Source, objects: []string{"hidden.t"},
			text: fmt.Sprintf("Row-level security hides rows of 1 table from the role %s on the source: hidden.t.", name),
		})
	spec.Schemas = []string{"hidden"}
	refusesUntouched(t, spec, target, want{
		code: report.ReasonUnreadable, side: report.Source, objects: []string{"hidden.t"},
		text: fmt.Sprintf("Row-level security hides rows of 1 table from the role %s on the source: hidden.t.", name),
	})
	// What is not to be read in other schemas does not matter.
	dbtest.Exec(t, source, fmt.Sprintf("GRANT SELECT ON open.forbidden, open.counter TO %s", name))
	spec.Schemas = []string{"open"}
	mustComplete(t, spec)
	spec.Schemas = []string{"open", "Open", "missing"}
	spec.Clean = true
	refusesUntouched(t, spec, target, want{
		code: report.ReasonUnknownSchema, side: report.Source, objects: []string{"Open", "missing"}, text: "The source has no schema Open, missing.",
	})
	dbtest.Exec(t, source, fmt.Sprintf(`GRANT USAGE ON SCHEMA closed TO %[1]s; ALTER ROLE %[1]s BYPASSRLS; SELECT lo_from_bytea(0, 'x')`, name))
	spec.Schemas = nil
	refusesUntouched(t, spec, target, want{
		code: report.ReasonUnreadable, side: report.Source, text: fmt.Sprintf("The role %s may not read 1 large object on the source.", name),
	})
}

func TestRefuseTarget(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	t.Run("permission", func(t *testing.T) {
		t.Parallel()
		target := dbtest.Database(t)
		name, limited := role(t, target, "LOGIN")
		database := dsn.URL(target).Database()
		dbtest.Exec(t, target, "GRANT CREATE ON SCHEMA public TO "+name)
		refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(limited)}, target, want{
			code: report.ReasonPermission, side: report.Target, text: fmt.Sprintf("The role %s may not create schemas in the target's database %s.", name, database),
		})
	})
	t.Run("others' objects", func(t *testing.T) {
		t.Parallel()
		target := dbtest.Database(t)
		name, limited := role(t, target, "LOGIN")
		dbtest.Exec(t, target, fmt.Sprintf("GRANT ALL ON DATABASE %s TO %s; CREATE SCHEMA app; CREATE TABLE app.t (n int); SELECT lo_from_bytea(0, 'x')", session.QuoteName(dsn.URL(target).Database()), name))
		before := dbtest.Query(t, target, everything)
		result, err := Clone(t.Context(), confirmed(t, Spec{Source: dsn.URL(source), Target: dsn.URL(limited), Clean: true}), Options{})
		if result.Status != report.StatusRefused || result.Reasons[0].Code != report.ReasonPermission || !strings.Contains(err.Error(), "table app.t") {
			t.Errorf("status %s, error %v", result.Status, err)
		}
		if after := dbtest.Query(t, target, everything); !reflect.DeepEqual(after, before) {
			t.Errorf("the target went from %v to %v", before, after)
		}
	})
	t.Run("subscription", func(t *testing.T) {
		t.Parallel()
		target := dbtest.Database(t)
		name := "sub_" + NewJob()[:12]
		dbtest.Exec(t, target, fmt.Sprintf("CREATE TABLE t (n int); CREATE SUBSCRIPTION %s CONNECTION 'host=192.0.2.1 password=sesame-open' PUBLICATION p WITH (connect = false)", name))
		t.Cleanup(func() {
			dbtest.Exec(t, target, fmt.Sprintf("ALTER SUBSCRIPTION %s SET (slot_name = NONE)", name))
			dbtest.Exec(t, target, "DROP SUBSCRIPTION "+name)
		})
		refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Schemas: []string{"public"}}, target, want{
			code: report.ReasonSubscription, side: report.Target, objects: []string{name},
			text: fmt.Sprintf("The target %s receives data through the subscription %s.", dsn.URL(target), name),
		})
	})
	t.Run("busy", func(t *testing.T) {
		t.Parallel()
		target := dbtest.Database(t)
		spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Lanes: 1, Job: NewJob()}
		st := stages[slices.IndexFunc(stages, func(st stage) bool { return st.name == "a slow index" })]
		result, err := st.play(t, spec, func(_ context.CancelCauseFunc, release func()) {
			second := spec
			second.Job = NewJob()
			busy := want{code: report.ReasonBusy, side: report.Target, text: fmt.Sprintf("Another clone into %s is under way.", spec.Target)}
			mustRefuse(t, second, busy)
			second.Schemas = []string{"public"}
			mustRefuse(t, second, busy)
			second.Clean = false
			mustRefuse(t, second, busy)
			release()
		})
		if err != nil || result.Status != report.StatusCompleted {
			t.Errorf("the first clone: %s, %v", result.Status, err)
		}
	})
}

// Several reasons are told at once.
func TestRefuseForAllReasons(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, target, "CREATE TABLE t (n int)")
	name, limited := role(t, target, "LOGIN")
	refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(limited), Schemas: []string{"public", "nothing"}}, target,
		want{code: report.ReasonUnknownSchema, side: report.Source, objects: []string{"nothing"}, text: "The source has no schema nothing."},
		want{code: report.ReasonPermission, side: report.Target, text: fmt.Sprintf("The role %s may not create schemas in the target's database %s.", name, dsn.URL(target).Database())},
		want{code: report.ReasonNotEmpty, side: report.Target, objects: []string{"table public.t"}, text: fmt.Sprintf("The target %s is not empty: it holds table public.t.", dsn.URL(limited))})
}

// A server's own words go into a reason with a full stop of ours, and hold no password.
func TestServerReason(t *testing.T) {
	t.Parallel()
	u := dsn.URL("postgres://u:sesame@h/d")
	info, err := dsn.Parse(string(u))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		err  pgconn.PgError
		code report.ReasonCode
		hint string
	}{
		{"starting up", pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}, report.ReasonNoConnection, "Try again in a moment."},
		{"full", pgconn.PgError{Code: "53300", Message: "sorry, too many clients already"}, report.ReasonNoConnection, "Close other connections or raise max_connections."},
		{"needs TLS", pgconn.PgError{Code: "28000", Message: `no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption`}, report.ReasonTLS, "Add sslmode=require to the connection URL."},
		{"not in pg_hba.conf", pgconn.PgError{Code: "28000", Message: `no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", SSL encryption`}, report.ReasonCredentials, "Check the user in the connection URL and the server's pg_hba.conf."},
		{"may not connect", pgconn.PgError{Code: "42501", Message: `permission denied for database "d"`}, report.ReasonCredentials, "Check the user in the connection URL and the server's pg_hba.conf."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := session.ServerReason(report.Reason{Side: report.Target}, u, info, &tt.err)
			if r.Code != tt.code || r.Hint.String() != tt.hint || !strings.HasSuffix(r.Text.String(), ".") || strings.Contains(r.Text.String(), "sesame") {
				t.Errorf("got %+v, want %s and %q", r, tt.code, tt.hint)
			}
		})
	}
}

// What stops a clone at its end is found before its beginning: a role that may create schemas, and nothing in public, had
// every table in the ledger; one without temporary tables, every large object.
func TestRefusePlaces(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE t (id int); CREATE SCHEMA app; CREATE TABLE app.t (id int); CREATE SCHEMA new; CREATE TABLE new.t (id int); SELECT lo_create(0); CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext")
	name, limited := role(t, target, "LOGIN")
	database := dsn.URL(target).Database()
	dbtest.Exec(t, target, fmt.Sprintf("CREATE SCHEMA app; CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; GRANT CREATE ON SCHEMA app TO %[1]s; GRANT CREATE ON DATABASE %[2]s TO %[1]s; REVOKE TEMPORARY ON DATABASE %[2]s FROM PUBLIC", name, session.QuoteName(database)))
	places := want{code: report.ReasonPermission, side: report.Target, objects: []string{"app", "public"}, text: fmt.Sprintf("The role %s may not create anything in schemas of the target: app, public.", name)}
	refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(limited)}, target, places,
		want{code: report.ReasonPermission, side: report.Target, text: fmt.Sprintf("The role %s may not create temporary tables in the target's database %s, through which large objects come.", name, database)})
	refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(limited), Schemas: []string{"app"}}, target,
		want{code: report.ReasonPermission, side: report.Target, objects: []string{"app"}, text: fmt.Sprintf("The role %s may not create anything in a schema of the target: app.", name)})
	if result, err := Clone(t.Context(), Spec{Source: dsn.URL(source), Target: dsn.URL(limited), Schemas: []string{"new"}}, Options{}); result.Status == report.StatusRefused {
		t.Errorf("a schema that it may make itself: %+v, %v", result.Reasons, err)
	}
}

// A server says how severe an error is in its own language, and once for programs.
func TestSeverityOfLocalisedServers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  *pgconn.PgError
		want bool
	}{
		{&pgconn.PgError{Severity: "ВАЖНО", SeverityUnlocalized: "FATAL", Code: "XX000"}, true},
		{&pgconn.PgError{Severity: "PANIK", SeverityUnlocalized: "PANIC", Code: "XX000"}, true},
		{&pgconn.PgError{Severity: "ОШИБКА", SeverityUnlocalized: "ERROR", Code: "42P01"}, false},
	} {
		if got := session.Classify(tt.err).Ends(); got != tt.want {
			t.Errorf("%s ends the clone: %t", tt.err.Severity, got)
		}
	}
}

// A server that has no room for the locks of pg_dump is found before the rows are copied, and not after.
func TestRefuseLocks(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	small := dbtest.Cluster(t, map[string]string{"max_locks_per_transaction": "10", "max_connections": "20"})
	dbtest.Exec(t, source, "DO $$ BEGIN FOR i IN 1..420 LOOP EXECUTE format('CREATE TABLE t%s (id int)', i); END LOOP; END $$")
	locks := want{code: report.ReasonLocks, side: report.Target, text: "The target has room for about 200 locks, and pg_dump takes one on each of 420 tables."}
	refusesUntouched(t, Spec{Source: dsn.URL(source), Target: dsn.URL(small.URL(""))}, small.URL(""), locks)
}

// A server that lets Calco in and then says nothing is waited for, not for ever, and a cancel is heard meanwhile. Two such
// jobs took all workers.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	silent := func(database string) dsn.URL {
		return dsn.URL(dbtest.Tap(t, database, func(string) dbtest.Cut {
			<-t.Context().Done()
			return dbtest.Pass
		}))
	}
	for side, spec := range map[report.Side]Spec{report.Source: {Source: silent(source), Target: dsn.URL(target)}, report.Target: {Source: dsn.URL(source), Target: silent(target)}} {
		result, err := Clone(t.Context(), spec, Options{Patience: time.Second, silence: time.Second})
		if result.Status != report.StatusFailed || !strings.Contains(fmt.Sprint(err), errSilent.Error()) {
			t.Errorf("%s: %s, %v", side, result.Status, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		result, err = Clone(ctx, spec, Options{notify: func(report.Phase) { cancel(report.ErrCancelled) }})
		if result.Status != report.StatusCancelled {
			t.Errorf("%s, cancelled: %s, %v", side, result.Status, err)
		}
	}
}

// Connections that are gone when the rows begin to go stop neither the lanes that have theirs nor what is built beside them,
// and nothing is begun anew.
func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source, target := newDatabase(t, server, "s", ""), newDatabase(t, server, "t", "")
	dbtest.Exec(t, source, "CREATE ROLE boss LOGIN PASSWORD 'x'; ALTER DATABASE s OWNER TO boss; ALTER DATABASE t OWNER TO boss; GRANT pg_monitor TO boss")
	dbtest.Exec(t, as(t, source, "boss", "x"), `CREATE SCHEMA a; CREATE TABLE a.last (n int); DO $$ BEGIN
		FOR i IN 1..20 LOOP EXECUTE format('CREATE TABLE a.t%s AS SELECT n FROM generate_series(1, 1000) n; CREATE INDEX ON a.t%1$s (n)', i); END LOOP; END $$`)
	const lane, sess = "A lane less: too many connections", "A session less on the target: too many connections"
	for _, limit := range []int{3, 4, 6} { // two are open before the lanes
		dbtest.Exec(t, source, "ALTER DATABASE t CONNECTION LIMIT 50")
		var m progress.Meter
		said := func(what string) {
			for session.Pause(t.Context(), 10*time.Millisecond) == nil {
				if slices.ContainsFunc(m.Since(0).Events, func(e report.Event) bool { return strings.HasPrefix(e.Text.String(), what) }) {
					return
				}
			}
		}
		spec := Spec{Source: dsn.URL(as(t, source, "boss", "x")), Target: dsn.URL(as(t, target, "boss", "x")), Lanes: 8, Schemas: []string{"a"}, Clean: true}
		result := mustEnd(t, spec, Options{Meter: &m, notify: func(p report.Phase) {
			if p != report.PhaseCopy {
				return
			}
			dbtest.Exec(t, source, fmt.Sprintf("ALTER DATABASE t CONNECTION LIMIT %d", limit))
			rows := dbtest.Hold(t, source, "BEGIN; DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('LOCK TABLE a.t%s', i); END LOOP; END $$")
			last := dbtest.Hold(t, source, "BEGIN; LOCK TABLE a.last")
			go func() {
				said(lane) // while those that have a connection wait for rows
				rows()
				if limit == 3 { // for the one lane, which waits for the last table
					said(sess)
				}
				last()
			}()
		}}, report.StatusCompleted)
		if i := slices.IndexFunc(m.Since(0).Events, func(e report.Event) bool { return e.Kind == report.EventRetry }); i >= 0 {
			t.Errorf("limit %d: %+v", limit, m.Since(0).Events[i])
		}
		if !slices.ContainsFunc(result.Warnings, func(w report.Text) bool { return strings.HasPrefix(w.String(), lane) }) {
			t.Errorf("limit %d: warnings %q", limit, result.Warnings)
		}
	}
}

// Where a server has no connections for as many lanes there are fewer, and the log says so: one that was refused stopped the
// whole clone for ten minutes.
func TestFewerLanes(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source, target := newDatabase(t, server, "s", ""), newDatabase(t, server, "t", "")
	dbtest.Exec(t, source, "CREATE ROLE boss LOGIN PASSWORD 'x'; ALTER DATABASE s OWNER TO boss; ALTER DATABASE t OWNER TO boss")
	dbtest.Exec(t, as(t, source, "boss", "x"), "CREATE SCHEMA a; DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE TABLE a.t%s AS SELECT n FROM generate_series(1, 100) n; CREATE INDEX ON a.t%1$s (n)', i); END LOOP; END $$")
	spec := Spec{Source: dsn.URL(as(t, source, "boss", "x")), Target: dsn.URL(as(t, target, "boss", "x")), Lanes: 8, Schemas: []string{"a"}}
	for _, limit := range []struct {
		connections, others int
		monitor             string
	}{{6, 0, "GRANT pg_monitor TO"}, {8, 2, "GRANT pg_monitor TO"}, {8, 2, "REVOKE pg_monitor FROM"}} {
		dbtest.Exec(t, source, fmt.Sprintf("ALTER DATABASE t CONNECTION LIMIT %d; %s boss", limit.connections, limit.monitor))
		dbtest.Exec(t, target, "DROP SCHEMA IF EXISTS a CASCADE")
		var release []func()
		for range limit.others {
			release = append(release, dbtest.Hold(t, target, "SELECT"))
		}
		dbtest.Await(t, source, fmt.Sprintf("SELECT count(*) = %d FROM pg_stat_activity WHERE datname = 't'", limit.others))
		r := mustComplete(t, spec)
		for _, end := range release {
			end()
		}
		if !slices.ContainsFunc(r.Warnings, func(w report.Text) bool { return strings.HasPrefix(w.String(), "2 lanes instead of 8: ") }) {
			t.Errorf("%+v: warnings %q", limit, r.Warnings)
		}
	}
}
