package cloner

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"calco/cloner/internal/patience"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

//go:embed sql/lock_holders.sql
var lockHoldersSQL string

// lockHolder is a session, or a prepared transaction, that holds a lock on something.
type lockHolder struct {
	Class, OID  uint32 // what it is held on
	PID         int    // 0 of a prepared transaction
	Prepared    string // its name, where it is known
	Application string
	Role        string
	Since       *time.Time // when its transaction began; not every role may know
}

// String names it in a sentence.
func (h lockHolder) String() string {
	text := fmt.Sprintf("session %d (%s)", h.PID, strings.TrimPrefix(h.Application+", role "+h.Role, ", "))
	switch {
	case h.PID == 0 && h.Prepared == "":
		text = "a prepared transaction"
	case h.PID == 0:
		text = fmt.Sprintf("the prepared transaction %s (role %s)", session.QuoteLiteral(h.Prepared), h.Role)
	}
	if h.Since != nil {
		text += ", since " + h.Since.UTC().Format(time.DateTime+" MST")
	}
	return text
}

// readHolders reads who holds locks in the target besides the control session, by the key of what they are held on.
func readHolders(ctx context.Context, s *session.Session) (map[string][]lockHolder, error) {
	found, err := session.Query[lockHolder](ctx, s, lockHoldersSQL)
	if err != nil {
		return nil, fmt.Errorf("read the locks of the target: %w", err)
	}
	by := map[string][]lockHolder{}
	for _, h := range found {
		key := targetObject{Class: h.Class, OID: h.OID}.key()
		by[key] = append(by[key], h)
	}
	return by, nil
}

// lockWait is how long a clean has waited for locks, since it last dropped anything.
type lockWait struct {
	since  time.Time
	tries  int
	denied map[int]bool // sessions that this role may not end
}

func newLockWait() *lockWait { return &lockWait{since: time.Now(), denied: map[int]bool{}} }

// awaitLocks waits a moment for those who hold locks on these objects, and says who they are. With Spec.EndBlockers it
// ends them. It gives up when nothing was dropped for as long as the clone has patience.
func (r *run) awaitLocks(ctx context.Context, w *lockWait, objects []targetObject) error {
	holders, err := readHolders(ctx, r.target.Control)
	if err != nil {
		return err
	}
	var texts []string
	seen := map[lockHolder]bool{}
	for _, o := range objects {
		for _, h := range holders[o.key()] {
			who := h
			who.Class, who.OID, who.Since = 0, 0, nil
			if seen[who] {
				continue
			}
			seen[who] = true
			ended, err := r.endHolder(ctx, w, o, h)
			if err != nil {
				return err
			}
			if !ended {
				texts = append(texts, w.describe(o, h))
			}
		}
	}
	w.tries++
	if err := r.showLockWait(report.PhaseClean, texts, w.since, w.tries); err != nil {
		return err
	}
	return session.Pause(ctx, firstWait)
}

// showLockWait says who is waited for, in a few of the texts, or is the error to end with where that has taken too long.
func (r *run) showLockWait(p report.Phase, texts []string, since time.Time, tries int) error {
	text := "Waiting for a lock on the target."
	if len(texts) > 0 {
		text = "Waiting for locks on the target. " + strings.Join(texts[:min(len(texts), 3)], "; ") + "."
	}
	until := since.Add(r.patience.Limit())
	if time.Now().Before(until) {
		r.meter.SetWait(report.Trouble{Text: text, Since: since, Until: until, Tries: tries})
		return nil
	}
	hint := "End those sessions, or wait until they are done, and then resume."
	if p == report.PhaseClean {
		hint += " A clone that cleans can also end them itself, where its role may and that is chosen."
	}
	return &report.Error{Phase: p, Err: fmt.Errorf("%w for %v: %s", errLocked, r.patience.Limit(), text), Hint: hint}
}

var errLocked = errors.New("others hold locks on the target")

//go:embed sql/blockers.sql
var blockersSQL string

// lockWatch is what looks from time to time whether statements of this run wait for others on the target, once it is being
// filled, and says for whom. Where nothing got done meanwhile for as long as the clone has patience, that is an error.
func (r *run) lockWatch(s *session.Session) func(context.Context) error {
	var w patience.Wait
	return func(ctx context.Context) error {
		if r.held.Load() == nil { // clean waits by itself
			return s.Ping(ctx)
		}
		type blocker struct {
			What string
			lockHolder
		}
		var found []blocker
		err := s.Soon(ctx, func(ctx context.Context) (err error) {
			found, err = session.Query[blocker](ctx, s, blockersSQL, r.job.ApplicationName())
			return err
		})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			if w.Tries > 0 {
				r.meter.ClearWait()
			}
			w = patience.Wait{}
			return nil
		}
		w.Again(r.patience)
		texts := make([]string, len(found))
		for i, f := range found {
			texts[i] = fmt.Sprintf("%s is in use by %s", f.What, f.lockHolder)
		}
		return r.showLockWait(report.PhasePostData, texts, w.Since, w.Tries)
	}
}

// describe says what a session holds.
func (w *lockWait) describe(o targetObject, h lockHolder) string {
	text := fmt.Sprintf("%s is in use by %s", o, h)
	if w.denied[h.PID] {
		text += ", which this role may not end"
	}
	return text
}

// endHolder ends a session that is in the way, if that is wanted and allowed, and it still is: its number may be another's
// by now.
func (r *run) endHolder(ctx context.Context, w *lockWait, o targetObject, h lockHolder) (bool, error) {
	if !r.spec.EndBlockers || h.PID == 0 || w.denied[h.PID] {
		return false, nil
	}
	ended, err := session.QueryValue[int](ctx, r.target.Control, `
		WITH holder AS (`+lockHoldersSQL+`)
		SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
		FROM pg_stat_activity
		WHERE pid = $1 AND usesysid IS NOT NULL AND pid IN (SELECT pid FROM holder WHERE class = $2 AND oid = $3)`, h.PID, h.Class, h.OID)
	if session.SQLState(err) == session.NoPrivilege {
		w.denied[h.PID] = true
		r.ledger.Warn(fmt.Sprintf("The role %s may not end %s, which is in the way of the drop of %s.", r.target.Role, h, o))
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("end a session on the target: %w", err)
	}
	if ended > 0 {
		r.ledger.Warn(fmt.Sprintf("Ended %s, which was in the way of the drop of %s.", h, o))
	}
	return ended > 0, nil
}

// patiently does something again as long as it does not get a lock on an object in time.
func (r *run) patiently(ctx context.Context, o targetObject, do func() error) error {
	for w := newLockWait(); ; {
		err := do()
		if session.SQLState(err) != session.LockNotAvailable {
			r.meter.ClearWait()
			return err
		}
		if err := r.awaitLocks(ctx, w, []targetObject{o}); err != nil {
			return err
		}
	}
}
