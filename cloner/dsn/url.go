package dsn

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/report"
)

// URL is a PostgreSQL connection string, as a URI (postgres://user:password@host/db)
// or as keywords and values (host=… user=… dbname=…). It prints, logs and
// marshals without its password. Nothing is taken from the environment, service
// files or password files: the URL names its host, user and database itself.
type URL string

// String is the URL without password, in the form user@host:port/database.
func (u URL) String() string {
	c, err := Parse(string(u))
	if err != nil {
		return "invalid connection URL"
	}
	return fmt.Sprintf("%s@%s/%s", c["user"], c.Address(), c["dbname"])
}

// GoString keeps %#v from printing the password.
func (u URL) GoString() string { return u.String() }

// LogValue keeps slog from printing the password.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalJSON keeps JSON from carrying the password.
func (u URL) MarshalJSON() ([]byte, error) { return json.Marshal(u.String()) }

// Check reports what is wrong with the URL, without ever quoting it, in words that go on
// from "the URL cannot be used: ".
func (u URL) Check() error {
	_, err := Parse(string(u))
	return err
}

// CheckRemote is Check for a URL that came through the web: of the files of the machine that Calco runs on, which are not
// its user's to have read, it may name those alone that hosts allows. Where it may lead, Hosts.Check says.
func (u URL) CheckRemote(hosts *Hosts) error {
	c, err := Parse(string(u))
	if err != nil {
		return err
	}
	if hosts == nil {
		hosts = &Hosts{}
	}
	if err := hosts.checkFiles(c); err != nil {
		return err
	}
	for host := range strings.SplitSeq(c["host"], ",") {
		if host == "" || host[0] == '@' { // pg_dump would take it for a socket
			return errors.New("it leaves out a host; give the name or the address of each")
		}
	}
	return nil
}

// Database is the name of the database the URL leads to.
func (u URL) Database() string {
	c, _ := Parse(string(u))
	return c["dbname"]
}

// Endpoint is where the URL leads to. It has no version: nobody was asked.
func (u URL) Endpoint() report.Endpoint {
	c, err := Parse(string(u))
	if err != nil {
		return report.Endpoint{}
	}
	return report.Endpoint{Address: c.Address(), Database: c["dbname"], User: c["user"]}
}

// Config is what pgx needs to connect as the URL says, to a host of hosts and with files that it allows. Nothing is taken from
// elsewhere, and the error quotes nothing. Queries through it prepare nothing, which poolers may not take.
func (u URL) Config(applicationName string, hosts *Hosts) (*pgx.ConnConfig, error) {
	c, err := Parse(string(u))
	if err != nil {
		return nil, err
	}
	if err := hosts.checkFiles(c); err != nil {
		return nil, err
	}
	config, err := c.forPgx(applicationName)
	if err != nil {
		return nil, err
	}
	// Whoever waits for an answer learns from the keepalive that nobody is there, and whoever sends from the user timeout.
	dialer := &net.Dialer{Control: setUserTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	config.DialFunc = dialer.DialContext
	hosts.guard(&config.Config)
	boundAnswers(&config.Config)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return config, nil
}

// Conninfo holds libpq's connection keywords.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
type Conninfo map[string]string

// conninfoKeywords are the keywords that both pgx and libpq understand. Others are
// refused, since pg_dump would stop at them after the clone has begun.
var conninfoKeywords = []string{
	"host", "port", "user", "password", "dbname", "connect_timeout", "options",
	"sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni", "sslnegotiation",
	"channel_binding", "require_auth", "target_session_attrs", "application_name",
}

func Parse(s string) (Conninfo, error) {
	var c Conninfo
	var err error
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		c, err = parseURI(s)
	} else {
		c, err = parseKeywords(s)
	}
	if err != nil {
		return nil, err
	}
	for _, need := range []struct{ key, what string }{{"host", "host"}, {"user", "user"}, {"dbname", "database"}} {
		if c[need.key] == "" {
			return nil, fmt.Errorf("it names no %s", need.what)
		}
	}
	// After what is missing: a password taken for a parameter mostly leaves something out.
	for k, v := range c {
		if !slices.Contains(conninfoKeywords, k) {
			return nil, fmt.Errorf("it has the parameter %q, which PostgreSQL's own tools do not know", k)
		}
		if strings.ContainsRune(v, 0) {
			return nil, errors.New("it holds a zero byte")
		}
	}
	if c["port"] == "" {
		c["port"] = "5432"
	}
	return c, nil
}

