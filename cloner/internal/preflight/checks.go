// Package preflight finds out what stands in the way of a clone. It reads, and does nothing else: no lock, no write, nobody is
// ended. Whoever starts a clone can ask it first, with roles that may only read.
package preflight

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/dsn"
	"calco/cloner/internal/clean"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/pgtools"
	"calco/cloner/report"
)

// oldestServer is the oldest server this engine was tested with, as server_version_num.
const oldestServer = 130000

//go:embed sql/unreadable.sql
var unreadableSQL string

//go:embed sql/unreadable_large_objects.sql
var unreadableLargeObjectsSQL string

// Input is a clone that somebody thinks of.
type Input struct {
	Source, Target *session.Server
	Scope          clean.Scope
	Wish           marks.Wish
}

// Result is what stands in its way.
type Result struct {
	Reasons  []report.Reason // that are against it, all at once
	Warnings []report.Text   // what cannot be told by reading, and what is worth knowing
	Dumper   schema.Dumper   // how both sides can be dumped, where there are no reasons
	Ours     bool            // the job has left something on the target, which it goes on with
}

// Check looks at both servers for what cannot end well. It only reads: it takes no lock, writes nothing, needs no right to
// write, and ends nobody's session. What an earlier run of the job has left on the target is not in its way.
func Check(ctx context.Context, in Input) (Result, error) {
	c := &check{Input: in}
	foreign, err := marks.CheckForeign(ctx, c.Target)
	if err != nil || len(foreign) > 0 {
		return Result{Reasons: foreign}, err
	}
	previous, err := marks.Look(ctx, c.Target, c.Wish)
	if err != nil {
		return asResult(err)
	}
	ours, err := previous.Ours(ctx, c.Source, c.Target, c.Wish)
	if err != nil {
		return asResult(err)
	}
	if c.Ours = ours; !ours {
		previous = nil
	}
	if c.Source.NoTimeline != "" {
		c.warn(Unprovable(c.Source.NoTimeline))
	}
	checks := []func(context.Context) ([]report.Reason, error){
		c.versions, c.tools, c.sameDatabase, c.encodings, c.readable, c.writable, c.locks, c.use,
		func(ctx context.Context) ([]report.Reason, error) { return c.Scope.Check(ctx, previous) },
	}
	for _, do := range checks {
		found, err := do(ctx)
		if err != nil {
			return c.Result, err
		}
		// Where source and target are one, nothing else is of interest; and what another job is filling is changing.
		if len(found) > 0 && found[0].Code == report.ReasonSameDatabase {
			c.Reasons = nil
		}
		c.Reasons = append(c.Reasons, found...)
		if len(found) > 0 && (found[0].Code == report.ReasonBusy || found[0].Code == report.ReasonSameDatabase) {
			break
		}
	}
	return c.Result, nil
}

// check is a Check under way.
type check struct {
	Input
	Result
}

func (c *check) warn(text report.Text) { c.Warnings = append(c.Warnings, text) }

// Unprovable is the warning that says in time what losing the snapshot would cost.
func Unprovable(why string) report.Text {
	return report.Said("The source does not tell where its write-ahead log is (" + why + "). Should the snapshot be lost, all rows have to be copied again.")
}

// use refuses databases that another clone uses.
func (c *check) use(ctx context.Context) ([]report.Reason, error) {
	source, err := marks.ReadUse(ctx, c.Source.Control, c.Wish.Job.ID)
	if err != nil {
		return nil, err
	}
	target, err := marks.ReadUse(ctx, c.Target.Control, c.Wish.Job.ID)
	if err != nil {
		return nil, err
	}
	var reasons []report.Reason
	if source.Filled {
		reasons = append(reasons, source.Reason(report.Source, c.Source))
	}
	if target.Filled || target.Read {
		reasons = append(reasons, target.Reason(report.Target, c.Target))
	}
	return reasons, nil
}

func (c *check) versions(context.Context) ([]report.Reason, error) {
	return append(versionReasons(c.Source.Facts, report.Source), versionReasons(c.Target.Facts, report.Target)...), nil
}

