package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
)

// ResumeTask queues a job again that ended early, to go on with what it has left on its target. The errors are those of
// CreateTask; jobs.ErrConflict is that it cannot go on, or does already.
func (s *Store) ResumeTask(ctx context.Context, u jobs.User, id string) error {
	return explain("resume the job", s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, tasksLock); err != nil {
			return err
		}
		old, err := ended(ctx, tx, u, id)
		if err != nil {
			return err
		}
		source, target, err := pair(ctx, tx, u, old.Source.ConnectionID, old.Target.ConnectionID, old.Fork)
		if err != nil {
			return err
		}
		if err := checkFree(ctx, tx, source, target); err != nil {
			return err
		}
		if !old.Resumable {
			return fmt.Errorf("there is nothing to go on with: %w", jobs.ErrConflict)
		}
		// A saved database may lead elsewhere by now.
		if !old.Source.Same(source.Place()) || !old.Target.Same(target.Place()) {
			return jobs.ErrMoved
		}
		return s.queueAgain(ctx, tx, id, 0)
	}))
}

// resumable tells whether a job t has ended early, and left something on its target that nobody has touched since. Where
// no worker has written the end, nothing says that it cannot go on. One that was refused has done something before.
const resumable = `(
	CASE t.status
	WHEN 'failed'    THEN coalesce((t.report ->> 'resumable')::boolean, t.report IS NULL AND t.touched)
	WHEN 'cancelled' THEN coalesce((t.report ->> 'resumable')::boolean, t.report IS NULL AND t.touched)
	WHEN 'refused'   THEN t.touched
	ELSE false
	END
	AND NOT EXISTS (SELECT FROM background_tasks n WHERE n.retry_of = t.id)
	AND NOT EXISTS (
	    SELECT FROM background_tasks o
	    WHERE  o.id <> t.id
	    AND    o.touched
	    AND    o.updated_at > t.finished_at
	    AND    (o.target_id = t.target_id OR o.target ->> 'address' = t.target ->> 'address' AND o.target ->> 'database' = t.target ->> 'database')))`

// ended returns what resuming has to know of a job that has ended.
func ended(ctx context.Context, tx pgx.Tx, u jobs.User, id string) (old jobs.Task, err error) {
	err = tx.QueryRow(ctx, `
		SELECT coalesce(t.user_id, 0), t.status, t.source, coalesce(t.source_id, 0), t.target, coalesce(t.target_id, 0), t.fork, `+resumable+`
		FROM   background_tasks t
		WHERE  t.id = $1
		FOR    UPDATE OF t`, id).
		Scan(&old.UserID, &old.Status, &old.Source, &old.Source.ConnectionID, &old.Target, &old.Target.ConnectionID, &old.Fork, &old.Resumable)
	switch {
	case err != nil:
		return old, err
	case !old.MayAct(u):
		return old, jobs.ErrNotFound
	case !old.Status.Ended():
		return old, fmt.Errorf("the job is %s: %w", old.Status, jobs.ErrConflict)
	}
	return old, nil
}
