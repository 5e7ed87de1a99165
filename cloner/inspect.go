package cloner

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/pgtools"
	"calco/cloner/report"
)

//go:embed sql/schemas.sql
var schemasSQL string

// How long Inspect waits: for a connection, and then for each lock and each answer.
const (
	inspectConnect = 8 * time.Second
	inspectPatient = "SET lock_timeout = '5s'; SET statement_timeout = '10s'"
)

// Inspect looks at a database without changing it, on one connection. It blocks for some seconds where nothing
// answers. Hosts are those that the URL may lead to, nil any. A database that cannot be reached is a *RefusedError, whose
// reasons are of no side.
func Inspect(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (i report.Inspection, err error) {
	err = safely.Do(func() (err error) {
		i, err = inspect(ctx, u, hosts)
		return err
	})
	return i, err
}

func inspect(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (report.Inspection, error) {
	spec, err := Spec{Source: u, Target: u, SourceHosts: hosts, TargetHosts: hosts}.normalize()
	if err != nil {
		return report.Inspection{}, err
	}
	r := &run{spec: spec, meter: &progress.Meter{}, connectPatience: inspectConnect, ledger: ledger.New(&progress.Meter{})}
	defer r.closeSessions()
	reason, err := r.connect(ctx, report.EitherSide)
	if err != nil {
		return report.Inspection{}, err
	}
	if reason != nil {
		reason.Side = ""
		return report.Inspection{}, report.Refuse(*reason)
	}
	if err := r.source.Control.Exec(ctx, inspectPatient); err != nil {
		return report.Inspection{}, fmt.Errorf("set up the session: %w", err)
	}
	i := report.Inspection{Endpoint: r.report.Source, Identity: r.source.Identity()}
	if i.Schemas, err = session.Query[report.SchemaInfo](ctx, r.source.Control, schemasSQL); err != nil {
		return report.Inspection{}, fmt.Errorf("list schemas: %w", err)
	}
	if i.Size, err = session.QueryValue[int64](ctx, r.source.Control, `SELECT pg_database_size(current_database())`); err != nil {
		return report.Inspection{}, fmt.Errorf("read the size of the database: %w", err)
	}
	if i.Provider, err = session.QueryValue[string](ctx, r.source.Control, providerSQL); err != nil {
		return report.Inspection{}, fmt.Errorf("read who runs the server: %w", err)
	}
	_, tools, err := pgtools.Newest(ctx, "pg_dump")
	var missing *pgtools.NotFoundError
	if err != nil && !errors.As(err, &missing) {
		return report.Inspection{}, fmt.Errorf("look for pg_dump: %w", err)
	}
	inUse, err := marks.ReadUse(ctx, r.source.Control, "")
	if err != nil {
		return report.Inspection{}, err
	}
	if i.AsSource, err = r.refusedAsSource(ctx, tools, inUse); err != nil {
		return report.Inspection{}, err
	}
	i.AsTarget, err = r.refusedAsTarget(ctx, tools, inUse)
	return i, err
}

// refusedAsSource is what preflight would say of the only database this run is connected to, were it the source.
func (r *run) refusedAsSource(ctx context.Context, tools pgtools.Version, inUse marks.Use) ([]report.Reason, error) {
	r.target = nil
	reasons := append([]report.Reason{}, versionReasons(r.source.Facts, report.Source)...)
	reasons = append(reasons, toolsReasons(r.source.Major(), 0, tools)...)
	reasons = append(reasons, parameterReasons(report.Source, r.spec.Source, tools)...)
	unreadable, err := r.checkReadable(ctx)
	if err != nil {
		return nil, err
	}
	reasons = append(reasons, unreadable...)
	if inUse.Filled {
		reasons = append(reasons, inUse.Reason(report.Source, r.source))
	}
	return reasons, nil
}

// refusedAsTarget is the same, were it the target.
func (r *run) refusedAsTarget(ctx context.Context, tools pgtools.Version, inUse marks.Use) ([]report.Reason, error) {
	r.target = r.source
	defer func() { r.target = nil }()
	reasons := append([]report.Reason{}, versionReasons(r.target.Facts, report.Target)...)
	reasons = append(reasons, toolsReasons(0, r.target.Major(), tools)...)
	reasons = append(reasons, parameterReasons(report.Target, r.spec.Target, tools)...)
	unwritable, err := r.checkWritable(ctx)
	if err != nil {
		return nil, err
	}
	reasons = append(reasons, unwritable...)
	if inUse.Filled || inUse.Read {
		return append(reasons, inUse.Reason(report.Target, r.target)), nil // what it holds is changing
	}
	foreign, err := marks.CheckForeign(ctx, r.target)
	if err != nil || len(foreign) > 0 {
		return append(reasons, foreign...), err
	}
	holds, err := r.checkContents(ctx, nil)
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