func (c *check) sameDatabase(ctx context.Context) ([]report.Reason, error) {
	return checkSameDatabase(ctx, c.Source, c.Target, c.warn)
}

func versionReasons(f session.Facts, side report.Side) []report.Reason {
	var reasons []report.Reason
	if f.VersionNum < oldestServer {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnknownVersion, Side: side,
			Text: report.Said(fmt.Sprintf("The %s runs PostgreSQL %s; Calco knows version 13 and later.", side, f.Version)),
			Hint: report.Said("Upgrade the server first."),
		})
	}
	if side == report.Source && f.InRecovery && !StandbySnapshotsTrusted(f.VersionNum) {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonStandby, Side: side,
			Text: report.Said(fmt.Sprintf("The source is a standby with PostgreSQL %s, whose exported snapshots can show wrong rows and damage the standby.", f.Version)),
			Hint: report.Said("Clone from the primary, or update the standby to a minor release of November 2026 or later."),
		})
	}
	return reasons
}

// StandbySnapshotsTrusted tells whether this server has the fix of November 2026 for
// snapshots that are imported during recovery.
func StandbySnapshotsTrusted(version int) bool {
	fixed := map[int]int{14: 25, 15: 20, 16: 16, 17: 12, 18: 7}
	minor, known := fixed[version/10000]
	return version >= 190000 || known && version%10000 >= minor
}

// tools finds a pg_dump that can read both sides: the target is dumped too, to be compared.
func (c *check) tools(ctx context.Context) ([]report.Reason, error) {
	path, version, err := newestDump(ctx)
	if err != nil {
		return nil, err
	}
	c.Dumper.Path, c.Dumper.Version, c.Dumper.PlainLz4 = path, version, c.Source.Lz4 && !c.Target.Lz4
	return slices.Concat(toolsReasons(c.Source.Major(), c.Target.Major(), version),
		parameterReasons(report.Source, c.Source.URL, version), parameterReasons(report.Target, c.Target.URL, version)), nil
}

// newestDump is the newest pg_dump here; the version is 0 where there is none.
func newestDump(ctx context.Context) (path string, version pgtools.Version, err error) {
	path, version, err = pgtools.Newest(ctx, "pg_dump")
	var missing *pgtools.NotFoundError
	if err != nil && !errors.As(err, &missing) {
		return "", 0, fmt.Errorf("look for pg_dump: %w", err)
	}
	return path, version, nil
}

// parameterReasons refuses what a URL demands and this pg_dump, 0 for none, cannot keep to. Without require_auth it would
// answer a server in clear text that the URL forbids.
func parameterReasons(side report.Side, u dsn.URL, version pgtools.Version) []report.Reason {
	info, err := dsn.Parse(string(u))
	if err != nil || version == 0 {
		return nil
	}
	var reasons []report.Reason
	for _, need := range []struct {
		keyword string
		since   int
	}{{"require_auth", 16}, {"sslnegotiation", 17}} {
		if info[need.keyword] == "" || version.Major() >= need.since || info[need.keyword] == "postgres" {
			continue
		}
		reasons = append(reasons, report.Reason{
			Code: report.ReasonClientTools, Side: side,
			Text: report.Said(fmt.Sprintf("The URL of the %s has %s, which the newest pg_dump here, of version %s, does not know.", side, need.keyword, version)),
			Hint: report.Said(fmt.Sprintf("Install the package postgresql-client-%d (Debian, Ubuntu) or postgresql%d (RHEL) where Calco runs, or take %s out of the URL.",
				need.since, need.since, need.keyword)),
		})
	}
	return append(reasons, rootsReasons(side, info, version, dsn.SystemRoots())...)
}

// rootsReasons refuses a certificate that pg_dump cannot check: where there is no file with the system's roots, it finds them
// by itself since version 16, and only for verify-full. It would say so when all rows are copied.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT
func rootsReasons(side report.Side, info dsn.Conninfo, version pgtools.Version, bundle string) []report.Reason {
	if !info.NeedsSystemRoots() || bundle != "" || version.Major() >= 16 && info["sslmode"] == "verify-full" {
		return nil
	}
	return []report.Reason{{
		Code: report.ReasonClientTools, Side: side,
		Text: report.Said(fmt.Sprintf("The URL of the %s has sslmode=%s, and there is no file with the certificates that the system trusts, which the newest pg_dump here, of version %s, needs.",
			side, info["sslmode"], version)),
		Hint: report.Said("Install the package ca-certificates where Calco runs, or postgresql-client-16 or newer for sslmode=verify-full."),
	}}
}

