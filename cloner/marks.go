package cloner

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// calcoSchema is the schema on the target in which a job keeps what it has done. It is
// the first thing a job writes there and the last it drops.
const calcoSchema = "_calco"

// A mark is committed with the part it stands for, so it alone says what is there. The
// nonce tells this run's row from one in a physical copy of the target.
const createMarks = `
	CREATE SCHEMA _calco;
	CREATE TABLE _calco.job (
		id         text PRIMARY KEY,
		term       bigint NOT NULL,
		nonce      text NOT NULL,
		started_at timestamptz NOT NULL DEFAULT now(),
		status     text
	);
	CREATE TABLE _calco.mark (
		relation  text NOT NULL,
		part      int NOT NULL,
		rows      bigint NOT NULL,
		xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
		marked_at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (relation, part)
	);
	REVOKE ALL ON SCHEMA _calco FROM PUBLIC`

// claim makes the target this job's: it ends what is left of an interrupted job,
// writes the job's row, and makes sure that the source does not show it too. The source
// has been read by now, and its schema dumped.
func (r *run) claim(ctx context.Context) error {
	reasons, err := r.checkContents(ctx) // time has passed since preflight
	if err != nil || len(reasons) > 0 {
		return errors.Join(err, refuse(reasons...))
	}
	if err := r.endInterrupted(ctx); err != nil {
		return err
	}
	if err := r.dropMarks(ctx); err != nil {
		return err
	}
	r.nonce = NewJob()
	insert := fmt.Sprintf("INSERT INTO _calco.job (id, term, nonce) VALUES (%s, %d, %s)",
		quoteLiteral(r.spec.Job), r.spec.Term, quoteLiteral(r.nonce))
	if err := r.control.exec(ctx, createMarks+"; "+insert); err != nil {
		return fmt.Errorf("write the job to the target: %w", err)
	}
	r.claimed = true
	same, err := r.findsMarker(ctx)
	if err != nil {
		return err
	}
	if same {
		if err := r.dropMarks(ctx); err != nil {
			return err
		}
		return refuse(Reason{
			Code: ReasonSameDatabase, Side: Target,
			Text: fmt.Sprintf("Source and target are the same database, %s.", r.spec.Target), Hint: "Choose another target.",
		})
	}
	r.fence = fmt.Sprintf(`SELECT 1 / (SELECT count(*)::int FROM (SELECT FROM _calco.job WHERE id = %s AND term = %d FOR SHARE) own)`,
		quoteLiteral(r.spec.Job), r.spec.Term)
	r.control.fence = r.fence
	return nil
}

// endInterrupted ends the backends of a job that left its schema behind, and waits until
// they are gone, since a dead client's transaction may still commit. That job is dead:
// this one has its lock.
func (r *run) endInterrupted(ctx context.Context) error {
	left, err := one[bool](ctx, r.control, `SELECT to_regnamespace('_calco') IS NOT NULL`)
	if err != nil || !left {
		return err
	}
	jobs, err := collect[struct{ ID string }](ctx, r.control, `SELECT id FROM _calco.job`)
	if err != nil && sqlState(err) != "42P01" {
		return fmt.Errorf("read the interrupted job: %w", err)
	}
	for _, j := range jobs {
		if err := endBackends(ctx, r.control, fmt.Sprintf("calco/%s/", j.ID)); err != nil {
			return fmt.Errorf("end the interrupted job: %w", err)
		}
	}
	return nil
}

// endBackends ends all other backends in this database that have this application_name,
// or one that begins with it if it ends in a slash, and returns when they are gone.
func endBackends(ctx context.Context, s *session, name string) error {
	for {
		left, err := one[int](ctx, s, `
			SELECT count(pg_terminate_backend(pid))
			FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()
			  AND (application_name = $1 OR right($1, 1) = '/' AND starts_with(application_name, $1))`, name)
		if err != nil || left == 0 {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// countMarks makes the meter count what is on the target of a clone that ended early: a part may have been committed
// while the answer did not come any more.
func (r *run) countMarks(ctx context.Context, s *session) error {
	type mark struct {
		Relation string
		Rows     int64
	}
	marks, err := collect[mark](ctx, s, `
		SELECT relation, sum(rows)::bigint AS rows
		FROM _calco.mark
		WHERE EXISTS (SELECT FROM _calco.job WHERE nonce = $1)
		GROUP BY relation`, r.nonce)
	if err != nil {
		return fmt.Errorf("read the marks: %w", err)
	}
	byRelation := map[string]int64{}
	for _, t := range r.plan.tables {
		byRelation[t.relation()] = t.OID
	}
	for _, m := range marks {
		r.meter.arrived(byRelation[m.Relation], m.Rows)
	}
	return nil
}

// recordStatus writes the outcome beside the marks, and waits for the disk: with it all
// that was committed before is safe too.
func (r *run) recordStatus(ctx context.Context, s *session, status Status) error {
	return s.write(ctx, fmt.Sprintf("SET LOCAL synchronous_commit = on; UPDATE _calco.job SET status = %s WHERE id = %s",
		quoteLiteral(string(status)), quoteLiteral(r.spec.Job)))
}

func (r *run) dropMarks(ctx context.Context) error {
	r.control.fence = ""
	if err := r.control.exec(ctx, "SET synchronous_commit = on; DROP SCHEMA IF EXISTS _calco CASCADE"); err != nil {
		return fmt.Errorf("drop the job's schema on the target: %w", err)
	}
	r.claimed = false
	return nil
}

// write runs one query of the job on the target, after checking its term.
func (s *session) write(ctx context.Context, sql string) error {
	errs, err := s.pipeline(ctx, []string{sql})
	return errors.Join(err, errs[0])
}
