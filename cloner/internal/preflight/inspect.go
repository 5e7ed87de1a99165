package preflight

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/clean"
	"calco/cloner/internal/marks"
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
// answers. Hosts are those that the URL may lead to, nil any. A database that cannot be reached is a *report.RefusedError, whose
// reasons are of no side.
func Inspect(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (i report.Inspection, err error) {
	s, reason, err := session.Connect(ctx, session.Way{Side: report.EitherSide, URL: u, Hosts: hosts, Name: "calco inspect"}, inspectConnect, "")
	if err != nil {
		return i, err
	}
	if reason != nil {
		reason.Side = ""
		return i, report.Refuse(*reason)
	}
	defer s.Control.Close()
	if err := s.Control.Exec(ctx, inspectPatient); err != nil {
		return i, fmt.Errorf("set up the session: %w", err)
	}
	i = report.Inspection{Endpoint: s.Endpoint(), Identity: s.Identity()}
	if i.Schemas, err = session.Query[report.SchemaInfo](ctx, s.Control, schemasSQL); err != nil {
		return i, fmt.Errorf("list schemas: %w", err)
	}
	if i.Size, err = session.QueryValue[int64](ctx, s.Control, `SELECT pg_database_size(current_database())`); err != nil {
		return i, fmt.Errorf("read the size of the database: %w", err)
	}
	if i.Provider, err = session.QueryValue[string](ctx, s.Control, providerSQL); err != nil {
		return i, fmt.Errorf("read who runs the server: %w", err)
	}
	_, tools, err := newestDump(ctx)
	if err != nil {
		return i, err
	}
	use, err := marks.ReadUse(ctx, s.Control, "")
	if err != nil {
		return i, err
	}
	if i.AsSource, err = refusedAsSource(ctx, s, tools, use); err != nil {
		return i, err
	}
	i.AsTarget, err = refusedAsTarget(ctx, s, tools, use)
	return i, err
}

// refusedAsSource is what Check would say of a database, were it the source.
func refusedAsSource(ctx context.Context, s *session.Server, tools pgtools.Version, use marks.Use) ([]report.Reason, error) {
	reasons := append([]report.Reason{}, versionReasons(s.Facts, report.Source)...)
	reasons = append(reasons, toolsReasons(s.Major(), 0, tools)...)
	reasons = append(reasons, parameterReasons(report.Source, s.URL, tools)...)
	unreadable, _, err := checkReadable(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	reasons = append(reasons, unreadable...)
	if use.Filled {
		reasons = append(reasons, use.Reason(report.Source, s))
	}
	return reasons, nil
}

// refusedAsTarget is the same, were it the target, and not cleaned.
func refusedAsTarget(ctx context.Context, s *session.Server, tools pgtools.Version, use marks.Use) ([]report.Reason, error) {
	reasons := append([]report.Reason{}, versionReasons(s.Facts, report.Target)...)
	reasons = append(reasons, toolsReasons(0, s.Major(), tools)...)
	reasons = append(reasons, parameterReasons(report.Target, s.URL, tools)...)
	reasons = append(reasons, checkWritable(s)...)
	if use.Filled || use.Read {
		return append(reasons, use.Reason(report.Target, s)), nil // what it holds is changing
	}
	foreign, err := marks.CheckForeign(ctx, s)
	if err != nil || len(foreign) > 0 {
		return append(reasons, foreign...), err
	}
	scope := clean.Scope{Target: s}
	holds, err := scope.Check(ctx, nil)
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
