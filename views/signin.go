package views

import "context"

// Errors are the ids of texts by the names of the fields they are about. The empty name is the form as a whole.
type Errors map[string]string

// text returns the error of a field in the page's language.
func (e Errors) text(ctx context.Context, field string) string {
	if e[field] == "" {
		return ""
	}
	return T(ctx, e[field])
}

// SignInForm is what was typed to sign in.
type SignInForm struct {
	Email  string
	Return string // the page to go on to
	Errors Errors
	Wait   string // how long until the next attempt; empty for no time
}

// NewPasswordForm is for someone with a one-time link who chooses a password: the first user, one who is invited, or one
// who has forgotten the old one.
type NewPasswordForm struct {
	Action string // the path: /setup, /join or /reset; its texts begin with the same word
	Token  string
	Email  string
	Typed  bool // the e-mail address is typed here, and not known from the link
	Errors Errors
}

func (f NewPasswordForm) id(name string) string { return f.Action[1:] + "." + name }

// MinPassword is how many characters a password must have.
const MinPassword = 10
