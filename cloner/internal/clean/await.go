package clean

import (
	"context"
	"fmt"
	"time"

	"calco/cloner/internal/locks"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// lockWait is how long a clean has waited for locks, since it last dropped anything.
type lockWait struct {
	since  time.Time
	tries  int
	denied map[int]bool // sessions that this role may not end
}

func newLockWait() *lockWait { return &lockWait{since: time.Now(), denied: map[int]bool{}} }

// lockPause is how long is waited before locks are looked at again.
const lockPause = 250 * time.Millisecond

// awaitLocks waits a moment for those who hold locks on these objects, and says who they are. With Spec.EndBlockers it
// ends them. It gives up when nothing was dropped for as long as the clone has patience.
func (d *Cleaner) awaitLocks(ctx context.Context, w *lockWait, objects []object) error {
	holders, err := locks.ReadHolders(ctx, d.Target.Control)
	if err != nil {
		return err
	}
	var texts []string
	seen := map[locks.Holder]bool{}
	for _, o := range objects {
		for _, h := range holders[o.key()] {
			who := h
			who.Class, who.OID, who.Since = 0, 0, nil
			if seen[who] {
				continue
			}
			seen[who] = true
			ended, err := d.endHolder(ctx, w, o, h)
			if err != nil {
				return err
			}
			if !ended {
				texts = append(texts, w.describe(o, h))
			}
		}
	}
	w.tries++
	if err := locks.ShowWait(d.Meter, d.Patience, report.PhaseClean, texts, w.since, w.tries); err != nil {
		return err
	}
	return session.Pause(ctx, lockPause)
}

// describe says what a session holds.
func (w *lockWait) describe(o object, h locks.Holder) string {
	text := fmt.Sprintf("%s is in use by %s", o, h)
	if w.denied[h.PID] {
		text += ", which this role may not end"
	}
	return text
}

// endHolder ends a session that is in the way, if that is wanted and allowed, and it still is: its number may be another's
// by now.
func (d *Cleaner) endHolder(ctx context.Context, w *lockWait, o object, h locks.Holder) (bool, error) {
	if !d.EndBlockers || h.PID == 0 || w.denied[h.PID] {
		return false, nil
	}
	ended, err := session.QueryValue[int](ctx, d.Target.Control, `
		WITH holder AS (`+locks.HoldersSQL+`)
		SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
		FROM pg_stat_activity
		WHERE pid = $1 AND usesysid IS NOT NULL AND pid IN (SELECT pid FROM holder WHERE class = $2 AND oid = $3)`, h.PID, h.Class, h.OID)
	if session.SQLState(err) == session.NoPrivilege {
		w.denied[h.PID] = true
		d.Ledger.Warn(report.Said(fmt.Sprintf("The role %s may not end %s, which is in the way of the drop of %s.", d.Target.Role, h, o)))
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("end a session on the target: %w", err)
	}
	if ended > 0 {
		d.Ledger.Warn(report.Said(fmt.Sprintf("Ended %s, which was in the way of the drop of %s.", h, o)))
	}
	return ended > 0, nil
}

// patiently does something again as long as it does not get a lock on an object in time.
func (d *Cleaner) patiently(ctx context.Context, o object, do func() error) error {
	for w := newLockWait(); ; {
		err := do()
		if session.SQLState(err) != session.LockNotAvailable {
			d.Meter.ClearWait()
			return err
		}
		if err := d.awaitLocks(ctx, w, []object{o}); err != nil {
			return err
		}
	}
}
