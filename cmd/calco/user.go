package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"calco/db/state"
	"calco/web"
)

type userCommand struct {
	Add   userAddCommand   `cmd:"" help:"Invite a user: print a one-time link with which they choose a password."`
	Reset userResetCommand `cmd:"" help:"Print a one-time link with which a user chooses a new password."`
}

// linkFlags say where the state is, and what links begin with.
type linkFlags struct {
	stateFlags
	BaseURL *url.URL `name:"base-url" env:"CALCO_BASE_URL" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Where browsers reach Calco (${default})."`
}

type userAddCommand struct {
	linkFlags
	Email string `arg:"" help:"E-mail address."`
	Admin bool   `help:"May invite and remove users."`
}

// Run prints a link for somebody who is no user yet.
func (c *userAddCommand) Run(ctx context.Context, tty terminal) error {
	if !web.IsEmail(c.Email) {
		return usageError{fmt.Errorf("%q is no e-mail address", c.Email)}
	}
	role := state.RoleMember
	if c.Admin {
		role = state.RoleAdmin
	}
	return c.print(ctx, tty, state.LinkInvite, func(ctx context.Context, store linkStore) (state.Token, error) {
		token, err := store.Invite(ctx, c.Email, role)
		if errors.Is(err, state.ErrTaken) {
			err = fmt.Errorf("%s is a user already: see calco user reset", c.Email)
		}
		return token, err
	})
}

type userResetCommand struct {
	linkFlags
	Email string `arg:"" help:"E-mail address of the user."`
}

// Run prints a link for somebody who has lost the password.
func (c *userResetCommand) Run(ctx context.Context, tty terminal) error {
	return c.print(ctx, tty, state.LinkReset, func(ctx context.Context, store linkStore) (state.Token, error) {
		user, err := store.UserByEmail(ctx, c.Email)
		if errors.Is(err, state.ErrNotFound) {
			err = fmt.Errorf("%s is no user: see calco user add", c.Email)
		}
		if err != nil {
			return "", err
		}
		return store.NewUserLink(ctx, state.LinkReset, user.ID)
	})
}

// linkStore is what makes links.
type linkStore interface {
	UserByEmail(ctx context.Context, email string) (state.User, error)
	Invite(ctx context.Context, email string, role state.Role) (state.Token, error)
	NewUserLink(ctx context.Context, kind state.LinkKind, userID int64) (state.Token, error)
}

// print makes a link and prints it.
func (f linkFlags) print(ctx context.Context, tty terminal, kind state.LinkKind, newLink func(context.Context, linkStore) (state.Token, error)) (err error) {
	store, done, err := f.join(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	token, err := newLink(ctx, store)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(tty.out, "%s://%s%s\n", f.BaseURL.Scheme, f.BaseURL.Host, web.LinkPath(kind, token))
	return err
}
