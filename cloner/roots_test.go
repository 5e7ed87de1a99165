package cloner

import (
	"io"
	"net"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// A server without TLS that is then cut off was called a server whose TLS is wrong, and the clone failed at once.
func TestLostUnderPreferIsNoTLSError(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]report.ReasonCode{"prefer": report.ReasonHost, "require": report.ReasonTLS} {
		u := dsn.URL("postgres://u:p@" + withoutTLS(t) + "/d?sslmode=" + mode)
		_, err := session.Dial(t.Context(), report.Source, u, nil, "a")
		if err == nil {
			t.Fatal("connected")
		}
		reason, err := session.ConnectReason(t.Context(), report.Source, u, err)
		if err != nil || reason.Code != want {
			t.Errorf("%s: %+v, %v, want %s", mode, reason, err, want)
		}
	}
}

// withoutTLS answers each request for TLS with no, and closes the connection of whoever goes on without. It returns its address.
func withoutTLS(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var request [8]byte
			if _, err := io.ReadFull(c, request[:]); err == nil && request[4] == 4 { // 80877103, not a version
				_, _ = c.Write([]byte("N"))
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		answering.Wait()
	})
	return l.Addr().String()
}
