package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

// testPatience is how long a database may take to show what it has.
const testPatience = 30 * time.Second

// testNewDatabase connects to what is typed, before it is saved.
func (s *Server) testNewDatabase(c echo.Context) error {
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	test, status, err := s.testTyped(c, f, s.connections.HostsOf(currentUser(c)), false)
	if err != nil {
		return err
	}
	if isFragment(c) {
		return s.render(c, status, views.DatabaseTestResult(test))
	}
	return s.drawNewDatabase(c, status, f.seen, &test)
}

// testDatabase connects to a saved database, or to what is typed to take its place.
func (s *Server) testDatabase(c echo.Context) error {
	saved, err := s.savedDatabase(c)
	if err != nil {
		return err
	}
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	typed := c.Request().Form.Has("name") && saved.ChangedBy(currentUser(c)) // and not a button without a form
	var test views.DatabaseTest
	var status int
	if typed && !f.empty {
		test, status, err = s.testTypedFor(c, f, saved)
	} else {
		test, status, err = s.testSaved(c, saved)
	}
	if err != nil {
		return err
	}
	if isFragment(c) {
		return s.render(c, status, views.DatabaseTestResult(test))
	}
	form := formOf(saved)
	if typed {
		form = f.seen
	}
	return s.drawDatabase(c, status, saved, views.DatabasePageProps{Form: form, Test: &test})
}

// isFragment tells whether htmx asks, for a part of its page.
func isFragment(c echo.Context) bool { return c.Request().Header.Get("HX-Request") == "true" }

func (s *Server) testSaved(c echo.Context, saved jobs.Connection) (views.DatabaseTest, int, error) {
	url, hosts, err := s.connections.ConnectionURL(c.Request().Context(), saved.ID)
	if err != nil {
		return views.DatabaseTest{}, 0, err
	}
	return s.inspect(c, url, hosts, saved.ID, saved.Protected)
}

// testTypedFor tests what is typed for a saved database: it may lead where that may, whoever types it.
func (s *Server) testTypedFor(c echo.Context, f databaseForm, saved jobs.Connection) (views.DatabaseTest, int, error) {
	_, hosts, err := s.connections.ConnectionURL(c.Request().Context(), saved.ID)
	if err != nil {
		return views.DatabaseTest{}, 0, err
	}
	return s.testTyped(c, f, hosts, saved.Protected)
}

func (s *Server) testTyped(c echo.Context, f databaseForm, hosts *dsn.Hosts, protected bool) (views.DatabaseTest, int, error) {
	switch {
	case f.seen.BadURL != "":
		return views.DatabaseTest{Problem: "databases.url.unusable", Why: f.seen.BadURL + "."}, http.StatusUnprocessableEntity, nil
	case f.empty:
		return views.DatabaseTest{Problem: "databases.test.form", Fields: []string{f.missing()}}, http.StatusUnprocessableEntity, nil
	case f.url == "":
		return views.DatabaseTest{Problem: "databases.test.form", Fields: slices.Sorted(maps.Keys(f.seen.Errors))}, http.StatusUnprocessableEntity, nil
	}
	return s.inspect(c, f.url, hosts, 0, protected)
}

// inspect connects, and says what came of it with the status of the answer. That a database cannot be reached is an
// answer too. What a saved database is found to be is kept with it; one that is not saved has the id 0.
func (s *Server) inspect(c echo.Context, url dsn.URL, hosts *dsn.Hosts, id int64, protected bool) (views.DatabaseTest, int, error) {
	if err := url.CheckRemote(hosts); err != nil { // it was saved before such URLs were refused
		return views.DatabaseTest{Problem: "databases.url.unusable", Why: err.Error() + "."}, http.StatusUnprocessableEntity, nil
	}
	end, problem := s.testers.begin(currentUser(c).ID)
	if problem != "" {
		return views.DatabaseTest{Problem: problem}, http.StatusTooManyRequests, nil
	}
	defer end()
	ctx, cancel := context.WithTimeout(c.Request().Context(), testPatience)
	defer cancel()

	found, err := cloner.Inspect(ctx, url, hosts)
	var refused *report.RefusedError
	switch {
	case errors.As(err, &refused):
		return views.DatabaseTest{Refused: reasons(refused.Reasons)}, http.StatusOK, nil
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return views.DatabaseTest{Problem: "databases.test.slow"}, http.StatusOK, nil
	case err != nil && ctx.Err() != nil: // whoever asked has gone
		return views.DatabaseTest{}, 0, err
	case err != nil:
		return views.DatabaseTest{Problem: "databases.test.fault", Why: err.Error()}, http.StatusOK, nil
	}
	if id != 0 {
		if err := s.connections.KeepIdentity(ctx, id, found.Identity); err != nil {
			return views.DatabaseTest{}, 0, err
		}
	}
	shown := inspected(found)
	if protected {
		shown.AsTarget = append([]views.DatabaseReason{{ID: "databases.target.protected"}}, shown.AsTarget...)
	}
	own, err := s.connections.OwnsDatabase(ctx, url, hosts)
	if err != nil {
		return views.DatabaseTest{}, 0, err
	}
	if own {
		shown.AsTarget = append([]views.DatabaseReason{{ID: "databases.target.own"}}, shown.AsTarget...)
	}
	return views.DatabaseTest{Found: &shown}, http.StatusOK, nil
}

// inspected is what the page shows of what the engine found.
func inspected(found report.Inspection) views.DatabaseFound {
	shown := views.DatabaseFound{
		Address: found.Address, Database: found.Database, User: found.User, Version: number(found.Version), Provider: found.Provider,
		Size: found.Size, AsSource: reasons(found.AsSource), AsTarget: reasons(found.AsTarget),
	}
	for _, schema := range found.Schemas {
		shown.Schemas = append(shown.Schemas, views.DatabaseSchema{Name: schema.Name, Tables: schema.Tables, Bytes: schema.Bytes})
	}
	return shown
}

func reasons(found []report.Reason) []views.DatabaseReason {
	shown := make([]views.DatabaseReason, len(found))
	for i, r := range found {
		shown[i] = views.DatabaseReason{Text: r.Text, Hint: r.Hint, Objects: r.Objects}
		if id := "reason." + string(r.Code); views.HasText(id) {
			shown[i] = views.DatabaseReason{ID: id}
		}
	}
	return shown
}

// What one person may have tested: so many at the same time, some more in a row, and then one every few seconds. Tests
// lead to any address that the server reaches, and must not be a way to look through a network.
const (
	testsAtATime = 2
	testsInARow  = 20
	testsEvery   = 3 * time.Second
)

// testers count the tests of each user. They are safe for concurrent use, and ready as a zero value.
type testers struct {
	mu sync.Mutex
	of map[int64]*tester
}

type tester struct {
	running int
	pace    *rate.Limiter
}

// begin lets a user begin a test, which is over when end is called; or names the text that says why not now.
func (t *testers) begin(user int64) (end func(), problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[int64]*tester{}
	}
	one := t.of[user]
	if one == nil {
		one = &tester{pace: rate.NewLimiter(rate.Every(testsEvery), testsInARow)}
		t.of[user] = one
	}
	if one.running >= testsAtATime {
		return nil, "databases.test.busy"
	}
	if !one.pace.Allow() {
		return nil, "databases.test.often"
	}
	one.running++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		one.running--
	}, ""
}
