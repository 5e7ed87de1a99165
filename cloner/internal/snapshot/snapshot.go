package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"calco/cloner/internal/session"
)

// PingEvery is well below what NAT tables and idle proxies allow a silent connection.
const PingEvery = 30 * time.Second

// Snapshot is the one exported snapshot of the source that a clone copies: held by two
// sessions that never copy, so that the death of one does not lose it. A transaction
// that imported a snapshot can export it again under another name, and everything
// imports from a holder that lives.
//
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
type Snapshot struct {
	dial      func(context.Context) (*session.Session, error)
	Nonce     string    // of its epoch on the target
	At        time.Time // by the source's clock
	Xmin      int64     // the oldest transaction that was running, or the next one
	Xmax      int64     // the next one
	InsertLSN string    // of the WAL when it was taken; "" where nobody may know, for the reason in NoLSN
	NoLSN     error     // why it is not known

	refreshing sync.Mutex // held by the one caller of refresh that uses the holders

	mu      sync.Mutex
	holders []holder
}

// holder is a session with the snapshot, and the name it exported it under.
type holder struct {
	session *session.Session
	name    string
}

// Take exports a new snapshot and holds it twice.
func Take(ctx context.Context, dial func(context.Context) (*session.Session, error)) (*Snapshot, error) {
	s := &Snapshot{dial: dial, Nonce: rand.Text()}
	if err := s.hold(ctx, ""); err != nil {
		return nil, err
	}
	if err := s.hold(ctx, s.Name()); err != nil {
		s.Release()
		return nil, err
	}
	found, err := session.QueryRow[struct {
		At         time.Time
		Xmin, Xmax int64
	}](ctx, s.holders[0].session, `
		SELECT now() AS at, pg_snapshot_xmin(s)::text::bigint AS xmin, pg_snapshot_xmax(s)::text::bigint AS xmax FROM pg_current_snapshot() s`)
	if err != nil {
		s.Release()
		return nil, fmt.Errorf("read the time of the snapshot: %w", err)
	}
	s.At, s.Xmin, s.Xmax = found.At, found.Xmin, found.Xmax
	// A standby has no WAL of its own, and some services do not tell: then the snapshot proves nothing later. The
	// question is asked outside of the holders, whose transactions must not fail.
	if err := s.readLSN(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) readLSN(ctx context.Context) error {
	c, err := s.dial(ctx)
	if err != nil {
		s.Release()
		return err
	}
	defer c.Close()
	s.InsertLSN, s.NoLSN = session.QueryValue[string](ctx, c, `SELECT pg_current_wal_insert_lsn()::text`)
	if s.NoLSN != nil && session.Classify(s.NoLSN).Ends() {
		s.Release()
		return fmt.Errorf("read the position of the source: %w", s.NoLSN)
	}
	return nil
}

// IsDurable tells whether what the snapshot saw is on the source's disk: the ends of all transactions that were over then.
// After a crash before that, the source gives their numbers to others, and some of their rows are gone.
func (s *Snapshot) IsDurable(ctx context.Context, asking *session.Session) (bool, error) {
	if s.InsertLSN == "" {
		return false, nil
	}
	return session.QueryValue[bool](ctx, asking, `SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn`, s.InsertLSN)
}

// hold opens one more holder, of the named snapshot or, without a name, of a new one.
func (s *Snapshot) hold(ctx context.Context, from string) error {
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	begin := beginReadOnly
	if from != "" {
		begin = BeginAt(from)
	}
	name, err := c.SimpleValue(ctx, begin+"; SELECT pg_export_snapshot()")
	if err != nil {
		c.Close()
		return fmt.Errorf("export snapshot: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders = append(s.holders, holder{session: c, name: name})
	return nil
}

const beginReadOnly = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// BeginAt begins a transaction that sees exactly what the snapshot sees.
func BeginAt(snapshot string) string {
	return beginReadOnly + "; SET TRANSACTION SNAPSHOT " + session.QuoteLiteral(snapshot)
}

// Name is the snapshot's name to import it by; "" when no holder is left.
func (s *Snapshot) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.holders) == 0 {
		return ""
	}
	return s.holders[0].name
}

// KeepAlive pings the holders every so often until ctx ends, and replaces one that has died from the one
// that is left. It returns an error when the snapshot is lost, and nil when ctx ends.
func (s *Snapshot) KeepAlive(ctx context.Context, every time.Duration) error {
	for {
		if session.Pause(ctx, every) != nil {
			return nil
		}
		if err := s.Refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// Importing calls do with the name to import the snapshot by. Should that name have died
// with its holder, do is called once more with that of another holder.
func (s *Snapshot) Importing(ctx context.Context, do func(name string) error) error {
	name := s.Name()
	err := do(name)
	switch session.SQLState(err) {
	case session.InvalidParameterValue, session.NoObject: // invalid snapshot identifier; in version 18, there is none of that name
	default:
		return err
	}
	if lost := s.Refresh(ctx); lost != nil {
		return lost
	}
	if s.Name() == name {
		return err // it is about something else
	}
	return do(s.Name())
}

// Begin begins a transaction of a session that sees what the snapshot sees, whatever was left of another one.
func (s *Snapshot) Begin(ctx context.Context, on *session.Session) error {
	err := s.Importing(ctx, func(name string) error {
		return errors.Join(on.Exec(ctx, "ROLLBACK"), on.Exec(ctx, BeginAt(name)))
	})
	if err != nil {
		return fmt.Errorf("import snapshot: %w", err)
	}
	return nil
}

// Refresh pings each holder once and brings their number back to two. One is enough for
// now if no other can be had. When ctx ends, that says nothing of the holders: they stay, for
// whoever goes on with the snapshot. It is safe for concurrent use.
func (s *Snapshot) Refresh(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	s.mu.Lock()
	held := s.holders
	s.mu.Unlock()
	var alive []holder
	var lost error
	for _, h := range held {
		err := h.ping(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			lost = err
			h.session.Close()
			continue
		}
		alive = append(alive, h)
	}
	s.mu.Lock()
	s.holders = alive
	s.mu.Unlock()
	switch {
	case len(alive) == 0:
		return fmt.Errorf("%w: %w", session.ErrSnapshotLost, session.FirstError(lost, errNoHolder))
	case len(alive) < 2:
		_ = s.hold(ctx, s.Name()) // the next refresh tries again, or finds the other holder dead too
	}
	return nil
}

// ping asks for a sign of life. A ping under way is not cancelled with ctx, which would end the transaction with the
// snapshot: its answer is waited for a little longer.
func (h holder) ping(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		_ = session.Pause(asking, session.CancelPatience)
		cancel()
	})()
	return h.session.Ping(asking)
}

var errNoHolder = errors.New("no session holds it")

// Release lets the snapshot go. The source can clean up dead rows again.
func (s *Snapshot) Release() {
	s.mu.Lock()
	held := s.holders
	s.holders = nil
	s.mu.Unlock()
	sessions := make([]*session.Session, len(held))
	for i, h := range held {
		sessions[i] = h.session
	}
	session.CloseAll(sessions...)
}
