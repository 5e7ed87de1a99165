package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/cloner/jobs"
)

// linkLife is how long a one-time link is good for.
var linkLife = map[jobs.LinkKind]time.Duration{
	jobs.LinkSetup:  24 * time.Hour,
	jobs.LinkInvite: 7 * 24 * time.Hour,
	jobs.LinkSignIn: 24 * time.Hour,
	jobs.LinkReset:  24 * time.Hour,
}

// setupLock keeps two set-up links from making a first user each.
const setupLock = 0x63616c636f // calco

// NewSetupLink makes the link for the first visit.
func (s *Store) NewSetupLink(ctx context.Context) (jobs.Token, error) {
	return s.newLink(ctx, `
		INSERT INTO links (token_hash, kind,    role,    expires_at)
		VALUES            ($1,         'setup', 'admin', now() + $2::interval)`, jobs.LinkSetup)
}

// Invite makes a link with which somebody becomes a user. An earlier one for the same address ends. The error for
// somebody who is a user is jobs.ErrTaken.
func (s *Store) Invite(ctx context.Context, email string, role jobs.Role) (jobs.Token, error) {
	if _, err := s.UserByEmail(ctx, email); !errors.Is(err, jobs.ErrNotFound) {
		if err == nil {
			err = fmt.Errorf("invite: %w", jobs.ErrTaken)
		}
		return "", err
	}
	return s.newLink(ctx, `
		WITH earlier AS (
			DELETE FROM links WHERE kind = 'invite' AND lower(email) = lower($3) AND used_at IS NULL
		)
		INSERT INTO links (token_hash, kind,     email, role, expires_at)
		VALUES            ($1,         'invite', $3,    $4,   now() + $2::interval)`, jobs.LinkInvite, email, role)
}

// NewUserLink makes a link for a user: jobs.LinkSignIn or jobs.LinkReset. The error for nobody is jobs.ErrNotFound.
func (s *Store) NewUserLink(ctx context.Context, kind jobs.LinkKind, userID int64) (jobs.Token, error) {
	return s.newLink(ctx, `
		INSERT INTO links (token_hash, kind, user_id, expires_at)
		SELECT             $1,         $3,   id,      now() + $2::interval
		FROM   users
		WHERE  id = $4`, kind, kind, userID)
}

func (s *Store) newLink(ctx context.Context, sql string, kind jobs.LinkKind, more ...any) (jobs.Token, error) {
	token := jobs.NewToken()
	tag, err := s.pool.Exec(ctx, sql, append([]any{token.Hash(), linkLife[kind]}, more...)...)
	if err == nil && tag.RowsAffected() == 0 {
		err = jobs.ErrNotFound
	}
	return token, explain("make a link", err)
}

// Link returns a link that is still good, and leaves it so. The error for any other is jobs.ErrUsedUp.
func (s *Store) Link(ctx context.Context, token jobs.Token) (jobs.Link, error) {
	l, _, err := findLink(ctx, s.pool, token, "")
	return l, err
}

// Invitations returns the invitations that nobody has used yet.
func (s *Store) Invitations(ctx context.Context) ([]jobs.Link, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT   id, kind, email, role, created_at, expires_at
		FROM     links
		WHERE    kind = 'invite'
		AND      used_at IS NULL
		AND      expires_at > now()
		ORDER BY id`)
	links, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l jobs.Link, err error) {
		err = row.Scan(&l.ID, &l.Kind, &l.Email, &l.Role, &l.CreatedAt, &l.ExpiresAt)
		return l, err
	})
	return links, explain("list invitations", err)
}

// Uninvite takes an invitation back.
func (s *Store) Uninvite(ctx context.Context, linkID int64) error {
	tag, err := s.pool.Exec(ctx, `DELETE FROM links WHERE id = $1 AND kind = 'invite' AND used_at IS NULL`, linkID)
	if err == nil && tag.RowsAffected() == 0 {
		err = jobs.ErrNotFound
	}
	return explain("take the invitation back", err)
}

// UseLink uses a link up and does what it is good for: it makes the user of a set-up or an invitation, or gives a user
// a new password. It returns the user. The e-mail address counts for a set-up only, the hash for all but a sign-in. The
// error for a link that is no longer good is jobs.ErrUsedUp, and then nothing was done.
func (s *Store) UseLink(ctx context.Context, token jobs.Token, email, hash string) (u jobs.User, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		link, userID, err := findLink(ctx, tx, token, "FOR UPDATE OF l")
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE links SET used_at = now() WHERE id = $1`, link.ID); err != nil {
			return err
		}
		switch link.Kind {
		case jobs.LinkSetup:
			u, err = addFirstUser(ctx, tx, email, hash)
			return err
		case jobs.LinkInvite:
			u, err = addUser(ctx, tx, link.Email, link.Role, hash)
			return err
		case jobs.LinkReset:
			if err := setPassword(ctx, tx, userID, hash, 0); err != nil {
				return err
			}
		case jobs.LinkSignIn:
		}
		return tx.QueryRow(ctx, `SELECT id, email, role, created_at FROM users WHERE id = $1`, userID).
			Scan(&u.ID, &u.Email, &u.Role, &u.CreatedAt)
	})
	return u, explain("use the link", err)
}

// addFirstUser refuses with jobs.ErrUsedUp when somebody was faster.
func addFirstUser(ctx context.Context, tx pgx.Tx, email, hash string) (u jobs.User, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, setupLock); err != nil {
		return u, err
	}
	var has bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM users)`).Scan(&has); err != nil {
		return u, err
	}
	if has {
		return u, jobs.ErrUsedUp
	}
	return addUser(ctx, tx, email, jobs.RoleAdmin, hash)
}

// findLink returns a link that is still good, and the user it is for, or 0.
func findLink(ctx context.Context, on execer, token jobs.Token, lock string) (l jobs.Link, userID int64, err error) {
	err = on.QueryRow(ctx, `
		SELECT l.id, l.kind, coalesce(l.email, u.email, ''), coalesce(l.role, ''), l.created_at, l.expires_at, coalesce(u.id, 0)
		FROM   links l
		LEFT   JOIN users u ON u.id = l.user_id
		WHERE  l.token_hash = $1
		AND    l.used_at IS NULL
		AND    l.expires_at > now()
		AND    NOT (l.kind = 'setup' AND EXISTS (SELECT FROM users)) `+lock, token.Hash()).
		Scan(&l.ID, &l.Kind, &l.Email, &l.Role, &l.CreatedAt, &l.ExpiresAt, &userID)
	if errors.Is(err, pgx.ErrNoRows) {
		err = jobs.ErrUsedUp
	}
	return l, userID, explain("find the link", err)
}
