package web

import (
	"context"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"calco/views"
)

// Accounts are the users and how they get in.
type Accounts interface {
	Sessions
	SignIns
	Links
	Passwords
	Users
	// Sweep removes what is over. It is called now and then.
	Sweep(context.Context) error
}

const maxPassword = 256 // bytes

// IsEmail tells whether something is an e-mail address, without a name beside it. It has no space of any kind, and
// nothing that cannot be seen: the state database takes none, and two addresses that look alike would be two people.
func IsEmail(email string) bool {
	unseen := func(r rune) bool { return r == ' ' || r == '"' || !unicode.IsPrint(r) }
	a, err := mail.ParseAddress(email)
	return err == nil && a.Address == email && !strings.ContainsFunc(email, unseen) && len(email) <= 254
}

// checkEmail adds an error to those of a form if the address is none.
func checkEmail(errs views.Errors, email string) {
	if !IsEmail(email) {
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
