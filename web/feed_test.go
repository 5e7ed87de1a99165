package web

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db/dbtest"
)

// What a removed user watches ends, and so does what is watched in a session that was ended. It went on for half an hour.
func TestFeedEndsWithSession(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	id := f.start()
	f.claim(id)
	v := f.as(f.other)
	stream := v.watch(t, id)
	if _, ok := stream.next(); !ok {
		t.Fatal("no frame came")
	}
	if err := f.store.RemoveUser(t.Context(), f.other.ID); err != nil {
		t.Fatal(err)
	}
	for {
		if _, ok := stream.next(); !ok {
			return
		}
	}
}

// A page that is only left open does not keep its session: after so many days without a request the feed ends with it.
func TestFeedEndsWithIdleSession(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	id := f.start()
	f.claim(id)
	stream := f.as(f.other).watch(t, id)
	f.query(`UPDATE sessions SET last_seen_at = now() - interval '7 days' + interval '8 seconds' WHERE user_id = ` + fmt.Sprint(f.other.ID) + ` RETURNING id`)
	for {
		if _, ok := stream.next(); !ok {
			return
		}
	}
}

// A user has so many streams, and others have theirs.
func TestStreamsAUser(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	id := f.start()
	f.claim(id)
	v := f.as(f.owner)
	for range streamsAUser {
		v.watch(t, id)
	}
	want(t, "one more", v.get(clonePath(id)+"/events"), "429")
	f.as(f.other).watch(t, id)
}

// feedEvent is one event of a stream.
type feedEvent struct{ name, data string }

// feedStream is an event stream that is read as it comes.
type feedStream struct {
	t     *testing.T
	lines *bufio.Scanner
	log   *logBook
}

// watch opens the feed of a job.
func (v *visitor) watch(t *testing.T, id string) *feedStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a frame that does not come is a failure, and no wait for ever
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.app.url+"/clones/"+id+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range v.header {
		r.Header[name] = values
	}
	r.Header.Set("Accept", "text/event-stream")
	res, err := v.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("the feed answers %d, %s", res.StatusCode, got)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	f := &feedStream{t: t, lines: bufio.NewScanner(res.Body), log: v.app.log}
	f.lines.Buffer(nil, 1<<20)
	return f
}

// next is the next event. Ok is false at the end of the stream.
func (f *feedStream) next() (e feedEvent, ok bool) {
	f.t.Helper()
	var data []string
	for f.lines.Scan() {
		name, value, _ := strings.Cut(f.lines.Text(), ": ")
		switch {
		case name == "event":
			e.name = value
		case name == "data":
			data = append(data, value)
		case name == "" && data != nil:
			e.data = strings.Join(data, "\n")
			return e, true
		}
	}
	if err := f.lines.Err(); err != nil {
		f.t.Fatalf("%v\n%.2000s", err, f.log)
	}
	return e, false
}

// until is the first frame that says a text.
func (f *feedStream) until(text string) string {
	f.t.Helper()
	for {
		e, ok := f.next()
		if !ok {
			f.t.Fatalf("the feed ends without %q", text)
		}
		if e.name == "" && strings.Contains(e.data, text) {
			return e.data
		}
	}
}

// A feed is never led to a page, whoever asks, and however.
func TestFeedSignedOut(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	id := f.start()
	stranger := f.visitor()
	stranger.setCookie(sessionCookie, "of-somebody-who-has-signed-out")
	for what, header := range map[string]http.Header{
		"like htmx": {"Accept": {"text/event-stream"}, "Hx-Request": {"true"}}, "like a browser": {"Accept": {"text/html"}},
		"like EventSource": {"Accept": {"text/event-stream"}, "Last-Event-Id": {"7"}}, "like curl": nil,
	} {
		for _, v := range []*visitor{f.visitor(), stranger} {
			got := v.do("GET", "/clones/"+id+"/events", nil, header)
			want(t, what, got, "401")
			if got.body != "" || got.header.Get("Hx-Redirect") != "" {
				t.Errorf("%s: %v %s", what, got.header, got.body)
			}
			want(t, what+", of no job", v.do("GET", "/clones/"+nobody+"/events", nil, header), "401")
		}
		got := f.as(f.owner).do("GET", "/clones/"+nobody+"/events", nil, header)
		want(t, what+", of no job, signed in", got, "404")
		if got.body != "" {
			t.Errorf("%s: a page: %.200s", what, got.body)
		}
	}
}

