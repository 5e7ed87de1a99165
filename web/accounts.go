package web

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"calco/cloner/jobs"
	"calco/views"
)

// Accounts are the users and how they get in.
type Accounts interface {
	Sessions
	SignIns
	Links
	Passwords
	// Sweep removes what is over. It is called now and then.
	Sweep(context.Context) error
}

const maxPassword = 256 // bytes

// checkEmail adds an error to those of a form if the address is none.
func checkEmail(errs views.Errors, email string) {
	if !jobs.IsEmail(email) {
		errs["email"] = "field.email.bad"
	}
}

// checkPassword adds an error to those of a form if a new password will not do.
func checkPassword(errs views.Errors, password, email string) {
	switch {
	case utf8.RuneCountInString(password) < views.MinPassword:
		errs["password"] = "field.password.short"
	case len(password) > maxPassword:
		errs["password"] = "field.password.long"
	case strings.EqualFold(password, email):
		errs["password"] = "field.password.email"
	}
}

// roundUp keeps a wait from reading 0 s.
func roundUp(d time.Duration) time.Duration { return d.Truncate(time.Second) + time.Second }
