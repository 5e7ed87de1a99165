package db

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
)

var (
	_ jobs.Store   = (*Store)(nil)
	_ runner.Store = (*Store)(nil)
)

const (
	// lease is how old the heartbeat of a worker is that is taken for dead.
	lease = 20 * time.Second
	// graceAfterStart is how long workers that live have, after a restart of the state database, to say so.
	graceAfterStart = 10 * time.Second
	// handOver is how long River may have had a job that no worker claimed, before that worker is taken for dead.
	handOver = 20 * time.Second
)

// Claim implements runner.Store.
func (s *Store) Claim(ctx context.Context, r runner.Run, worker string) (job runner.Job, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		var sourceID, targetID int64
		var sourceURL, targetURL []byte
		var user jobs.User
		var source, target jobEnd
		var sourceByAdmin, targetByAdmin bool
		var confirmed []byte
		err := tx.QueryRow(ctx, `
			UPDATE background_tasks t
			SET    status = 'running', worker = $3, started_at = coalesce(t.started_at, now()),
			       metadata = t.metadata #- '{clone,progress,achieved}',
			       updated_at = now(), revision = t.revision + 1
			FROM   background_tasks b
			LEFT   JOIN connections source ON source.id = b.source_id
			LEFT   JOIN connections target ON target.id = b.target_id
			WHERE  t.id = $1
			AND    t.term = $2
			AND    t.status = 'queued'
			AND    b.id = t.id
			RETURNING t.schemas, t.clean, t.end_blockers, t.verify, t.confirmation, coalesce(source.id, 0), source.url_sealed, coalesce(target.id, 0), target.url_sealed,
			          coalesce(target.protected, false), t.touched,
			          coalesce(t.user_id, 0),
			          t.source, coalesce(source.address, ''), coalesce(source.database, ''), coalesce(source.shared, false), coalesce(source.owner_id, 0),
			          t.target, coalesce(target.address, ''), coalesce(target.database, ''), coalesce(target.shared, false), coalesce(target.owner_id, 0),
			          `+savedByAdmin("source")+`, `+savedByAdmin("target")+`,
			          coalesce((SELECT max(number) FROM task_events WHERE task_id = t.id), 0)`, r.Task, r.Term, worker).
			Scan(&job.Spec.Schemas, &job.Spec.Clean, &job.Spec.EndBlockers, &job.Spec.Verify, &confirmed, &sourceID, &sourceURL, &targetID, &targetURL, &job.Protected, &job.Touched,
				&user.ID,
				&source.kept, &source.now.Address, &source.now.Database, &source.now.Shared, &source.now.OwnerID,
				&target.kept, &target.now.Address, &target.now.Database, &target.now.Shared, &target.now.OwnerID,
				&sourceByAdmin, &targetByAdmin, &job.Events)
		if err != nil {
			return lostIfNone(err)
		}
		job.Spec.Confirmed = readConfirmation(confirmed)
		job.Spec.SourceHosts, job.Spec.TargetHosts = s.hosts.Of(sourceByAdmin), s.hosts.Of(targetByAdmin)
		job.SourceStands, job.TargetStands = source.stands(user), target.stands(user)
		// Nothing is on its way any more; what the table still lacks, the new life will say.
		if _, err := tx.Exec(ctx, `UPDATE task_tables SET status = 'waiting' WHERE task_id = $1 AND status = 'copying'`, r.Task); err != nil {
			return err
		}
		if job.Spec.Source, err = s.openURL(sourceID, sourceURL); err != nil {
			return err
		}
		if job.Spec.Target, err = s.openURL(targetID, targetURL); err != nil {
			return err
		}
		if job.Past, err = past(ctx, tx, r.Task); err != nil {
			return err
		}
		return notify(ctx, tx, changedChannel, r.Task)
	})
	job.Spec.Job, job.Spec.Term = r.Task, r.Term
	return job, explain("claim the job", err)
}

// jobEnd is one end of a job: where it led when the job was made, and the saved database now.
type jobEnd struct {
	kept jobs.Place
	now  jobs.Connection
}

