package web

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

func (s *Server) showDatabases(c echo.Context) error {
	u := currentUser(c)
	saved, err := s.jobs.Databases(c.Request().Context(), u)
	if err != nil {
		return err
	}
	databases := make([]views.Database, len(saved))
	for i, d := range saved {
		databases[i] = database(d, u)
	}
	return s.render(c, http.StatusOK, views.DatabasesPage(s.page(c, "databases.title"), databases))
}

func (s *Server) showNewDatabase(c echo.Context) error {
	return s.drawNewDatabase(c, http.StatusOK, views.DatabaseForm{Way: views.WayURL}, nil)
}

func (s *Server) addDatabase(c echo.Context) error {
	ctx, by := c.Request().Context(), currentUser(c)
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	f.needURL(false)
	if err := f.refused(s.jobs.CheckDatabase(ctx, by, 0, f.request())); err != nil {
		return err
	}
	if !f.wrong() {
		_, err = s.jobs.AddDatabase(ctx, by, f.request())
	}
	if err := f.refused(err); err != nil {
		return err
	}
	if f.wrong() {
		return s.drawNewDatabase(c, http.StatusUnprocessableEntity, f.seen, nil)
	}
	return s.redirect(c, "/databases", "done.database.added")
}

func (s *Server) showDatabase(c echo.Context) error {
	saved, err := s.savedDatabase(c)
	if err != nil {
		return err
	}
	return s.drawDatabase(c, http.StatusOK, saved, views.DatabasePageProps{Form: formOf(saved)})
}

func (s *Server) changeDatabase(c echo.Context) error {
	ctx, by := c.Request().Context(), currentUser(c)
	saved, err := s.savedDatabase(c)
	if err != nil {
		return err
	}
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	f.needURL(true)
	if err := f.refused(s.jobs.CheckDatabase(ctx, by, saved.ID, f.request())); err != nil {
		return err
	}
	if !f.wrong() {
		err = s.jobs.ChangeDatabase(ctx, by, saved.ID, f.request())
	}
	if errors.Is(err, jobs.ErrConflict) {
		return s.drawDatabase(c, http.StatusConflict, saved, views.DatabasePageProps{Form: f.seen, Problem: "databases.inuse.change"})
	}
	if err := f.refused(err); err != nil {
		return err
	}
	if f.wrong() {
		return s.drawDatabase(c, http.StatusUnprocessableEntity, saved, views.DatabasePageProps{Form: f.seen})
	}
	return s.redirect(c, "/databases", "done.database.changed")
}

func (s *Server) removeDatabase(c echo.Context) error {
	saved, err := s.savedDatabase(c)
	if err != nil {
		return err
	}
	err = s.jobs.RemoveDatabase(c.Request().Context(), currentUser(c), saved.ID)
	if errors.Is(err, jobs.ErrConflict) {
		return s.drawDatabase(c, http.StatusConflict, saved, views.DatabasePageProps{Form: formOf(saved), Problem: "databases.inuse.remove"})
	}
	if err != nil {
		return err
	}
	return s.redirect(c, "/databases", "done.database.removed")
}

// savedDatabase is the one of the path. For those who do not see it, it is not there.
func (s *Server) savedDatabase(c echo.Context) (jobs.Connection, error) {
	id, err := pathID(c)
	if err != nil {
		return jobs.Connection{}, err
	}
	return s.jobs.Database(c.Request().Context(), currentUser(c), id)
}

func (s *Server) drawNewDatabase(c echo.Context, status int, f views.DatabaseForm, test *views.DatabaseTest) error {
	f.MayLetWrite = jobs.MayUnprotect(currentUser(c))
	return s.render(c, status, views.NewDatabasePage(s.page(c, "databases.new.title"), f, test))
}

// drawDatabase fills in what the page shows of the saved database.
func (s *Server) drawDatabase(c echo.Context, status int, saved jobs.Connection, props views.DatabasePageProps) error {
	u := currentUser(c)
	props.Database = database(saved, u)
	props.Form.ID = saved.ID
	props.Form.Locked = saved.Protected && !jobs.MayUnprotect(u)
	props.Form.MayLetWrite = jobs.MayUnprotect(u) || saved.LeftOpen()
	p := s.page(c, "databases.title")
	p.Title = saved.Name
	return s.render(c, status, views.DatabasePage(p, props))
}

// database is a saved database as somebody sees it.
func database(saved jobs.Connection, u jobs.User) views.Database {
	d := views.Database{
		ID: saved.ID, Name: saved.Name, Environment: string(saved.Environment), Address: saved.Address, Database: saved.Database,
		Role: saved.User, Shared: saved.Shared, Protected: saved.Protected, MayChange: jobs.MayChange(u, saved),
	}
	if saved.OwnerID != u.ID {
		d.Owner = saved.Owner
	}
	return d
}

// formOf is the form of a saved database before anything is typed.
func formOf(saved jobs.Connection) views.DatabaseForm {
	return views.DatabaseForm{
		Name: saved.Name, Way: views.WayURL, Environment: string(saved.Environment),
		Shared: saved.Shared, Protected: saved.Protected, Unprotected: saved.LeftOpen(),
	}
}
