package cloner

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

//go:embed sql/facts.sql
var factsSQL string

// facts are what a clone needs to know of one server and database.
type facts struct {
	VersionNum       int
	Version          string
	Encoding         string
	Database         string
	DatabaseOID      int64
	SystemIdentifier string
	InRecovery       bool
	Role             string
	Superuser        bool
	CanCreate        bool
	Lz4              bool
}

func (f facts) major() int { return f.VersionNum / 10000 }

// way is how one side of a clone is reached.
type way struct {
	side  report.Side
	url   dsn.URL
	hosts *dsn.Hosts
	name  string      // application_name of its sessions
	at    dsn.Reached // by the first session; its host stays over the attempts
}

// anew is where a first session goes: what the name of the host stands for is looked up again.
func (w way) anew() (dsn.URL, *dsn.Hosts) { return w.at.Narrow(w.url), w.hosts }

// pinned is where all other sessions go: to the very address of the first.
func (w way) pinned() (dsn.URL, *dsn.Hosts) { return w.at.Narrow(w.url), w.at.Only(w.hosts) }

// open connects to the address of the first session, and pins the session's settings.
func (w way) open(ctx context.Context) (*session, error) {
	u, hosts := w.pinned()
	return open(ctx, w.side, u, hosts, w.name)
}

// identity is that of the database there.
func (s *server) identity() report.Identity {
	e := s.url.Endpoint()
	return report.Identity{System: s.SystemIdentifier, Database: s.DatabaseOID, Address: e.Address + "/" + e.Database}
}

// server is one side of an attempt: how it is reached, what it is, and a session for questions.
type server struct {
	way
	facts
	control     *session
	timeline    int    // of its write-ahead log; 0 where it cannot be told, or could be another than it seems
	noTimeline  string // why not
	searchPath  string // as its ordinary sessions have it; quoted
	dumpOptions string // see dumpOptionsSQL
}

// endpoint is the server for people.
func (s *server) endpoint() report.Endpoint {
	return report.Endpoint{Address: s.url.Endpoint().Address, Database: s.Database, User: s.Role, Version: s.Version}
}

// rename gives the sessions that come another application_name, and the one that is there.
func (s *server) rename(ctx context.Context, name string) error {
	if err := s.control.exec(ctx, setName(name)); err != nil {
		return fmt.Errorf("name the session on the %s: %w", s.side, err)
	}
	s.name = name
	return nil
}

// errOtherServer is for a URL that leads to another server than when the clone began.
var errOtherServer = errors.New("another server answers there than the one that the clone began with")

// connect opens the first session of a side and reads what is there. A reason says why it cannot be used. Patience, if it is
// not 0, is how long connecting may take; system, if it is not empty, is the identifier of the server that has to be there.
func connect(ctx context.Context, w way, patience time.Duration, system string) (*server, *report.Reason, error) {
	if err := w.url.Check(); err != nil {
		return nil, urlReason(w.side, err), nil
	}
	s, pooled, err := w.dialFirst(ctx, patience)
	if err != nil {
		reason, err := connectReason(ctx, w.side, w.url, err)
		return nil, reason, err
	}
	if pooled {
		s.close()
		return nil, &report.Reason{
			Code: report.ReasonPooler, Side: w.side,
			Text: fmt.Sprintf("The %s at %s is reached through a pooler in transaction mode, which cannot hold a snapshot or a lock.", w.side, w.url),
			Hint: "Use the direct address of the server, or the pooler's session mode (often port 5432 instead of 6543).",
		}, nil
	}
	w.at = s.at
	there := &server{way: w, control: s}
	err = there.read(ctx)
	if err == nil && system != "" && system != there.SystemIdentifier {
		err = &lostError{side: w.side, err: errOtherServer, text: fmt.Sprintf("The %s is not there: %v.", w.side, errOtherServer)}
	}
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return there, nil, nil
}

// read reads what the server is, and pins the settings of its first session.
func (s *server) read(ctx context.Context) (err error) {
	if s.dumpOptions, err = s.control.word(ctx, dumpOptionsSQL); err != nil {
		return fmt.Errorf("read settings of the %s: %w", s.side, err)
	}
	// As ordinary sessions see it, before ours is pinned: functions rely on it.
	s.searchPath, err = s.control.word(ctx, `SELECT coalesce(string_agg(quote_ident(x), ', '), 'public') FROM unnest(current_schemas(false)) x`)
	if err != nil {
		return fmt.Errorf("read search_path of the %s: %w", s.side, err)
	}
	if err := s.control.exec(ctx, join(settingsOf(s.side), setName(s.name))); err != nil {
		return fmt.Errorf("set up the session on the %s: %w", s.side, err)
	}
	if s.facts, err = theOnly[facts](ctx, s.control, factsSQL); err != nil {
		return fmt.Errorf("read what the %s is: %w", s.side, err)
	}
	if s.side == report.Target {
		return nil
	}
	return s.readTimeline(ctx)
}

// readTimeline leaves it at 0 where the server does not tell: nothing is proven then from one snapshot to the next. A standby
// may follow another timeline than the one that it knows.
func (s *server) readTimeline(ctx context.Context) (err error) {
	if s.InRecovery {
		s.noTimeline = "it is a standby"
		return nil
	}
	s.timeline, err = one[int](ctx, s.control, `SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int`)
	if err != nil && Classify(err).Ends() {
		return fmt.Errorf("read the timeline of the source: %w", err)
	}
	if err != nil {
		s.noTimeline = err.Error()
	}
	return nil
}

// dialFirst connects, and tells whether that is through a transaction pooler.
func (w way) dialFirst(ctx context.Context, patience time.Duration) (s *session, pooled bool, err error) {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	u, hosts := w.anew()
	if s, err = dial(ctx, w.side, u, hosts, w.name); err != nil {
		return nil, false, err
	}
	w.at = s.at
	if pooled, err = transactionPooled(ctx, s, w); err != nil {
		s.close()
		return nil, false, err
	}
	return s, pooled, nil
}

// transactionPooled tells whether s goes through a pooler that gives each transaction
// another backend. No session setting may be made before this is known: it would stay
// with the backend and reach other clients.
func transactionPooled(ctx context.Context, s *session, w way) (bool, error) {
	u, hosts := w.pinned()
	other, err := dial(ctx, w.side, u, hosts, w.name)
	if err != nil {
		return false, err
	}
	defer other.close()
	const backend = "SELECT pg_backend_pid()"
	first, err := s.word(ctx, backend)
	if err != nil {
		return false, err
	}
	second, err := other.word(ctx, "BEGIN; "+backend)
	if err != nil || second == first {
		return true, err
	}
	again, err := s.word(ctx, backend)
	if err != nil {
		return false, err
	}
	return again != first, other.exec(ctx, "COMMIT")
}
