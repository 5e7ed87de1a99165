package marks

import (
	"context"
	"fmt"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// One database has one purpose at a time, whoever starts the clones and by whatever name it is saved: a running clone
// holds an advisory lock on its target for itself, and on its source a shared one, for as long as its first session
// lives. Locks of that kind write nothing and are to be had on a standby too; but a standby and its primary do not see
// each other's. The numbers are "calc" and "clon" in ASCII; they never change.
const (
	lockClass  = 0x63616c63
	lockObject = 0x636c6f6e
)

// lock locks both databases, or says what they are in use for.
func lock(ctx context.Context, source, target *session.Server) ([]report.Reason, error) {
	var reasons []report.Reason
	for _, side := range []struct {
		*session.Server
		sql string
	}{
		{source, `SELECT pg_try_advisory_lock_shared($1::int, $2::int)`},
		{target, `SELECT pg_try_advisory_lock($1::int, $2::int)`},
	} {
		free, err := session.QueryValue[bool](ctx, side.Control, side.sql, lockClass, lockObject)
		if err != nil {
			return nil, fmt.Errorf("lock the %s: %w", side.Side, err)
		}
		if free {
			continue
		}
		use, err := ReadUse(ctx, side.Control, "")
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, use.Reason(side.Side, side.Server))
	}
	return reasons, nil
}

// Use is what a running clone does with a database.
type Use struct {
	Filled bool // as its target
	Read   bool // as its source
}

// ReadUse looks without locking anything. What the backends of a job do is left out; "" is none.
func ReadUse(ctx context.Context, s *session.Session, except string) (Use, error) {
	use, err := session.QueryRow[Use](ctx, s, `
		SELECT coalesce(bool_or(l.mode = 'ExclusiveLock'), false) AS filled,
		       coalesce(bool_or(l.mode = 'ShareLock'), false)     AS read
		FROM pg_locks l
		LEFT JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid() AND l.objsubid = 2
		  AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND NOT ($3 <> '' AND starts_with(coalesce(a.application_name, ''), $3))`, lockClass, lockObject, prefixOf(except))
	if err != nil {
		return Use{}, fmt.Errorf("read the locks of the %s: %w", s.Side, err)
	}
	return use, nil
}

func prefixOf(job string) string {
	if job == "" {
		return ""
	}
	return backendsOf(job)
}

// Reason says that a database is in use, as a side of a clone.
func (u Use) Reason(side report.Side, s *session.Server) report.Reason {
	reason := report.Reason{
		Code: report.ReasonBusy, Side: side,
		Text: report.Said(fmt.Sprintf("Another clone into %s is under way.", s.URL)),
		Hint: report.Said("Wait until it ends, or cancel it."),
	}
	switch {
	case side == report.Source:
		reason.Text = report.Said(fmt.Sprintf("The source %s is the target of a clone that is under way.", s.URL))
		reason.Hint = report.Said("Wait until that has filled it, or choose another source.")
	case u.Read:
		reason.Text = report.Said(fmt.Sprintf("The target %s is the source of a clone that is under way.", s.URL))
		reason.Hint = report.Said("Wait until that has read it, or choose another target.")
	}
	return reason
}
