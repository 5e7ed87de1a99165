package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

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

	token, err := s.jobs.Invite(c.Request().Context(), currentUser(c), form.Email, role)
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
	token, err := s.jobs.ResetPassword(c.Request().Context(), currentUser(c), id)
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
	if err := s.jobs.RemoveUser(c.Request().Context(), currentUser(c), id); err != nil {
		return err
	}
	return s.redirect(c, "/users", "done.removed")
}

func (s *Server) uninvite(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := s.jobs.Uninvite(c.Request().Context(), currentUser(c), id); err != nil {
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
	ctx, by := c.Request().Context(), currentUser(c)
	users, err := s.jobs.Users(ctx, by)
	if err != nil {
		return err
	}
	invitations, err := s.jobs.Invitations(ctx, by)
	if err != nil {
		return err
	}
	for _, u := range users {
		props.Users = append(props.Users, views.UserRow{ID: u.ID, Email: u.Email, Admin: u.Admin(), LastSeen: u.LastSeenAt, You: u.ID == by.ID})
	}
	for _, l := range invitations {
		props.Invitations = append(props.Invitations, views.InvitationRow{ID: l.ID, Email: l.Email, Admin: l.Role == jobs.RoleAdmin, Expires: l.ExpiresAt})
	}
	return s.render(c, status, views.UsersPage(s.page(c, "users.title"), props))
}
