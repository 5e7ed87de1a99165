package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

// What a handler returns for what it will not do.
var (
	errSignedOut = errors.New("nobody is signed in")
	errInvalid   = errors.New("this makes no sense")
)

// statuses are the errors that are not faults.
var statuses = []struct {
	err    error
	status int
}{
	{errSignedOut, http.StatusUnauthorized},
	{errInvalid, http.StatusUnprocessableEntity},
	{jobs.ErrForbidden, http.StatusForbidden},
	{jobs.ErrNotFound, http.StatusNotFound},
	{jobs.ErrConflict, http.StatusConflict},
	{jobs.ErrTaken, http.StatusConflict},
	{jobs.ErrUsedUp, http.StatusGone},
}

func statusOf(err error) int {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	var httpErr *echo.HTTPError
	if errors.As(err, &httpErr) {
		return httpErr.Code
	}
	return http.StatusInternalServerError
}

// fail makes a page of an error, with its true status. It is the only place that does, and the one that logs faults.
func (s *Server) fail(err error, c echo.Context) {
	ctx := c.Request().Context()
	status := statusOf(err)
	if status >= http.StatusInternalServerError && !errors.Is(ctx.Err(), context.Canceled) {
		s.log.ErrorContext(ctx, "fault", "request", requestID(c), "path", c.Request().URL.Path, "error", err)
	}
	if c.Response().Committed {
		return
	}
	if err := s.answer(c, status); err != nil {
		s.log.ErrorContext(ctx, "draw the error page", "request", requestID(c), "error", err)
		_ = c.NoContent(http.StatusInternalServerError) // the connection may be gone
	}
}

// answer says an error in the way of the one who asked.
func (s *Server) answer(c echo.Context, status int) error {
	r := c.Request()
	switch {
	case c.Path() == feedPath, strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream"):
		// A feed that was led to a page would ask for it again and again.
		return c.NoContent(status)
	case status == http.StatusUnauthorized && r.Header.Get("HX-Request") == "true":
		c.Response().Header().Set("HX-Redirect", signInPath(comeFrom(c)))
		return c.NoContent(status)
	case status == http.StatusUnauthorized:
		back := r.URL.RequestURI()
		if r.Method != http.MethodGet {
			back = comeFrom(c)
		}
		return c.Redirect(http.StatusSeeOther, signInPath(back))
	}
	c.SetRequest(r.WithContext(context.WithoutCancel(r.Context()))) // a request that came too slowly is over, and is still told so
	return s.render(c, status, views.ErrorPage(s.page(c, views.ErrorTitle(status)), status, requestID(c)))
}

// signInPath is the sign-in page that leads back to a page afterwards.
func signInPath(back string) string {
	if back == "/" {
		return "/signin"
	}
	return "/signin?" + url.Values{"return": {back}}.Encode()
}

// healthz tells that the process runs.
func (s *Server) healthz(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

// readyz tells whether requests can be answered: whether the state database is there.
func (s *Server) readyz(c echo.Context) error {
	if err := s.config.Ready(c.Request().Context()); err != nil {
		s.log.WarnContext(c.Request().Context(), "not ready", "error", err)
		return c.String(http.StatusServiceUnavailable, "the state database does not answer\n")
	}
	return c.String(http.StatusOK, "ok\n")
}
