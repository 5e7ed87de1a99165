package chaos

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/db"
	"calco/db/dbtest"
)

// The databases of a round. The source is made anew from the seed for each.
const (
	seedDatabase   = "seed"
	sourceDatabase = "shop"
	targetDatabase = "copy"
	stateDatabase  = "calco"
)

// world is an installation with all that can be taken from it.
type world struct {
	testing.TB
	source, target, state *server
	disk                  *disk // nil where there is none to fill
	key                   db.Key
	store                 *db.Store // beside the wire
	user                  jobs.User
	sourceID, targetID    int64
	targetURL             dsn.URL // by way of the wire
	browser               *browser

	mu      sync.Mutex
	workers []*process
	web     *process
}

// newWorld starts three servers, two workers and a web process. They go with the test.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t}
	var starting sync.WaitGroup
	for name, to := range map[string]**server{"source": &w.source, "target": &w.target, "state": &w.state} {
		starting.Go(func() { *to = newServer(t, name) })
	}
	starting.Wait()
	w.disk = newDisk(t, w.target)
	dbtest.Exec(t, w.source.url, "CREATE DATABASE "+seedDatabase)
	fill(t, w.source.at(seedDatabase), whole)
	dbtest.Exec(t, w.source.url, "ALTER DATABASE "+seedDatabase+" ALLOW_CONNECTIONS false")
	dbtest.Exec(t, w.state.url, "CREATE DATABASE "+stateDatabase)
	_, _ = rand.Read(w.key[:])
	w.install()
	t.Cleanup(w.end)
	w.addWorkers()
	w.startWeb()
	return w
}

// install makes the user and saves the two databases, by way of the wires.
func (w *world) install() {
	w.Helper()
	ctx := w.Context()
	var err error
	if w.store, err = db.Open(ctx, w.state.at(stateDatabase), w.key); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.store.Close)
	if w.user, err = w.store.AddUser(ctx, "ana@example.org", jobs.RoleAdmin, ""); err != nil {
		w.Fatal(err)
	}
	save := func(s *server, url dsn.URL) int64 {
		id, err := w.store.AddConnection(ctx, jobs.Connection{OwnerID: w.user.ID, Name: s.name, Environment: jobs.OtherUse}, url)
		if err != nil {
			w.Fatal(err)
		}
		return id
	}
	w.targetURL = dsn.URL(w.target.wire.through(w.target.at(targetDatabase)))
	w.sourceID, w.targetID = save(w.source, dsn.URL(w.source.wire.through(w.source.at(sourceDatabase)))), save(w.target, w.targetURL)
	token, _, err := w.store.StartSession(ctx, w.user.ID, jobs.Client{Agent: "chaos"})
	if err != nil {
		w.Fatal(err)
	}
	w.browser = newBrowser(w, string(token))
}

// renew makes the source of a round and, unless it is to be cleaned, an empty target.
func (w *world) renew(clean bool) {
	w.Helper()
	dbtest.Exec(w, w.source.url, "DROP DATABASE IF EXISTS "+sourceDatabase+" WITH (FORCE)")
	dbtest.Exec(w, w.source.url, "CREATE DATABASE "+sourceDatabase+" TEMPLATE "+seedDatabase)
	if clean {
		return
	}
	space := ""
	if w.disk != nil {
		space = " TABLESPACE small"
	}
	dbtest.Exec(w, w.target.url, "DROP DATABASE IF EXISTS "+targetDatabase+" WITH (FORCE)")
	dbtest.Exec(w, w.target.url, "CREATE DATABASE "+targetDatabase+space)
}

// process is a running program. It is safe for concurrent use.
type process struct {
	cmd   *exec.Cmd
	said  *output
	ended chan struct{} // closed when it has ended
}

// output is what a process writes. It is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs the program with the installation's key.
func (w *world) start(args ...string) *process {
	w.Helper()
	p := &process{cmd: exec.Command(calco, args...), said: &output{}, ended: make(chan struct{})} //nolint:gosec // built by this test
	p.cmd.Env = append(os.Environ(), "CALCO_KEY="+base64.StdEncoding.EncodeToString(w.key[:]))
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // that it was killed is no news
	}()
	return p
}

// send sends a signal. What has ended takes none.
func (p *process) send(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends a process, at once and even if it is frozen, and waits until it is gone.
func (p *process) kill() {
	p.send(syscall.SIGKILL)
	<-p.ended
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end ends all processes of the program.
func (w *world) end() {
	for _, p := range w.living() {
		p.kill()
	}
	if w.web != nil {
		w.killWeb()
	}
}

// living returns the workers that have not ended.
func (w *world) living() (alive []*process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.workers {
		if p.alive() {
			alive = append(alive, p)
		}
	}
	w.workers = alive
	return append([]*process(nil), alive...)
}

// addWorkers makes sure that there are two.
func (w *world) addWorkers() {
	w.Helper()
	for n := len(w.living()); n < 2; n++ {
		w.addWorker()
	}
}

func (w *world) addWorker() {
	w.Helper()
	p := w.start(workerArgs(w.state.wire.through(w.state.at(stateDatabase)))...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.workers = append(w.workers, p)
}

var appURL = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startWeb starts the web process, in place of the one there was, and returns when it says where it is.
func (w *world) startWeb() {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.web != nil {
		w.web.kill()
	}
	w.web = w.start(webArgs(w.state.at(stateDatabase))...)
	at := ""
	for until := time.Now().Add(time.Minute); at == ""; {
		if at = appURL.FindString(w.web.said.String()); at == "" && (time.Now().After(until) || !w.web.alive()) {
			w.Errorf("the web process never says where it is: %s", w.web.said)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.browser.goTo(at)
}

// killWeb ends the web process.
func (w *world) killWeb() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.web.kill()
}

// log returns the last of what the processes of the program have said, for a person who wants to know what went wrong.
func (w *world) log() string {
	var all bytes.Buffer
	for _, p := range append(w.living(), w.web) {
		text := p.said.String()
		fmt.Fprintf(&all, "--- %v\n%s", p.cmd.Args[:2], text[max(0, len(text)-4000):])
	}
	return all.String()
}
