package cloner

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"calco/cloner/dsn"
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

// preflightPatience is how long preflight may take. Until the pulse of both sides is felt nothing else tells a server that
// lets Calco in and then says nothing.
const preflightPatience = 2 * time.Minute

// errSilent is the cause to end a preflight with that takes too long.
var errSilent = errors.New("a server lets Calco in and then does not answer")

func (r *run) preflightInTime(ctx context.Context) error {
	ctx, stop := context.WithTimeoutCause(ctx, cmp.Or(r.options.silence, preflightPatience), errSilent)
	defer stop()
	err := r.preflight(ctx)
	if err == nil {
		err = r.acquire(ctx)
	}
	if err == nil || !errors.Is(context.Cause(ctx), errSilent) {
		return err
	}
	side := report.Source
	if r.source != nil && r.source.Control != nil { // it has answered
		side = report.Target
	}
	return &session.LostError{Side: side, Err: errSilent, Text: fmt.Sprintf("The server of the %s lets Calco in and then does not answer.", side)}
}

// preflight looks at both servers and refuses what cannot end well, all reasons at
// once. Nothing is written anywhere. It leaves r.source.control and r.target.control open.
func (r *run) preflight(ctx context.Context) error {
	var reasons []report.Reason
	for _, side := range []report.Side{report.Source, report.Target} {
		reason, err := r.connect(ctx, side)
		if err != nil {
			return err
		}
		if reason != nil {
			reasons = append(reasons, *reason)
		}
	}
	if err := report.Refuse(reasons...); err != nil {
		return err
	}
	foreign, err := marks.CheckForeign(ctx, r.target)
	if err == nil && len(foreign) > 0 {
		return report.Refuse(foreign...)
	}
	if err != nil {
		return err
	}
	previous, err := marks.Look(ctx, r.target, r.wish())
	if err != nil {
		return err
	}
	ours, err := previous.Ours(r.wish())
	if err != nil {
		return err
	}
	if !ours {
		previous = nil
	}
	checks := []func(context.Context) ([]report.Reason, error){
		r.checkVersions, r.checkTools,
		func(ctx context.Context) ([]report.Reason, error) {
			return checkSameDatabase(ctx, r.source, r.target, r.ledger.Warn)
		},
		r.checkEncodings, r.checkReadable, r.checkWritable, r.checkLocks, r.checkUse,
		func(ctx context.Context) ([]report.Reason, error) { return r.checkContents(ctx, previous) },
	}
	for _, check := range checks {
		found, err := check(ctx)
		if err != nil {
			return err
		}
		// Where source and target are one, nothing else is of interest; and what another job is filling is changing.
		if len(found) > 0 && found[0].Code == report.ReasonSameDatabase {
			return report.Refuse(found...)
		}
		reasons = append(reasons, found...)
		if len(found) > 0 && found[0].Code == report.ReasonBusy {
			break
		}
	}
	return report.Refuse(reasons...)
}

// checkUse refuses databases that another clone uses.
func (r *run) checkUse(ctx context.Context) ([]report.Reason, error) {
	source, err := marks.ReadUse(ctx, r.source.Control, r.job.ID)
	if err != nil {
		return nil, err
	}
	target, err := marks.ReadUse(ctx, r.target.Control, r.job.ID)
	if err != nil {
		return nil, err
	}
	var reasons []report.Reason
	if source.Filled {
		reasons = append(reasons, source.Reason(report.Source, r.source))
	}
	if target.Filled || target.Read {
		reasons = append(reasons, target.Reason(report.Target, r.target))
	}
	return reasons, nil
}

// wish is what this run wants of the target.
func (r *run) wish() marks.Wish {
	return marks.Wish{
		Job: r.job, Schemas: r.spec.Schemas, Resume: r.spec.Resume, Adopt: r.spec.adopt && !r.claimed,
		Claimed: r.claimed, Again: r.waiting.Tries > 0, Announce: r.announce,
	}
}