// errUnreadable is for what cannot be taken apart. It quotes nothing: a password with an
// unescaped / or ? ends up where a host, a path or a parameter is expected.
var errUnreadable = errors.New("it cannot be read; special characters of the password, such as @ : / ? # %, must be percent-encoded")

// ErrSettings is for what pgx does not take: a port, sslmode or certificate file.
var ErrSettings = errors.New("a port, TLS or other setting in it is not valid, or a file that it names cannot be read")

// fileKeywords are the keywords that name files.
var fileKeywords = []string{"sslrootcert", "sslcert", "sslkey"}

// namesFile tells whether a keyword of fileKeywords names a file: "system" stands for the roots that the system trusts.
func (c Conninfo) namesFile(key string) bool {
	return c[key] != "" && (key != "sslrootcert" || c[key] != "system") && !c.holds(key)
}

// holds tells whether the value of a keyword of fileKeywords is the certificate or the key itself, in PEM form. Neither
// libpq nor pgx knows that; they get files.
func (c Conninfo) holds(key string) bool { return strings.Contains(c[key], "-----BEGIN ") }

// InFiles returns a copy in which what the URL holds is in files. They have no names, so that nobody else can open them and
// they go with whoever has them open. The path of the i-th one is path's to say.
func (c Conninfo) InFiles(path func(i int, f *os.File) string) (Conninfo, []*os.File, error) {
	var files []*os.File
	for _, key := range fileKeywords {
		if !c.holds(key) {
			continue
		}
		f, err := unnamedFile(strings.TrimSpace(c[key]))
		if err != nil {
			CloseFiles(files)
			return nil, nil, fmt.Errorf("write the certificates of a URL: %w", err)
		}
		files = append(files, f)
		c = c.With(Conninfo{key: path(len(files)-1, f)})
	}
	return c, files, nil
}

// unnamedFile is a file with a text, at whose beginning it stands.
func unnamedFile(text string) (*os.File, error) {
	f, err := os.CreateTemp("", "calco-") // for its owner alone
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = f.WriteString(text + "\n")
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close() // the first error says more
		return nil, err
	}
	return f, nil
}

func CloseFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // it was only read
	}
}

// Descriptor is the path of a file that a process has open.
func Descriptor(fd uintptr) string { return fmt.Sprintf("/dev/fd/%d", fd) }

// WithCertificates returns the URL with certificates and a key in PEM form, which it holds itself: of the authority that the
// server's is checked with, and of the client with its key. Empty ones leave it as it is. Of the errors nothing is quoted.
func (u URL) WithCertificates(authority, certificate, key string) (URL, error) {
	c, err := Parse(string(u))
	if err != nil {
		return "", err
	}
	if authority != "" {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(authority)) {
			return "", ErrAuthority
		}
		c = c.With(Conninfo{"sslrootcert": authority})
	}
	if certificate != "" || key != "" {
		if _, err := tls.X509KeyPair([]byte(certificate), []byte(key)); err != nil {
			return "", ErrKeyPair
		}
		c = c.With(Conninfo{"sslcert": certificate, "sslkey": key})
	}
	return URL(c.String()), nil
}

// The errors of WithCertificates, for what is no certificate, and for a certificate and a key that do not belong together.
var (
	ErrAuthority = errors.New("the certificate of the authority cannot be read")
	ErrKeyPair   = errors.New("the client's certificate and its key cannot be read, or do not belong together")
)

// maxFile bounds a certificate or key file, in bytes.
const maxFile = 1 << 20

