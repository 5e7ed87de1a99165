package cloner

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"calco/cloner/pgtools"
)

//go:embed sql/schemas.sql
var schemasSQL string

// Inspection is what a connection leads to, for people who are about to choose it.
type Inspection struct {
	Endpoint
	Provider string       `json:"provider,omitempty"` // who runs the server, where it shows
	Size     int64        `json:"size"`               // of the database, in bytes
	Schemas  []SchemaInfo `json:"schemas"`
	Identity Identity     `json:"-"`

	// What a clone of the whole database from here, or into here without clean, would be
	// refused for.
	AsSource []Reason `json:"as_source"`
	AsTarget []Reason `json:"as_target"`
}

// SchemaInfo is one schema that can be chosen.
type SchemaInfo struct {
	Name   string `json:"name"`
	Tables int    `json:"tables"` // with rows of their own: partitions count, the tables that they are parts of do not
	Bytes  int64  `json:"bytes"`  // of its tables and materialized views, with their indexes
}

// How long Inspect waits: for a connection, and then for each lock and each answer.
const (
	inspectConnect = 8 * time.Second
	inspectPatient = "SET lock_timeout = '5s'; SET statement_timeout = '10s'"
)

// Inspect looks at a database without changing it, on one connection. It blocks for some seconds where nothing
// answers. Hosts are those that the URL may lead to, nil any. A database that cannot be reached is a *RefusedError, whose
// reasons are of no side.
func Inspect(ctx context.Context, u URL, hosts *Hosts) (i Inspection, err error) {
	err = safely(func() (err error) {
		i, err = inspect(ctx, u, hosts)
		return err
	})
	return i, err
}

func inspect(ctx context.Context, u URL, hosts *Hosts) (Inspection, error) {
	spec, err := Spec{Source: u, Target: u, SourceHosts: hosts, TargetHosts: hosts}.normalize()
	if err != nil {
		return Inspection{}, err
	}
	r := &run{spec: spec, meter: &Meter{}, patience: inspectConnect}
	defer r.closeSessions()
	reason, err := r.connect(ctx, eitherSide)
	if err != nil {
		return Inspection{}, err
	}
	if reason != nil {
		reason.Side = ""
		return Inspection{}, refuse(*reason)
	}
	if err := r.source.exec(ctx, inspectPatient); err != nil {
		return Inspection{}, fmt.Errorf("set up the session: %w", err)
	}
	i := Inspection{Endpoint: r.report.Source, Identity: r.sourceFacts.identity(u)}
	if i.Schemas, err = collect[SchemaInfo](ctx, r.source, schemasSQL); err != nil {
		return Inspection{}, fmt.Errorf("list schemas: %w", err)
	}
	if i.Size, err = one[int64](ctx, r.source, `SELECT pg_database_size(current_database())`); err != nil {
		return Inspection{}, fmt.Errorf("read the size of the database: %w", err)
	}
	if i.Provider, err = one[string](ctx, r.source, providerSQL); err != nil {
		return Inspection{}, fmt.Errorf("read who runs the server: %w", err)
	}
	_, tools, err := pgtools.Newest(ctx, "pg_dump")
	var missing *pgtools.NotFoundError
	if err != nil && !errors.As(err, &missing) {
		return Inspection{}, fmt.Errorf("look for pg_dump: %w", err)
	}
	inUse, err := readUse(ctx, r.source)
	if err != nil {
		return Inspection{}, err
	}
	if i.AsSource, err = r.refusedAsSource(ctx, tools, inUse); err != nil {
		return Inspection{}, err
	}
	i.AsTarget, err = r.refusedAsTarget(ctx, tools, inUse)
	return i, err
}

// refusedAsSource is what preflight would say of the only database this run is connected to, were it the source.
func (r *run) refusedAsSource(ctx context.Context, tools pgtools.Version, inUse use) ([]Reason, error) {
	r.targetFacts = facts{VersionNum: r.sourceFacts.VersionNum}
	reasons := append([]Reason{}, versionReasons(r.sourceFacts, Source)...)
	reasons = append(reasons, toolsReasons(r.sourceFacts.major(), 0, tools)...)
	reasons = append(reasons, parameterReasons(Source, r.spec.Source, tools)...)
	unreadable, err := r.checkReadable(ctx)
	if err != nil {
		return nil, err
	}
	reasons = append(reasons, unreadable...)
	if inUse.Filled {
		reasons = append(reasons, r.busyReason(Source, inUse))
	}
	return reasons, nil
}

// refusedAsTarget is the same, were it the target.
func (r *run) refusedAsTarget(ctx context.Context, tools pgtools.Version, inUse use) ([]Reason, error) {
	r.control, r.targetFacts = r.source, r.sourceFacts
	defer func() { r.control = nil }()
	reasons := append([]Reason{}, versionReasons(r.targetFacts, Target)...)
	reasons = append(reasons, toolsReasons(0, r.targetFacts.major(), tools)...)
	reasons = append(reasons, parameterReasons(Target, r.spec.Target, tools)...)
	unwritable, err := r.checkWritable(ctx)
	if err != nil {
		return nil, err
	}
	reasons = append(reasons, unwritable...)
	if inUse.Filled || inUse.Read {
		return append(reasons, r.busyReason(Target, inUse)), nil // what it holds is changing
	}
	foreign, err := r.checkMarks(ctx)
	if err != nil || len(foreign) > 0 {
		return append(reasons, foreign...), err
	}
	holds, err := r.checkContents(ctx)
	return append(reasons, holds...), err
}

// providerSQL tells managed services by the settings that only theirs have.
const providerSQL = `
	SELECT CASE
	       WHEN bool_or(name LIKE 'supautils.%') THEN 'Supabase'
	       WHEN bool_or(name LIKE 'rds.%') THEN 'Amazon RDS'
	       WHEN bool_or(name LIKE 'neon.%') THEN 'Neon'
	       WHEN bool_or(name LIKE 'cloudsql.%') THEN 'Google Cloud SQL'
	       WHEN bool_or(name LIKE 'azure.%') THEN 'Azure'
	       ELSE '' END
	FROM pg_settings`