// announce tells the caller that the target is about to change.
func (r *run) announce(ctx context.Context) error {
	target := r.target.Identity()
	if r.options.Begin == nil || r.begunOn != nil && *r.begunOn == target {
		return nil
	}
	err := r.options.Begin(ctx, r.source.Identity(), target)
	if refused, ok := errors.AsType[*report.RefusedError](err); ok {
		return &standingRefusal{refused}
	}
	if err != nil {
		return fmt.Errorf("note that the target is about to change: %w", err)
	}
	r.begunOn = &target
	return nil
}

// acquire takes the target, and as many lanes as there are connections for.
func (r *run) acquire(ctx context.Context) error {
	lock, err := marks.Acquire(ctx, r.source, r.target, r.wish())
	if err != nil {
		return err
	}
	r.lock, r.job = lock, lock.Job
	r.claimed = r.claimed || lock.Previous != nil
	return r.fitLanes(ctx)
}

// claim makes the target this job's. The source has been read by now, and its schema dumped.
func (r *run) claim(ctx context.Context) error {
	if r.lock.Previous == nil {
		reasons, err := r.checkContents(ctx, nil) // time has passed since preflight
		if err != nil || len(reasons) > 0 {
			return errors.Join(err, report.Refuse(reasons...))
		}
	}
	owner, err := r.lock.Claim(ctx, r.plan.Definitions(r.dumper.Version))
	r.owner = owner
	r.claimed = r.claimed || owner != nil
	return err
}

// What a clone needs of connections beside those of its lanes: the pulse, and on the source what holds the snapshot. On the
// target a builder may be beside each lane.
const (
	besideLanesSource = 3
	besideLanesTarget = 1
	targetALane       = 2
)

// freeSQL is how many more connections the role may open, as far as it can be told. Of the sessions of others a role without
// pg_monitor sees neither kind nor state, only that they have a database and a role, as a few background workers do too.
// https://www.postgresql.org/docs/current/monitoring-stats.html
const freeSQL = `
	SELECT CASE WHEN r.rolsuper THEN current_setting('max_connections')::int - used.all
	            ELSE least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
	                         - coalesce(current_setting('reserved_connections', true)::int, 0) - used.all,
	                       CASE WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit - used.role END,
	                       CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit - used.database END) END::int
	FROM pg_roles r, pg_database d,
	     (SELECT count(*) AS all, count(*) FILTER (WHERE usename = current_user) AS role, count(*) FILTER (WHERE datname = current_database()) AS database
	      FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend' AND datid IS NOT NULL AND usesysid IS NOT NULL) used
	WHERE r.rolname = current_user AND d.datname = current_database()`

// fitLanes makes do with fewer lanes where the servers have no connections for as many: one that is refused would stop the
// whole clone.
func (r *run) fitLanes(ctx context.Context) error {
	source, err := session.QueryValue[int](ctx, r.source.Control, freeSQL)
	if err != nil {
		return fmt.Errorf("count the free connections of the source: %w", err)
	}
	target, err := session.QueryValue[int](ctx, r.target.Control, freeSQL)
	if err != nil {
		return fmt.Errorf("count the free connections of the target: %w", err)
	}
	r.lanes = max(min(r.spec.Lanes, source-besideLanesSource, (target-besideLanesTarget)/targetALane), 1)
	if r.lanes < r.spec.Lanes {
		r.ledger.Warn(fmt.Sprintf("%s instead of %d: the source has %d free connections for this role, and the target %d.", report.Count(r.lanes, "lane", "lanes"), r.spec.Lanes, source, target))
	}
	return nil
}

// connect connects to a side anew. The host that was reached before stays, and the server has to be the same.
func (r *run) connect(ctx context.Context, side report.Side) (*report.Reason, error) {
	w, system := r.way(side), ""
	if before := r.server(side); before != nil {
		w, system = before.Way, before.SystemIdentifier
	}
	s, reason, err := session.Connect(ctx, w, r.connectPatience, system)
	if err != nil || reason != nil {
		return reason, err
	}
	r.meter.SetVersion(side, s.Version)
	if side == report.Target {
		r.target, r.report.Target = s, s.Endpoint()
		return nil, nil
	}
	r.source, r.report.Source = s, s.Endpoint()
	if s.NoTimeline != "" {
		r.warnUnprovable(s.NoTimeline)
	}
	return nil, nil
}

