package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

// CancelPatience is how long a session waits for the server to honour a cancel
// request before its connection is cut.
const CancelPatience = time.Second

// Session is one connection to the source or the target. It is not safe for
// concurrent use. When the context of a call ends, the server is asked to cancel
// the statement, so nothing goes on running there.
type Session struct {
	Side report.Side
	Conn *pgx.Conn
	at   dsn.Reached
	PID  int // of the backend, which a pooler may hide; 0 while it is not known
}

// commonSettings pin what a role or a database may have set otherwise: timeouts that
// would end a long clone, every setting that changes how a value is written, read or
// computed, or how a statement of an archive is understood, and how soon a server notices
// that we are gone: our locks and transactions stay until then. SET in the session wins over
// ALTER ROLE and ALTER DATABASE, and unlike startup options it gets past poolers.
//
// The last statement has what not every version knows, and what only a superuser may set. Of
// that session_replication_role decides only which triggers fire, of which no table has any
// while its rows arrive; with the others on, damaged pages are read as empty ones, so a role
// that cannot turn them off must not go on.
//
// https://www.postgresql.org/docs/current/runtime-config-client.html
// https://www.postgresql.org/docs/current/runtime-config-compatible.html
const commonSettings = `
	SET statement_timeout = 0;
	SET idle_in_transaction_session_timeout = 0;
	SET default_transaction_isolation = 'read committed';
	SET default_transaction_deferrable = off;
	SET client_encoding = 'UTF8';
	SET standard_conforming_strings = on;
	SET backslash_quote = 'safe_encoding';
	SET escape_string_warning = off;
	SET transform_null_equals = off;
	SET client_min_messages = error;
	SET exit_on_error = off;
	SET search_path = '';
	SET check_function_bodies = off;
	SET xmloption = content;
	SET xmlbinary = 'base64';
	SET row_security = off;
	SET TimeZone = 'UTC';
	SET timezone_abbreviations = 'Default';
	SET DateStyle = 'ISO, YMD';
	SET IntervalStyle = 'postgres';
	SET extra_float_digits = 3;
	SET bytea_output = 'hex';
	SET array_nulls = on;
	SET lc_monetary = 'C';
	SET lc_numeric = 'C';
	SET lc_time = 'C';
	SET quote_all_identifiers = off;
	SET synchronize_seqscans = off;
	SET jit = off; -- it takes longer to compile a query of catalogs than to run it
	SET gin_fuzzy_search_limit = 0;
	SET default_tablespace = '';
	SET default_table_access_method = 'heap';
	SET tcp_keepalives_idle = 30;
	SET tcp_keepalives_interval = 10;
	SET tcp_keepalives_count = 3;
	SET tcp_user_timeout = '30s';
	SELECT set_config(name, value, false)
	FROM (VALUES ('transaction_timeout', '0'), ('idle_session_timeout', '0'), ('restrict_nonsystem_relation_kind', ''),
	             ('icu_validation_level', 'disabled'), ('operator_precedence_warning', 'off'), ('session_replication_role', 'origin'),
	             ('lo_compat_privileges', 'off'), ('zero_damaged_pages', 'off'), ('ignore_checksum_failure', 'off')) pin (name, value)
	JOIN pg_settings s USING (name)
	WHERE s.context = 'user'
	   OR s.setting <> value AND (name NOT IN ('session_replication_role', 'lo_compat_privileges') OR current_setting('is_superuser') = 'on')`

// On the source a lock that somebody holds for long makes one table fail, not the clone hang.
const sourceSettings = commonSettings + `; SET lock_timeout = '60s'; SET default_transaction_read_only = on`

// On the target the last commit, not each, waits for the disk. A session only writes where a transaction says so: that takes
// the owner of the target's marks.
const targetSettings = commonSettings + `; SET lock_timeout = 0; SET default_transaction_read_only = on; SET synchronous_commit = off`

func settingsOf(side report.Side) string {
	if side == report.Target {
		return targetSettings
	}
	return sourceSettings
}

