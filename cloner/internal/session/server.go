package session

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

// dumpOptionsSQL finds what a session of pg_dump has to set otherwise than the role or the database has it, as pg_dump does
// not do by itself: how definitions are written. Poolers may not take options, so there are none where none is needed.
const dumpOptionsSQL = `
	SELECT coalesce(string_agg(format('-c %s=%s', name, value), ' '), '')
	FROM (VALUES ('standard_conforming_strings', 'on'), ('quote_all_identifiers', 'off'), ('bytea_output', 'hex'), ('xmlbinary', 'base64')) pin (name, value)
	JOIN pg_settings s USING (name)
	WHERE s.setting <> value`

//go:embed sql/facts.sql
var factsSQL string

// Facts are what a clone needs to know of one server and database.
type Facts struct {
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

func (f Facts) Major() int { return f.VersionNum / 10000 }

// Way is how one side of a clone is reached.
type Way struct {
	Side  report.Side
	URL   dsn.URL
	Hosts *dsn.Hosts
	Name  string      // application_name of its sessions
	at    dsn.Reached // by the first session; its host stays over the attempts
}

// Anew is where a first session goes: what the name of the host stands for is looked up again.
func (w Way) Anew() (dsn.URL, *dsn.Hosts) { return w.at.Narrow(w.URL), w.Hosts }

// Pinned is where all other sessions go: to the very address of the first.
func (w Way) Pinned() (dsn.URL, *dsn.Hosts) { return w.at.Narrow(w.URL), w.at.Only(w.Hosts) }

// Open connects to the address of the first session, and pins the session's settings.
func (w Way) Open(ctx context.Context) (*Session, error) {
	u, hosts := w.Pinned()
	return Open(ctx, w.Side, u, hosts, w.Name)
}

// Server is one side of an attempt: how it is reached, what it is, and a session for questions.
type Server struct {
	Way
	Facts
	Control     *Session
	Timeline    int    // of its write-ahead log; 0 where it cannot be told, or could be another than it seems
	NoTimeline  string // why not
	SearchPath  string // as its ordinary sessions have it; quoted
	DumpOptions string // see dumpOptionsSQL
}

// Identity is that of the database there.
func (s *Server) Identity() report.Identity {
	e := s.URL.Endpoint()
	return report.Identity{System: s.SystemIdentifier, Database: s.DatabaseOID, Address: e.Address + "/" + e.Database}
}

// Endpoint is the server for people.
func (s *Server) Endpoint() report.Endpoint {
	return report.Endpoint{Address: s.URL.Endpoint().Address, Database: s.Database, User: s.Role, Version: s.Version}
}

// Rename gives the sessions that come another application_name, and the one that is there.
func (s *Server) Rename(ctx context.Context, name string) error {
	if err := s.Control.Exec(ctx, SetName(name)); err != nil {
		return fmt.Errorf("name the session on the %s: %w", s.Side, err)
	}
	s.Name = name
	return nil
}

// ErrOtherServer is for a URL that leads to another server than when the clone began.
var ErrOtherServer = errors.New("another server answers there than the one that the clone began with")

// Connect opens the first session of a side and reads what is there. A reason says why it cannot be used. Patience, if it is
// not 0, is how long connecting may take; system, if it is not empty, is the identifier of the server that has to be there.
func Connect(ctx context.Context, w Way, patience time.Duration, system string) (*Server, *report.Reason, error) {
	if err := w.URL.Check(); err != nil {
		return nil, urlReason(w.Side, err), nil
	}
	s, pooled, err := w.dialFirst(ctx, patience)
	if err != nil {
		reason, err := ConnectReason(ctx, w.Side, w.URL, err)
		return nil, reason, err
	}
	if pooled {
		s.Close()
		return nil, &report.Reason{
			Code: report.ReasonPooler, Side: w.Side,
			Text: report.Said(fmt.Sprintf("The %s at %s is reached through a pooler in transaction mode, which cannot hold a snapshot or a lock.", w.Side, w.URL)),
			Hint: report.Said("Use the direct address of the server, or the pooler's session mode (often port 5432 instead of 6543)."),
		}, nil
	}
	w.at = s.at
	there := &Server{Way: w, Control: s}
	err = there.read(ctx)
	if err == nil && system != "" && system != there.SystemIdentifier {
		err = &LostError{Side: w.Side, Err: ErrOtherServer, Text: report.Said(fmt.Sprintf("The %s is not there: %v.", w.Side, ErrOtherServer))}
	}
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return there, nil, nil
}

// read reads what the server is, and pins the settings of its first session.
func (s *Server) read(ctx context.Context) (err error) {
	if s.DumpOptions, err = s.Control.SimpleValue(ctx, dumpOptionsSQL); err != nil {
		return fmt.Errorf("read settings of the %s: %w", s.Side, err)
	}
	// As ordinary sessions see it, before ours is pinned: functions rely on it.
	s.SearchPath, err = s.Control.SimpleValue(ctx, `SELECT coalesce(string_agg(quote_ident(x), ', '), 'public') FROM unnest(current_schemas(false)) x`)
	if err != nil {
		return fmt.Errorf("read search_path of the %s: %w", s.Side, err)
	}
	if err := s.Control.Exec(ctx, Join(settingsOf(s.Side), SetName(s.Name))); err != nil {
		return fmt.Errorf("set up the session on the %s: %w", s.Side, err)
	}
	if s.Facts, err = QueryRow[Facts](ctx, s.Control, factsSQL); err != nil {
		return fmt.Errorf("read what the %s is: %w", s.Side, err)
	}
	if s.Side == report.Target {
		return nil
	}
	return s.readTimeline(ctx)
}

// readTimeline leaves it at 0 where the server does not tell: nothing is proven then from one snapshot to the next. A standby
// may follow another timeline than the one that it knows.
func (s *Server) readTimeline(ctx context.Context) (err error) {
	if s.InRecovery {
		s.NoTimeline = "it is a standby"
		return nil
	}
	s.Timeline, err = QueryValue[int](ctx, s.Control, `SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int`)
	if err != nil && Classify(err).Ends() {
		return fmt.Errorf("read the timeline of the source: %w", err)
	}
	if err != nil {
		s.NoTimeline = err.Error()
	}
	return nil
}

// dialFirst connects, and tells whether that is through a transaction pooler.
func (w Way) dialFirst(ctx context.Context, patience time.Duration) (s *Session, pooled bool, err error) {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	u, hosts := w.Anew()
	if s, err = Dial(ctx, w.Side, u, hosts, w.Name); err != nil {
		return nil, false, err
	}
	w.at = s.at
	if pooled, err = transactionPooled(ctx, s, w); err != nil {
		s.Close()
		return nil, false, err
	}
	return s, pooled, nil
}

// transactionPooled tells whether s goes through a pooler that gives each transaction
// another backend. No session setting may be made before this is known: it would stay
// with the backend and reach other clients.
func transactionPooled(ctx context.Context, s *Session, w Way) (bool, error) {
	u, hosts := w.Pinned()
	other, err := Dial(ctx, w.Side, u, hosts, w.Name)
	if err != nil {
		return false, err
	}
	defer other.Close()
	const backend = "SELECT pg_backend_pid()"
	first, err := s.SimpleValue(ctx, backend)
	if err != nil {
		return false, err
	}
	second, err := other.SimpleValue(ctx, "BEGIN; "+backend)
	if err != nil || second == first {
		return true, err
	}
	again, err := s.SimpleValue(ctx, backend)
	if err != nil {
		return false, err
	}
	return again != first, other.Exec(ctx, "COMMIT")
}
