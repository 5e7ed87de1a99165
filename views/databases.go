package views

import (
	"context"
	"net"
	"strconv"
	"strings"

	"calco/cloner/report"
)

// Database is a saved database, without what is secret about it.
type Database struct {
	ID          int64
	Name        string
	Environment string // production, staging, development or other
	Address     string // host:port
	Database    string
	Role        string // that connects
	Owner       string // of somebody else's; empty for the user's own
	Shared      bool   // with the team
	Protected   bool   // never a target
	MayChange   bool   // the one who looks at it
}

func (d Database) path(more string) string {
	return "/databases/" + strconv.FormatInt(d.ID, 10) + more
}

func (d Database) resultID() string { return "test-" + strconv.FormatInt(d.ID, 10) }

// pooled tells whether an address looks like that of a pooler in transaction mode: Supabase's by its port, Neon's by its
// name. Only a connection tells for sure.
func pooled(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return port == "6543" || strings.HasSuffix(host, ".neon.tech") && strings.Contains(host, "-pooler.")
}

// DatabasePageProps are what the page of one saved database shows.
type DatabasePageProps struct {
	Database Database
	Form     DatabaseForm // for those who may change it
	Test     *DatabaseTest
	Problem  string // the id of a text: why it was not changed or removed; empty for none
}

// The ways to say where a database is.
const (
	WayURL    = "url"
	WayFields = "fields"
)

// DatabaseForm is what was typed about a database. It has no place for a URL or a password: what is secret is not sent
// back.
type DatabaseForm struct {
	ID          int64 // 0 for a new one
	Name        string
	Way         string // WayURL or WayFields
	Typed       string // user@host:port/database of a URL that was typed, and is to be typed again
	Host        string
	Port        string
	Database    string
	User        string
	TLS         string // one of TLSModes
	Environment string // empty before one is chosen
	Shared      bool
	Protected   bool // asked for, outside of production
	Unprotected bool // asked for, in production

	Locked      bool // it is protected, and the one who types may not change that
	MayLetWrite bool // the one who types may leave a production database unprotected
	Retype      bool // something secret was typed
	Errors      Errors
	BadURL      string // why the URL cannot be used: the engine's words, in English
}

// TLSModes are PostgreSQL's sslmode values that the form offers, the default first.
var TLSModes = []string{"prefer", "require", "verify-full"}

// Environments are what a database may be used for.
var Environments = []string{"production", "staging", "development", "other"}

// environmentColours are the badges of the environments.
var environmentColours = map[string]string{
	"production": "badge-error", "staging": "badge-warning", "development": "badge-secondary", "other": "badge-ghost",
}

func (f DatabaseForm) action() string {
	if f.ID == 0 {
		return "/databases"
	}
	return "/databases/" + strconv.FormatInt(f.ID, 10)
}

func (f DatabaseForm) testAction() string { return f.action() + "/test" }

// urlHint says what to type as URL, or to type it again.
func (f DatabaseForm) urlHint(ctx context.Context) string {
	switch {
	case f.Retype && f.Typed != "":
		return T(ctx, "databases.url.again", "Typed", f.Typed)
	case f.Retype && f.Way == WayURL:
		return T(ctx, "databases.url.again.bad")
	case f.ID != 0:
		return T(ctx, "databases.url.keep")
	}
	return T(ctx, "databases.url.hint")
}

func (f DatabaseForm) passwordHint(ctx context.Context) string {
	switch {
	case f.Retype && f.Way == WayFields:
		return T(ctx, "databases.password.again")
	case f.ID != 0:
		return T(ctx, "databases.password.anew")
	}
	return T(ctx, "databases.password.hint")
}

func (f DatabaseForm) urlError(ctx context.Context) string {
	if f.BadURL != "" {
		return T(ctx, "databases.url.bad", "Why", f.BadURL)
	}
	return f.Errors.text(ctx, "url")
}

func tlsOptions(ctx context.Context) []SelectOption {
	options := make([]SelectOption, len(TLSModes))
	for i, mode := range TLSModes {
		options[i] = SelectOption{mode, T(ctx, "databases.tls."+mode)}
	}
	return options
}

// DatabaseTest is what came of connecting to a database: a problem, reasons why there is no connection, or what was found.
type DatabaseTest struct {
	Problem string   // the id of a text: why there was no attempt, or no end of it
	Why     string   // what goes after it; in English
	Fields  []string // of the form, that have to be looked at
	Refused []report.Reason
	Found   *report.Inspection

	// Forbidden are the ids of texts: why Calco itself does not take what was found as a target.
	Forbidden []string
}

// labels names the fields to look at.
func (t DatabaseTest) labels(ctx context.Context) string {
	labels := make([]string, len(t.Fields))
	for i, field := range t.Fields {
		labels[i] = T(ctx, "databases."+field)
	}
	return strings.Join(labels, ", ")
}

// listedSchemas bounds how many schemas are listed: some databases have one for each customer.
const listedSchemas = 50

func tablesIn(schemas []report.SchemaInfo) (n int) {
	for _, s := range schemas {
		n += s.Tables
	}
	return n
}

// ownerOf says whose a database is, and who sees it.
func ownerOf(ctx context.Context, d Database) string {
	switch {
	case d.Owner != "":
		return T(ctx, "databases.owner", "Email", d.Owner)
	case d.Shared:
		return T(ctx, "databases.shared")
	}
	return T(ctx, "databases.private")
}