// checkFiles refuses what cannot be a certificate or a key before anything reads it: reading a device may not end, and
// reading a pipe may not begin.
func (c Conninfo) checkFiles() error {
	for _, key := range fileKeywords {
		if !c.namesFile(key) {
			continue
		}
		info, err := os.Stat(c[key])
		if err != nil {
			return ErrSettings // it quotes the path
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return fmt.Errorf("%w: the file of %s must be a regular one of at most 1 MB", ErrSettings, key)
		}
	}
	return nil
}

// maxConnect bounds connect_timeout, in seconds.
const maxConnect = 60

// bounded returns a copy that gives up on a server that does not answer: libpq takes 0, and pgx a very large number, for
// no bound at all. What is no number is left for them to refuse.
func (c Conninfo) bounded() Conninfo {
	seconds, err := strconv.Atoi(c["connect_timeout"])
	if err == nil && seconds > 0 && seconds <= maxConnect || err != nil && !errors.Is(err, strconv.ErrRange) {
		return c
	}
	return c.With(Conninfo{"connect_timeout": strconv.Itoa(maxConnect)})
}

// parseURI reads libpq's URI form. It is not net/url's: that knows neither lists of hosts
// nor folders of sockets, and reads + as a space.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
func parseURI(s string) (Conninfo, error) {
	_, rest, _ := strings.Cut(s, "://")
	if strings.Contains(rest, "#") {
		return nil, errors.New("it holds a #, which must be written as %23")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") {
		return nil, errUnreadable
	}
	c := Conninfo{}
	hosts := authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		hosts = authority[at+1:]
		user, password, _ := strings.Cut(authority[:at], ":")
		if !c.decode("user", user) || !c.decode("password", password) {
			return nil, errUnreadable
		}
	}
	if !c.decode("dbname", path) || !c.parseHosts(hosts) {
		return nil, errUnreadable
	}
	for query != "" {
		var parameter string
		parameter, query, _ = strings.Cut(query, "&")
		key, value, ok := strings.Cut(parameter, "=")
		if !ok || strings.Contains(key, "@") {
			return nil, errUnreadable
		}
		if key == "ssl" && value == "true" { // as JDBC writes it, and libpq accepts
			key, value = "sslmode", "require"
		}
		if key == "database" {
			key = "dbname"
		}
		if !c.decode(key, value) {
			return nil, errUnreadable
		}
	}
	return c, nil
}

// decode sets a keyword to a percent-encoded value.
func (c Conninfo) decode(key, encoded string) (ok bool) {
	value, err := url.PathUnescape(encoded)
	c[key] = value
	return err == nil
}

// parseHosts reads host:port,[v6]:port,…
func (c Conninfo) parseHosts(list string) (ok bool) {
	var hosts, ports []string
	for h := range strings.SplitSeq(list, ",") {
		var host, port string
		if inside, isV6 := strings.CutPrefix(h, "["); isV6 {
			if host, port, ok = strings.Cut(inside, "]"); !ok || port != "" && port[0] != ':' {
				return false
			}
			port = strings.TrimPrefix(port, ":")
		} else {
			host, port, _ = strings.Cut(h, ":")
		}
		host, err := url.PathUnescape(host)
		if err != nil || strings.Trim(port, "0123456789") != "" {
			return false
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	c["host"] = strings.Join(hosts, ",")
	if strings.Join(ports, "") != "" {
		c["port"] = strings.Join(ports, ",")
	}
	return true
}

// parseKeywords reads libpq's keyword/value form.
func parseKeywords(s string) (Conninfo, error) {
	c := Conninfo{}
	bad := errors.New("it cannot be read")
	for rest := strings.TrimSpace(s); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, ok := strings.Cut(rest, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" || strings.ContainsAny(key, " \t\n'\\:/@") {
			return nil, bad
		}
		if key == "database" {
			key = "dbname"
		}
		value, left, ok := keywordValue(strings.TrimLeft(after, " \t\n"))
		if !ok {
			return nil, bad
		}
		c[key], rest = value, left
	}
	return c, nil
}

// keywordValue takes one value, quoted or not, off the front of s.
func keywordValue(s string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && ch == '\'':
			return b.String(), s[i+1:], true
		case !quoted && strings.IndexByte(" \t\n", ch) >= 0:
			return b.String(), s[i:], true
		default:
			b.WriteByte(ch)
		}
	}
	return b.String(), "", !quoted
}

