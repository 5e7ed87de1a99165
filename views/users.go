package views

import (
	"context"
	"time"
)

// UsersPageProps are what the page of the users shows.
type UsersPageProps struct {
	Users       []UserRow
	Invitations []InvitationRow
	Form        InviteForm
	New         *NewLink // a link that was just made, and is shown this once
}

// UserRow is a user in the list.
type UserRow struct {
	ID       int64
	Email    string
	Admin    bool
	LastSeen time.Time // zero for never
	You      bool
}

// InvitationRow is someone who was invited and has not come yet.
type InvitationRow struct {
	ID      int64
	Email   string
	Admin   bool
	Expires time.Time
}

// InviteForm is what was typed to invite somebody.
type InviteForm struct {
	Email  string
	Admin  bool
	Errors Errors
}

// NewLink is a one-time link for somebody.
type NewLink struct {
	Email   string
	URL     string
	Reset   bool // a new password for a user, and not an invitation
	Expires time.Time
}

func newLinkTitle(ctx context.Context, l NewLink) string {
	if l.Reset {
		return T(ctx, "users.new.reset")
	}
	return T(ctx, "users.new.invite")
}
