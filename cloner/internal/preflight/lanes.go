package preflight

import (
	"context"
	"fmt"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// What a clone needs of connections beside those of its lanes: the keepalive, and on the source what holds the snapshot. On the
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

// FitLanes makes do with fewer lanes where the servers have no connections for as many: one that is refused would stop the
// whole clone.
func FitLanes(ctx context.Context, source, target *session.Server, lanes int) (fitting int, warning report.Text, err error) {
	fromSource, err := session.QueryValue[int](ctx, source.Control, freeSQL)
	if err != nil {
		return 0, report.Text{}, fmt.Errorf("count the free connections of the source: %w", err)
	}
	fromTarget, err := session.QueryValue[int](ctx, target.Control, freeSQL)
	if err != nil {
		return 0, report.Text{}, fmt.Errorf("count the free connections of the target: %w", err)
	}
	fitting = max(min(lanes, fromSource-besideLanesSource, (fromTarget-besideLanesTarget)/targetALane), 1)
	if fitting < lanes {
		warning = report.Said(fmt.Sprintf("%s instead of %d: the source has %d free connections for this role, and the target %d.", report.Count(fitting, "lane", "lanes"), lanes, fromSource, fromTarget))
	}
	return fitting, warning, nil
}