// String is the keyword/value form, keys sorted, every value quoted.
func (c Conninfo) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c)) {
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(c[k])
		fmt.Fprintf(&b, "%s='%s' ", k, quoted)
	}
	return strings.TrimSpace(b.String())
}

// With returns a copy that has the given keywords set.
func (c Conninfo) With(more Conninfo) Conninfo {
	out := maps.Clone(c)
	maps.Copy(out, more)
	return out
}

// forPgx is the configuration pgx gets. pgx would take what is absent from the environment
// and the home directory of whoever runs Calco, so nothing is.
func (c Conninfo) forPgx(applicationName string) (*pgx.ConnConfig, error) {
	defaults := Conninfo{
		"sslmode": "prefer", "sslcert": "", "sslkey": "", "sslrootcert": "", "sslcertmode": "allow", "sslpassword": "",
		"sslsni": "", "sslnegotiation": "", "channel_binding": "", "require_auth": "", "target_session_attrs": "any",
		"min_protocol_version": "", "max_protocol_version": "", "connect_timeout": "15", "password": "",
	}
	if err := c.checkFiles(); err != nil {
		return nil, err
	}
	c, files, err := c.InFiles(func(_ int, f *os.File) string { return Descriptor(f.Fd()) })
	if err != nil {
		return nil, err
	}
	defer func() { CloseFiles(files) }() // ParseConfig has read them
	all := defaults.With(c).bounded().With(Conninfo{"passfile": "/nonexistent", "application_name": applicationName})
	if _, named := os.LookupEnv("PGSERVICE"); named { // it can only be overruled by another service
		file, err := unnamedFile("[none]")
		if err != nil {
			return nil, err
		}
		files = append(files, file)
		all = all.With(Conninfo{"service": "none", "servicefile": Descriptor(file.Fd())})
	}
	cfg, err := pgx.ParseConfig(all.String())
	if err != nil {
		return nil, ErrSettings // pgx quotes the string
	}
	for k := range cfg.RuntimeParams {
		if _, ok := all[k]; !ok { // PGOPTIONS, PGTZ
			delete(cfg.RuntimeParams, k)
		}
	}
	return cfg, nil
}

// ForLibpq is the form pg_dump gets on its command line: without the password,
// which goes through the environment.
func (c Conninfo) ForLibpq(applicationName string, major int) string {
	out := Conninfo{"connect_timeout": "15"}.With(c).bounded().With(Conninfo{"application_name": applicationName})
	delete(out, "password")
	// pgx takes the system's roots where none are named. Before version 16 libpq could not, and it still looks for a file
	// at home unless it is told.
	if out.NeedsSystemRoots() {
		if bundle := SystemRoots(); bundle != "" {
			out["sslrootcert"] = bundle
		} else {
			out["sslrootcert"] = "system"
		}
	}
	// An older libpq stops at what it does not know. What matters of that, preflight has refused.
	if major < 17 {
		delete(out, "sslnegotiation")
	}
	return out.String()
}

// NeedsSystemRoots tells whether the server's certificate is checked against the roots that the system trusts.
func (c Conninfo) NeedsSystemRoots() bool {
	return strings.HasPrefix(c["sslmode"], "verify-") && (c["sslrootcert"] == "" || c["sslrootcert"] == "system")
}

// SystemRoots is the file with the roots that the system trusts, looked for where crypto/x509 does, or "".
func SystemRoots() string {
	for _, file := range []string{
		os.Getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Alpine
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL 6
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7
		"/etc/ssl/cert.pem",                                 // Alpine, macOS
	} {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// Address is host:port for people; several hosts are joined by commas.
func (c Conninfo) Address() string {
	if strings.Contains(c["host"], ",") || strings.HasPrefix(c["host"], "/") {
		return c["host"] + ":" + c["port"]
	}
	return net.JoinHostPort(c["host"], c["port"])
}
