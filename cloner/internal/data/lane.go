package data

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
)

// lane is a source and a target connection that carry one part at a time. Rows are
// never decoded: what the source sends as COPY data goes on to the target in pieces of
// chunkSize, so the memory of a lane does not depend on the size of a row.
type lane struct {
	source *session.Session
	target *marks.Writer

	// Kept from part to part: a lane may carry thousands of small tables.
	buffers [][]byte
	in      *bufio.Reader // of the source
}

// chunkSize is the size of a CopyData message to the target; chunks is how many are
// under way between the two connections.
const (
	chunkSize  = 256 << 10
	chunks     = 4
	headerSize = 5 // of a message: its kind, and its length without the kind
)

// failure is the error of one side of a part.
type failure struct {
	side report.Side
	err  error
}

func failureOf(s *session.Session, err error) error { return &failure{s.Side, s.Explain(err)} }

func (f *failure) Error() string { return fmt.Sprintf("%s: %v", f.side, f.err) }
func (f *failure) Unwrap() error { return f.err }

// copy copies one part and commits it on the target together with its mark, which is made
// of the number and the checksum of the rows, at the cost of one round trip on each side. It returns that number,
// or a *failure. After a failure on the target the source's session is of no more use; the
// caller replaces it.
//
// The target gets everything without waiting for its answers: first the query that
// begins the COPY, then the rows, CopyDone only after the source said that it sent all,
// and then the query with the mark and COMMIT, which fails by itself if the COPY has.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func (l *lane) copy(ctx context.Context, p *part, named string, mark func(rows int64, checksum string) string) (int64, error) {
	for _, s := range []*session.Session{l.source, l.target.Session} {
		if err := s.Conn.PgConn().SyncConn(ctx); err != nil {
			return 0, failureOf(s, err)
		}
	}
	restore := l.cutOn(ctx)
	defer restore()

	if err := session.Send(l.source, &pgproto3.Query{String: session.Join(snapshot.BeginAt(named), p.lock, p.checksum, p.read, "COMMIT")}); err != nil {
		return 0, failureOf(l.source, err)
	}
	// BEGIN is a query of its own: if the next could not even be parsed, the one with the
	// mark would else find no failed transaction, and commit a mark without rows.
	if err := session.Send(l.target.Session, &pgproto3.Query{String: "BEGIN"}, &pgproto3.Query{String: session.Join(l.target.Fence(), p.write)}); err != nil {
		return 0, failureOf(l.target.Session, err)
	}
	full, empty := make(chan []byte, chunks), make(chan []byte, chunks)
	for len(l.buffers) < chunks {
		l.buffers = append(l.buffers, make([]byte, headerSize, chunkSize))
	}
	for _, b := range l.buffers {
		empty <- b
	}
	var out outcome
	var in outcome
	targetFailed := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		defer close(full)
		out.err = safely.Do(func() error { out = l.readSource(p, full, empty); return out.err })
	})
	wait.Go(func() {
		in.err = safely.Do(func() error { in = readTarget(l.target.Session, targetFailed); return in.err })
	})

	err := l.forward(ctx, full, empty, targetFailed)
	// The source has said all it had to say: out may be read.
	sourceFailed := err == nil && out.err != nil
	switch {
	case errors.Is(err, errTargetFailed) || sourceFailed:
		err = session.Send(l.target.Session, &pgproto3.CopyFail{Message: "given up"}, &pgproto3.Query{String: "ROLLBACK"})
	case err == nil:
		err = session.Send(l.target.Session, &pgproto3.CopyDone{}, &pgproto3.Query{String: p.then + mark(out.rows, out.checksum) + "; COMMIT"})
	}
	if err != nil {
		_ = l.target.Conn.PgConn().Conn().SetDeadline(time.Now()) // nothing more will come that matters
	}
	wait.Wait()
	return l.judge(ctx, out, in, sourceFailed, err)
}

