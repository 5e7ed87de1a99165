package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

// SignIns let people in and out.
type SignIns interface {
	HasUsers(context.Context) (bool, error)
	Credentials(ctx context.Context, email string) (u jobs.User, hash string, err error)
	AttemptSignIn(ctx context.Context, email, from string) (wait time.Duration, err error)
	ForgiveSignIn(ctx context.Context, email, from string) error
	KnowBrowser(email string) (token string)
	IsKnown(email, token string) bool
	StartSession(ctx context.Context, userID int64, from jobs.Client) (jobs.Token, time.Time, error)
	EndSession(ctx context.Context, userID, sessionID int64) error
}

func (s *Server) showSignIn(c echo.Context) error {
	if token := c.QueryParam("token"); token != "" {
		return s.showSignInLink(c, jobs.Token(token))
	}
	form := views.SignInForm{Return: localPath(c.QueryParam("return"))}
	if currentSession(c) != nil {
		return s.redirect(c, form.Return, "")
	}
	has, err := s.accounts.HasUsers(c.Request().Context())
	if err != nil {
		return err
	}
	if !has {
		return s.render(c, http.StatusOK, views.NoUsersPage(s.page(c, "nousers.title")))
	}
	return s.render(c, http.StatusOK, views.SignInPage(s.page(c, "signin.title"), form))
}

func (s *Server) signIn(c echo.Context) error {
	form := views.SignInForm{Email: strings.TrimSpace(c.FormValue("email")), Return: localPath(c.FormValue("return"))}

	from := cookieValue(c, browserCookie)
	if !s.accounts.IsKnown(form.Email, from) {
		from = ""
	}
	user, wait, err := s.checkSignIn(c.Request().Context(), form.Email, from, c.FormValue("password"))
	if errors.Is(err, errWrongPassword) {
		form.Errors = views.Errors{"": "signin.wrong"}
		return s.render(c, http.StatusUnprocessableEntity, views.SignInPage(s.page(c, "signin.title"), form))
	}
	if err != nil {
		return err
	}
	if wait > 0 {
		form.Wait = views.Duration(c.Request().Context(), roundUp(wait))
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(roundUp(wait).Seconds())))
		return s.render(c, http.StatusTooManyRequests, views.SignInPage(s.page(c, "signin.title"), form))
	}
	if err := s.signInAs(c, user); err != nil {
		return err
	}
	return s.redirect(c, form.Return, "")
}

var errWrongPassword = errors.New("wrong password")

// checkSignIn tells whose password it is; from is what AttemptSignIn has. A wait means that nothing was tried. Who is not there
// takes as long as a wrong password, and is counted like one.
func (s *Server) checkSignIn(ctx context.Context, email, from, password string) (u jobs.User, wait time.Duration, err error) {
	if len(password) > maxPassword || len(email) > 254 {
		return u, 0, errWrongPassword
	}
	if wait, err = s.accounts.AttemptSignIn(ctx, email, from); err != nil || wait > 0 {
		return u, wait, err
	}
	u, hash, err := s.accounts.Credentials(ctx, email)
	if err != nil && !errors.Is(err, jobs.ErrNotFound) {
		return u, 0, err
	}
	right, err := s.passwords.check(ctx, password, hash)
	if err != nil {
		return u, 0, err
	}
	if !right {
		return u, 0, errWrongPassword
	}
	return u, 0, s.accounts.ForgiveSignIn(ctx, email, from)
}

func (s *Server) signOut(c echo.Context) error {
	session := currentSession(c)
	if err := s.accounts.EndSession(c.Request().Context(), session.User.ID, session.ID); err != nil && !errors.Is(err, jobs.ErrNotFound) {
		return err
	}
	s.setCookie(c, sessionCookie, "", time.Time{})
	return s.redirect(c, "/signin", "done.signout")
}