// server is the one that was connected to last, or nil.
func (r *run) server(side report.Side) *session.Server {
	if side == report.Target {
		return r.target
	}
	return r.source
}

// way is how the spec says that a side is reached.
func (r *run) way(side report.Side) session.Way {
	if side == report.Target {
		return session.Way{Side: side, URL: r.spec.Target, Hosts: r.spec.TargetHosts, Name: r.job.ApplicationName()}
	}
	return session.Way{Side: side, URL: r.spec.Source, Hosts: r.spec.SourceHosts, Name: r.job.ApplicationName()}
}

// warnUnprovable says in time what losing the snapshot would cost.
func (r *run) warnUnprovable(why string) {
	r.ledger.Warn("The source does not tell where its write-ahead log is (" + why + "). Should the snapshot be lost, all rows have to be copied again.")
}

func (r *run) checkVersions(context.Context) ([]report.Reason, error) {
	return append(versionReasons(r.source.Facts, report.Source), versionReasons(r.target.Facts, report.Target)...), nil
}

func versionReasons(f session.Facts, side report.Side) []report.Reason {
	var reasons []report.Reason
	if f.VersionNum < oldestServer {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnknownVersion, Side: side,
			Text: fmt.Sprintf("The %s runs PostgreSQL %s; Calco knows version 13 and later.", side, f.Version),
			Hint: "Upgrade the server first.",
		})
	}
	if side == report.Source && f.InRecovery && !standbySnapshotsTrusted(f.VersionNum) {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonStandby, Side: side,
			Text: fmt.Sprintf("The source is a standby with PostgreSQL %s, whose exported snapshots can show wrong rows and damage the standby.", f.Version),
			Hint: "Clone from the primary, or update the standby to a minor release of November 2026 or later.",
		})
	}
	return reasons
}

// standbySnapshotsTrusted tells whether this server has the fix of November 2026 for
// snapshots that are imported during recovery.
func standbySnapshotsTrusted(version int) bool {
	fixed := map[int]int{14: 25, 15: 20, 16: 16, 17: 12, 18: 7}
	minor, known := fixed[version/10000]
	return version >= 190000 || known && version%10000 >= minor
}

// checkTools finds a pg_dump that can read both sides: the target is dumped too, to
// be compared.
func (r *run) checkTools(ctx context.Context) ([]report.Reason, error) {
	path, version, err := pgtools.Newest(ctx, "pg_dump")
	var missing *pgtools.NotFoundError
	if err != nil && !errors.As(err, &missing) {
		return nil, fmt.Errorf("look for pg_dump: %w", err)
	}
	r.dumper.Path, r.dumper.Version, r.dumper.PlainLz4 = path, version, r.source.Lz4 && !r.target.Lz4
	reasons := toolsReasons(r.source.Major(), r.target.Major(), version)
	return slices.Concat(reasons, parameterReasons(report.Source, r.spec.Source, version), parameterReasons(report.Target, r.spec.Target, version)), nil
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
			Text: fmt.Sprintf("The URL of the %s has %s, which the newest pg_dump here, of version %s, does not know.", side, need.keyword, version),
			Hint: fmt.Sprintf("Install the package postgresql-client-%d (Debian, Ubuntu) or postgresql%d (RHEL) where Calco runs, or take %s out of the URL.",
				need.since, need.since, need.keyword),
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
		Text: fmt.Sprintf("The URL of the %s has sslmode=%s, and there is no file with the certificates that the system trusts, which the newest pg_dump here, of version %s, needs.",
			side, info["sslmode"], version),
		Hint: "Install the package ca-certificates where Calco runs, or postgresql-client-16 or newer for sslmode=verify-full.",
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
			Code: report.ReasonClientTools, Side: side, Text: "No pg_dump was found where Calco runs.",
			Hint: fmt.Sprintf("Install the package postgresql-client-%d (Debian, Ubuntu), postgresql%d (RHEL) or libpq (Homebrew).", need, need),
		}}
	case version.Major() < need:
		return []report.Reason{{
			Code: report.ReasonClientTools, Side: side,
			Text: fmt.Sprintf("The %s runs PostgreSQL %d, but the newest pg_dump here is of version %s.", side, need, version),
			Hint: fmt.Sprintf("Install the package postgresql-client-%d (Debian, Ubuntu) or postgresql%d (RHEL) where Calco runs.", need, need),
		}}
	}
	return nil
}