// toolsReasons compares the newest pg_dump, 0 for none, with the servers: it refuses those
// of a newer major version than its own.
func toolsReasons(source, target int, version pgtools.Version) []report.Reason {
	need, side := source, report.Source
	if target > source {
		need, side = target, report.Target
	}
	switch {
	case version == 0:
		return []report.Reason{{
			Code: report.ReasonClientTools, Side: side, Text: report.Said("No pg_dump was found where Calco runs."),
			Hint: report.Said(fmt.Sprintf("Install the package postgresql-client-%d (Debian, Ubuntu), postgresql%d (RHEL) or libpq (Homebrew).", need, need)),
		}}
	case version.Major() < need:
		return []report.Reason{{
			Code: report.ReasonClientTools, Side: side,
			Text: report.Said(fmt.Sprintf("The %s runs PostgreSQL %d, but the newest pg_dump here is of version %s.", side, need, version)),
			Hint: report.Said(fmt.Sprintf("Install the package postgresql-client-%d (Debian, Ubuntu) or postgresql%d (RHEL) where Calco runs.", need, need)),
		}}
	}
	return nil
}

func (c *check) readable(ctx context.Context) (reasons []report.Reason, err error) {
	reasons, c.Dumper.Excluded, err = checkReadable(ctx, c.Source, c.Scope.Schemas)
	return reasons, err
}

// checkReadable refuses a source that the role may not read all of, and returns the schemas that pg_dump may not even look at.
func checkReadable(ctx context.Context, source *session.Server, schemas []string) (reasons []report.Reason, excluded []string, err error) {
	type unreadable struct {
		Schema, Name string
		Permitted    bool
	}
	found, err := session.Query[unreadable](ctx, source.Control, unreadableSQL)
	if err != nil {
		return nil, nil, fmt.Errorf("read permissions on the source: %w", err)
	}
	var forbidden, hidden []string
	for _, u := range found {
		switch {
		case !chosen(schemas, u.Schema):
			// pg_dump locks every table it is not told to leave out.
			if !slices.Contains(excluded, u.Schema) {
				excluded = append(excluded, u.Schema)
			}
		case !u.Permitted:
			forbidden = append(forbidden, u.Schema+"."+u.Name)
		default:
			hidden = append(hidden, u.Schema+"."+u.Name)
		}
	}
	if len(forbidden) > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnreadable, Side: report.Source, Objects: report.AtMost(forbidden),
			Text: report.Said(fmt.Sprintf("The role %s may not read %s on the source: %s.", source.Role, report.Count(len(forbidden), "table or sequence", "tables or sequences"), report.Listed(forbidden))),
			Hint: report.Said("Grant it SELECT on them and USAGE on their schemas (pg_read_all_data has both), or choose other schemas."),
		})
	}
	if len(hidden) > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnreadable, Side: report.Source, Objects: report.AtMost(hidden),
			Text: report.Said(fmt.Sprintf("Row-level security hides rows of %s from the role %s on the source: %s.", report.Count(len(hidden), "table", "tables"), source.Role, report.Listed(hidden))),
			Hint: report.Said("Use a role with BYPASSRLS, or the tables' owner."),
		})
	}
	if len(schemas) == 0 {
		n, err := session.QueryValue[int](ctx, source.Control, unreadableLargeObjectsSQL)
		if err != nil {
			return nil, nil, fmt.Errorf("read permissions on large objects: %w", err)
		}
		if n > 0 {
			reasons = append(reasons, report.Reason{
				Code: report.ReasonUnreadable, Side: report.Source,
				Text: report.Said(fmt.Sprintf("The role %s may not read %s on the source.", source.Role, report.Count(n, "large object", "large objects"))),
				Hint: report.Said("Grant it SELECT on them, or choose the schemas to clone: large objects belong to none."),
			})
		}
	}
	missing, err := unknownSchemas(ctx, source, schemas)
	if err != nil {
		return nil, nil, err
	}
	if len(missing) > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnknownSchema, Side: report.Source, Objects: missing,
			Text: report.Said(fmt.Sprintf("The source has no schema %s.", strings.Join(missing, ", "))),
			Hint: report.Said("Check the spelling; names are case-sensitive here."),
		})
	}
	return reasons, excluded, nil
}

