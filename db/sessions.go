package db

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
)

// A session ends after a month, or after a week in which nobody used it.
const (
	sessionLife = 30 * 24 * time.Hour
	sessionIdle = 7 * 24 * time.Hour
	maxAgent    = 400 // characters
)

// StartSession signs a user in and returns the token that the browser shows from then on, and when it ends at the latest.
func (s *Store) StartSession(ctx context.Context, userID int64, from jobs.Client) (jobs.Token, time.Time, error) {
	token := jobs.NewToken()
	agent := []rune(strings.ToValidUTF8(strings.ReplaceAll(from.Agent, "\x00", ""), "�"))
	var until time.Time
	err := s.pool.QueryRow(ctx, `
		INSERT INTO sessions (token_hash, user_id, expires_at,          address, agent)
		VALUES               ($1,         $2,      now() + $3::interval, $4,      $5)
		RETURNING expires_at`, token.Hash(), userID, sessionLife, from.Address, string(agent[:min(len(agent), maxAgent)])).
		Scan(&until)
	return token, until, explain("start a session", err)
}

// Session returns the session of a token, and notes that it was seen. The error for one that is unknown or over is
// jobs.ErrNotFound.
func (s *Store) Session(ctx context.Context, token jobs.Token) (se jobs.Session, err error) {
	err = s.pool.QueryRow(ctx, `
		SELECT s.id, s.created_at, s.last_seen_at, s.address, s.agent, u.id, u.email, u.role, u.created_at
		FROM   sessions s
		JOIN   users u ON u.id = s.user_id
		WHERE  `+liveSession, token.Hash(), sessionIdle).
		Scan(&se.ID, &se.CreatedAt, &se.LastSeenAt, &se.Address, &se.Agent, &se.User.ID, &se.User.Email, &se.User.Role, &se.User.CreatedAt)
	if err != nil {
		return se, explain("find the session", err)
	}
	if time.Since(se.LastSeenAt) < time.Minute {
		return se, nil
	}
	_, err = s.pool.Exec(ctx, `
		UPDATE sessions
		SET    last_seen_at = now()
		WHERE  id = $1
		AND    last_seen_at < now() - interval '1 minute'`, se.ID)
	return se, explain("note that the session was seen", err)
}

// liveSession is the condition for the session s that has the token with hash $1, unless it was idle for as long as $2.
const liveSession = `s.token_hash = $1 AND s.expires_at > now() AND s.last_seen_at > now() - $2::interval`

// CheckSession returns jobs.ErrNotFound where a token has no session any more. Nobody counts as seen by it.
func (s *Store) CheckSession(ctx context.Context, token jobs.Token) error {
	var here int
	return explain("look for the session", s.pool.QueryRow(ctx, `SELECT 1 FROM sessions s WHERE `+liveSession, token.Hash(), sessionIdle).Scan(&here))
}

// Sessions returns a user's sessions, the one seen last first.
func (s *Store) Sessions(ctx context.Context, userID int64) ([]jobs.Session, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT   id, created_at, last_seen_at, address, agent
		FROM     sessions
		WHERE    user_id = $1
		AND      expires_at > now()
		AND      last_seen_at > now() - $2::interval
		ORDER BY last_seen_at DESC, id DESC`, userID, sessionIdle)
	sessions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (se jobs.Session, err error) {
		err = row.Scan(&se.ID, &se.CreatedAt, &se.LastSeenAt, &se.Address, &se.Agent)
		return se, err
	})
	return sessions, explain("list sessions", err)
}

// EndSession signs a user out of one browser. The error for a session of somebody else is jobs.ErrNotFound.
func (s *Store) EndSession(ctx context.Context, userID, sessionID int64) error {
	tag, err := s.pool.Exec(ctx, `DELETE FROM sessions WHERE id = $1 AND user_id = $2`, sessionID, userID)
	if err == nil && tag.RowsAffected() == 0 {
		err = jobs.ErrNotFound
	}
	return explain("end the session", err)
}

// Sweep removes what is over: sessions, links and counters.
func (s *Store) Sweep(ctx context.Context) error {
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM sessions WHERE expires_at < now() OR last_seen_at < now() - $1::interval`, sessionIdle)
	batch.Queue(`DELETE FROM links WHERE expires_at < now() OR used_at < now() - interval '1 day'`)
	batch.Queue(`DELETE FROM signin_attempts WHERE last_at < now() - $1::interval`, attemptsForgo)
	return explain("remove what is over", s.pool.SendBatch(ctx, batch).Close())
}