func (r *run) checkReadable(ctx context.Context) ([]report.Reason, error) {
	type unreadable struct {
		Schema, Name string
		Permitted    bool
	}
	found, err := session.Query[unreadable](ctx, r.source.Control, unreadableSQL)
	if err != nil {
		return nil, fmt.Errorf("read permissions on the source: %w", err)
	}
	var forbidden, hidden []string
	for _, u := range found {
		switch {
		case !r.chosen(u.Schema):
			// pg_dump locks every table it is not told to leave out.
			if !slices.Contains(r.dumper.Excluded, u.Schema) {
				r.dumper.Excluded = append(r.dumper.Excluded, u.Schema)
			}
		case !u.Permitted:
			forbidden = append(forbidden, u.Schema+"."+u.Name)
		default:
			hidden = append(hidden, u.Schema+"."+u.Name)
		}
	}
	var reasons []report.Reason
	if len(forbidden) > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnreadable, Side: report.Source, Objects: report.AtMost(forbidden),
			Text: fmt.Sprintf("The role %s may not read %s on the source: %s.", r.source.Role, report.Count(len(forbidden), "table or sequence", "tables or sequences"), report.Listed(forbidden)),
			Hint: "Grant it SELECT on them and USAGE on their schemas (pg_read_all_data has both), or choose other schemas.",
		})
	}
	if len(hidden) > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnreadable, Side: report.Source, Objects: report.AtMost(hidden),
			Text: fmt.Sprintf("Row-level security hides rows of %s from the role %s on the source: %s.", report.Count(len(hidden), "table", "tables"), r.source.Role, report.Listed(hidden)),
			Hint: "Use a role with BYPASSRLS, or the tables' owner.",
		})
	}
	if r.spec.whole() {
		n, err := session.QueryValue[int](ctx, r.source.Control, unreadableLargeObjectsSQL)
		if err != nil {
			return nil, fmt.Errorf("read permissions on large objects: %w", err)
		}
		if n > 0 {
			reasons = append(reasons, report.Reason{
				Code: report.ReasonUnreadable, Side: report.Source,
				Text: fmt.Sprintf("The role %s may not read %s on the source.", r.source.Role, report.Count(n, "large object", "large objects")),
				Hint: "Grant it SELECT on them, or choose the schemas to clone: large objects belong to none.",
			})
		}
	}
	missing, err := r.unknownSchemas(ctx)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonUnknownSchema, Side: report.Source, Objects: missing,
			Text: fmt.Sprintf("The source has no schema %s.", strings.Join(missing, ", ")),
			Hint: "Check the spelling; names are case-sensitive here.",
		})
	}
	return reasons, nil
}

func (r *run) unknownSchemas(ctx context.Context) ([]string, error) {
	have, err := session.Query[struct{ Name string }](ctx, r.source.Control, `SELECT nspname::text AS name FROM pg_namespace`)
	if err != nil {
		return nil, fmt.Errorf("list schemas of the source: %w", err)
	}
	var missing []string
	for _, s := range r.spec.Schemas {
		if !slices.ContainsFunc(have, func(h struct{ Name string }) bool { return h.Name == s }) {
			missing = append(missing, s)
		}
	}
	return missing, nil
}