func unknownSchemas(ctx context.Context, source *session.Server, schemas []string) ([]string, error) {
	have, err := session.Query[struct{ Name string }](ctx, source.Control, `SELECT nspname::text AS name FROM pg_namespace`)
	if err != nil {
		return nil, fmt.Errorf("list schemas of the source: %w", err)
	}
	var missing []string
	for _, s := range schemas {
		if !slices.ContainsFunc(have, func(h struct{ Name string }) bool { return h.Name == s }) {
			missing = append(missing, s)
		}
	}
	return missing, nil
}

func (c *check) writable(ctx context.Context) ([]report.Reason, error) {
	places, err := c.places(ctx)
	return append(checkWritable(c.Target), places...), err
}

// checkWritable refuses a target that takes no writes, or none of this role.
func checkWritable(target *session.Server) []report.Reason {
	var reasons []report.Reason
	if target.InRecovery {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonReadOnly, Side: report.Target,
			Text: report.Said(fmt.Sprintf("The target %s is a standby, which takes no writes.", target.URL)),
			Hint: report.Said("Use the address of the primary."),
		})
	} else if !target.CanCreate {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonPermission, Side: report.Target,
			Text: report.Said(fmt.Sprintf("The role %s may not create schemas in the target's database %s.", target.Role, target.Database)),
			Hint: report.Said(fmt.Sprintf("Use the database's owner, or GRANT CREATE ON DATABASE %s TO %s.", session.QuoteName(target.Database), session.QuoteName(target.Role))),
		})
	}
	return reasons
}

// locks wants both servers to have room for the locks of pg_dump, which holds one on each table: the target's last of
// all, when everything is there. A server takes some more than it promises.
// https://www.postgresql.org/docs/current/runtime-config-locks.html
func (c *check) locks(ctx context.Context) ([]report.Reason, error) {
	tables, err := session.QueryValue[int64](ctx, c.Source.Control, `
		SELECT count(*)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')`)
	if err != nil {
		return nil, fmt.Errorf("count the tables of the source: %w", err)
	}
	var reasons []report.Reason
	for _, s := range []*session.Session{c.Source.Control, c.Target.Control} {
		type room struct{ Locks, Sessions int64 }
		has, err := session.QueryRow[room](ctx, s, `
			SELECT current_setting('max_locks_per_transaction')::bigint AS locks,
			       current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS sessions`)
		if err != nil {
			return nil, fmt.Errorf("read how many locks the %s has room for: %w", s.Side, err)
		}
		if tables > 2*has.Locks*has.Sessions {
			reasons = append(reasons, report.Reason{
				Code: report.ReasonLocks, Side: s.Side,
				Text: report.Said(fmt.Sprintf("The %s has room for about %d locks, and pg_dump takes one on each of %d tables.", s.Side, has.Locks*has.Sessions, tables)),
				Hint: report.Said(fmt.Sprintf("Set max_locks_per_transaction of that server to %d or more, and restart it.", tables/has.Sessions+1)),
			})
		}
	}
	return reasons, nil
}

