package marks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Claim makes the target this job's: it goes on with what the job has left there, or writes the job's row. The definitions are
// a digest of all that decides what the rows mean: what is gone on with has to have the same. Last it makes sure that the
// source does not show that row too.
func (l *Lock) Claim(ctx context.Context, definitions string) (*Owner, error) {
	if l.Previous == nil {
		if err := l.write(ctx, definitions); err != nil {
			return nil, err
		}
	}
	same, err := l.sourceShows(ctx)
	if err != nil {
		return nil, err
	}
	if same {
		if err := l.Abandon(ctx); err != nil {
			return nil, err
		}
		return nil, report.Refuse(SameDatabase(l.target))
	}
	o := l.owner()
	switch {
	case l.Previous == nil:
		return o, nil
	case l.Previous.Copying:
		return o, l.Previous.checkSource(l.source, definitions)
	}
	err = o.Control.Write(ctx, fmt.Sprintf("UPDATE _calco.job SET system = %s, database = %d, timeline = %d, definitions = %s",
		session.QuoteLiteral(l.source.SystemIdentifier), l.source.DatabaseOID, l.source.Timeline, session.QuoteLiteral(definitions)))
	if err != nil {
		return o, fmt.Errorf("write the job to the target: %w", err)
	}
	return o, nil
}

// SameDatabase refuses a source and a target that are one database.
func SameDatabase(target *session.Server) report.Reason {
	return report.Reason{
		Code: report.ReasonSameDatabase, Side: report.Target,
		Text: report.Said(fmt.Sprintf("Source and target are the same database, %s.", target.URL)),
		Hint: report.Said("Choose another target."),
	}
}

// write writes the job's row, in place of whatever job is over.
func (l *Lock) write(ctx context.Context, definitions string) error {
	if err := l.wish.Announce(ctx); err != nil {
		return err
	}
	if err := l.Abandon(ctx); err != nil {
		return err
	}
	insert := fmt.Sprintf(`INSERT INTO _calco.job (id, term, nonce, schemas, system, database, timeline, definitions)
		VALUES (%s, %d, %s, %s, %s, %d, %d, %s)`,
		session.QuoteLiteral(l.Job.ID), l.Job.Term, session.QuoteLiteral(l.Job.Nonce), quoteArray(l.wish.Schemas), session.QuoteLiteral(l.source.SystemIdentifier),
		l.source.DatabaseOID, l.source.Timeline, session.QuoteLiteral(definitions))
	if err := l.target.Control.Exec(ctx, "BEGIN READ WRITE; SET LOCAL synchronous_commit = on; "+createSQL+"; "+insert+"; COMMIT"); err != nil {
		return fmt.Errorf("write the job to the target: %w", err)
	}
	return nil
}

// Abandon drops the schema _calco of whatever job is over, or this one's. It is refused where somebody else uses it.
func (l *Lock) Abandon(ctx context.Context) error {
	if reasons, err := CheckForeign(ctx, l.target); err != nil || len(reasons) > 0 {
		return errors.Join(err, report.Refuse(reasons...))
	}
	if err := l.target.Control.Exec(ctx, "BEGIN READ WRITE; SET LOCAL synchronous_commit = on; "+dropSQL+"; COMMIT"); err != nil {
		return fmt.Errorf("drop the job's schema on the target: %w", err)
	}
	return nil
}

// sourceShows is the last word on whether source and target are one: the job's row, committed on the target, must not be
// visible on the source.
func (l *Lock) sourceShows(ctx context.Context) (bool, error) {
	tries := 1
	if l.source.InRecovery {
		tries = 3 // replay may lag behind
	}
	for range tries {
		found, err := session.QueryValue[bool](ctx, l.source.Control, `SELECT to_regclass('_calco.job') IS NOT NULL`)
		if err != nil {
			return false, fmt.Errorf("look for the marker on the source: %w", err)
		}
		if found {
			// The source may be somebody's interrupted target: only our own row counts.
			found, err = session.QueryValue[bool](ctx, l.source.Control, `SELECT EXISTS (SELECT FROM _calco.job WHERE id = $1 AND nonce = $2)`, l.Job.ID, l.Job.Nonce)
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

// quoteArray writes a list of names as an SQL array.
func quoteArray(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = session.QuoteLiteral(n)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::text[]"
}
