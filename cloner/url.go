package cloner

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
)

// URL is a PostgreSQL connection string, as a URI (postgres://user:password@host/db)
// or as keywords and values (host=… user=… dbname=…). It prints, logs and
// marshals without its password. Nothing is taken from the environment, service
// files or password files: the URL names its host, user and database itself.
type URL string

// String is the URL without password, in the form user@host:port/database.
func (u URL) String() string {
	c, err := parseConninfo(string(u))
	if err != nil {
		return "invalid connection URL"
	}
	return fmt.Sprintf("%s@%s/%s", c["user"], c.address(), c["dbname"])
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
	_, err := parseConninfo(string(u))
	return err
}

// Database is the name of the database the URL leads to.
func (u URL) Database() string {
	c, _ := parseConninfo(string(u))
	return c["dbname"]
}

// conninfo holds libpq's connection keywords.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
type conninfo map[string]string

// conninfoKeywords are the keywords that both pgx and libpq understand. Others are
// refused, since pg_dump would stop at them after the clone has begun.
var conninfoKeywords = []string{
	"host", "port", "user", "password", "dbname", "connect_timeout", "options",
	"sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni", "sslnegotiation",
	"channel_binding", "require_auth", "target_session_attrs", "application_name",
}

func parseConninfo(s string) (conninfo, error) {
	var c conninfo
	var err error
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		c, err = parseURI(s)
	} else {
		c, err = parseKeywords(s)
	}
	if err != nil {
		return nil, err
	}
	for k := range c {
		if !slices.Contains(conninfoKeywords, k) {
			return nil, fmt.Errorf("it has the parameter %q, which PostgreSQL's own tools do not know", k)
		}
	}
	for _, need := range []struct{ key, what string }{{"host", "host"}, {"user", "user"}, {"dbname", "database"}} {
		if c[need.key] == "" {
			return nil, fmt.Errorf("it names no %s", need.what)
		}
	}
	if c["port"] == "" {
		c["port"] = "5432"
	}
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("it holds a zero byte")
	}
	return c, nil
}

// parseURI reads libpq's URI form. Errors of net/url quote their input, which may
// hold a password, so they are replaced.
func parseURI(s string) (conninfo, error) {
	c := conninfo{}
	u, err := url.Parse(escapeHosts(s))
	if err != nil {
		return nil, fmt.Errorf("it cannot be read; special characters of the password, such as @ : / %% #, must be percent-encoded")
	}
	if u.Fragment != "" {
		return nil, fmt.Errorf("it holds a #, which must be written as %%23")
	}
	if u.User != nil {
		c["user"] = u.User.Username()
		c["password"], _ = u.User.Password()
	}
	c["dbname"] = strings.TrimPrefix(u.Path, "/")
	var hosts, ports []string
	for part := range strings.SplitSeq(u.Host, ",") {
		host, port := part, ""
		if h, p, err := net.SplitHostPort(part); err == nil {
			host, port = h, p
		}
		host, err := url.PathUnescape(strings.Trim(host, "[]"))
		if err != nil {
			return nil, fmt.Errorf("its host cannot be read")
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	c["host"] = strings.Join(hosts, ",")
	if strings.Trim(strings.Join(ports, ""), " ") != "" {
		c["port"] = strings.Join(ports, ",")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("its parameters cannot be read")
	}
	for k, v := range query {
		if k == "database" {
			k = "dbname"
		}
		c[k] = v[len(v)-1]
	}
	return c, nil
}

// escapeHosts makes a list of hosts with ports (a:1,b:2) fit for net/url, which
// knows only one: the commas between ports are what it stumbles over.
func escapeHosts(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndex(rest[:end], "@")
	hosts := rest[at+1 : end]
	if !strings.Contains(hosts, ",") {
		return s
	}
	return scheme + "://" + rest[:at+1] + strings.ReplaceAll(hosts, ":", "%3A") + rest[end:]
}

// parseKeywords reads libpq's keyword/value form.
func parseKeywords(s string) (conninfo, error) {
	c := conninfo{}
	bad := fmt.Errorf("it cannot be read")
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
func (c conninfo) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c)) {
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(c[k])
		fmt.Fprintf(&b, "%s='%s' ", k, quoted)
	}
	return strings.TrimSpace(b.String())
}

// with returns a copy that has the given keywords set.
func (c conninfo) with(more conninfo) conninfo {
	out := maps.Clone(c)
	maps.Copy(out, more)
	return out
}

// forPgx is the form pgx gets. pgx would read ~/.pgpass and certificates of the
// home directory of whoever runs the server for a keyword that is absent.
func (c conninfo) forPgx(applicationName string) string {
	defaults := conninfo{
		"sslmode": "prefer", "sslcert": "", "sslkey": "", "sslrootcert": "", "target_session_attrs": "any",
		"connect_timeout": "15", "password": "",
	}
	out := defaults.with(c).with(conninfo{"passfile": "/nonexistent", "application_name": applicationName})
	return out.String()
}

// forLibpq is the form pg_dump gets on its command line: without the password,
// which goes through the environment.
func (c conninfo) forLibpq(applicationName string) string {
	out := conninfo{"connect_timeout": "15"}.with(c).with(conninfo{"application_name": applicationName})
	delete(out, "password")
	return out.String()
}

// address is host:port for people; several hosts are joined by commas.
func (c conninfo) address() string {
	if strings.Contains(c["host"], ",") || strings.HasPrefix(c["host"], "/") {
		return c["host"] + ":" + c["port"]
	}
	return net.JoinHostPort(c["host"], c["port"])
}
