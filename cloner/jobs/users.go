package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
)

// UserStore keeps who can sign in, and who is invited to. Who or what is not there is ErrNotFound.
type UserStore interface {
	Users(context.Context) ([]User, error)
	// UserByEmail returns a user. Upper and lower case are the same.
	UserByEmail(ctx context.Context, email string) (User, error)
	Invitations(context.Context) ([]Link, error)
	// Invite makes a link with which somebody becomes a user. The error for somebody who is one is ErrTaken.
	Invite(ctx context.Context, email string, role Role) (Token, error)
	Uninvite(ctx context.Context, linkID int64) error
	NewUserLink(ctx context.Context, kind LinkKind, userID int64) (Token, error)
	// RemoveUser removes a user with all that nobody else sees. The error for the last admin, and for somebody with a private
	// database that a job uses, is ErrConflict.
	RemoveUser(ctx context.Context, id int64) error
}

// ErrNoEmail is the error for what is no e-mail address.
var ErrNoEmail = errors.New("it is no e-mail address")

// IsEmail tells whether something is an e-mail address, without a name beside it. It has no space of any kind, and
// nothing that cannot be seen: the state database takes none, and two addresses that look alike would be two people.
func IsEmail(email string) bool {
	unseen := func(r rune) bool { return r == ' ' || r == '"' || !unicode.IsPrint(r) }
	a, err := mail.ParseAddress(email)
	return err == nil && a.Address == email && !strings.ContainsFunc(email, unseen) && len(email) <= 254
}

// mayManageUsers is MayManageUsers as an error.
func mayManageUsers(by User) error {
	if !MayManageUsers(by) {
		return ErrForbidden
	}
	return nil
}

// Users returns all users, the oldest first.
func (s *Service) Users(ctx context.Context, by User) ([]User, error) {
	if err := mayManageUsers(by); err != nil {
		return nil, err
	}
	return s.store.Users(ctx)
}

// UserByEmail returns a user. Upper and lower case are the same.
func (s *Service) UserByEmail(ctx context.Context, by User, email string) (User, error) {
	if err := mayManageUsers(by); err != nil {
		return User{}, err
	}
	return s.store.UserByEmail(ctx, email)
}

// Invitations returns the invitations that nobody has used yet.
func (s *Service) Invitations(ctx context.Context, by User) ([]Link, error) {
	if err := mayManageUsers(by); err != nil {
		return nil, err
	}
	return s.store.Invitations(ctx)
}

// Invite makes a link with which somebody becomes a user. An earlier one for the same address ends. The errors are ErrNoEmail,
// and ErrTaken for somebody who is a user.
func (s *Service) Invite(ctx context.Context, by User, email string, role Role) (Token, error) {
	if err := mayManageUsers(by); err != nil {
		return "", err
	}
	if !IsEmail(email) {
		return "", fmt.Errorf("invite: %w", ErrNoEmail)
	}
	return s.store.Invite(ctx, email, role)
}

// Uninvite takes an invitation back.
func (s *Service) Uninvite(ctx context.Context, by User, linkID int64) error {
	if err := mayManageUsers(by); err != nil {
		return err
	}
	return s.store.Uninvite(ctx, linkID)
}

// ResetPassword makes a link with which a user chooses a new password.
func (s *Service) ResetPassword(ctx context.Context, by User, userID int64) (Token, error) {
	if err := mayManageUsers(by); err != nil {
		return "", err
	}
	return s.store.NewUserLink(ctx, LinkReset, userID)
}

// RemoveUser removes a user with all sessions and links, and with the saved databases that nobody else sees. Who asks, the
// last admin, and someone with such a database that a job uses stay: that is ErrConflict.
func (s *Service) RemoveUser(ctx context.Context, by User, id int64) error {
	if err := mayManageUsers(by); err != nil {
		return err
	}
	if id == by.ID {
		return fmt.Errorf("somebody has to stay who can let others in: %w", ErrConflict)
	}
	return s.store.RemoveUser(ctx, id)
}
