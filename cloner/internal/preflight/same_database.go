package preflight

import (
	"context"
	"crypto/rand"
	"fmt"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// checkSameDatabase refuses a source and a target that are one database, under whatever names. It takes no lock and writes
// nothing: the session on the target calls itself by a name that nobody else has, and the source is asked whether it sees that.
// https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
//
// Standbys and physical copies of a server have its identity and do not see its sessions. A standby of the other side is
// refused too. A copy is another database: that is a warning, and the marks settle it later.
func checkSameDatabase(ctx context.Context, source, target *session.Server, warn func(report.Text)) ([]report.Reason, error) {
	if source.SystemIdentifier != target.SystemIdentifier || source.DatabaseOID != target.DatabaseOID {
		return nil, nil
	}
	token := "calco/" + rand.Text()
	if err := target.Control.Exec(ctx, session.SetName(token)); err != nil {
		return nil, fmt.Errorf("name the session on the target: %w", err)
	}
	seen, err := session.QueryValue[bool](ctx, source.Control, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1)`, token)
	if err != nil {
		return nil, fmt.Errorf("look for the target's session on the source: %w", err)
	}
	if err := target.Control.Exec(ctx, session.SetName(target.Name)); err != nil {
		return nil, fmt.Errorf("name the session on the target: %w", err)
	}
	same := marks.SameDatabase(target)
	if !seen && (source.InRecovery || target.InRecovery) {
		same.Text = report.Said(fmt.Sprintf("Source and target are one database: one is a standby of the other (%s).", target.URL))
		return []report.Reason{same}, nil
	}
	if seen {
		return []report.Reason{same}, nil
	}
	warn(report.Said("Source and target descend from one physical copy (same system identifier): make sure that the target is the one you mean."))
	return nil, nil
}