// stands tells whether the job of a user may still use it.
func (e jobEnd) stands(u jobs.User) runner.Standing {
	switch {
	case e.now.Address == "":
		return runner.Gone
	case !jobs.MaySee(u, e.now):
		return runner.Withdrawn
	case !e.kept.Same(e.now.Place()):
		return runner.Moved
	}
	return runner.Stands
}

// readConfirmation returns nil for none. One that another version of Calco has written confirms nothing either: the
// engine has it asked for again.
func readConfirmation(text []byte) *report.Confirmation {
	var c report.Confirmation
	if text == nil || json.Unmarshal(text, &c) != nil {
		return nil
	}
	return &c
}

// past returns the report of the last clone like this one, or nil, as for one that a newer version of Calco has written.
// What it found to be different takes no part.
func past(ctx context.Context, tx pgx.Tx, id string) (*report.Report, error) {
	rows, _ := tx.Query(ctx, `
		SELECT   p.report - 'differences' - 'ledger'
		FROM     background_tasks t
		JOIN     background_tasks p USING (source_id, target_id, schemas)
		WHERE    t.id = $1
		AND      p.status IN ('completed', 'differences')
		ORDER BY p.created_at DESC, p.id DESC
		LIMIT    1`, id)
	text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]byte])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	var last report.Report
	err = json.Unmarshal(text, &last)
	if _, newer := errors.AsType[*report.VersionError](err); newer {
		return nil, nil //nolint:nilnil // there is none that can be read
	}
	return &last, err
}

// openURL returns "" for a database that is gone.
func (s *Store) openURL(id int64, sealed []byte) (dsn.URL, error) {
	if sealed == nil {
		return "", nil
	}
	url, err := s.key.open(placeOfURL(id), sealed)
	return dsn.URL(url), err
}

// Beat implements runner.Store.
func (s *Store) Beat(ctx context.Context, b runner.Beat) (cancel bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			UPDATE background_tasks
			SET    updated_at = now(), revision = revision + 1, progress = $3, metadata = jsonb_set(metadata, '{clone}', $4), touched = $5
			WHERE  id = $1
			AND    term = $2
			AND    status = 'running'
			RETURNING cancel_requested_at IS NOT NULL`, b.Task, b.Term, share(b.Progress), cleanJSON{cloneMetadata{b.Progress, b.Speeds}}, b.Touched).
			Scan(&cancel)
		if err != nil {
			return lostIfNone(err)
		}
		return writeDetails(ctx, tx, b)
	})
	return cancel, explain("write how far the job is", unwritable(err))
}

// Requeue implements runner.Store.
func (s *Store) Requeue(ctx context.Context, b runner.Beat) (cancel bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			SELECT cancel_requested_at IS NOT NULL
			FROM   background_tasks
			WHERE  id = $1
			AND    term = $2
			AND    status = 'running'
			FOR    UPDATE`, b.Task, b.Term).Scan(&cancel)
		if err != nil || cancel {
			return lostIfNone(err)
		}
		_, err = tx.Exec(ctx, `UPDATE background_tasks SET progress = $2, metadata = jsonb_set(metadata, '{clone}', $3), touched = $4 WHERE id = $1`,
			b.Task, share(b.Progress), cleanJSON{cloneMetadata{b.Progress, b.Speeds}}, b.Touched)
		if err != nil {
			return err
		}
		if err := writeDetails(ctx, tx, b); err != nil {
			return err
		}
		if err := logRetry(ctx, tx, b.Task, report.Said("The server that ran the clone stopped. The clone goes on in the next one.")); err != nil {
			return err
		}
		return s.queueAgain(ctx, tx, b.Task, 0)
	})
	return cancel, explain("put the job back into the queue", err)
}