// Dial connects to a host of hosts without changing any setting of the session.
func Dial(ctx context.Context, side report.Side, u dsn.URL, hosts *dsn.Hosts, applicationName string) (*Session, error) {
	cfg, err := u.Config(applicationName, hosts)
	if err != nil {
		return nil, err
	}
	cfg.BuildContextWatcherHandler = func(pc *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: pc, DeadlineDelay: CancelPatience}
	}
	info, err := dsn.Parse(string(u))
	if err != nil {
		return nil, err
	}
	where := dsn.NoteDialing(cfg, info)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Session{Side: side, Conn: conn, at: where()}, nil
}

// SetName gives a session the name by which those who go on with the job find its backend. A pooler may have put its own
// in place of the one that the connection began with.
func SetName(applicationName string) string {
	return "SET application_name = " + QuoteLiteral(applicationName)
}

func Open(ctx context.Context, side report.Side, u dsn.URL, hosts *dsn.Hosts, applicationName string) (*Session, error) {
	s, err := Dial(ctx, side, u, hosts, applicationName)
	if err != nil {
		err = fmt.Errorf("connect to the %s: %w", side, err)
		if ctx.Err() == nil && Classify(err) == Lost {
			err = &LostError{Side: side, Err: err}
		}
		return nil, err
	}
	pid, err := s.SimpleValue(ctx, settingsOf(side)+"; "+SetName(applicationName)+"; SELECT pg_backend_pid()")
	if err == nil {
		s.PID, err = strconv.Atoi(pid)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("set up the session on the %s: %w", side, err)
	}
	return s, nil
}