// Each viewer is shown the job at once, then whatever changes, in their language and with what they may do, until it ends.
func TestFeed(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	id := f.start()
	run := f.claim(id)
	spanish := f.as(f.admin)
	spanish.header.Set("Accept-Language", "es")
	cancel := `action="/clones/` + id + `/cancel"`
	viewers := []struct {
		name, says, lacks string
		stream            *feedStream
	}{
		{"owner", cancel, "En curso", f.as(f.owner).watch(t, id)},
		{"other", "Running", cancel, f.as(f.other).watch(t, id)},
		{"admin", "En curso", "Running", spanish.watch(t, id)},
	}
	for _, v := range viewers {
		first, _ := v.stream.next()
		if first.name != "" || !strings.Contains(first.data, v.says) || strings.Contains(first.data, v.lacks) || !strings.Contains(first.data, `data-copy="/clones/`+id) {
			t.Errorf("%s is shown %s %.3000s", v.name, first.name, first.data)
		}
	}
	f.beat(runner.Beat{Run: run, Progress: report.Progress{Done: .421, Rows: 777, Phases: []report.PhaseProgress{{Name: report.PhaseCopy, Running: true}}}})
	f.server.hub.Kick(id)
	for _, v := range viewers {
		v.stream.until(`data-percent="42"`)
	}
	if err := f.server.jobs.Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	f.server.hub.Kick("")
	if frame := viewers[0].stream.until("Cancelling…"); strings.Contains(frame, cancel) {
		t.Errorf("it can be cancelled twice: %s", frame)
	}
	err := f.store.Finish(t.Context(), runner.Beat{Run: run}, report.Report{Status: report.StatusCancelled, Error: report.ErrCancelled.Error()})
	if err != nil {
		t.Fatal(err)
	}
	f.server.hub.Kick(id)
	for _, v := range viewers {
		v.stream.until(`data-status="cancelled"`)
		if e, _ := v.stream.next(); e.name != "done" || e.data == "" {
			t.Errorf("%s: after the last frame comes %+v", v.name, e)
		}
		if e, ok := v.stream.next(); ok {
			t.Errorf("%s: after the end comes %+v", v.name, e)
		}
	}
}

// Whatever a job has, its frames and its page have some size.
func TestFrameSize(t *testing.T) {
	t.Parallel()
	const many = 300
	long := func(n int) string { return fmt.Sprint(`"`, n, strings.Repeat(`<"é`, 42), `"`) } // as long as names may be
	text := strings.Repeat("<& long\r\n", 150)
	progress := report.Progress{TablesTotal: 10_000, Ledger: many, Waiting: &report.Wait{Text: report.Said(text)}}
	for n := range 50 {
		progress.Active = append(progress.Active, report.TableProgress{Relation: long(n) + "." + long(n), Rows: 1, Bytes: 1, Size: 1})
	}
	result := report.Report{Error: text, Hint: report.Said(text), Relation: long(0)}
	for _, phase := range report.Phases() {
		progress.Phases = append(progress.Phases, report.PhaseProgress{Name: phase, Running: true, Done: 1 << 30, Total: 1 << 30})
		result.Phases = append(result.Phases, report.PhaseReport{Name: phase})
	}
	for n := range many {
		result.Epochs = append(result.Epochs, report.Epoch{Number: n + 1, RedoneTables: []string{long(n), long(n)}})
		result.Ledger = append(result.Ledger, report.LedgerEntry{Phase: report.PhaseIndexes, Object: long(n), SQLState: "23505", Error: text, Hint: report.Said(text)})
		result.Differences = append(result.Differences, report.Difference{Kind: []string{"rows", "missing", "definition", "a new kind"}[n%4], Object: long(n), Source: text, Target: text, ExpectedBecause: []report.Text{{}, report.Said(text)}[n%2]})
		result.Dependencies = append(result.Dependencies, long(n))
		result.Warnings = append(result.Warnings, report.Said(text))
	}
	for range 20 { // Clone itself bounds these
		reason := report.Reason{Code: report.ReasonNotEmpty, Side: report.Target, Text: report.Said("The target is not empty."), Hint: report.Said("Choose clean.")}
		for n := range 50 {
			reason.Objects = append(reason.Objects, fmt.Sprint("table app.t", n))
		}
		result.Reasons = append(result.Reasons, reason)
	}
	for _, status := range []string{"running", "completed", "differences", "failed", "cancelled", "refused"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			f := newCloneFixture(t)
			id := f.start(func(n *jobs.NewTask) {
				for i := range 30 {
					n.Schemas = append(n.Schemas, long(i)[:63])
				}
			})
			beat := runner.Beat{Run: f.claim(id), Progress: progress}
			dbtest.Exec(t, f.database, `
				INSERT INTO task_tables (task_id, relation, status, rows, bytes, size, built, to_build)
				SELECT '`+id+`', 'app."Table ' || n || repeat('<', 100) || '"', 'done', n, n, n, 0, 0 FROM generate_series(1, 10000) n`)
			f.beat(beat)
			if status != "running" {
				result := result
				result.Status = report.Status(status)
				if status != "failed" && status != "cancelled" {
					result.Error = ""
				}
				if status != "refused" {
					result.Reasons = nil
				}
				if err := f.store.Finish(t.Context(), beat, result); err != nil {
					t.Fatal(err)
				}
			}
			v := f.as(f.owner)
			stream := v.watch(t, id)
			frame := stream.until(`data-status="` + status + `"`)
			if len(frame) > 256<<10 {
				t.Errorf("a frame has %d bytes", len(frame))
			}
			page := v.get("/clones/" + id)
			want(t, "the page", page, "200")
			if len(page.body) > 512<<10 {
				t.Errorf("the page has %d bytes", len(page.body))
			}
			t.Logf("a frame has %d bytes, the page %d", len(frame), len(page.body))
			if log := f.log.String(); strings.Contains(log, "level=ERROR") {
				t.Errorf("logged is %.2000s", log)
			}
		})
	}
}
