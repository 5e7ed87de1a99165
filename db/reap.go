package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"calco/cloner"
	"calco/cloner/runner"
	"calco/db/state"
)

// Reap is what runner.Store has.
func (s *Store) Reap(ctx context.Context, mine []runner.Run) error {
	return explain("look for jobs of dead workers", s.inTx(ctx, func(tx pgx.Tx) error {
		return errors.Join(s.reapRunning(ctx, tx, mine), s.reapQueued(ctx, tx))
	}))
}

// dead are the running jobs that nobody has spoken for. While the state database was away nobody could, so that all have
// a little time after its start.
const dead = `
	SELECT id, cancel_requested_at IS NOT NULL
	FROM   background_tasks t
	WHERE  status = 'running'
	AND    updated_at < now() - $1::interval
	AND    pg_postmaster_start_time() < now() - $2::interval `

// reapRunning takes jobs from dead workers.
func (s *Store) reapRunning(ctx context.Context, tx pgx.Tx, mine []runner.Run) error {
	ids, terms := make([]string, len(mine)), make([]int64, len(mine))
	for i, r := range mine {
		ids[i], terms[i] = r.Task, r.Term
	}
	return s.takeOver(ctx, tx, dead+`
		AND    NOT EXISTS (SELECT FROM unnest($3::text[], $4::bigint[]) mine (id, term) WHERE mine.id = t.id AND mine.term = t.term)
		FOR    UPDATE SKIP LOCKED`, lease, graceAfterStart, ids, terms)
}

// ReconnectTask takes a job from a worker that has been silent for so long that the job is shown as stalled, even if this
// process itself has it. Any other job it leaves as it is.
func (s *Store) ReconnectTask(ctx context.Context, id string) error {
	return explain("look for the worker of the job", s.inTx(ctx, func(tx pgx.Tx) error {
		return s.takeOver(ctx, tx, dead+`AND id = $3 FOR UPDATE`, state.StalledAfter, graceAfterStart, id)
	}))
}

// takeOver puts those of the dead jobs that a query finds back into the queue, and ends those that somebody wants
// cancelled. Their workers may only be cut off: with the term, or the end, they lose the right to write here, and on the
// target as soon as another run has come there.
func (s *Store) takeOver(ctx context.Context, tx pgx.Tx, which string, args ...any) error {
	type job struct {
		ID     string
		Cancel bool
	}
	rows, _ := tx.Query(ctx, which, args...)
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Cancel {
			err = endCancelled(ctx, tx, j.ID)
		} else {
			err = errors.Join(
				logRetry(ctx, tx, j.ID, "The process that ran the clone was not heard of any more. The clone goes on in another one."),
				s.queueAgain(ctx, tx, j.ID))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endCancelled ends a job, whose row the transaction has, without its worker.
func endCancelled(ctx context.Context, tx pgx.Tx, id string) error {
	_, err := tx.Exec(ctx, `
		UPDATE background_tasks
		SET    status = 'cancelled', error = $2, finished_at = now(), revision = revision + 1,
		       cancel_requested_at = coalesce(cancel_requested_at, now())
		WHERE  id = $1`, id, cloner.ErrCancelled.Error())
	if err != nil {
		return err
	}
	return notify(ctx, tx, changedChannel, id)
}

// queueAgain puts a job, whose row the transaction has, into the queue as if it were new, except for what it has done,
// and has a new River job carry it. The new term makes the old one void.
func (s *Store) queueAgain(ctx context.Context, tx pgx.Tx, id string) error {
	args := runner.Args{Task: id}
	err := tx.QueryRow(ctx, `
		UPDATE background_tasks
		SET    status = 'queued', term = term + 1, worker = NULL, cancel_requested_at = NULL, finished_at = NULL,
		       report = NULL, error = '', interrupted = false, updated_at = now(), revision = revision + 1
		WHERE  id = $1
		RETURNING term`, id).Scan(&args.Term)
	if err != nil {
		return err
	}
	if _, err := s.jobs.InsertTx(ctx, tx, args, nil); err != nil {
		return fmt.Errorf("queue it: %w", err)
	}
	return notify(ctx, tx, changedChannel, id)
}

// logRetry adds a line to the log of a job, whose row the transaction has.
func logRetry(ctx context.Context, tx pgx.Tx, id, text string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO task_events (task_id, number, at, kind, phase, object, text)
		SELECT $1, coalesce(max(number), 0) + 1, now(), $2, '', '', $3
		FROM   task_events
		WHERE  task_id = $1`, id, string(cloner.EventRetry), text)
	return err
}

// reapQueued finds River jobs for those that have none that will come: its worker died before it claimed the job.
func (s *Store) reapQueued(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `
		SELECT id
		FROM   background_tasks t
		WHERE  status = 'queued'
		AND    NOT EXISTS (
		       SELECT FROM river_job r
		       WHERE  r.kind = $1
		       AND    r.args @> jsonb_build_object('task', t.id, 'term', t.term)
		       AND    (r.state IN ('available', 'pending', 'retryable', 'scheduled') OR r.state = 'running' AND r.attempted_at > now() - $2::interval))
		FOR    UPDATE SKIP LOCKED`, runner.Args{}.Kind(), handOver)
	stranded, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range stranded {
		if err := s.queueAgain(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}
