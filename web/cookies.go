package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

const (
	sessionCookie  = "calco_session"
	languageCookie = "calco_language"
	themeCookie    = "calco_theme"
	flashCookie    = "calco_flash"
	browserCookie  = "calco_browser" // in which somebody has signed in

	choiceLife = 365 * 24 * time.Hour
	flashLife  = time.Minute
)

// setCookie sets a cookie that scripts cannot read and other sites' forms do not carry. An empty value removes it.
func (s *Server) setCookie(c echo.Context, name, value string, until time.Time) {
	cookie := &http.Cookie{
		Name: name, Value: value, Path: "/", Expires: until,
		HttpOnly: true, Secure: s.secure(c), SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	c.SetCookie(cookie)
}

func cookieValue(c echo.Context, name string) string {
	cookie, err := c.Cookie(name)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// signInAs starts a session for the browser, and ends the one it had: nobody who planted a cookie is signed in with it.
func (s *Server) signInAs(c echo.Context, u jobs.User) error {
	ctx := c.Request().Context()
	if old := currentSession(c); old != nil {
		if err := s.accounts.EndSession(ctx, old.User.ID, old.ID); err != nil && !errors.Is(err, jobs.ErrNotFound) {
			return err
		}
	}
	token, until, err := s.accounts.StartSession(ctx, u.ID, jobs.Client{Address: c.RealIP(), Agent: c.Request().UserAgent()})
	if err != nil {
		return err
	}
	s.setCookie(c, sessionCookie, string(token), until)
	if !s.accounts.IsKnown(u.Email, cookieValue(c, browserCookie)) {
		s.setCookie(c, browserCookie, s.accounts.KnowBrowser(u.Email), time.Now().Add(choiceLife))
	}
	return nil
}

// redirect leads to another page of the app, which says first what was just done: the id of a text that begins with
// "done.", or none.
func (s *Server) redirect(c echo.Context, path, done string) error {
	if done != "" {
		s.setCookie(c, flashCookie, done, time.Now().Add(flashLife))
	}
	return c.Redirect(http.StatusSeeOther, localPath(path))
}

// takeFlash returns what redirect left, once.
func (s *Server) takeFlash(c echo.Context) string {
	id := cookieValue(c, flashCookie)
	if id == "" {
		return ""
	}
	s.setCookie(c, flashCookie, "", time.Time{})
	if !strings.HasPrefix(id, "done.") || !views.HasText(id) {
		return ""
	}
	return id
}

func (s *Server) chooseLanguage(c echo.Context) error {
	chosen := c.FormValue("language")
	if views.MatchLanguage(chosen, "") != chosen {
		return errInvalid
	}
	s.setCookie(c, languageCookie, chosen, time.Now().Add(choiceLife))
	return s.redirect(c, c.FormValue("return"), "")
}

func (s *Server) chooseTheme(c echo.Context) error {
	chosen := c.FormValue("theme")
	if !views.IsTheme(chosen) {
		return errInvalid
	}
	s.setCookie(c, themeCookie, chosen, time.Now().Add(choiceLife))
	return s.redirect(c, c.FormValue("return"), "")
}
