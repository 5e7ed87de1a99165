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

// Users are who can sign in, and who is invited to.
type Users interface {
	Users(context.Context) ([]jobs.User, error)
	Invitations(context.Context) ([]jobs.Link, error)
	Invite(ctx context.Context, email string, role jobs.Role) (jobs.Token, error)
	Uninvite(ctx context.Context, linkID int64) error
	NewUserLink(ctx context.Context, kind jobs.LinkKind, userID int64) (jobs.Token, error)
	RemoveUser(ctx context.Context, id int64) error
}

func (s *Server) showUsers(c echo.Context) error {
	return s.drawUsers(c, http.StatusOK, views.UsersPageProps{})
}

func (s *Server) invite(c echo.Context) error {
	form := views.InviteForm{Email: strings.TrimSpace(c.FormValue("email")), Admin: c.FormValue("admin") != "", Errors: views.Errors{}}
	checkEmail(form.Errors, form.Email)
	if len(form.Errors) > 0 {
		return s.drawUsers(c, http.StatusUnprocessableEntity, views.UsersPageProps{Form: form})
	}
	role := jobs.RoleMember
	if form.Admin {
		role = jobs.RoleAdmin
	}

	token, err := s.accounts.Invite(c.Request().Context(), form.Email, role)
	if errors.Is(err, jobs.ErrTaken) {
		form.Errors["email"] = "field.email.taken"
		return s.drawUsers(c, http.StatusUnprocessableEntity, views.UsersPageProps{Form: form})
	}
	if err != nil {
		return err
	}
	return s.drawLink(c, token)
}

func (s *Server) resetUser(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	token, err := s.accounts.NewUserLink(ctx, jobs.LinkReset, id)
	if err != nil {
		return err
	}
	return s.drawLink(c, token)
}

func (s *Server) removeUser(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if id == currentUser(c).ID {
		return jobs.ErrConflict // somebody has to stay who can let others in
	}
	if err := s.accounts.RemoveUser(c.Request().Context(), id); err != nil {
		return err
	}
	return s.redirect(c, "/users", "done.removed")
}

func (s *Server) uninvite(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := s.accounts.Uninvite(c.Request().Context(), id); err != nil {
		return err
	}
	return s.redirect(c, "/users", "done.uninvited")
}

// drawLink shows a new link, which nobody sees again.
func (s *Server) drawLink(c echo.Context, token jobs.Token) error {
	link, err := s.accounts.Link(c.Request().Context(), token)
	if err != nil {
		return err
	}
	return s.drawUsers(c, http.StatusOK, views.UsersPageProps{New: &views.NewLink{
		Email: link.Email, URL: s.address(LinkPath(link.Kind, token)), Reset: link.Kind == jobs.LinkReset, Expires: link.ExpiresAt,
	}})
}

// drawUsers fills in the lists.
func (s *Server) drawUsers(c echo.Context, status int, props views.UsersPageProps) error {
	ctx := c.Request().Context()
	users, err := s.accounts.Users(ctx)
	if err != nil {
		return err
	}
	invitations, err := s.accounts.Invitations(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		props.Users = append(props.Users, views.UserRow{ID: u.ID, Email: u.Email, Admin: u.Admin(), LastSeen: u.LastSeenAt, You: u.ID == currentUser(c).ID})
	}
	for _, l := range invitations {
		props.Invitations = append(props.Invitations, views.InvitationRow{ID: l.ID, Email: l.Email, Admin: l.Role == jobs.RoleAdmin, Expires: l.ExpiresAt})
	}
	return s.render(c, status, views.UsersPage(s.page(c, "users.title"), props))
}
