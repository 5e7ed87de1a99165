package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

// Links are the one-time links: a visit shows what one is good for, and its button uses it up.
type Links interface {
	Link(context.Context, jobs.Token) (jobs.Link, error)
	UseLink(ctx context.Context, token jobs.Token, email, hash string) (jobs.User, error)
}

// link returns a link that is good for one thing.
func (s *Server) link(c echo.Context, token jobs.Token, kind jobs.LinkKind) (jobs.Link, error) {
	link, err := s.accounts.Link(c.Request().Context(), token)
	if err == nil && link.Kind != kind {
		err = jobs.ErrUsedUp
	}
	return link, err
}

func (s *Server) showSignInLink(c echo.Context, token jobs.Token) error {
	link, err := s.link(c, token, jobs.LinkSignIn)
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.SignInLinkPage(s.page(c, "signin.title"), link.Email, string(token)))
}

func (s *Server) signInByLink(c echo.Context) error {
	token := jobs.Token(c.FormValue("token"))
	if _, err := s.link(c, token, jobs.LinkSignIn); err != nil {
		return err
	}
	user, err := s.accounts.UseLink(c.Request().Context(), token, "", "")
	if err != nil {
		return err
	}
	if err := s.signInAs(c, user); err != nil {
		return err
	}
	return s.redirect(c, "/", "")
}

func (s *Server) showSetup(c echo.Context) error { return s.showNewPassword(c, jobs.LinkSetup) }
func (s *Server) setup(c echo.Context) error     { return s.newPassword(c, jobs.LinkSetup) }
func (s *Server) showJoin(c echo.Context) error  { return s.showNewPassword(c, jobs.LinkInvite) }
func (s *Server) join(c echo.Context) error      { return s.newPassword(c, jobs.LinkInvite) }
func (s *Server) showReset(c echo.Context) error { return s.showNewPassword(c, jobs.LinkReset) }
func (s *Server) reset(c echo.Context) error     { return s.newPassword(c, jobs.LinkReset) }

// linkPaths are where the links lead to.
var linkPaths = map[jobs.LinkKind]string{
	jobs.LinkSetup: "/setup", jobs.LinkInvite: "/join", jobs.LinkReset: "/reset", jobs.LinkSignIn: "/signin",
}

// LinkPath returns the path, with the token, of a one-time link.
func LinkPath(kind jobs.LinkKind, token jobs.Token) string {
	return linkPaths[kind] + "?token=" + string(token)
}

// showNewPassword is the page of a link with which somebody chooses a password.
func (s *Server) showNewPassword(c echo.Context, kind jobs.LinkKind) error {
	token := jobs.Token(c.QueryParam("token"))
	link, err := s.link(c, token, kind)
	if err != nil {
		return err
	}
	return s.drawNewPassword(c, http.StatusOK, newPasswordForm(link, token))
}

// newPassword uses the link up and signs in.
func (s *Server) newPassword(c echo.Context, kind jobs.LinkKind) error {
	ctx, token, password := c.Request().Context(), jobs.Token(c.FormValue("token")), c.FormValue("password")
	link, err := s.link(c, token, kind)
	if err != nil {
		return err
	}
	form := newPasswordForm(link, token)
	form.Errors = views.Errors{}
	if form.Typed {
		form.Email = strings.TrimSpace(c.FormValue("email"))
		checkEmail(form.Errors, form.Email)
	}
	checkPassword(form.Errors, password, form.Email)
	if len(form.Errors) > 0 {
		return s.drawNewPassword(c, http.StatusUnprocessableEntity, form)
	}

	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return err
	}
	user, err := s.accounts.UseLink(ctx, token, form.Email, hash)
	if errors.Is(err, jobs.ErrTaken) {
		return jobs.ErrUsedUp // someone else has become this user meanwhile
	}
	if err != nil {
		return err
	}
	if err := s.signInAs(c, user); err != nil {
		return err
	}
	return s.redirect(c, "/", "")
}

func newPasswordForm(link jobs.Link, token jobs.Token) views.NewPasswordForm {
	return views.NewPasswordForm{Action: linkPaths[link.Kind], Token: string(token), Email: link.Email, Typed: link.Kind == jobs.LinkSetup}
}

func (s *Server) drawNewPassword(c echo.Context, status int, form views.NewPasswordForm) error {
	return s.render(c, status, views.NewPasswordPage(s.page(c, form.Action[1:]+".title"), form))
}
