package web

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/views"
)

const maxURL = 4096 // bytes

// databaseForm is what was typed about a database. Its URL goes to the store and to the engine, and never back.
type databaseForm struct {
	seen  views.DatabaseForm // what may be drawn again
	url   dsn.URL            // that leads to the database; empty when none was typed
	empty bool               // neither a URL nor fields were typed

	authority, certificate, key string // in PEM form; they go into the URL
}

// certified tells whether a certificate or a key was pasted.
func (f databaseForm) certified() bool { return f.authority+f.certificate+f.key != "" }

// readDatabase parses the form of a request.
func (s *Server) readDatabase(c echo.Context) (databaseForm, error) {
	typed, err := c.FormParams()
	if err != nil {
		return databaseForm{}, errInvalid
	}
	return parseDatabase(typed, s.jobs.HostsOf(currentUser(c))), nil
}

// parseDatabase parses a form. What is wrong with the way to the database stands in the errors of what it returns, and
// the URL is then empty; the rest is check's.
func parseDatabase(typed url.Values, hosts *dsn.Hosts) databaseForm {
	text := func(name string) string { return strings.TrimSpace(typed.Get(name)) }
	f := databaseForm{seen: views.DatabaseForm{
		Name: text("name"), Way: typed.Get("way"), Environment: typed.Get("environment"),
		Host: text("host"), Port: text("port"), Database: typed.Get("database"), User: typed.Get("user"), TLS: typed.Get("tls"),
		Shared: typed.Get("shared") != "", Protected: typed.Get("protected") != "", Unprotected: typed.Get("unprotected") != "",
		Errors: views.Errors{},
	}}
	typedURL, password := text("url"), typed.Get("password")
	fields := f.seen.Host+f.seen.Port+f.seen.Database+f.seen.User+password != ""
	f.empty = typedURL == "" && !fields
	f.authority, f.certificate, f.key = text("authority"), text("certificate"), text("key")
	f.seen.Retype = typedURL != "" || password != "" || f.certified()
	switch {
	case fields && (f.seen.Way == views.WayFields || typedURL == ""):
		f.seen.Way = views.WayFields
		f.url = urlOfFields(f.seen, password)
	case typedURL != "":
		f.seen.Way = views.WayURL
		f.url = dsn.URL(typedURL)
	}
	if f.url != "" {
		f.checkURL(hosts)
	}
	return f
}

// checkURL sees to it that only a URL that can be used remains.
func (f *databaseForm) checkURL(hosts *dsn.Hosts) {
	err := f.url.CheckRemote(hosts)
	if len(f.url) > maxURL {
		err = errors.New("it is too long")
	}
	if err != nil {
		f.seen.BadURL, f.url = err.Error(), ""
		return
	}
	if f.seen.Way == views.WayURL {
		f.seen.Typed = f.url.String()
	}
	if !f.certified() {
		return
	}
	f.url, err = f.url.WithCertificates(f.authority, f.certificate, f.key)
	switch {
	case errors.Is(err, dsn.ErrAuthority):
		f.seen.Errors["authority"] = "databases.authority.bad"
	case err != nil:
		f.seen.Errors["certificate"] = "databases.certificate.bad"
	}
}

// urlOfFields puts a URL together, or adds errors to the form and returns none.
func urlOfFields(f views.DatabaseForm, password string) dsn.URL {
	host, port := strings.Trim(f.Host, "[]"), f.Port
	if port == "" {
		port = "5432"
	}
	if !isHost(host) {
		f.Errors["host"] = "databases.host.bad"
	}
	for name, value := range map[string]string{"host": f.Host, "database": f.Database, "user": f.User} {
		if value == "" {
			f.Errors[name] = "databases.missing"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		f.Errors["port"] = "databases.port.bad"
	}
	if len(f.Errors) > 0 {
		return ""
	}
	who := escape(f.User)
	if password != "" {
		who += ":" + escape(password)
	}
	return dsn.URL("postgres://" + who + "@" + net.JoinHostPort(host, port) + "/" + escape(f.Database) + "?" + tlsParameters(f.TLS))
}

// escape percent-encodes everything that could mean something in a URL.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// tlsParameters are what a TLS mode of the form is in a URL. PostgreSQL's own tools check a certificate only against
// authorities that they are told; the system's have to be asked for.
func tlsParameters(mode string) string {
	switch {
	case mode == "verify-full":
		return "sslmode=verify-full&sslrootcert=system"
	case slices.Contains(views.TLSModes, mode):
		return "sslmode=" + mode
	}
	return "sslmode=" + views.TLSModes[0]
}

var hostName = regexp.MustCompile(`^[\pL\pN_][\pL\pN_.-]*$`)

// isHost tells whether something is the name or the address of one host: no list, no folder with a socket, no port.
func isHost(s string) bool {
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Zone() == ""
	}
	return hostName.MatchString(s)
}

// needURL adds an error where a URL is missing: a database that is saved already keeps its own where nothing was typed.
func (f databaseForm) needURL(saved bool) {
	if f.empty && (!saved || f.certified()) {
		f.seen.Errors[f.missing()] = "databases.missing"
	}
}

// missing is the field to begin with when neither a URL nor fields were typed.
func (f databaseForm) missing() string {
	if f.seen.Way == views.WayFields {
		return "host"
	}
	return "url"
}

// wrong tells whether the form has to be typed again.
func (f databaseForm) wrong() bool { return len(f.seen.Errors) > 0 || f.seen.BadURL != "" }

// request is what is to be saved.
func (f databaseForm) request() jobs.DatabaseRequest {
	return jobs.DatabaseRequest{
		Name: f.seen.Name, Environment: jobs.Environment(f.seen.Environment), Shared: f.seen.Shared,
		Protected: f.seen.Protected, Unprotected: f.seen.Unprotected, URL: f.url,
	}
}

// refused adds the errors for what is wrong with the request, and returns every other one.
func (f databaseForm) refused(err error) error {
	known := false
	for _, e := range []struct {
		err         error
		field, text string
	}{
		{jobs.ErrNoName, "name", "databases.name.missing"},
		{jobs.ErrLongName, "name", "databases.name.long"},
		{jobs.ErrTaken, "name", "databases.name.taken"},
		{jobs.ErrNoEnvironment, "environment", "databases.environment.missing"},
		{jobs.ErrHostForbidden, f.missing(), "databases.host.forbidden"},
	} {
		if errors.Is(err, e.err) {
			f.seen.Errors[e.field], known = e.text, true
		}
	}
	if known {
		return nil
	}
	return err
}
