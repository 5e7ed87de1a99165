package web

import (
	"slices"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"calco/static"
)

// routes is the whole app on one screen: what can be done, and where. Who may is for cloner/jobs to say.
func (s *Server) routes() *echo.Echo {
	e := echo.New()
	e.HTTPErrorHandler = s.fail
	e.IPExtractor = clientAddress(s.config.TrustedProxies)
	e.Use(s.requestID, s.accessLog, s.recoverPanic, s.writeInTime, s.securityHeaders, s.sameOrigin, middleware.BodyLimit(maxBody), s.language, s.session,
		s.texts)

	// Nothing here asks who it is: see noSession.
	e.GET("/healthz", s.healthz)
	e.GET("/readyz", s.readyz)
	e.GET(static.Prefix+"*", echo.WrapHandler(static.Handler()))

	// For everybody.
	slow := s.limitPerAddress()
	public := group{s, e, nil}
	public.GET("/signin", s.showSignIn)
	public.POST("/signin", s.signIn, slow)
	public.POST("/signin/link", s.signInByLink, slow)
	public.GET("/setup", s.showSetup)
	public.POST("/setup", s.setup, slow)
	public.GET("/join", s.showJoin)
	public.POST("/join", s.join, slow)
	public.GET("/reset", s.showReset)
	public.POST("/reset", s.reset, slow)
	public.POST("/language", s.chooseLanguage)
	public.POST("/theme", s.chooseTheme)

	// For those who are signed in.
	in := group{s, e, []echo.MiddlewareFunc{s.signedIn}}
	in.GET("/", s.home)
	in.GET("/clones/new", s.showNewClone)
	in.GET("/clones/schemas", s.showSchemas)
	in.GET("/clones/clean", s.showClean)
	in.GET("/clones/check", s.showCheck)
	in.POST("/clones", s.startClone)
	in.GET("/clones/:id", s.showClone)
	in.GET(feedPath, s.feedClone)
	in.GET("/clones/:id/tables", s.showTables)
	in.GET("/clones/:id/log", s.showLog)
	in.GET("/clones/:id/report.json", s.downloadReport)
	in.POST("/clones/:id/cancel", s.cancelClone)
	in.POST("/clones/:id/reconnect", s.reconnect)
	in.POST("/clones/:id/resume", s.resume)
	in.GET("/clones/:id/retry", s.showRetry)
	in.POST("/clones/:id/retry", s.retry)
	in.POST("/clones/:id/again", s.tryAgain)
	in.GET("/history", s.showHistory)
	in.POST("/signout", s.signOut)
	in.GET("/account", s.showAccount)
	in.POST("/account/password", s.changePassword)
	in.POST("/account/sessions/:id/end", s.endSession)
	in.GET("/databases", s.showDatabases)
	in.POST("/databases", s.addDatabase)
	in.GET("/databases/new", s.showNewDatabase)
	in.POST("/databases/test", s.testNewDatabase)
	in.GET("/databases/:id", s.showDatabase)
	in.POST("/databases/:id", s.changeDatabase)
	in.POST("/databases/:id/remove", s.removeDatabase)
	in.POST("/databases/:id/test", s.testDatabase)
	in.GET("/users", s.showUsers)
	in.POST("/users", s.invite)
	in.POST("/users/:id/reset", s.resetUser)
	in.POST("/users/:id/remove", s.removeUser)
	in.POST("/invitations/:id/remove", s.uninvite)
	return e
}

// noSession are the routes that do not ask who it is, and work while the state database does not.
var noSession = map[string]bool{"/healthz": true, "/readyz": true, static.Prefix + "*": true}

// group is routes behind the same guards. Echo's own groups with middleware also take every path that is not there, and
// every method that a path does not have.
type group struct {
	server *Server
	echo   *echo.Echo
	guards []echo.MiddlewareFunc
}

func (g group) GET(path string, h echo.HandlerFunc, more ...echo.MiddlewareFunc) {
	g.echo.GET(path, h, g.behind(more)...)
}

func (g group) POST(path string, h echo.HandlerFunc, more ...echo.MiddlewareFunc) {
	g.echo.POST(path, h, g.behind(more)...)
}

// behind are the guards of a route. The form is read when all of them have let the request through.
func (g group) behind(more []echo.MiddlewareFunc) []echo.MiddlewareFunc {
	return slices.Concat(g.guards, more, []echo.MiddlewareFunc{g.server.form})
}
