package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"golang.org/x/time/rate"

	"calco/cloner/jobs"
	"calco/views"
)

// policy lets a page load what the app itself serves, and run nothing that stands in the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxBody is far above every form, and far below what hurts.
const maxBody = "1M"

var requestIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID gives every request a name, or keeps the one that a proxy gave it.
func (s *Server) requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !requestIDs.MatchString(id) {
			id = string(jobs.NewToken()[:16])
		}
		c.Set("request", id)
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

func requestID(c echo.Context) string {
	id, _ := c.Get("request").(string)
	return id
}

// accessLog writes a line for each request. It leaves the query out, where the tokens of one-time links are.
func (s *Server) accessLog(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		r := c.Request()
		attrs := []slog.Attr{
			slog.String("request", requestID(c)), slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.Int("status", c.Response().Status), slog.Int64("bytes", c.Response().Size),
			slog.Duration("took", time.Since(began)), slog.String("address", c.RealIP()),
		}
		if session := currentSession(c); session != nil {
			attrs = append(attrs, slog.Int64("user", session.User.ID))
		}
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
		return nil
	}
}

// recoverPanic makes an error page of a panic.
func (s *Server) recoverPanic(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if perr, ok := p.(error); ok && errors.Is(perr, http.ErrAbortHandler) {
				panic(p) // how a handler hangs up on purpose
			}
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}()
		return next(c)
	}
}

func (s *Server) securityHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// Not no-referrer: a browser would then send "Origin: null" with forms, which over plain http is all that tells
		// that they are ours.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		if base := s.config.BaseURL; base != nil && base.Scheme == "https" {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		return next(c)
	}
}

// sameOrigin refuses a change that another site has sent.
func (s *Server) sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.foreign.Check(c.Request()); err != nil {
			return echo.NewHTTPError(http.StatusForbidden, "sent by another site").SetInternal(err)
		}
		return next(c)
	}
}

// texts refuses a path and a query that are no texts that PostgreSQL takes. What is no text in a path is not there.
func (s *Server) texts(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if slices.ContainsFunc(c.ParamValues(), notText) {
			return echo.ErrNotFound
		}
		query, err := url.ParseQuery(c.Request().URL.RawQuery)
		if err != nil {
			return echo.NewHTTPError(http.StatusBadRequest, "no query").SetInternal(err)
		}
		if err := checkTexts(query); err != nil {
			return err
		}
		return next(c)
	}
}

// form reads the form of a request, and refuses what is none: FormValue would take it for an empty one. All values are
// texts that PostgreSQL takes. It comes after what decides whether the body is worth reading.
func (s *Server) form(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		// The pages send no other kind, and a multipart form would be read past the check.
		kind := r.Header.Get(echo.HeaderContentType)
		if media, _, _ := strings.Cut(kind, ";"); r.Method != http.MethodGet && kind != "" && !strings.EqualFold(strings.TrimSpace(media), echo.MIMEApplicationForm) {
			return echo.NewHTTPError(http.StatusUnsupportedMediaType, "no form")
		}
		if err := s.readForm(c); err != nil {
			return err
		}
		if err := checkTexts(r.Form); err != nil {
			return err
		}
		return next(c)
	}
}

func checkTexts(values url.Values) error {
	for name, all := range values {
		if notText(name) || slices.ContainsFunc(all, notText) {
			return echo.NewHTTPError(http.StatusBadRequest, "no text")
		}
	}
	return nil
}

// notText tells whether something is no text that PostgreSQL takes.
func notText(s string) bool { return !utf8.ValidString(s) || strings.Contains(s, "\x00") }

// language chooses the language of the page.
func (s *Server) language(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		chosen := views.MatchLanguage(cookieValue(c, languageCookie), r.Header.Get("Accept-Language"))
		c.SetRequest(r.WithContext(views.WithLanguage(r.Context(), chosen)))
		return next(c)
	}
}

// Sessions tell whose request it is.
type Sessions interface {
	Session(context.Context, jobs.Token) (jobs.Session, error)
	CheckSession(context.Context, jobs.Token) error
}

// session finds out who it is, if anybody.
func (s *Server) session(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		token := cookieValue(c, sessionCookie)
		if token == "" || noSession[c.Path()] {
			return next(c)
		}
		session, err := s.accounts.Session(c.Request().Context(), jobs.Token(token))
		switch {
		case err == nil:
			c.Set("session", &session)
		case !errors.Is(err, jobs.ErrNotFound):
			return err
		}
		return next(c)
	}
}

// signedIn lets nobody else through.
func (s *Server) signedIn(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if currentSession(c) == nil {
			return errSignedOut
		}
		return next(c)
	}
}

// currentUser is who sent the request. Behind signedIn there is always one; elsewhere it may be the zero User.
func currentUser(c echo.Context) jobs.User {
	if session := currentSession(c); session != nil {
		return session.User
	}
	return jobs.User{}
}

// currentSession is nil for someone who is not signed in.
func currentSession(c echo.Context) *jobs.Session {
	session, _ := c.Get("session").(*jobs.Session)
	return session
}

// clientAddress tells who sent a request: the peer itself, unless that is a trusted proxy, which says so. Echo believes
// everybody by default, and any address can then be made up.
func clientAddress(proxies []netip.Prefix) echo.IPExtractor {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range proxies {
		trust = append(trust, echo.TrustIPRange(&net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}))
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

// How many passwords or links an address may try: a few at once, then one every few seconds.
const (
	triesAtOnce    = 5
	triesPerMinute = 10
)

// limitPerAddress slows down whoever tries many accounts. A single account is guarded by a counter of its own.
func (s *Server) limitPerAddress() echo.MiddlewareFunc {
	store := middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{
		Rate: rate.Limit(triesPerMinute) / 60, Burst: triesAtOnce, ExpiresIn: 10 * time.Minute,
	})
	return middleware.RateLimiterWithConfig(middleware.RateLimiterConfig{
		Store:               store,
		IdentifierExtractor: func(c echo.Context) (string, error) { return neighbourhood(c.RealIP()), nil },
		DenyHandler: func(c echo.Context, _ string, _ error) error {
			c.Response().Header().Set("Retry-After", "60")
			return echo.NewHTTPError(http.StatusTooManyRequests, "too many attempts")
		},
	})
}

// neighbourhood is the part of an address that one person has: all of it, or the first half of an IPv6 one.
func neighbourhood(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().Is4() {
		return address
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
