package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

// Passwords and the sessions that hang on them.
type Passwords interface {
	Sessions(ctx context.Context, userID int64) ([]jobs.Session, error)
	SetPassword(ctx context.Context, userID int64, hash string, keepSession int64) error
}

func (s *Server) showAccount(c echo.Context) error { return s.drawAccount(c, http.StatusOK, nil) }

func (s *Server) changePassword(c echo.Context) error {
	ctx, session := c.Request().Context(), currentSession(c)
	password, errs := c.FormValue("password"), views.Errors{}
	checkPassword(errs, password, session.User.Email)
	if len(errs) == 0 {
		if err := s.checkCurrent(ctx, errs, *session, c.FormValue("current")); err != nil {
			return err
		}
	}
	if len(errs) > 0 {
		return s.drawAccount(c, http.StatusUnprocessableEntity, errs)
	}

	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return err
	}
	if err := s.accounts.SetPassword(ctx, session.User.ID, hash, session.ID); err != nil {
		return err
	}
	return s.redirect(c, "/account", "done.password")
}

// checkCurrent adds an error if it is not the user's password. Whoever has none, having come by a link, needs none.
func (s *Server) checkCurrent(ctx context.Context, errs views.Errors, session jobs.Session, current string) error {
	_, hash, err := s.accounts.Credentials(ctx, session.User.Email)
	if err != nil || hash == "" {
		return err
	}
	_, wait, err := s.checkSignIn(ctx, session.User.Email, fmt.Sprint("session ", session.ID), current)
	switch {
	case errors.Is(err, errWrongPassword):
		errs["current"] = "field.password.wrong"
	case err != nil:
		return err
	case wait > 0:
		errs["current"] = "field.password.wait"
	}
	return nil
}

func (s *Server) endSession(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := s.accounts.EndSession(c.Request().Context(), currentUser(c).ID, id); err != nil {
		return err
	}
	return s.redirect(c, "/account", "done.session")
}

func (s *Server) drawAccount(c echo.Context, status int, errs views.Errors) error {
	ctx, here := c.Request().Context(), currentSession(c)
	sessions, err := s.accounts.Sessions(ctx, here.User.ID)
	if err != nil {
		return err
	}
	_, hash, err := s.accounts.Credentials(ctx, here.User.Email)
	if err != nil {
		return err
	}
	props := views.AccountPageProps{HasPassword: hash != "", Errors: errs}
	for _, se := range sessions {
		props.Sessions = append(props.Sessions, views.AccountSession{
			ID: se.ID, Agent: se.Agent, Address: se.Address, Started: se.CreatedAt, LastSeen: se.LastSeenAt, Here: se.ID == here.ID,
		})
	}
	return s.render(c, status, views.AccountPage(s.page(c, "account.title"), props))
}

// pathID reads the :id of a path. What is no id is not found.
func pathID(c echo.Context) (int64, error) {
	if id := parseID(c.Param("id")); id != 0 {
		return id, nil
	}
	return 0, jobs.ErrNotFound
}

// parseID reads the number of something in the state database. What is none is 0, which nothing has.
func parseID(text string) int64 {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return id
}
