package chaos

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// phases are those that a fault can strike in, in order.
var phases = []string{
	"preflight", "snapshot", "clean", "pre-data", "copy", "indexes", "constraints", "post-data", "sequences", "views", "analyze", "verify",
}

// activity asks the target which phases the statements are of that a job runs there.
func activity(job string) string {
	return fmt.Sprintf(`
		SELECT coalesce(string_agg(DISTINCT phase, ','), '')
		FROM   pg_stat_activity, (VALUES
		       ('pre-data', '^CREATE (SCHEMA|TABLE|FUNCTION|SEQUENCE)'), ('copy', 'COPY .* FROM STDIN'), ('indexes', 'CREATE (UNIQUE )?INDEX|PRIMARY KEY|UNIQUE \('),
		       ('constraints', 'EXCLUDE|FOREIGN KEY'), ('sequences', 'setval'), ('views', 'REFRESH MATERIALIZED'), ('analyze', '^ANALYZE'), ('verify', 'hashtext')
		       ) p (phase, pattern)
		WHERE  application_name LIKE 'calco/%s/%%' AND state = 'active' AND query ~ pattern`, job)
}

// place is where a phase comes in the order. What comes before all of them is -1.
func place(phase string) int { return slices.Index(phases, phase) }

// reached tells whether a job that is in some phases is in one of them, or beyond it.
func reached(now []string, phase string) bool {
	return slices.Contains(now, phase) || len(now) > 0 && place(now[0]) >= place(phase)
}

// awaitMoment waits until the job is in a phase, or beyond it, and then a while. It returns the phase in which it is then:
// empty when it has ended before.
func (r *round) awaitMoment(s strike) (job, phase string) {
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until) && !r.done.Load(); time.Sleep(20 * time.Millisecond) {
		if now, err := r.phasesNow(r.job()); err == nil && reached(now, s.phase) {
			break
		}
	}
	time.Sleep(s.delay)
	if r.done.Load() {
		return "", ""
	}
	job = r.job()
	now, err := r.phasesNow(job)
	switch {
	case err != nil:
		return job, "unknown" // the state server is away
	case len(now) == 0:
		return job, ""
	case slices.Contains(now, s.phase):
		return job, s.phase
	default:
		return job, now[0]
	}
}

// ownerPID returns the process that has claimed the job, by its name.
func (w *world) ownerPID(job string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.state.at(stateDatabase))
	if err != nil {
		return 0
	}
	defer conn.Close(ctx) //nolint:errcheck // it has answered
	var name string
	if err := conn.QueryRow(ctx, `SELECT coalesce(worker, '') FROM background_tasks WHERE id = $1`, job).Scan(&name); err != nil {
		return 0
	}
	for part := range strings.SplitSeq(name, "/") { // host/pid/random
		if pid, err := strconv.Atoi(part); err == nil {
			return pid
		}
	}
	return 0
}

func (w *world) withPID(pid int) *process {
	for _, p := range w.living() {
		if p.cmd.Process.Pid == pid {
			return p
		}
	}
	return nil
}
