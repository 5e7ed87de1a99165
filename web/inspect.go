package web

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

// testNewDatabase connects to what is typed, before it is saved.
func (s *Server) testNewDatabase(c echo.Context) error {
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	test, status, err := s.testTyped(c, f, 0)
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
	typed := c.Request().Form.Has("name") && jobs.MayChange(currentUser(c), saved) // and not a button without a form
	var test views.DatabaseTest
	var status int
	if typed && !f.empty {
		test, status, err = s.testTyped(c, f, saved.ID)
	} else {
		found, why := s.jobs.TestDatabase(c.Request().Context(), currentUser(c), saved.ID)
		test, status, err = tested(found, why)
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

// testTyped tests what is typed, for the saved database with an id or a new one with 0.
func (s *Server) testTyped(c echo.Context, f databaseForm, id int64) (views.DatabaseTest, int, error) {
	switch {
	case f.seen.BadURL != "":
		return views.DatabaseTest{Problem: "databases.url.unusable", Why: f.seen.BadURL + "."}, http.StatusUnprocessableEntity, nil
	case f.empty:
		return views.DatabaseTest{Problem: "databases.test.form", Fields: []string{f.missing()}}, http.StatusUnprocessableEntity, nil
	case f.url == "":
		return views.DatabaseTest{Problem: "databases.test.form", Fields: slices.Sorted(maps.Keys(f.seen.Errors))}, http.StatusUnprocessableEntity, nil
	}
	return tested(s.jobs.TestURL(c.Request().Context(), currentUser(c), f.url, id))
}

// tested says what came of a test, with the status of the answer. That a database cannot be reached is an answer too.
func tested(found jobs.Inspection, err error) (views.DatabaseTest, int, error) {
	var refused *report.RefusedError
	var unanswered *jobs.UnansweredError
	switch {
	case errors.As(err, &refused):
		return views.DatabaseTest{Refused: refused.Reasons}, http.StatusOK, nil
	case errors.As(err, &unanswered):
		test := views.DatabaseTest{Problem: cmp.Or(unansweredTexts[unanswered.Code], "databases.test.fault"), Why: whyUnanswered(unanswered)}
		switch unanswered.Code {
		case jobs.TooManyTests, jobs.TooOften:
			return test, http.StatusTooManyRequests, nil
		case jobs.UnusableURL:
			return test, http.StatusUnprocessableEntity, nil
		case jobs.Slow, jobs.Fault:
		}
		return test, http.StatusOK, nil
	case err != nil:
		return views.DatabaseTest{}, 0, err
	}
	test := views.DatabaseTest{Found: &found.Inspection}
	if found.StateDatabase {
		test.Forbidden = append(test.Forbidden, "databases.target.own")
	}
	if found.Protected {
		test.Forbidden = append(test.Forbidden, "databases.target.protected")
	}
	return test, http.StatusOK, nil
}
