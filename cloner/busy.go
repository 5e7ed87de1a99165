package cloner

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

// checkBusy locks both databases, or says what they are in use for.
func (r *run) checkBusy(ctx context.Context) ([]report.Reason, error) {
	var reasons []report.Reason
	for _, side := range []struct {
		s   *session.Session
		sql string
	}{
		{r.source.Control, `SELECT pg_try_advisory_lock_shared($1::int, $2::int)`},
		{r.target.Control, `SELECT pg_try_advisory_lock($1::int, $2::int)`},
	} {
		free, err := session.QueryValue[bool](ctx, side.s, side.sql, lockClass, lockObject)
		if err != nil {
			return nil, fmt.Errorf("lock the %s: %w", side.s.Side, err)
		}
		if free {
			continue
		}
		use, err := readUse(ctx, side.s)
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, r.busyReason(side.s.Side, use))
	}
	return reasons, nil
}

// use is what a running clone does with a database.
type use struct {
	Filled bool // as its target
	Read   bool // as its source
}

// readUse looks without locking anything.
func readUse(ctx context.Context, s *session.Session) (use, error) {
	found, err := session.Query[use](ctx, s, `
		SELECT coalesce(bool_or(mode = 'ExclusiveLock'), false) AS filled,
		       coalesce(bool_or(mode = 'ShareLock'), false)     AS read
		FROM pg_locks
		WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND objsubid = 2
		  AND classid = $1::bigint::oid AND objid = $2::bigint::oid
		  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, lockClass, lockObject)
	if err != nil {
		return use{}, fmt.Errorf("read the locks of the %s: %w", s.Side, err)
	}
	return found[0], nil
}

func (r *run) busyReason(side report.Side, u use) report.Reason {
	reason := report.Reason{
		Code: report.ReasonBusy, Side: side,
		Text: fmt.Sprintf("Another clone into %s is under way.", r.spec.Target),
		Hint: "Wait until it ends, or cancel it.",
	}
	switch {
	case side == report.Source:
		reason.Text = fmt.Sprintf("The source %s is the target of a clone that is under way.", r.spec.Source)
		reason.Hint = "Wait until that has filled it, or choose another source."
	case u.Read:
		reason.Text = fmt.Sprintf("The target %s is the source of a clone that is under way.", r.spec.Target)
		reason.Hint = "Wait until that has read it, or choose another target."
	}
	return reason
}
