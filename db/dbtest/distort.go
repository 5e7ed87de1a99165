package dbtest

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Row is the kind of the messages that carry rows.
const Row = 'D'

// Distort puts a liar before a database and returns its URL. Each message of the server goes to the client as change
// returns it: not at all, once or more often. Asked is what the client has sent last. The liar is gone with the test.
func Distort(t testing.TB, database string, change func(asked string, kind byte, body []byte) (bodies [][]byte)) string {
	t.Helper()
	return wire(t, database, func(client, server net.Conn) { distort(client, server, change) })
}

// distort carries one connection until either end hangs up.
func distort(client, server net.Conn, change func(string, byte, []byte) [][]byte) {
	var asked atomic.Value
	asked.Store("")
	var asking sync.WaitGroup
	asking.Go(func() {
		defer server.Close() //nolint:errcheck // whoever reads it notices
		buf := make([]byte, 1<<16)
		for {
			n, err := client.Read(buf)
			if n > 0 {
				asked.Store(string(buf[:n]))
				if _, err := server.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer asking.Wait()
	defer client.Close() //nolint:errcheck // so that asking ends
	for head := make([]byte, 5); ; {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		for _, b := range change(asked.Load().(string), head[0], body) {
			message := binary.BigEndian.AppendUint32([]byte{head[0]}, uint32(len(b)+4)) //nolint:gosec // shorter than the test's memory
			if _, err := client.Write(append(message, b...)); err != nil {
				return
			}
		}
	}
}

// Replace is a change for Distort: a text wherever the server says another of the same length.
func Replace(old, text string) func(string, byte, []byte) [][]byte {
	return func(_ string, _ byte, body []byte) [][]byte {
		return [][]byte{[]byte(strings.ReplaceAll(string(body), old, text))}
	}
}
