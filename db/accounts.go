package db

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
)

// Users returns all users, the oldest first.
func (s *Store) Users(ctx context.Context) ([]jobs.User, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT   u.id, u.email, u.role, u.created_at, max(s.last_seen_at)
		FROM     users u
		LEFT     JOIN sessions s ON s.user_id = u.id
		GROUP BY u.id
		ORDER BY u.id`) // Query's error is the one of the rows
	users, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (jobs.User, error) {
		var u jobs.User
		var seen *time.Time
		err := row.Scan(&u.ID, &u.Email, &u.Role, &u.CreatedAt, &seen)
		if seen != nil {
			u.LastSeenAt = *seen
		}
		return u, err
	})
	return users, explain("list users", err)
}

// HasUsers tells whether anybody is there yet.
func (s *Store) HasUsers(ctx context.Context) (bool, error) {
	var has bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM users)`).Scan(&has)
	return has, explain("look for users", err)
}

// UserByEmail returns a user. Upper and lower case are the same.
func (s *Store) UserByEmail(ctx context.Context, email string) (jobs.User, error) {
	u, _, err := s.Credentials(ctx, email)
	return u, err
}

// Credentials returns a user with the hash of the password, which is empty for someone who has none.
func (s *Store) Credentials(ctx context.Context, email string) (u jobs.User, hash string, err error) {
	err = s.pool.QueryRow(ctx, `
		SELECT id, email, role, created_at, coalesce(password_hash, '')
		FROM   users
		WHERE  lower(email) = lower($1)`, email).
		Scan(&u.ID, &u.Email, &u.Role, &u.CreatedAt, &hash)
	return u, hash, explain("find the user", err)
}

// AddUser makes a user. An empty hash is no password. The error for an address that is taken is jobs.ErrTaken.
func (s *Store) AddUser(ctx context.Context, email string, role jobs.Role, hash string) (jobs.User, error) {
	u, err := addUser(ctx, s.pool, email, role, hash)
	return u, explain("add a user", err)
}

// RemoveUser removes a user with all sessions and links, and with the saved databases that nobody else sees. The last
// admin stays, and so does someone with such a database that a job uses: that is a jobs.ErrConflict.
func (s *Store) RemoveUser(ctx context.Context, id int64) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		// Whoever removes another admin at the same time waits here.
		rows, _ := tx.Query(ctx, `SELECT id FROM users WHERE role = 'admin' ORDER BY id FOR UPDATE`)
		admins, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		if len(admins) == 1 && admins[0] == id {
			return fmt.Errorf("the last admin stays: %w", jobs.ErrConflict)
		}
		if err := removePrivate(ctx, tx, id); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM users WHERE id = $1`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = jobs.ErrNotFound
		}
		return err
	})
	return explain("remove the user", err)
}

// removePrivate removes the saved databases that only their owner sees.
func removePrivate(ctx context.Context, tx pgx.Tx, ownerID int64) error {
	rows, _ := tx.Query(ctx, `SELECT id FROM connections WHERE owner_id = $1 AND NOT shared ORDER BY id FOR UPDATE`, ownerID)
	private, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, id := range private {
		if err := checkUnused(ctx, tx, id); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `DELETE FROM connections WHERE id = any($1)`, private)
	return err
}

// SetPassword changes a user's password and ends all sessions of the user but one, which may be 0 for none.
func (s *Store) SetPassword(ctx context.Context, userID int64, hash string, keepSession int64) error {
	return explain("change the password", s.inTx(ctx, func(tx pgx.Tx) error {
		return setPassword(ctx, tx, userID, hash, keepSession)
	}))
}

// execer is a pool or a transaction.
type execer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func addUser(ctx context.Context, on execer, email string, role jobs.Role, hash string) (u jobs.User, err error) {
	err = on.QueryRow(ctx, `
		INSERT INTO users (email, role, password_hash)
		VALUES            ($1,    $2,   nullif($3, ''))
		RETURNING id, email, role, created_at`, email, role, hash).
		Scan(&u.ID, &u.Email, &u.Role, &u.CreatedAt)
	return u, err
}

func setPassword(ctx context.Context, tx pgx.Tx, userID int64, hash string, keepSession int64) error {
	tag, err := tx.Exec(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1`, userID, hash)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return jobs.ErrNotFound
	}
	if _, err = tx.Exec(ctx, `DELETE FROM sessions WHERE user_id = $1 AND id <> $2`, userID, keepSession); err != nil {
		return err
	}
	// A link that somebody else may hold is worth a password.
	_, err = tx.Exec(ctx, `UPDATE links SET used_at = now() WHERE user_id = $1 AND used_at IS NULL`, userID)
	return err
}

