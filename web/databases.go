package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

// Connections are the saved databases. Their URLs leave the store towards the engine alone.
type Connections interface {
	Connections(context.Context, jobs.User) ([]jobs.Connection, error)
	Connection(ctx context.Context, u jobs.User, id int64) (jobs.Connection, error)
	AddConnection(context.Context, jobs.Connection, dsn.URL) (int64, error)
	Learn(ctx context.Context, id int64) error
	ChangeConnection(context.Context, jobs.Connection, dsn.URL) error
	RemoveConnection(ctx context.Context, id int64) error
	ConnectionURL(ctx context.Context, id int64) (dsn.URL, *dsn.Hosts, error)
	HostsOf(jobs.User) *dsn.Hosts
	KeepIdentity(context.Context, int64, report.Identity) error
	OwnsDatabase(context.Context, dsn.URL, *dsn.Hosts) (bool, error)
}

func (s *Server) showDatabases(c echo.Context) error {
	u := currentUser(c)
	connections, err := s.connections.Connections(c.Request().Context(), u)
	if err != nil {
		return err
	}
	databases := make([]views.Database, len(connections))
	for i, saved := range connections {
		databases[i] = database(saved, u)
	}
	return s.render(c, http.StatusOK, views.DatabasesPage(s.page(c, "databases.title"), databases))
}

func (s *Server) showNewDatabase(c echo.Context) error {
	return s.drawNewDatabase(c, http.StatusOK, views.DatabaseForm{Way: views.WayURL}, nil)
}

func (s *Server) addDatabase(c echo.Context) error {
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	added := jobs.Connection{OwnerID: currentUser(c).ID}
	f.check(added)
	f.limit(s.connections.HostsOf(currentUser(c)))
	if added, err = f.fill(added, currentUser(c)); err != nil {
		return err
	}
	if !f.wrong() {
		added.ID, err = s.connections.AddConnection(c.Request().Context(), added, f.url)
	}
	if err := f.taken(err); err != nil {
		return err
	}
	if f.wrong() {
		return s.drawNewDatabase(c, http.StatusUnprocessableEntity, f.seen, nil)
	}
	s.learn(c, added.ID)
	return s.redirect(c, "/databases", "done.database.added")
}

// learn has a database that was just saved say what it is, as often as its user may test one. It is saved either way, and
// asked again when it is used.
func (s *Server) learn(c echo.Context, id int64) {
	end, problem := s.testers.begin(currentUser(c).ID)
	if problem != "" {
		return
	}
	defer end()
	if err := s.connections.Learn(c.Request().Context(), id); err != nil {
		s.log.WarnContext(c.Request().Context(), "ask a saved database what it is", "database", id, "error", err)
	}
}

func (s *Server) showDatabase(c echo.Context) error {
	saved, err := s.savedDatabase(c)
	if err != nil {
		return err
	}
	return s.drawDatabase(c, http.StatusOK, saved, views.DatabasePageProps{Form: formOf(saved)})
}

func (s *Server) changeDatabase(c echo.Context) error {
	saved, err := s.ownDatabase(c)
	if err != nil {
		return err
	}
	f, err := s.readDatabase(c)
	if err != nil {
		return err
	}
	f.check(saved)
	_, hosts, err := s.connections.ConnectionURL(c.Request().Context(), saved.ID)
	if err != nil {
		return err
	}
	f.limit(hosts)
	changed, err := f.fill(saved, currentUser(c))
	if err != nil {
		return err
	}
	if !f.wrong() {
		err = s.connections.ChangeConnection(c.Request().Context(), changed, f.url)
	}
	if errors.Is(err, jobs.ErrConflict) {
		return s.drawDatabase(c, http.StatusConflict, saved, views.DatabasePageProps{Form: f.seen, Problem: "databases.inuse.change"})
	}
	if err := f.taken(err); err != nil {
		return err
	}
	if f.wrong() {
		return s.drawDatabase(c, http.StatusUnprocessableEntity, saved, views.DatabasePageProps{Form: f.seen})
	}
	s.learn(c, saved.ID)
	return s.redirect(c, "/databases", "done.database.changed")
}

func (s *Server) removeDatabase(c echo.Context) error {
	saved, err := s.ownDatabase(c)
	if err != nil {
		return err
	}
	err = s.connections.RemoveConnection(c.Request().Context(), saved.ID)
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
	return s.connections.Connection(c.Request().Context(), currentUser(c), id)
}

// ownDatabase is the one of the path, for those who may change it.
func (s *Server) ownDatabase(c echo.Context) (jobs.Connection, error) {
	saved, err := s.savedDatabase(c)
	if err == nil && !saved.ChangedBy(currentUser(c)) {
		err = errForbidden
	}
	return saved, err
}

func (s *Server) drawNewDatabase(c echo.Context, status int, f views.DatabaseForm, test *views.DatabaseTest) error {
	f.MayLetWrite = currentUser(c).Admin()
	return s.render(c, status, views.NewDatabasePage(s.page(c, "databases.new.title"), f, test))
}

// drawDatabase fills in what the page shows of the saved database.
func (s *Server) drawDatabase(c echo.Context, status int, saved jobs.Connection, props views.DatabasePageProps) error {
	u := currentUser(c)
	props.Database = database(saved, u)
	props.Form.ID = saved.ID
	props.Form.Locked = saved.Protected && !u.Admin()
	props.Form.MayLetWrite = u.Admin() || leftOpen(saved)
	p := s.page(c, "databases.title")
	p.Title = saved.Name
	return s.render(c, status, views.DatabasePage(p, props))
}

// database is a saved database as somebody sees it.
func database(saved jobs.Connection, u jobs.User) views.Database {
	d := views.Database{
		ID: saved.ID, Name: saved.Name, Environment: string(saved.Environment), Address: saved.Address, Database: saved.Database,
		Role: saved.User, Shared: saved.Shared, Protected: saved.Protected, MayChange: saved.ChangedBy(u),
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
		Shared: saved.Shared, Protected: saved.Protected, Unprotected: leftOpen(saved),
	}
}
