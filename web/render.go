package web

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"calco/views"
)

// page is the frame of the page that answers a request. The title is the id of a text.
func (s *Server) page(c echo.Context, title string, data ...any) views.Page {
	ctx := c.Request().Context()
	p := views.Page{
		Title: views.T(ctx, title, data...),
		Theme: "auto",
		Path:  c.Request().URL.RequestURI(),
		Flash: s.takeFlash(c),
	}
	if theme := cookieValue(c, themeCookie); views.IsTheme(theme) {
		p.Theme = theme
	}
	if session := currentSession(c); session != nil {
		p.User = &views.User{Email: session.User.Email, Admin: session.User.Admin()}
	}
	if c.Request().Method != http.MethodGet {
		p.Path = comeFrom(c)
	}
	return p
}

// render draws a component, all of it before the first byte is sent, so that a fault on the way still becomes an error
// page.
func (s *Server) render(c echo.Context, status int, component templ.Component) error {
	var buf bytes.Buffer
	if err := component.Render(c.Request().Context(), &buf); err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Accept-Language, Cookie")
	return c.HTMLBlob(status, buf.Bytes())
}

// comeFrom is the page that a form stands on, or the start.
func comeFrom(c echo.Context) string {
	if from, err := url.Parse(c.Request().Referer()); err == nil && from.Host == c.Request().Host {
		return localPath(from.RequestURI())
	}
	return "/"
}

// localPath returns a path of this app, with its query, and / for whatever leads elsewhere.
func localPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") ||
		strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}
