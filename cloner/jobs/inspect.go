package jobs

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/report"
)

// testPatience is how long a database may take to show what it has.
const testPatience = 30 * time.Second

// UnansweredCode is why a database has not answered.
type UnansweredCode string

// The codes.
const (
	TooManyTests UnansweredCode = "too_many" // so many tests of the one who asks are running
	TooOften     UnansweredCode = "too_often"
	UnusableURL  UnansweredCode = "url" // it was saved before such URLs were refused
	Slow         UnansweredCode = "slow"
	Fault        UnansweredCode = "fault"
)

// UnansweredError is the error for a database that was not asked, or has not answered. What the engine has against a
// database is a report.RefusedError instead.
type UnansweredError struct {
	Code UnansweredCode
	Err  error // nil for too many tests
}

// Error says why.
func (e *UnansweredError) Error() string {
	if e.Err == nil {
		return "ask a database: " + string(e.Code)
	}
	return "ask a database: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnansweredError) Unwrap() error { return e.Err }

// Inspection is what a database was found to be.
type Inspection struct {
	report.Inspection
	Protected     bool // the saved database is, and can never be a target
	StateDatabase bool // it holds the state of Calco itself
}

// TestDatabase looks at a saved database, and keeps what it is found to be. The errors are UnansweredError and
// report.RefusedError.
func (s *Service) TestDatabase(ctx context.Context, by User, id int64) (Inspection, error) {
	saved, err := s.Database(ctx, by, id)
	if err != nil {
		return Inspection{}, err
	}
	url, hosts, err := s.store.ConnectionURL(ctx, id)
	if err != nil {
		return Inspection{}, err
	}
	return s.inspect(ctx, by, url, hosts, saved)
}

// TestURL looks at the database of a URL that is not saved, or that is to take the place of the one of a saved database with
// an id that is not 0: it may then lead where that may, whoever asks. The errors are those of TestDatabase.
func (s *Service) TestURL(ctx context.Context, by User, url dsn.URL, id int64) (Inspection, error) {
	if id == 0 {
		if !MaySave(by) {
			return Inspection{}, ErrForbidden
		}
		return s.inspect(ctx, by, url, s.store.HostsOf(by), Connection{})
	}
	saved, err := s.store.Connection(ctx, id)
	if err == nil {
		err = mayChange(by, saved)
	}
	if err != nil {
		return Inspection{}, err
	}
	_, hosts, err := s.store.ConnectionURL(ctx, id)
	if err != nil {
		return Inspection{}, err
	}
	return s.inspect(ctx, by, url, hosts, Connection{Protected: saved.Protected})
}

// inspect looks at the database of a URL. One that is not saved has the id 0.
func (s *Service) inspect(ctx context.Context, by User, url dsn.URL, hosts *dsn.Hosts, saved Connection) (Inspection, error) {
	asking, end, err := s.beginTest(ctx, by, url, hosts)
	if err != nil {
		return Inspection{}, err
	}
	defer end()
	found, err := cloner.Inspect(asking, url, hosts)
	if err != nil {
		return Inspection{}, unanswered(ctx, asking, err)
	}
	if saved.ID != 0 {
		if err := s.store.KeepIdentity(asking, saved.ID, found.Identity); err != nil {
			return Inspection{}, err
		}
	}
	own, err := s.store.OwnsDatabase(asking, url, hosts)
	return Inspection{Inspection: found, Protected: saved.Protected, StateDatabase: own}, err
}

// Schemas returns the schemas of a saved database. The errors are those of TestDatabase.
func (s *Service) Schemas(ctx context.Context, by User, id int64) ([]report.SchemaInfo, error) {
	var found report.Inspection
	_, err := s.askSaved(ctx, by, id, func(ctx context.Context, url dsn.URL, hosts *dsn.Hosts) (err error) {
		found, err = cloner.Inspect(ctx, url, hosts)
		return err
	})
	return found.Schemas, err
}

// CleanPreview is what clean would drop from a saved database. Its Database is the saved name: through a pooler, the server
// may call it otherwise.
type CleanPreview struct{ report.CleanPreview }

// The errors for an answer that does not confirm a preview.
var (
	ErrWrongName = errors.New("it is not the name of the database")
	ErrChanged   = errors.New("the target holds something else than was shown")
)

// Confirm returns what somebody agrees to who types the name of the database, after having been shown a preview with a
// digest: all that is there now, if that is what was shown.
func (p CleanPreview) Confirm(typed, shown string) (*report.Confirmation, error) {
	switch {
	case typed != p.Database:
		return nil, ErrWrongName
	case shown != p.Confirmation.Digest():
		return nil, ErrChanged
	}
	return &p.Confirmation, nil
}

// PreviewClean looks at what clean would drop from a saved database: of the schemas, or of all for none. The errors are those
// of TestDatabase.
func (s *Service) PreviewClean(ctx context.Context, by User, id int64, schemas []string) (CleanPreview, error) {
	var p CleanPreview
	saved, err := s.askSaved(ctx, by, id, func(ctx context.Context, url dsn.URL, hosts *dsn.Hosts) (err error) {
		p.CleanPreview, err = cloner.PreviewClean(ctx, cloner.Spec{Target: url, TargetHosts: hosts, Schemas: schemas, Clean: true})
		return err
	})
	p.Database = saved.Database
	return p, err
}

// Preflight looks for what is in the way of a clone that somebody thinks of. It only reads, on both sides.
func (s *Service) Preflight(ctx context.Context, by User, n NewTask, clean bool) (p report.Preflight, err error) {
	if _, err := s.Database(ctx, by, n.TargetID); err != nil {
		return p, err
	}
	target, targetHosts, err := s.store.ConnectionURL(ctx, n.TargetID)
	if err != nil {
		return p, err
	}
	if err := target.CheckRemote(targetHosts); err != nil {
		return p, &UnansweredError{Code: UnusableURL, Err: err}
	}
	_, err = s.askSaved(ctx, by, n.SourceID, func(ctx context.Context, source dsn.URL, hosts *dsn.Hosts) (err error) {
		p, err = cloner.Preflight(ctx, cloner.Spec{
			Source: source, SourceHosts: hosts, Target: target, TargetHosts: targetHosts, Schemas: n.Schemas, Clean: clean,
		})
		return err
	})
	return p, err
}

// PreviewRetry looks at what clean would drop before a job is tried again, only where the job went: of another database
// nothing is told. The errors are those of TestDatabase, and ErrMoved.
func (s *Service) PreviewRetry(ctx context.Context, by User, id string) (CleanPreview, error) {
	old, err := s.TaskToRetry(ctx, by, id)
	if err != nil {
		return CleanPreview{}, err
	}
	target, err := s.Database(ctx, by, old.Target.ConnectionID)
	switch {
	case err != nil:
		return CleanPreview{}, err
	case !old.Target.Same(target.Place()):
		return CleanPreview{}, ErrMoved
	}
	return s.PreviewClean(ctx, by, target.ID, old.Schemas)
}

// askSaved asks a saved database something that its user sees, and returns it.
func (s *Service) askSaved(ctx context.Context, by User, id int64, ask func(context.Context, dsn.URL, *dsn.Hosts) error) (Connection, error) {
	saved, err := s.Database(ctx, by, id)
	if err != nil {
		return saved, err
	}
	url, hosts, err := s.store.ConnectionURL(ctx, id)
	if err != nil {
		return saved, err
	}
	asking, end, err := s.beginTest(ctx, by, url, hosts)
	if err != nil {
		return saved, err
	}
	defer end()
	if err := ask(asking, url, hosts); err != nil {
		return saved, unanswered(ctx, asking, err)
	}
	return saved, nil
}

// beginTest lets somebody ask a database something, for as long as a test may take. The context is over when end is called.
func (s *Service) beginTest(ctx context.Context, by User, url dsn.URL, hosts *dsn.Hosts) (asking context.Context, end func(), err error) {
	if err := url.CheckRemote(hosts); err != nil {
		return nil, nil, &UnansweredError{Code: UnusableURL, Err: err}
	}
	done, err := s.tests.begin(by.ID)
	if err != nil {
		return nil, nil, err
	}
	asking, cancel := context.WithTimeout(ctx, testPatience)
	return asking, func() {
		cancel()
		done()
	}, nil
}

// unanswered tells why a database has not answered. Whoever has gone meanwhile gets the error as it is.
func unanswered(asked, asking context.Context, err error) error {
	var refused *report.RefusedError
	switch {
	case errors.As(err, &refused), asked.Err() != nil:
		return err
	case asking.Err() != nil:
		return &UnansweredError{Code: Slow, Err: err}
	}
	return &UnansweredError{Code: Fault, Err: err}
}

// TestLimits are what one person may have tested: so many databases at the same time, some more in a row, and then one every
// few seconds. Tests lead to any address that the server reaches, and must not be a way to look through a network. Zero
// fields are as usual; with fewer than 0 at a time there are no tests.
type TestLimits struct {
	AtATime int
	InARow  int
	Every   time.Duration
}

func (l TestLimits) orUsual() TestLimits {
	return TestLimits{AtATime: cmp.Or(l.AtATime, 2), InARow: cmp.Or(l.InARow, 20), Every: cmp.Or(l.Every, 3*time.Second)}
}

// tests count those of each user. They are safe for concurrent use.
type tests struct {
	limits TestLimits

	mu sync.Mutex
	of map[int64]*tester
}

type tester struct {
	running int
	pace    *rate.Limiter
}

// begin lets a user begin a test, which is over when end is called.
func (t *tests) begin(user int64) (end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[int64]*tester{}
	}
	one := t.of[user]
	if one == nil {
		one = &tester{pace: rate.NewLimiter(rate.Every(t.limits.Every), t.limits.InARow)}
		t.of[user] = one
	}
	if one.running >= t.limits.AtATime {
		return nil, &UnansweredError{Code: TooManyTests}
	}
	if !one.pace.Allow() {
		return nil, &UnansweredError{Code: TooOften}
	}
	one.running++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		one.running--
	}, nil
}