// places wants the target's role to be allowed to make what comes in the schemas that are there, and the temporary
// table that large objects come through.
func (c *check) places(ctx context.Context) ([]report.Reason, error) {
	filled, err := session.Query[struct{ Name string }](ctx, c.Source.Control, `
		SELECT DISTINCT nspname::text AS name
		FROM (SELECT 'pg_class'::regclass AS class, oid, relnamespace AS schema FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
		      UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type WHERE typtype IN ('e', 'd', 'r')
		      UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc) o
		JOIN pg_namespace n ON n.oid = o.schema
		WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e') -- its extension makes it`)
	if err != nil {
		return nil, fmt.Errorf("read schemas of the source: %w", err)
	}
	var names []string
	for _, s := range filled {
		if chosen(c.Scope.Schemas, s.Name) {
			names = append(names, s.Name)
		}
	}
	// A schema that clean drops is made anew.
	closed, err := session.Query[struct{ Name string }](ctx, c.Target.Control, `
		SELECT nspname::text AS name
		FROM pg_namespace n
		WHERE nspname = ANY ($1)
		AND   NOT (has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE'))
		AND   NOT ($2 AND nspname <> 'public' AND pg_has_role(nspowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid))
		ORDER BY 1`, names, c.Scope.Clean)
	if err != nil {
		return nil, fmt.Errorf("read permissions on schemas of the target: %w", err)
	}
	var reasons []report.Reason
	if len(closed) > 0 {
		var list, quoted []string
		for _, s := range closed {
			list, quoted = append(list, s.Name), append(quoted, session.QuoteName(s.Name))
		}
		reasons = append(reasons, report.Reason{
			Code: report.ReasonPermission, Side: report.Target, Objects: report.AtMost(list),
			Text: report.Said(fmt.Sprintf("The role %s may not create anything in %s of the target: %s.", c.Target.Role, report.Either(len(list) == 1, "a schema", "schemas"), report.Listed(list))),
			Hint: report.Said(fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA %s TO %s.", strings.Join(quoted, ", "), session.QuoteName(c.Target.Role))),
		})
	}
	if !c.Scope.Whole() {
		return reasons, nil
	}
	large, err := session.QueryValue[bool](ctx, c.Source.Control, `SELECT EXISTS (SELECT FROM pg_largeobject_metadata)`)
	if err != nil {
		return nil, fmt.Errorf("look for large objects of the source: %w", err)
	}
	temporary, err := session.QueryValue[bool](ctx, c.Target.Control, `SELECT has_database_privilege(current_database(), 'TEMPORARY')`)
	if err != nil {
		return nil, fmt.Errorf("read permissions on the target: %w", err)
	}
	if large && !temporary {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonPermission, Side: report.Target,
			Text: report.Said(fmt.Sprintf("The role %s may not create temporary tables in the target's database %s, through which large objects come.", c.Target.Role, c.Target.Database)),
			Hint: report.Said(fmt.Sprintf("GRANT TEMPORARY ON DATABASE %s TO %s.", session.QuoteName(c.Target.Database), session.QuoteName(c.Target.Role))),
		})
	}
	return reasons, nil
}

// chosen tells whether a schema is among those that were chosen.
func chosen(schemas []string, name string) bool {
	return !schema.IsSystemSchema(name) && (len(schemas) == 0 || slices.Contains(schemas, name))
}

// asResult makes a result of an error that is a refusal.
func asResult(err error) (Result, error) {
	if refused, ok := errors.AsType[*report.RefusedError](err); ok {
		return Result{Reasons: refused.Reasons}, nil
	}
	return Result{}, err
}

// encodings refuses a clone between a database that knows the encoding of its text and one that does not: what the
// bytes of the latter mean nobody can tell, so no copy of them can be called equal.
func (c *check) encodings(context.Context) ([]report.Reason, error) {
	const unknown = "SQL_ASCII"
	source, target := c.Source.Encoding, c.Target.Encoding
	if source == target || source != unknown && target != unknown {
		return nil, nil
	}
	side, known := report.Source, target
	if target == unknown {
		side, known = report.Target, source
	}
	other := report.Target
	if side == report.Target {
		other = report.Source
	}
	return []report.Reason{{
		Code: report.ReasonEncoding, Side: side,
		Text: report.Said(fmt.Sprintf("The %s has the encoding SQL_ASCII, which stands for any bytes; the %s has %s. The same text would not be the same on both sides.", side, other, known)),
		Hint: report.Said("Make the target with the source's encoding: CREATE DATABASE … TEMPLATE template0 ENCODING '" + source + "' LOCALE 'C'."),
	}}, nil
}