// Close ends the session. It waits a little for the server to hang up, which it does when
// the backend is gone.
func (s *Session) Close() {
	if pc := s.Conn.PgConn(); !pc.IsClosed() {
		_ = pc.Conn().SetDeadline(time.Now().Add(CancelPatience))
		if Send(s, &pgproto3.Terminate{}) == nil {
			_, _ = io.Copy(io.Discard, pc.Conn())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), CancelPatience)
	defer cancel()
	_ = s.Conn.Close(ctx) // the backend is gone either way
	select {
	case <-s.Conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// CloseAll closes sessions at once rather than one after the other.
func CloseAll(sessions ...*Session) {
	done := make(chan struct{}, len(sessions))
	for _, s := range sessions {
		go func() {
			if s != nil {
				s.Close()
			}
			done <- struct{}{}
		}()
	}
	for range sessions {
		<-done
	}
}

// Exec runs one or more statements in one round trip and drops their results.
func (s *Session) Exec(ctx context.Context, sql string) error {
	return s.Explain(s.Conn.PgConn().Exec(ctx, sql).Close())
}

// SimpleQuery runs one query and returns its rows as text; NULL is "".
func (s *Session) SimpleQuery(ctx context.Context, sql string) ([][]string, error) {
	results := s.Conn.PgConn().Exec(ctx, sql)
	left := allowance(AnswerBytes)
	var rows [][]string
	var err error
	for err == nil && results.NextResult() {
		for r := results.ResultReader(); err == nil && r.NextRow(); {
			err = left.take(r.Values())
			cells := make([]string, len(r.Values()))
			for i, v := range r.Values() {
				cells[i] = string(v)
			}
			rows = append(rows, cells)
		}
	}
	if err != nil { // the rest is not waited for
		_ = s.Conn.PgConn().Conn().Close()
	}
	if err := cmp.Or(err, results.Close()); err != nil {
		return nil, s.Explain(err)
	}
	return rows, nil
}

// SimpleValue runs a query whose last result is one value, as text.
func (s *Session) SimpleValue(ctx context.Context, sql string) (string, error) {
	rows, err := s.SimpleQuery(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || len(rows[len(rows)-1]) == 0 {
		return "", errors.New("query returned no value")
	}
	return rows[len(rows)-1][0], nil
}

// Query runs a query with bound values and scans each row into a T by column name.
func Query[T any](ctx context.Context, s *Session, sql string, args ...any) ([]T, error) {
	rows, err := s.Conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, s.Explain(err)
	}
	list, err := collectRows(rows, pgx.RowToStructByName[T])
	return list, s.Explain(err)
}

// QueryRow is Query of one that returns one row.
func QueryRow[T any](ctx context.Context, s *Session, sql string, args ...any) (row T, err error) {
	rows, err := Query[T](ctx, s, sql, args...)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows instead of one", len(rows))
	}
	if err != nil {
		return row, err
	}
	return rows[0], nil
}

// QueryValue runs a query with bound values that returns one value.
func QueryValue[T any](ctx context.Context, s *Session, sql string, args ...any) (T, error) {
	rows, err := s.Conn.Query(ctx, sql, args...)
	if err != nil {
		var none T
		return none, s.Explain(err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	return value, s.Explain(err)
}

// A pipeline is cut so that what the server has to say to it always fits the
// sockets' buffers: neither side waits for the other to read.
const (
	PipelineStatements = 200
	pipelineBytes      = 64 << 10
)

// Fence is what has to hold for a query to be run: statements that go before it, in its transaction, and raise if it does not.
// The zero value is none.
type Fence struct {
	SQL        string
	Statements int
}

// Pipeline runs each element as a query of its own, in order, sending many before the
// first answer is read: a batch costs one round trip, an element that fails fails
// alone, and no transaction holds more locks than one element needs. The error of
// element i is errs[i]; the second result is an error that ended the session.
//
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY
func (s *Session) Pipeline(ctx context.Context, fence Fence, queries []string) (errs []error, err error) {
	errs = make([]error, len(queries))
	for first := 0; first < len(queries); {
		last, size := first, 0
		for last < len(queries) && last-first < PipelineStatements && (size == 0 || size+len(queries[last]) <= pipelineBytes) {
			size += len(queries[last])
			last++
		}
		if err := s.sendBatch(ctx, fence, queries[first:last], errs[first:last]); err != nil {
			return errs, err
		}
		first = last
	}
	return errs, nil
}

// sendBatch sends one batch of Pipeline and reads its answers.
func (s *Session) sendBatch(ctx context.Context, fence Fence, queries []string, errs []error) error {
	pc := s.Conn.PgConn()
	for _, q := range queries {
		if fence.SQL != "" {
			q = fence.SQL + ";\n" + q
		}
		pc.Frontend().SendQuery(&pgproto3.Query{String: q})
	}
	if err := pc.Frontend().Flush(); err != nil {
		return s.Explain(fmt.Errorf("send to the %s: %w", s.Side, err))
	}
	complete := 0 // statements of query i
	for i := 0; i < len(queries); {
		msg, err := pc.ReceiveMessage(ctx)
		if err != nil {
			return s.Explain(fmt.Errorf("read from the %s: %w", s.Side, err))
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			errs[i] = ServerError(msg)
			if complete < fence.Statements {
				errs[i] = FenceError(errs[i])
			}
			if lost := errs[i]; Classify(lost) == Lost {
				errs[i] = nil
				return s.Explain(lost)
			}
		case *pgproto3.CommandComplete:
			complete++
		case *pgproto3.ReadyForQuery:
			if SQLState(errs[i]) == QueryCanceled && ctx.Err() != nil {
				return context.Cause(ctx) // the rest must not be waited for
			}
			i++
			complete = 0
		}
	}
	return nil
}

// FenceError is what an error of the fence means: the job's row has another term by now, or is gone.
func FenceError(err error) error {
	switch SQLState(err) {
	case DivisionByZero, NoTable, NoSchema:
		return ErrTermLost
	}
	return err
}

// QuoteLiteral writes s as an SQL string; sessions have standard_conforming_strings on.
func QuoteLiteral(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// QuoteName writes a name of one or more parts as an SQL identifier.
func QuoteName(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

func FirstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// Send writes messages in one go, past pgconn, which would wait for each answer.
func Send(s *Session, messages ...pgproto3.FrontendMessage) error {
	var buf []byte
	for _, m := range messages {
		var err error
		if buf, err = m.Encode(buf); err != nil {
			return err
		}
	}
	_, err := s.Conn.PgConn().Conn().Write(buf)
	return err
}

// Join makes one query of several statements, leaving out empty ones.
func Join(statements ...string) string {
	var b strings.Builder
	for _, s := range statements {
		if s == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(s)
	}
	return b.String()
}
