package db

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
)

const (
	// tasksLock is held by whoever starts a job: it compares rows that others are about to insert.
	tasksLock = 0x7461736b // task
	// recent is how long the last job that went wrong is what its user is shown first.
	recent = 2 * time.Hour
	// listed bounds the lists of jobs whose caller does not.
	listed = 50
)

// CreateTask implements jobs.Store: it queues a job in one transaction with the River job that carries it to a worker.
func (s *Store) CreateTask(ctx context.Context, userID int64, t jobs.NewTask, may func(jobs.Facts) error) (id string, err error) {
	id = jobs.NewTaskID()
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		facts, err := readFacts(ctx, tx, t.RetryOf, t.SourceID, t.TargetID)
		if err != nil {
			return err
		}
		if err := may(facts); err != nil {
			return err
		}
		source, target := facts.Source, facts.Target
		schemas := t.Schemas
		if schemas == nil {
			schemas = []string{}
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO background_tasks (id, user_id, owner, source_id, target_id, source, target, schemas, clean, fork, retry_of,          confirmation, verify, end_blockers)
			SELECT                        $1, id,      email, $3,        $4,        $5,     $6,     $7,      $8,    $9,   nullif($10, ''), $11,          $12,    $13
			FROM   users
			WHERE  id = $2`, id, userID, source.ID, target.ID, source.Place(), target.Place(), schemas, t.Clean != nil, t.Fork, t.RetryOf, t.Clean, cmp.Or(t.Verify, report.VerifySample), t.Clean != nil && t.EndBlockers)
		if err != nil {
			return err
		}
		if _, err := s.queue.InsertTx(ctx, tx, runner.Args{Task: id, Term: 1}, nil); err != nil {
			return fmt.Errorf("queue it: %w", err)
		}
		return notify(ctx, tx, changedChannel, id)
	})
	return id, explain("start a clone", err)
}

// readFacts reads, and locks, what decides whether a job may begin between two saved databases, or whether an old one, between
// its own, may go on or be tried again. One at a time: it compares rows that others are about to insert.
func readFacts(ctx context.Context, tx pgx.Tx, oldID string, sourceID, targetID int64) (f jobs.Facts, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, tasksLock); err != nil {
		return f, err
	}
	if oldID != "" {
		if f.Old, err = readOld(ctx, tx, oldID); err != nil || f.Old == nil {
			return f, err
		}
		sourceID, targetID = f.Old.Source.ConnectionID, f.Old.Target.ConnectionID
	}
	rows, _ := tx.Query(ctx, `
		SELECT `+connectionColumns+`
		FROM   connections c
		LEFT   JOIN users u ON u.id = c.owner_id
		WHERE  c.id IN ($1, $2)
		ORDER  BY c.id
		FOR    SHARE OF c`, sourceID, targetID)
	found, err := pgx.CollectRows(rows, scanConnection)
	if err != nil {
		return f, err
	}
	for i := range found {
		if found[i].ID == sourceID {
			f.Source = &found[i]
		}
		if found[i].ID == targetID {
			f.Target = &found[i]
		}
	}
	if f.Source == nil || f.Target == nil {
		return f, nil
	}
	if f.Protected, f.Kin, err = isProtected(ctx, tx, *f.Target); err != nil {
		return f, err
	}
	// One database may be saved under two names, so where they are is compared too.
	err = tx.QueryRow(ctx, `
		SELECT coalesce(bool_or(target_id = $2 OR target ->> 'address' = $5 AND target ->> 'database' = $6), false),
		       coalesce(bool_or(source_id = $2 OR source ->> 'address' = $5 AND source ->> 'database' = $6), false),
		       coalesce(bool_or(target_id = $1 OR target ->> 'address' = $3 AND target ->> 'database' = $4), false)
		FROM   background_tasks
		WHERE  status IN ('queued', 'running')`,
		sourceID, targetID, f.Source.Address, f.Source.Database, f.Target.Address, f.Target.Database).Scan(&f.Busy, &f.Read, &f.Written)
	return f, err
}

// readOld returns a job that is to go on, or to be tried again, or nil.
func readOld(ctx context.Context, tx pgx.Tx, id string) (*jobs.Task, error) {
	var old jobs.Task
	err := tx.QueryRow(ctx, `
		SELECT coalesce(t.user_id, 0), t.status, t.source, coalesce(t.source_id, 0), t.target, coalesce(t.target_id, 0), t.fork,
		       coalesce((SELECT n.id FROM background_tasks n WHERE n.retry_of = t.id), ''), `+resumable+`
		FROM   background_tasks t
		WHERE  t.id = $1
		FOR    UPDATE OF t`, id).
		Scan(&old.UserID, &old.Status, &old.Source, &old.Source.ConnectionID, &old.Target, &old.Target.ConnectionID, &old.Fork, &old.Newest, &old.Resumable)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none
	}
	old.ID = id
	return &old, err
}

// checkUnused refuses while a job is queued or running from or into a saved database: that is a jobs.ErrConflict. The
// transaction has its row, or a job could begin meanwhile.
func checkUnused(ctx context.Context, tx pgx.Tx, connectionID int64) error {
	var used bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM background_tasks WHERE status IN ('queued', 'running') AND $1 IN (source_id, target_id))`,
		connectionID).Scan(&used)
	if err == nil && used {
		err = fmt.Errorf("a job uses the database: %w", jobs.ErrConflict)
	}
	return err
}

