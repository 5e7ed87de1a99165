package db

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
	"calco/cloner/report"
)

// ResumeTask implements jobs.Store.
func (s *Store) ResumeTask(ctx context.Context, id string, may func(jobs.Facts) error) error {
	return explain("resume the job", s.inTx(ctx, func(tx pgx.Tx) error {
		facts, err := readFacts(ctx, tx, id, 0, 0)
		if err != nil {
			return err
		}
		if err := may(facts); err != nil {
			return err
		}
		return s.queueAgain(ctx, tx, id, 0)
	}))
}

// resumable tells whether a job t has ended early, and left something on its target that nobody has touched since. Where
// no worker has written the end, nothing says that it cannot go on; where a newer version of Calco has, nothing says that it
// can. One that was refused has done something before.
var resumable = `(
	CASE t.status
	WHEN 'failed'    THEN coalesce(t.report ->> 'resumable' = 'true', t.report IS NULL AND t.touched)
	WHEN 'cancelled' THEN coalesce(t.report ->> 'resumable' = 'true', t.report IS NULL AND t.touched)
	WHEN 'refused'   THEN t.touched
	ELSE false
	END
	AND coalesce((t.report ->> 'version')::int, 0) <= ` + strconv.Itoa(report.Version) + `
	AND NOT EXISTS (SELECT FROM background_tasks n WHERE n.retry_of = t.id)
	AND NOT EXISTS (
	    SELECT FROM background_tasks o
	    WHERE  o.id <> t.id
	    AND    o.touched
	    AND    o.updated_at > t.finished_at
	    AND    (o.target_id = t.target_id OR o.target ->> 'address' = t.target ->> 'address' AND o.target ->> 'database' = t.target ->> 'database')))`
