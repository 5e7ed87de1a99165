package dbtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Cut is what becomes of a connection at one of its queries.
type Cut int

const (
	// Pass lets the query and its answer through.
	Pass Cut = iota
	// CutBefore ends the connection before the server hears of the query.
	CutBefore
	// CutAfter ends it when the server has done all that the query says, and nobody else knows.
	CutAfter
)

// Tap puts a wire of the test's own before a database and returns its URL. Each query of the simple protocol, the whole
// text of it, is first shown to at, which may be called from several connections at a time. The wire is gone with the test.
func Tap(t testing.TB, database string, at func(sql string) Cut) string {
	t.Helper()
	return wire(t, database, func(client, server net.Conn) { tap(client, server, at) })
}

// wire puts a test's own server before a database, and returns its URL. Each connection to it is carried with one to the
// database; both are closed when carry returns.
func wire(t testing.TB, database string, carry func(client, server net.Conn)) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := u.Host
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wires sync.WaitGroup
	wires.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wires.Go(func() {
				defer client.Close() //nolint:errcheck // both ends are told by that, or gone
				server, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
				if err != nil {
					return
				}
				defer server.Close() //nolint:errcheck // as above
				carry(client, server)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wires.Wait()
	})
	u.Host = l.Addr().String()
	q := u.Query()
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	return u.String()
}

// tap carries one connection until either end hangs up, or it is cut.
func tap(client, upstream net.Conn, at func(string) Cut) {
	var answers answers
	answers.last.Store(-1)
	var both sync.WaitGroup
	both.Go(func() {
		_ = answers.carry(upstream, client)
		_ = client.Close()
	})
	if errors.Is(ask(client, upstream, &answers, at), errCutAfter) {
		_, _ = io.Copy(upstream, client) // what comes after, such as the rows of a COPY, until the answer is there
	}
	_ = upstream.Close()
	both.Wait()
}

var (
	errCut      = errors.New("cut")
	errCutAfter = errors.New("cut after the answer")
)

// ask carries what the client says. It returns errCutAfter when the answers are to end the connection.
func ask(client io.ReadWriter, server io.Writer, a *answers, at func(string) Cut) error {
	if err := start(client, server); err != nil {
		return err
	}
	cut := Pass
	for {
		err := carryOne(client, server, 1, func(kind byte, body []byte) error {
			switch kind {
			case 'Q':
				a.asked++
				if cut = at(strings.TrimRight(string(body), "\x00")); cut == CutBefore {
					return errCut
				}
				if cut == CutAfter {
					a.last.Store(a.asked)
				}
			case 'S':
				a.asked++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if cut == CutAfter {
			return errCutAfter
		}
	}
}

// start carries the first message, which has no kind; a cancel request is the only one of its connection. Whoever asks for
// encryption is told that there is none.
func start(client io.ReadWriter, server io.Writer) error {
	const tls, gss = 80877103, 80877104
	for plain := false; !plain; {
		plain = true
		err := carryOne(client, server, 0, func(_ byte, body []byte) error {
			if len(body) != 4 {
				return nil
			}
			if code := binary.BigEndian.Uint32(body); code != tls && code != gss {
				return nil
			}
			plain = false
			if _, err := client.Write([]byte{'N'}); err != nil {
				return err
			}
			return errSkip
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// answers carries what the server says, and knows which query it answers: each ends with a message that the server is
// ready for another one.
type answers struct {
	asked int64        // queries; 0 is for the start of the session
	last  atomic.Int64 // the query whose answer nobody gets; -1 for none
}

func (a *answers) carry(server io.Reader, client io.Writer) error {
	for answered := int64(0); ; {
		err := carryOne(server, client, 1, func(kind byte, _ []byte) error {
			last := a.last.Load()
			if kind == 'Z' {
				answered++
				if last > 0 && answered > last {
					return errCut
				}
			}
			if last > 0 && answered >= last {
				return errSkip
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// errSkip drops one message.
var errSkip = errors.New("skip")

// carryOne carries one message, after it was seen. A message has a kind of one byte or none, a length, and a body.
func carryOne(from io.Reader, to io.Writer, kindSize int, seen func(kind byte, body []byte) error) error {
	head := make([]byte, kindSize+4)
	if _, err := io.ReadFull(from, head); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(head[kindSize:])) - 4
	if size < 0 || size > 1<<30 {
		return fmt.Errorf("message of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(from, body); err != nil {
		return err
	}
	if seen != nil {
		switch err := seen(head[0], body); {
		case errors.Is(err, errSkip):
			return nil
		case err != nil:
			return err
		}
	}
	_, err := to.Write(append(head, body...))
	return err
}