// Finish implements runner.Store.
func (s *Store) Finish(ctx context.Context, b runner.Beat, report report.Report) error {
	progress := share(b.Progress)
	if status := jobs.Status(report.Status); status == jobs.Completed || status == jobs.Differences {
		progress = 1
	}
	return explain("write the outcome of the job", unwritable(s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE background_tasks
			SET    status = $3, error = $4, report = $5, progress = $6, metadata = jsonb_set(metadata, '{clone}', $7), touched = $8,
			       updated_at = now(), finished_at = coalesce(finished_at, now()), revision = revision + 1
			WHERE  id = $1
			AND    term = $2
			AND    (status = 'running' OR status = $3 AND report IS NOT NULL)`,
			b.Task, b.Term, report.Status, clean(report.Error), cleanJSON{report}, progress, cleanJSON{cloneMetadata{b.Progress, b.Speeds}}, b.Touched)
		if err == nil && tag.RowsAffected() == 0 {
			err = runner.ErrLost
		}
		if err != nil {
			return err
		}
		return writeDetails(ctx, tx, b)
	})))
}

// writeDetails writes the tables and the log of a job, whose row the transaction has, and tells those who listen.
func writeDetails(ctx context.Context, tx pgx.Tx, b runner.Beat) error {
	if len(b.Tables) > 0 {
		if _, err := tx.Exec(ctx, `
			INSERT INTO task_tables (task_id, relation, status, rows, bytes, size, built, to_build)
			SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::int[], $8::int[])
			ON CONFLICT (task_id, relation) DO UPDATE
			SET (status, rows, bytes, size, built, to_build) =
			    (excluded.status, excluded.rows, excluded.bytes, excluded.size, excluded.built, excluded.to_build)`,
			append([]any{b.Task}, tableColumns(b.Tables)...)...); err != nil {
			return fmt.Errorf("write its tables: %w", err)
		}
	}
	if len(b.Events) > 0 {
		if _, err := tx.Exec(ctx, `
			INSERT INTO task_events (task_id, number, at, kind, phase, object, message)
			SELECT $1, $2 + n - 1, at, kind, phase, object, message
			FROM   unnest($3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::jsonb[])
			       WITH ORDINALITY e (at, kind, phase, object, message, n)
			ON CONFLICT DO NOTHING`,
			append([]any{b.Task, b.Event}, eventColumns(b.Events)...)...); err != nil {
			return fmt.Errorf("write its log: %w", err)
		}
	}
	return notify(ctx, tx, changedChannel, b.Task)
}

func tableColumns(tables []report.TableState) []any {
	n := len(tables)
	relations, statuses := make([]string, n), make([]string, n)
	rows, volumes, sizes := make([]int64, n), make([]int64, n), make([]int64, n)
	built, toBuild := make([]int, n), make([]int, n)
	for i, t := range tables {
		relations[i], statuses[i] = clean(t.Relation), string(t.Status)
		rows[i], volumes[i], sizes[i] = max(t.Rows, 0), max(t.Bytes, 0), max(t.Size, 0)
		built[i], toBuild[i] = t.Built, t.ToBuild
	}
	return []any{relations, statuses, rows, volumes, sizes, built, toBuild}
}

func eventColumns(events []report.Event) []any {
	n := len(events)
	at := make([]time.Time, n)
	kinds, phases, objects, messages := make([]string, n), make([]string, n), make([]string, n), make([]cleanJSON, n)
	for i, e := range events {
		at[i], kinds[i], phases[i], objects[i], messages[i] = e.At, string(e.Kind), string(e.Phase), clean(e.Object), cleanJSON{e.Text}
	}
	return []any{at, kinds, phases, objects, messages}
}

// lostIfNone: no row means that the run has its job no more.
func lostIfNone(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return runner.ErrLost
	}
	return err
}

// share is between 0 and 1, whatever the engine has reckoned.
func share(p report.Progress) float64 {
	if p.Done >= 0 && p.Done <= 1 {
		return p.Done
	}
	return 0
}

// unwritable marks errors that another try would only bring again: wrong data, a broken constraint, too much of it.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func unwritable(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && len(pg.Code) == 5 && slices.Contains([]string{"22", "23", "54"}, pg.Code[:2]) {
		return fmt.Errorf("%w: %w", runner.ErrUnwritable, err)
	}
	return err
}

// cleanJSON is a value whose texts, as JSON, are made ones that PostgreSQL takes.
type cleanJSON struct{ of any }

// MarshalJSON makes another character of each zero byte.
func (c cleanJSON) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(c.of)
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(text[i:], []byte(`\u0000`)) {
			copy(text[i:], `\ufffd`)
		}
		i++ // what a backslash escapes begins nothing
	}
	return text, err
}

// clean makes a text of a strange server one that PostgreSQL takes.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "�")
}