// lockTask returns UserID and Status of a job, and keeps it for the transaction.
func lockTask(ctx context.Context, tx pgx.Tx, id string) (t jobs.Task, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce(user_id, 0), status FROM background_tasks WHERE id = $1 FOR UPDATE`, id).Scan(&t.UserID, &t.Status)
	return t, err
}

// CancelTask implements jobs.Store.
func (s *Store) CancelTask(ctx context.Context, id string, may func(jobs.Task) error) error {
	return explain("cancel the job", s.inTx(ctx, func(tx pgx.Tx) error {
		task, err := lockTask(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := may(task); err != nil {
			return err
		}
		if task.Status == jobs.Queued {
			return endWithout(ctx, tx, id, jobs.Cancelled, report.ErrCancelled.Error())
		}
		_, err = tx.Exec(ctx, `
			UPDATE background_tasks
			SET    cancel_requested_at = coalesce(cancel_requested_at, now()), revision = revision + 1
			WHERE  id = $1`, id)
		if err != nil {
			return err
		}
		if err := notify(ctx, tx, cancelChannel, id); err != nil {
			return err
		}
		return notify(ctx, tx, changedChannel, id)
	}))
}

// Task returns a job. The error for one that is not there is jobs.ErrNotFound.
func (s *Store) Task(ctx context.Context, id string) (jobs.Task, error) {
	return s.oneTask(ctx, "find the job", `WHERE t.id = $1`, id)
}

// CurrentTask returns what a user is shown first: the newest job that is queued or running, or else the newest one that
// went wrong in the last two hours and was not tried again. With neither the error is jobs.ErrNotFound.
func (s *Store) CurrentTask(ctx context.Context, userID int64) (jobs.Task, error) {
	return s.oneTask(ctx, "find the user's job", `
		WHERE    t.user_id = $1
		AND      (t.status IN ('queued', 'running')
		          OR t.status IN ('failed', 'cancelled', 'refused') AND t.finished_at > now() - $2::interval
		          AND NOT EXISTS (SELECT FROM background_tasks n WHERE n.retry_of = t.id))
		ORDER BY t.status IN ('queued', 'running') DESC, t.created_at DESC, t.id DESC
		LIMIT    1`, userID, recent)
}

// RunningTasks returns the jobs that are queued or running, the newest first, at most 50.
func (s *Store) RunningTasks(ctx context.Context) ([]jobs.Task, error) {
	return s.tasks(ctx, "list the running jobs", shortReport, `
		WHERE    t.status IN ('queued', 'running')
		ORDER BY t.created_at DESC, t.id DESC
		LIMIT    $1`, listed)
}

// Tasks returns jobs, the newest first. Their reports have at most 50 differences and 50 entries of the ledger.
func (s *Store) Tasks(ctx context.Context, f jobs.TaskFilter) ([]jobs.Task, error) {
	if f.Limit <= 0 {
		f.Limit = listed
	}
	return s.tasks(ctx, "list jobs", shortReport, `
		WHERE    ($1 = '' OR t.status = $1)
		AND      ($2::bigint = 0 OR $2 IN (t.source_id, t.target_id))
		AND      ($3 = '' OR (t.created_at, t.id) < (SELECT b.created_at, b.id FROM background_tasks b WHERE b.id = $3))
		ORDER BY t.created_at DESC, t.id DESC
		LIMIT    $4`, string(f.Status), f.ConnectionID, f.Before, f.Limit)
}

// Attempts returns the jobs that try one thing again and again, of which this is one, the oldest first. The error for a
// job that is not there is jobs.ErrNotFound.
func (s *Store) Attempts(ctx context.Context, id string) ([]jobs.Task, error) {
	attempts, err := s.tasks(ctx, "list the attempts", shortReport, `
		JOIN (
			WITH RECURSIVE earlier AS (
				SELECT id, retry_of, 0 AS n FROM background_tasks WHERE id = $1
				UNION ALL
				SELECT b.id, b.retry_of, n - 1 FROM background_tasks b JOIN earlier e ON b.id = e.retry_of
			), later AS (
				SELECT id, 0 AS n FROM background_tasks WHERE id = $1
				UNION ALL
				SELECT b.id, n + 1 FROM background_tasks b JOIN later l ON b.retry_of = l.id
			)
			SELECT id, n FROM earlier UNION SELECT id, n FROM later
		) chain ON chain.id = t.id
		ORDER BY chain.n`, id)
	if err == nil && len(attempts) == 0 {
		err = fmt.Errorf("list the attempts: %w", jobs.ErrNotFound)
	}
	return attempts, err
}

// Reports may be megabytes; a list needs their totals. Nor does it need to know which jobs can be resumed.
var (
	wholeReport = `t.report, ` + resumable
	shortReport = `t.report || jsonb_build_object('differences', jsonb_path_query_array(t.report, '$.differences[0 to 49]'),
	                                              'ledger',      jsonb_path_query_array(t.report, '$.ledger[0 to 49]')), false`
)

const taskColumns = `
	t.id, coalesce(t.user_id, 0), t.owner, t.status, t.source, coalesce(t.source_id, 0), t.target, coalesce(t.target_id, 0),
	t.schemas, t.clean, t.verify, coalesce(t.retry_of, ''), coalesce((
		WITH RECURSIVE later AS (
			SELECT id, 1 AS n FROM background_tasks WHERE retry_of = t.id
			UNION ALL
			SELECT b.id, n + 1 FROM background_tasks b JOIN later l ON b.retry_of = l.id
		)
		SELECT id FROM later ORDER BY n DESC LIMIT 1), ''),
	t.created_at, t.started_at, now() - t.updated_at, t.finished_at, t.metadata -> 'clone', t.error,
	t.cancel_requested_at IS NOT NULL, t.touched, t.term, t.revision, `

// cloneMetadata is what metadata.clone has. SQL here reads progress.achieved of it, and status, resumable and version of a
// report: no version of those may change them.
type cloneMetadata struct {
	Progress report.Progress `json:"progress"`
	Speeds   []int64         `json:"speeds"`
}

func scanTask(row pgx.CollectableRow) (t jobs.Task, err error) {
	var started, finished *time.Time
	var metadata, result []byte
	err = row.Scan(&t.ID, &t.UserID, &t.Owner, &t.Status, &t.Source, &t.Source.ConnectionID, &t.Target, &t.Target.ConnectionID,
		&t.Schemas, &t.Clean, &t.Verify, &t.RetryOf, &t.Newest,
		&t.CreatedAt, &started, &t.Silence, &finished, &metadata, &t.Error,
		&t.Cancelling, &t.Touched, &t.Term, &t.Revision, &result, &t.Resumable)
	if err != nil {
		return t, err
	}
	if started != nil {
		t.StartedAt = *started
	}
	if finished != nil {
		t.FinishedAt = *finished
	}
	t.Cancelling = t.Cancelling && !t.Status.Ended()
	err = readStored(&t, metadata, result)
	return t, err
}

// readStored reads how far a job is and its report, nil for none. What a newer version of Calco has written of them is left
// out, and the job's error says so: its page and the lists are drawn without.
func readStored(t *jobs.Task, metadata, result []byte) error {
	var clone cloneMetadata
	err := json.Unmarshal(metadata, &clone)
	t.Progress, t.Speeds = clone.Progress, clone.Speeds
	if err == nil && result != nil {
		t.Report = &report.Report{}
		err = json.Unmarshal(result, t.Report)
	}
	newer, ok := errors.AsType[*report.VersionError](err)
	if !ok {
		return err
	}
	t.Report = nil
	if t.Error != "" {
		t.Error = strings.TrimSuffix(t.Error, ".") + ". "
	}
	t.Error += newer.Error()
	return nil
}

func (s *Store) tasks(ctx context.Context, act, report, which string, args ...any) ([]jobs.Task, error) {
	rows, _ := s.pool.Query(ctx, `SELECT `+taskColumns+report+` FROM background_tasks t `+which, args...)
	tasks, err := pgx.CollectRows(rows, scanTask)
	return tasks, explain(act, err)
}

func (s *Store) oneTask(ctx context.Context, act, which string, args ...any) (jobs.Task, error) {
	tasks, err := s.tasks(ctx, act, wholeReport, which, args...)
	if err == nil && len(tasks) == 0 {
		err = fmt.Errorf("%s: %w", act, jobs.ErrNotFound)
	}
	if err != nil {
		return jobs.Task{}, err
	}
	return tasks[0], nil
}

// TaskTables returns the tables of a job, what is going on first, then what failed, then the largest, and how many the
// filter has in all.
func (s *Store) TaskTables(ctx context.Context, id string, f jobs.TableFilter) (tables []report.TableState, total int, err error) {
	if f.Limit <= 0 {
		f.Limit = listed
	}
	batch := &pgx.Batch{}
	const which = `
		FROM  task_tables
		WHERE task_id = $1
		AND   ($2 = '' OR status = $2)
		AND   ($3 = '' OR position(lower($3) IN lower(relation)) > 0) `
	batch.Queue(`SELECT count(*)`+which, id, string(f.Status), f.Name).QueryRow(func(row pgx.Row) error { return row.Scan(&total) })
	batch.Queue(`SELECT relation, status, rows, bytes, size, built, to_build`+which+`
		ORDER BY place, size DESC, relation
		OFFSET $4 LIMIT $5`, id, string(f.Status), f.Name, max(f.Offset, 0), f.Limit).Query(func(rows pgx.Rows) error {
		tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[report.TableState])
		return err
	})
	err = s.pool.SendBatch(ctx, batch).Close()
	return tables, total, explain("list the tables of the job", err)
}

// TaskEvents returns the log of a job, the newest line first.
func (s *Store) TaskEvents(ctx context.Context, id string, limit int) ([]report.Event, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT   at, kind, phase, object, coalesce(message, to_jsonb(text))
		FROM     task_events
		WHERE    task_id = $1
		ORDER BY number DESC
		LIMIT    $2`, id, limit)
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[report.Event])
	return events, explain("read the log of the job", err)
}