// Attempts to sign in: the first few are free, then each waits twice as long as the one before.
const (
	freeAttempts  = 5
	longestWait   = 5 * time.Minute
	attemptsForgo = 24 * time.Hour // forgotten after this time
	attemptsLock  = 0x7369676e     // sign: keeps these locks apart from others
)

// AttemptSignIn counts an attempt to sign in to an account, before the password is looked at, so that attempts at the
// same time are counted too. It returns how long to wait where there were too many; then nothing may be tried. Those from a
// browser that is known to be the account's are counted by themselves (from is what tells it from others), so that strangers
// do not lock out its owner; all others are counted together, with an empty from.
func (s *Store) AttemptSignIn(ctx context.Context, email, from string) (wait time.Duration, err error) {
	var seconds float64
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		// One at a time for an account, or the statement would not see what those beside it count.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), $2))`, account(email, from), attemptsLock); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			WITH counted AS (
				INSERT INTO signin_attempts AS a (account, attempts, last_at,               next_at)
				VALUES                           ($1,      1,        statement_timestamp(), statement_timestamp())
				ON CONFLICT (account) DO UPDATE
				SET    attempts = CASE WHEN a.last_at < excluded.last_at - $4::interval THEN 1 ELSE a.attempts + 1 END,
				       last_at  = excluded.last_at,
				       next_at  = excluded.next_at +
				                  CASE WHEN a.last_at < excluded.last_at - $4::interval OR a.attempts + 1 < $2 THEN interval '0'
				                       ELSE least(interval '1 second' * 2 ^ least(a.attempts + 1 - $2, 20), $3::interval) END
				WHERE  a.next_at <= excluded.next_at
				RETURNING 0::float8 AS seconds
			)
			SELECT seconds FROM counted
			UNION ALL
			SELECT extract(epoch FROM next_at - statement_timestamp())::float8
			FROM   signin_attempts
			WHERE  account = $1
			AND    next_at > statement_timestamp()
			LIMIT  1`, account(email, from), freeAttempts, longestWait, attemptsForgo).Scan(&seconds)
	})
	return time.Duration(seconds * float64(time.Second)), explain("count the attempt to sign in", err)
}

// ForgiveSignIn forgets the attempts on an account from there, after one that was right.
func (s *Store) ForgiveSignIn(ctx context.Context, email, from string) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM signin_attempts WHERE account = $1`, account(email, from))
	return explain("forget the attempts to sign in", err)
}

func account(email, from string) []byte {
	of := strings.ToLower(email)
	if from != "" {
		of += "\x00" + from
	}
	sum := sha256.Sum256([]byte(of))
	return sum[:]
}

// KnowBrowser returns a token by which IsKnown knows a browser again in which somebody has signed in to an account.
func (s *Store) KnowBrowser(email string) string {
	token := rand.Text()
	return token + "." + s.browserSeal(email, token)
}

// IsKnown tells whether a token is of a browser in which somebody has signed in to the account.
func (s *Store) IsKnown(email, browser string) bool {
	token, seal, _ := strings.Cut(browser, ".")
	return s.key != (Key{}) && hmac.Equal([]byte(seal), []byte(s.browserSeal(email, token)))
}

func (s *Store) browserSeal(email, token string) string {
	sum := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(sum, "browser\x00%s\x00%s", strings.ToLower(email), token)
	return hex.EncodeToString(sum.Sum(nil))
}