// judge names the side that failed by itself: when one does, the other only echoes it.
func (l *lane) judge(ctx context.Context, out, in outcome, sourceFailed bool, writeErr error) (int64, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if out.err == nil && in.err == nil && writeErr != nil {
		in.err = writeErr
	}
	targetAlone := in.err != nil && !sourceFailed
	if in.inTransaction {
		if err := l.target.Exec(ctx, "ROLLBACK"); err != nil {
			return 0, failureOf(l.target.Session, err)
		}
	}
	switch {
	case targetAlone:
		return 0, failureOf(l.target.Session, in.err)
	case out.err != nil:
		if out.inTransaction {
			if err := l.source.Exec(ctx, "ROLLBACK"); err != nil {
				return 0, failureOf(l.source, err)
			}
		}
		return 0, failureOf(l.source, out.err)
	case out.rows != in.rows:
		return 0, &failure{report.Target, fmt.Errorf("the source sent %d rows and the target took %d", out.rows, in.rows)}
	}
	return out.rows, nil
}

// outcome is what one side said of a part.
type outcome struct {
	rows          int64  // by the tag of COPY
	checksum      string // of the source's rows, where the part asks for it
	err           error  // the first
	inTransaction bool   // at the end: a failed one waits for its ROLLBACK
}

// cutOn makes both servers cancel what they do for this part when ctx ends, and cuts
// the connections if they take too long. The returned func undoes it.
func (l *lane) cutOn(ctx context.Context) (restore func()) {
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		deadline := time.Now().Add(session.CancelPatience)
		asking, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		var both sync.WaitGroup
		for _, s := range []*session.Session{l.source, l.target.Session} {
			_ = s.Conn.PgConn().Conn().SetDeadline(deadline)
			both.Go(func() { _ = s.Conn.PgConn().CancelRequest(asking) }) // the deadline is the answer to a failure
		}
		both.Wait()
	})
	return func() {
		if !stop() {
			<-cancelled
		}
		for _, s := range []*session.Session{l.source, l.target.Session} {
			_ = s.Conn.PgConn().Conn().SetDeadline(time.Time{})
		}
	}
}

// forward writes chunks to the target until the source has no more. When the target
// fails, the source is told to stop, what it still sends is dropped, and the error is
// errTargetFailed or that of the connection.
func (l *lane) forward(ctx context.Context, full <-chan []byte, empty chan<- []byte, targetFailed <-chan struct{}) error {
	conn := l.target.Conn.PgConn().Conn()
	var failed error
	fail := func(err error) {
		failed = err
		asking, cancel := context.WithTimeout(ctx, session.CancelPatience)
		defer cancel()
		_ = l.source.Conn.PgConn().CancelRequest(asking) // else it runs to its end, unheard
	}
	for {
		select {
		case <-targetFailed:
			targetFailed = nil
			if failed == nil {
				fail(errTargetFailed)
			}
		case chunk, more := <-full:
			if !more {
				return failed
			}
			if failed == nil {
				chunk[0] = 'd'
				binary.BigEndian.PutUint32(chunk[1:], uint32(len(chunk)-1))
				if _, err := conn.Write(chunk); err != nil {
					fail(err)
				}
			}
			empty <- chunk[:headerSize]
		}
	}
}

var errTargetFailed = errors.New("the target failed")

