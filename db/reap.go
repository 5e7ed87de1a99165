package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
)

// Reap implements runner.Store.
func (s *Store) Reap(ctx context.Context, mine []runner.Run) error {
	return explain("look for jobs of dead workers", s.inTx(ctx, func(tx pgx.Tx) error {
		if err := s.reapRunning(ctx, tx, mine); err != nil {
			return err
		}
		return s.reapQueued(ctx, tx)
	}))
}

const (
	// cancelPatience is how long a worker that is heard of may take to end a job that somebody wants cancelled.
	cancelPatience = time.Minute
	// fruitlessLives is how many workers in a row may die with a job before they got anything done: then it may be what
	// kills them, and goes to no other one by itself.
	fruitlessLives = 3
)

// dead are the running jobs that nobody has spoken for. While the state database was away nobody could, so that all have
// a little time after its start.
const dead = `
	SELECT id, term, cancel_requested_at IS NOT NULL,
	       CASE WHEN coalesce((metadata #>> '{clone,progress,achieved}')::bigint, 0) > 0 THEN 0 ELSE fruitless + 1 END
	FROM   background_tasks t
	WHERE  status = 'running'
	AND    updated_at < now() - $1::interval
	AND    pg_postmaster_start_time() < now() - $2::interval `

// stuck are those that were to be cancelled long ago, and whose workers say that they live.
const stuck = `
	SELECT id, term, true, 0
	FROM   background_tasks
	WHERE  status = 'running'
	AND    cancel_requested_at < now() - $1::interval
	FOR    UPDATE SKIP LOCKED`

// reapRunning takes jobs from dead workers, and from those that do not cancel.
func (s *Store) reapRunning(ctx context.Context, tx pgx.Tx, mine []runner.Run) error {
	ids, terms := make([]string, len(mine)), make([]int64, len(mine))
	for i, r := range mine {
		ids[i], terms[i] = r.Task, r.Term
	}
	err := s.takeOver(ctx, tx, dead+`
		AND    NOT EXISTS (SELECT FROM unnest($3::text[], $4::bigint[]) mine (id, term) WHERE mine.id = t.id AND mine.term = t.term)
		FOR    UPDATE SKIP LOCKED`, lease, graceAfterStart, ids, terms)
	if err != nil {
		return err
	}
	return s.takeOver(ctx, tx, stuck, cancelPatience)
}

