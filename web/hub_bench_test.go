package web_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"calco/web"
)

// BenchmarkHub sends frames of 20 kB to 1,000 viewers of one topic; an operation is one frame, read by all of them. The
// processor's time is that of the hub and of its readers together.
func BenchmarkHub(b *testing.B) {
	w := &world{text: "0"}
	hub, server := w.show(b, web.Feed[string]{Poll: never, Gap: 1})
	const viewers = 1000
	var got atomic.Int64
	var readers sync.WaitGroup
	b.Cleanup(readers.Wait)
	for range viewers {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprint(conn, "GET /job/en HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		readers.Go(func() {
			scan := bufio.NewReaderSize(conn, 32<<10)
			for {
				line, err := scan.ReadSlice('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(string(line[:min(len(line), 5)]), "data:") {
					got.Add(1)
				}
			}
		})
	}
	until(b, "all have the first frame", func() bool { return got.Load() == viewers })
	frame := strings.Repeat(`<td class="n">1,234</td>`, 20_000/24)
	began := processorTime()
	frames := 0
	for b.Loop() {
		frames++
		w.set(fmt.Sprint(frames, frame), false, nil)
		hub.Kick("job")
		until(b, "all have the frame", func() bool { return got.Load() == int64(viewers*(frames+1)) })
	}
	b.ReportMetric(float64((processorTime()-began).Milliseconds())/float64(frames), "cpu-ms/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // there is no reason why
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