func (r *run) checkWritable(ctx context.Context) ([]report.Reason, error) {
	var reasons []report.Reason
	if r.target.InRecovery {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonReadOnly, Side: report.Target,
			Text: fmt.Sprintf("The target %s is a standby, which takes no writes.", r.spec.Target),
			Hint: "Use the address of the primary.",
		})
	} else if !r.target.CanCreate {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonPermission, Side: report.Target,
			Text: fmt.Sprintf("The role %s may not create schemas in the target's database %s.", r.target.Role, r.target.Database),
			Hint: fmt.Sprintf("Use the database's owner, or GRANT CREATE ON DATABASE %s TO %s.", session.QuoteName(r.target.Database), session.QuoteName(r.target.Role)),
		})
	}
	if r.source == nil || r.source == r.target { // only the target is there
		return reasons, nil
	}
	found, err := r.checkPlaces(ctx)
	return append(reasons, found...), err
}

// checkLocks wants both servers to have room for the locks of pg_dump, which holds one on each table: the target's last of
// all, when everything is there. A server takes some more than it promises.
// https://www.postgresql.org/docs/current/runtime-config-locks.html
func (r *run) checkLocks(ctx context.Context) ([]report.Reason, error) {
	tables, err := session.QueryValue[int64](ctx, r.source.Control, `
		SELECT count(*)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')`)
	if err != nil {
		return nil, fmt.Errorf("count the tables of the source: %w", err)
	}
	var reasons []report.Reason
	for _, s := range []*session.Session{r.source.Control, r.target.Control} {
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
				Text: fmt.Sprintf("The %s has room for about %d locks, and pg_dump takes one on each of %d tables.", s.Side, has.Locks*has.Sessions, tables),
				Hint: fmt.Sprintf("Set max_locks_per_transaction of that server to %d or more, and restart it.", tables/has.Sessions+1),
			})
		}
	}
	return reasons, nil
}

// checkPlaces wants the target's role to be allowed to make what comes in the schemas that are there, and the temporary
// table that large objects come through.
func (r *run) checkPlaces(ctx context.Context) ([]report.Reason, error) {
	filled, err := session.Query[struct{ Name string }](ctx, r.source.Control, `
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
		if r.chosen(s.Name) {
			names = append(names, s.Name)
		}
	}
	// A schema that clean drops is made anew.
	closed, err := session.Query[struct{ Name string }](ctx, r.target.Control, `
		SELECT nspname::text AS name
		FROM pg_namespace n
		WHERE nspname = ANY ($1)
		AND   NOT (has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE'))
		AND   NOT ($2 AND nspname <> 'public' AND pg_has_role(nspowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid))
		ORDER BY 1`, names, r.spec.Clean)
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
			Text: fmt.Sprintf("The role %s may not create anything in %s of the target: %s.", r.target.Role, word(len(list) == 1, "a schema", "schemas"), report.Listed(list)),
			Hint: fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA %s TO %s.", strings.Join(quoted, ", "), session.QuoteName(r.target.Role)),
		})
	}
	if !r.spec.whole() {
		return reasons, nil
	}
	large, err := session.QueryValue[bool](ctx, r.source.Control, `SELECT EXISTS (SELECT FROM pg_largeobject_metadata)`)
	if err != nil {
		return nil, fmt.Errorf("look for large objects of the source: %w", err)
	}
	temporary, err := session.QueryValue[bool](ctx, r.target.Control, `SELECT has_database_privilege(current_database(), 'TEMPORARY')`)
	if err != nil {
		return nil, fmt.Errorf("read permissions on the target: %w", err)
	}
	if large && !temporary {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonPermission, Side: report.Target,
			Text: fmt.Sprintf("The role %s may not create temporary tables in the target's database %s, through which large objects come.", r.target.Role, r.target.Database),
			Hint: fmt.Sprintf("GRANT TEMPORARY ON DATABASE %s TO %s.", session.QuoteName(r.target.Database), session.QuoteName(r.target.Role)),
		})
	}
	return reasons, nil
}

// chosen tells whether a schema was asked for.
func (r *run) chosen(x string) bool {
	return !schema.IsSystemSchema(x) && (r.spec.whole() || slices.Contains(r.spec.Schemas, x))
}
