package marks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// backendsOf is what the application_name of all backends of a job begins with.
func backendsOf(job string) string { return fmt.Sprintf("calco/%s/", job) }

// EndBackends ends all other backends in this database that have this application_name,
// or one that begins with it if it ends in a slash, and returns when they are gone.
func EndBackends(ctx context.Context, s *session.Session, name string) error {
	return endWhere(ctx, s, "(application_name = $1 OR right($1, 1) = '/' AND starts_with(application_name, $1))", name)
}

// endOthers ends the backends of a job but those of one run of it.
func endOthers(ctx context.Context, s *session.Session, job Job) error {
	return endWhere(ctx, s, "starts_with(application_name, $1) AND application_name <> "+session.QuoteLiteral(job.ApplicationName()), backendsOf(job.ID))
}

// EndBackend ends one backend of ours, and returns when it is gone. Until then its transaction may still commit.
func EndBackend(ctx context.Context, s *session.Session, pid int) error {
	return endWhere(ctx, s, "pid = $1 AND starts_with(application_name, 'calco/')", pid)
}

// endPatience is how long a backend may take to end. One that is stuck in the kernel does not hear of it.
const endPatience = 30 * time.Second

func endWhere(ctx context.Context, s *session.Session, which string, arg any) error {
	for begun := time.Now(); ; {
		left, err := session.QueryValue[int](ctx, s, `
			SELECT count(pg_terminate_backend(pid))
			FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND `+which, arg)
		if err != nil || left == 0 {
			return err
		}
		if time.Since(begun) > endPatience {
			return &session.LostError{Side: s.Side, Err: errStuck, Text: report.Said(fmt.Sprintf("An earlier backend of this clone on the %s does not end.", s.Side))}
		}
		if err := session.Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

var errStuck = errors.New("a backend does not end")
