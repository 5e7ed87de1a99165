package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"calco/cloner/jobs"
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
	if !jobs.IsEmail(c.Email) { // before the state is opened
		return usageError{fmt.Errorf("%q is no e-mail address", c.Email)}
	}
	role := jobs.RoleMember
	if c.Admin {
		role = jobs.RoleAdmin
	}
	return c.print(ctx, tty, jobs.LinkInvite, func(ctx context.Context, people *jobs.Service) (jobs.Token, error) {
		token, err := people.Invite(ctx, jobs.Operator(), c.Email, role)
		if errors.Is(err, jobs.ErrTaken) {
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
	return c.print(ctx, tty, jobs.LinkReset, func(ctx context.Context, people *jobs.Service) (jobs.Token, error) {
		user, err := people.UserByEmail(ctx, jobs.Operator(), c.Email)
		if errors.Is(err, jobs.ErrNotFound) {
			err = fmt.Errorf("%s is no user: see calco user add", c.Email)
		}
		if err != nil {
			return "", err
		}
		return people.ResetPassword(ctx, jobs.Operator(), user.ID)
	})
}

// print makes a link and prints it.
func (f linkFlags) print(ctx context.Context, tty terminal, kind jobs.LinkKind, newLink func(context.Context, *jobs.Service) (jobs.Token, error)) (err error) {
	store, done, err := f.join(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	token, err := newLink(ctx, jobs.New(store, jobs.Options{}))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(tty.out, "%s://%s%s\n", f.BaseURL.Scheme, f.BaseURL.Host, web.LinkPath(kind, token))
	return err
}
