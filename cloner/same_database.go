package cloner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// checkSameDatabase refuses a source and a target that are one database, under
// whatever names. Advisory locks are seen only within one database of one cluster, so
// a lock with random keys that the target holds and the source cannot get is proof.
// It needs no privilege and works through poolers.
//
// A standby grants advisory locks of its own, but shares its primary's system
// identifier. A physical fork shares it too without being the same: that is a warning,
// and findsMarker settles it later.
func (r *run) checkSameDatabase(ctx context.Context) ([]report.Reason, error) {
	same := report.Reason{
		Code: report.ReasonSameDatabase, Side: report.Target,
		Text: fmt.Sprintf("Source and target are the same database, %s.", r.spec.Target),
		Hint: "Choose another target.",
	}
	k1, k2 := rand.Int32(), rand.Int32()
	if err := r.target.Control.Exec(ctx, fmt.Sprintf("BEGIN; SELECT pg_advisory_xact_lock(%d, %d)", k1, k2)); err != nil {
		return nil, fmt.Errorf("probe the target: %w", err)
	}
	free, err := session.QueryValue[bool](ctx, r.source.Control, `SELECT pg_try_advisory_xact_lock($1::int, $2::int)`, k1, k2)
	if err != nil {
		return nil, fmt.Errorf("probe the source: %w", err)
	}
	if err := r.target.Control.Exec(ctx, "ROLLBACK"); err != nil {
		return nil, fmt.Errorf("probe the target: %w", err)
	}
	if !free {
		return []report.Reason{same}, nil
	}
	if r.source.SystemIdentifier != r.target.SystemIdentifier || r.source.DatabaseOID != r.target.DatabaseOID {
		return nil, nil
	}
	if r.source.InRecovery || r.target.InRecovery {
		same.Text = fmt.Sprintf("Source and target are one database: one is a standby of the other (%s).", r.spec.Target)
		return []report.Reason{same}, nil
	}
	r.ledger.Warn("Source and target descend from one physical copy (same system identifier): make sure that the target is the one you mean.")
	return nil, nil
}

// findsMarker is the last word on whether source and target are one: the job's row,
// committed on the target, must not be visible on the source.
func (r *run) findsMarker(ctx context.Context) (bool, error) {
	tries := 1
	if r.source.InRecovery {
		tries = 3 // replay may lag behind
	}
	for range tries {
		found, err := session.QueryValue[bool](ctx, r.source.Control, `SELECT to_regclass('_calco.job') IS NOT NULL`)
		if err != nil {
			return false, fmt.Errorf("look for the marker on the source: %w", err)
		}
		if found {
			// The source may be somebody's interrupted target: only our own row counts.
			found, err = session.QueryValue[bool](ctx, r.source.Control, `SELECT EXISTS (SELECT FROM _calco.job WHERE id = $1 AND nonce = $2)`, r.spec.Job, r.nonce)
			if err != nil {
				return false, fmt.Errorf("look for the marker on the source: %w", err)
			}
		}
		if found {
			return true, nil
		}
		if tries > 1 {
			if err := session.Pause(ctx, 700*time.Millisecond); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}