// ReconnectTask implements jobs.Store. It takes the job even if this process itself has it.
func (s *Store) ReconnectTask(ctx context.Context, id string, may func(jobs.Task) error) error {
	return explain("look for the worker of the job", s.inTx(ctx, func(tx pgx.Tx) error {
		task, err := lockTask(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := may(task); err != nil {
			return err
		}
		return s.takeOver(ctx, tx, dead+`AND id = $3 FOR UPDATE`, jobs.StalledAfter, graceAfterStart, id)
	}))
}

// takeOver puts those of the dead jobs that a query finds back into the queue, unless too many workers have died with one,
// and ends those that somebody wants cancelled. Their workers may only be cut off: with the term, or the end, they lose the
// right to write here, and on the target as soon as another run has come there.
func (s *Store) takeOver(ctx context.Context, tx pgx.Tx, which string, args ...any) error {
	type job struct {
		ID        string
		Term      int64
		Cancel    bool
		Fruitless int
	}
	rows, _ := tx.Query(ctx, which, args...)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	if err != nil {
		return err
	}
	for _, j := range found {
		switch {
		case j.Cancel:
			err = endWithout(ctx, tx, j.ID, jobs.Cancelled,
				report.ErrCancelled.Error()+"; its worker has not said that it stopped: should it live, it writes to the target until it hears of this")
		case j.Fruitless >= fruitlessLives:
			err = endWithout(ctx, tx, j.ID, jobs.Failed, fmt.Sprintf("%d workers in a row have died with this clone before they got anything done, so it may be what kills them: "+
				"look into their logs, and at the memory they have, before it goes on", fruitlessLives))
		default:
			err = logRetry(ctx, tx, j.ID, report.Said("The process that ran the clone was not heard of any more. The clone goes on in another one."))
			if err == nil {
				err = s.queueAgain(ctx, tx, j.ID, j.Fruitless)
			}
		}
		if err == nil {
			err = discard(ctx, tx, j.ID, j.Term)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endWithout ends a job, whose row the transaction has, without its worker.
func endWithout(ctx context.Context, tx pgx.Tx, id string, status jobs.Status, text string) error {
	_, err := tx.Exec(ctx, `
		UPDATE background_tasks
		SET    status = $2, error = $3, finished_at = now(), revision = revision + 1,
		       cancel_requested_at = CASE WHEN $2 = 'cancelled' THEN coalesce(cancel_requested_at, now()) END
		WHERE  id = $1`, id, string(status), text)
	if err != nil {
		return err
	}
	return notify(ctx, tx, changedChannel, id)
}

// discard ends what River has of a life of a job that is over. Its worker cannot, and River's own rescuer waits for a time
// limit, which a clone has not.
func discard(ctx context.Context, tx pgx.Tx, id string, term int64) error {
	rows, _ := tx.Query(ctx, `
		SELECT id
		FROM   river_job
		WHERE  kind = $1
		AND    args @> jsonb_build_object('task', $2::text, 'term', $3::bigint)
		AND    state = 'running'`, runner.Args{}.Kind(), id, term)
	carriers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(carriers) == 0 {
		return err
	}
	now, n := time.Now(), len(carriers)
	p := &riverdriver.JobSetStateIfRunningManyParams{
		ID: carriers, Attempt: make([]*int, n), ErrData: make([][]byte, n), MetadataDoMerge: make([]bool, n), MetadataUpdates: make([][]byte, n),
		ScheduledAt: make([]*time.Time, n),
	}
	for range carriers {
		p.FinalizedAt, p.State = append(p.FinalizedAt, &now), append(p.State, rivertype.JobStateDiscarded)
	}
	_, err = riverpgxv5.New(nil).UnwrapExecutor(tx).JobSetStateIfRunningMany(ctx, p)
	return err
}

// queueAgain puts a job, whose row the transaction has, into the queue as if it were new, except for what it has done,
// and has a new River job carry it. The new term makes the old one void. So many workers in a row have died with it before
// they got anything done.
func (s *Store) queueAgain(ctx context.Context, tx pgx.Tx, id string, fruitless int) error {
	args := runner.Args{Task: id}
	err := tx.QueryRow(ctx, `
		UPDATE background_tasks
		SET    status = 'queued', term = term + 1, worker = NULL, cancel_requested_at = NULL, finished_at = NULL,
		       report = NULL, error = '', fruitless = $2, updated_at = now(), revision = revision + 1
		WHERE  id = $1
		RETURNING term`, id, fruitless).Scan(&args.Term)
	if err != nil {
		return err
	}
	if _, err := s.queue.InsertTx(ctx, tx, args, nil); err != nil {
		return fmt.Errorf("queue it: %w", err)
	}
	return notify(ctx, tx, changedChannel, id)
}

// logRetry adds a line to the log of a job, whose row the transaction has.
func logRetry(ctx context.Context, tx pgx.Tx, id string, text report.Text) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO task_events (task_id, number, at, kind, phase, object, message)
		SELECT $1, coalesce(max(number), 0) + 1, now(), $2, '', '', $3
		FROM   task_events
		WHERE  task_id = $1`, id, string(report.EventRetry), cleanJSON{text})
	return err
}

// reapQueued finds River jobs for those that have none that will come: its worker died before it claimed the job.
func (s *Store) reapQueued(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `
		SELECT id, term, fruitless
		FROM   background_tasks t
		WHERE  status = 'queued'
		AND    NOT EXISTS (
		       SELECT FROM river_job r
		       WHERE  r.kind = $1
		       AND    r.args @> jsonb_build_object('task', t.id, 'term', t.term)
		       AND    (r.state IN ('available', 'pending', 'retryable', 'scheduled') OR r.state = 'running' AND r.attempted_at > now() - $2::interval))
		FOR    UPDATE SKIP LOCKED`, runner.Args{}.Kind(), handOver)
	type job struct {
		ID        string
		Term      int64
		Fruitless int
	}
	stranded, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	if err != nil {
		return err
	}
	for _, j := range stranded {
		err := s.queueAgain(ctx, tx, j.ID, j.Fruitless)
		if err == nil {
			err = discard(ctx, tx, j.ID, j.Term)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