// readSource reads the source's answers to the query of a part and packs its rows into
// chunks, until the server is ready for another query.
func (l *lane) readSource(p *part, full chan<- []byte, empty <-chan []byte) outcome {
	var o outcome
	if l.in == nil {
		l.in = bufio.NewReaderSize(nil, chunkSize)
	}
	in := l.in
	in.Reset(l.source.Conn.PgConn().Conn())
	chunk := <-empty
	copying := false
	answered := 0 // statements
	for {
		kind, size, err := readHeader(in)
		if err != nil {
			return o.failed(err)
		}
		if kind == 'd' {
			p.progress.Rows.Add(1)
			p.progress.Bytes.Add(int64(size))
			for size > 0 {
				n := min(size, cap(chunk)-len(chunk))
				start := len(chunk)
				chunk = chunk[:start+n]
				if _, err := io.ReadFull(in, chunk[start:]); err != nil {
					return o.failed(err)
				}
				size -= n
				if len(chunk) == cap(chunk) {
					full <- chunk
					chunk = <-empty
				}
			}
			continue
		}
		body, err := readBody(in, size)
		if err != nil {
			return o.failed(err)
		}
		hashing := p.checksum != "" && answered == p.beforeSum()
		switch kind {
		case 'D':
			if hashing {
				if o.checksum, err = onlyValue(body); err != nil {
					return o.failed(err)
				}
			}
		case 'H':
			copying = true
		case 'c':
			if len(chunk) > headerSize {
				full <- chunk
				chunk = <-empty
			}
		case 'E':
			o.err = session.FirstError(o.err, decodeError(body))
			switch state := session.SQLState(o.err); {
			case copying:
			case hashing && !session.Classify(o.err).Ends():
				o.err = fmt.Errorf("%w: %w", errNoChecksum, o.err)
			case state == session.DivisionByZero:
				o.err = errRewritten
			case state == session.NoTable, state == session.NoSchema: // the table is gone, or its schema
				o.err = fmt.Errorf("%w: %w", errRewritten, o.err)
			}
		case 'C':
			answered++
			o.count(body)
		case 'Z':
			o.inTransaction = len(body) > 0 && body[0] != 'I'
			return o
		}
	}
}

// readTarget reads the target's answers to the three queries of a part. It closes failed
// at the first error, its own or that of the connection, so that no more is sent.
func readTarget(s *session.Session, failed chan<- struct{}) outcome {
	var o outcome
	in := bufio.NewReader(s.Conn.PgConn().Conn())
	statements := 0
	for ready := 0; ready < 3; {
		var body []byte
		kind, size, err := readHeader(in)
		if err == nil {
			body, err = readBody(in, size)
		}
		if err != nil {
			if o.err == nil {
				close(failed)
			}
			return o.failed(err)
		}
		switch kind {
		case 'E':
			if o.err == nil {
				o.err = decodeError(body)
				if statements > 0 && statements <= marks.FenceStatements { // after BEGIN
					o.err = session.FenceError(o.err)
				}
				close(failed)
			}
		case 'C':
			statements++
			o.count(body)
		case 'Z':
			ready++
			o.inTransaction = len(body) > 0 && body[0] != 'I'
		}
	}
	return o
}

func (o outcome) failed(err error) outcome {
	// The server's own words, if it had any, say more than the broken connection.
	o.err = session.FirstError(o.err, err)
	o.inTransaction = false
	return o
}

// count takes the number of rows from the tag of COPY.
func (o *outcome) count(body []byte) {
	if n, ok := strings.CutPrefix(strings.TrimRight(string(body), "\x00"), "COPY "); ok {
		o.rows, _ = strconv.ParseInt(n, 10, 64)
	}
}

func readHeader(in *bufio.Reader) (kind byte, size int, err error) {
	head, err := in.Peek(headerSize)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	kind, size = head[0], int(binary.BigEndian.Uint32(head[1:]))-4
	_, err = in.Discard(headerSize)
	return kind, size, err
}

// readBody reads a message that is no row: none of them is large.
func readBody(in *bufio.Reader, size int) ([]byte, error) {
	const large = 64 << 20
	if size < 0 || size > large {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(in, body)
	return body, err
}

// onlyValue is the value of a row that has one.
func onlyValue(body []byte) (string, error) {
	var row pgproto3.DataRow
	if err := row.Decode(body); err != nil || len(row.Values) != 1 {
		return "", fmt.Errorf("a row of %d values: %w", len(row.Values), err)
	}
	return string(row.Values[0]), nil
}

func decodeError(body []byte) error {
	var msg pgproto3.ErrorResponse
	if err := msg.Decode(body); err != nil {
		return fmt.Errorf("unreadable error message: %w", err)
	}
	return session.ServerError(&msg)
}
