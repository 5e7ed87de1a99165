// Package locks finds out who is in the way on a target: who holds locks that a clone waits for. It ends nobody.
package locks

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

//go:embed sql/lock_holders.sql
var HoldersSQL string

// Holder is a session, or a prepared transaction, that holds a lock on something.
type Holder struct {
	Class, OID  uint32 // what it is held on
	PID         int    // 0 of a prepared transaction
	Prepared    string // its name, where it is known
	Application string
	Role        string
	Since       *time.Time // when its transaction began; not every role may know
}

func (h Holder) key() string { return Key(h.Class, h.OID) }

// Key is the key of something that locks are held on, in what readHolders returns.
func Key(class, oid uint32) string { return fmt.Sprintf("%d.%d", class, oid) }

// String names it in a sentence.
func (h Holder) String() string {
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

// ReadHolders reads who holds locks in the target besides the control session, by the key of what they are held on.
func ReadHolders(ctx context.Context, s *session.Session) (map[string][]Holder, error) {
	found, err := session.Query[Holder](ctx, s, HoldersSQL)
	if err != nil {
		return nil, fmt.Errorf("read the locks of the target: %w", err)
	}
	by := map[string][]Holder{}
	for _, h := range found {
		by[h.key()] = append(by[h.key()], h)
	}
	return by, nil
}

// ShowWait says who is waited for, in a few of the texts, or is the error to end with where that has taken too long.
func ShowWait(m *progress.Meter, patience *patience.Patience, p report.Phase, texts []string, since time.Time, tries int) error {
	text := "Waiting for a lock on the target."
	if len(texts) > 0 {
		text = "Waiting for locks on the target. " + strings.Join(texts[:min(len(texts), 3)], "; ") + "."
	}
	until := since.Add(patience.Limit())
	if time.Now().Before(until) {
		m.SetWait(report.Wait{Text: report.Said(text), Since: since, Until: until, Tries: tries})
		return nil
	}
	hint := "End those sessions, or wait until they are done, and then resume."
	if p == report.PhaseClean {
		hint += " A clone that cleans can also end them itself, where its role may and that is chosen."
	}
	return &report.Error{Phase: p, Err: fmt.Errorf("%w for %v: %s", ErrLocked, patience.Limit(), text), Hint: report.Said(hint)}
}

var ErrLocked = errors.New("others hold locks on the target")

//go:embed sql/blockers.sql
var blockersSQL string

// Watch returns what looks whether statements of a run, by its application_name, wait for others on the target, and says
// for whom. It is to be called from time to time. Where nothing got done meanwhile for as long as the clone has patience, it
// returns an error.
func Watch(s *session.Session, name string, p *patience.Patience, m *progress.Meter) func(context.Context) error {
	var w patience.Wait
	return func(ctx context.Context) error {
		type blocker struct {
			What string
			Holder
		}
		var found []blocker
		err := s.Soon(ctx, func(ctx context.Context) (err error) {
			found, err = session.Query[blocker](ctx, s, blockersSQL, name)
			return err
		})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			if w.Tries > 0 {
				m.ClearWait()
			}
			w = patience.Wait{}
			return nil
		}
		w.Again(p)
		texts := make([]string, len(found))
		for i, f := range found {
			texts[i] = fmt.Sprintf("%s is in use by %s", f.What, f.Holder)
		}
		return ShowWait(m, p, report.PhasePostData, texts, w.Since, w.Tries)
	}
}
