package db

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// The channels of NOTIFY. What they carry is the id of a job.
const (
	changedChannel = "calco_task"   // a job has changed
	cancelChannel  = "calco_cancel" // somebody wants a job cancelled
)

const (
	listenAgain = time.Second      // after the connection was lost
	listenProbe = 20 * time.Second // of silence, after which the connection is tried
)

// notify tells the processes that listen when the transaction commits, and not before.
func notify(ctx context.Context, tx pgx.Tx, channel, task string) error {
	_, err := tx.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, task)
	return err
}

// Listen calls changed with the id of each job that changes, and with "" when a change may have been missed: at the
// beginning, and when a lost connection is back. It blocks until ctx ends, and returns why it did.
func (s *Store) Listen(ctx context.Context, changed func(taskID string)) error {
	return s.listen(ctx, changedChannel, changed)
}

// ListenCancel implements runner.Store.
func (s *Store) ListenCancel(ctx context.Context, wake func(task string)) error {
	return s.listen(ctx, cancelChannel, wake)
}

func (s *Store) listen(ctx context.Context, channel string, tell func(string)) error {
	for said := ""; ctx.Err() == nil; {
		// Whatever ended it, the answer is to listen again. A pooler in front of the state database may never let it.
		err := s.listenOnce(ctx, channel, tell)
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			slog.WarnContext(ctx, "listening to the state database ended; it is tried again, and looked at now and then meanwhile", "channel", channel, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
	return context.Cause(ctx)
}

// listenOnce listens on a connection of its own until that is lost.
func (s *Store) listenOnce(ctx context.Context, channel string, tell func(string)) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // there is nothing left to say to it
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	tell("")
	for {
		waiting, done := context.WithTimeout(ctx, listenProbe)
		n, err := conn.WaitForNotification(waiting)
		silent := waiting.Err() != nil && ctx.Err() == nil
		done()
		switch {
		case err == nil:
			tell(n.Payload)
		case silent && !conn.IsClosed():
			// Nobody may be at the other end any more, and nothing would say so.
			probing, done := context.WithTimeout(ctx, listenAgain*5)
			err := conn.Ping(probing)
			done()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}
