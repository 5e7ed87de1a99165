package jobs

import (
	"context"
	"errors"
	"slices"
	"unicode/utf8"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

// ConnectionStore keeps the saved databases. What changes one asks a rule first, as TaskStore has it. One that is not there
// is ErrNotFound.
type ConnectionStore interface {
	// Connections returns all of them, by name.
	Connections(context.Context) ([]Connection, error)
	Connection(ctx context.Context, id int64) (Connection, error)
	// AddConnection saves a database. Where it is, is read from the URL. The error for a name that another one of the owner
	// has is ErrTaken.
	AddConnection(context.Context, Connection, dsn.URL) (id int64, err error)
	// ChangeConnection saves what change makes of a database, and its URL unless that is empty. The errors are ErrTaken for
	// the name, and ErrConflict for another URL while a job uses the database.
	ChangeConnection(ctx context.Context, id int64, url dsn.URL, change func(Connection) (Connection, error)) error
	// RemoveConnection forgets a saved database. The error while a job uses it is ErrConflict.
	RemoveConnection(ctx context.Context, id int64, may func(Connection) error) error
	// ConnectionURL returns what leads to a saved database, and the hosts that it may lead to.
	ConnectionURL(ctx context.Context, id int64) (dsn.URL, *dsn.Hosts, error)
	// HostsOf are those that a database may lead to which a user is about to save.
	HostsOf(User) *dsn.Hosts
	// Learn asks a saved database what it is, and keeps that. That it does not answer soon is no error.
	Learn(ctx context.Context, id int64) error
	// KeepIdentity keeps what a saved database has been found to be.
	KeepIdentity(context.Context, int64, report.Identity) error
	// OwnsDatabase tells whether a URL is known to lead to the state database itself.
	OwnsDatabase(context.Context, dsn.URL, *dsn.Hosts) (bool, error)
}

// DatabaseRequest is what a person asks to have saved of a database.
type DatabaseRequest struct {
	Name        string
	Environment Environment
	Shared      bool    // with the team
	Protected   bool    // can never be a target; production is, and whatever was, until someone who MayUnprotect says otherwise
	Unprotected bool    // production may be a target all the same
	URL         dsn.URL // empty keeps the one that there is
}

// Request asks to have a database saved as it is.
func (c Connection) Request() DatabaseRequest {
	return DatabaseRequest{Name: c.Name, Environment: c.Environment, Shared: c.Shared, Protected: c.Protected, Unprotected: c.LeftOpen()}
}

// MaxName bounds the name of a saved database, in characters.
const MaxName = 100

// What is wrong with a DatabaseRequest.
var (
	ErrNoName        = errors.New("it has no name")
	ErrLongName      = errors.New("its name is too long")
	ErrNoEnvironment = errors.New("its environment is none")
	ErrHostForbidden = errors.New("its URL leads where it may not")
)

// check returns all that is wrong with a request, joined.
func (r DatabaseRequest) check(hosts *dsn.Hosts) error {
	var wrong []error
	switch {
	case r.Name == "":
		wrong = append(wrong, ErrNoName)
	case utf8.RuneCountInString(r.Name) > MaxName:
		wrong = append(wrong, ErrLongName)
	}
	if !slices.Contains(Environments(), r.Environment) {
		wrong = append(wrong, ErrNoEnvironment)
	}
	if r.URL != "" && hosts.Check(r.URL) != nil {
		wrong = append(wrong, ErrHostForbidden)
	}
	return errors.Join(wrong...)
}

// fill returns a database with what somebody asks to have saved of it. Production is protected, and whatever was, until
// somebody who may says otherwise.
func (r DatabaseRequest) fill(by User, saved Connection) (Connection, error) {
	protected := r.Protected || saved.Protected && !MayUnprotect(by)
	if r.Environment == Production {
		if r.Unprotected && !saved.LeftOpen() && !MayUnprotect(by) {
			return saved, ErrForbidden
		}
		protected = !r.Unprotected
	}
	saved.Name, saved.Environment, saved.Shared, saved.Protected = r.Name, r.Environment, r.Shared, protected
	return saved, nil
}

// change is what ChangeDatabase makes of a database.
func (r DatabaseRequest) change(by User, saved Connection) (Connection, error) {
	if err := mayChange(by, saved); err != nil {
		return saved, err
	}
	return r.fill(by, saved)
}

// mayChange is MayChange as an error. For those who do not see a database it is not there.
func mayChange(by User, c Connection) error {
	switch {
	case !MaySee(by, c):
		return ErrNotFound
	case !MayChange(by, c):
		return ErrForbidden
	}
	return nil
}

// Databases returns the saved databases that somebody sees, by name.
func (s *Service) Databases(ctx context.Context, by User) ([]Connection, error) {
	all, err := s.store.Connections(ctx)
	return slices.DeleteFunc(all, func(c Connection) bool { return !MaySee(by, c) }), err
}

// Database returns a saved database.
func (s *Service) Database(ctx context.Context, by User, id int64) (Connection, error) {
	c, err := s.store.Connection(ctx, id)
	if err == nil && !MaySee(by, c) {
		err = ErrNotFound
	}
	if err != nil {
		return Connection{}, err
	}
	return c, nil
}

// HostsOf are those that a database may lead to which somebody is about to save.
func (s *Service) HostsOf(by User) *dsn.Hosts { return s.store.HostsOf(by) }

// CheckDatabase returns what is wrong with a request to save a database, or with one to change the saved one of an id that is
// not 0, and saves nothing: ErrNoName, ErrLongName, ErrNoEnvironment and ErrHostForbidden, joined.
func (s *Service) CheckDatabase(ctx context.Context, by User, id int64, r DatabaseRequest) error {
	if id == 0 {
		if !MaySave(by) {
			return ErrForbidden
		}
		if _, err := r.fill(by, Connection{}); err != nil {
			return err
		}
		return r.check(s.store.HostsOf(by))
	}
	saved, err := s.store.Connection(ctx, id)
	if err == nil {
		_, err = r.change(by, saved)
	}
	if err != nil {
		return err
	}
	// It may lead where its owner's may, whoever changes it.
	_, hosts, err := s.store.ConnectionURL(ctx, id)
	if err != nil {
		return err
	}
	return r.check(hosts)
}

// AddDatabase saves a database of the one who asks, and asks it what it is. The errors are those of CheckDatabase, and ErrTaken
// for the name.
func (s *Service) AddDatabase(ctx context.Context, by User, r DatabaseRequest) (id int64, err error) {
	if err := s.CheckDatabase(ctx, by, 0, r); err != nil {
		return 0, err
	}
	added, err := r.fill(by, Connection{OwnerID: by.ID})
	if err != nil {
		return 0, err
	}
	id, err = s.store.AddConnection(ctx, added, r.URL)
	if err == nil {
		s.learn(ctx, by, id)
	}
	return id, err
}

// ChangeDatabase changes a saved database: all that the request has, and its URL unless that is empty. The errors are those of
// CheckDatabase, ErrTaken for the name, and ErrConflict for another URL while a job uses the database.
func (s *Service) ChangeDatabase(ctx context.Context, by User, id int64, r DatabaseRequest) error {
	if err := s.CheckDatabase(ctx, by, id, r); err != nil {
		return err
	}
	err := s.store.ChangeConnection(ctx, id, r.URL, func(saved Connection) (Connection, error) { return r.change(by, saved) })
	if err == nil {
		s.learn(ctx, by, id)
	}
	return err
}

// RemoveDatabase forgets a saved database. Its jobs stay in the history. The error while a job uses it is ErrConflict.
func (s *Service) RemoveDatabase(ctx context.Context, by User, id int64) error {
	return s.store.RemoveConnection(ctx, id, func(c Connection) error { return mayChange(by, c) })
}

// learn has a database that was just saved say what it is, as often as its user may test one. It is saved either way, and
// asked again when it is used.
func (s *Service) learn(ctx context.Context, by User, id int64) {
	end, err := s.tests.begin(by.ID)
	if err != nil {
		return
	}
	defer end()
	if err := s.store.Learn(ctx, id); err != nil {
		s.log.WarnContext(ctx, "ask a saved database what it is", "database", id, "error", err)
	}
}
