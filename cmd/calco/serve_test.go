package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"calco/db/dbtest"
)

// service is the web app in a process of its own, and a browser in which somebody is signed in.
type service struct {
	t      *testing.T
	cmd    *exec.Cmd
	client *http.Client
	url    string
	said   *output
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

var (
	appURL   = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	jobPath  = regexp.MustCompile(`/clones/[a-z2-7]{10}`)
	oneLink  = regexp.MustCompile(`(?m)^(?:Set up|Sign in): (\S+)$`)
	linkPart = regexp.MustCompile(`token=([A-Za-z0-9_-]+)`)
)

// startService runs a command that serves, on a free port, and waits until it says where it is.
func startService(t *testing.T, args ...string) *service {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, said: &output{}, client: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	s.cmd = exec.Command(calco, append(args, "--listen", "127.0.0.1:0")...) //nolint:gosec // built by this test
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			_ = s.cmd.Wait()
		}
	})
	s.eventually("it says where it is", func() bool {
		s.url = appURL.FindString(s.said.String())
		return s.url != ""
	})
	return s
}

func (s *service) eventually(what string, holds func() bool) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(5 * time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			s.t.Fatalf("never: %s\n%s", what, s.said)
		}
	}
}

// stop sends a signal, and returns the exit code once the process has ended.
func (s *service) stop(signal syscall.Signal) (code int) {
	s.t.Helper()
	kill(s.t, s.cmd.Process.Pid, signal)
	return exitOf(s.t, s.cmd.Wait())
}

func (s *service) do(method, path string, form url.Values) (status int, location, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.said)
	}
	defer res.Body.Close() //nolint:errcheck // it is read
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Location"), string(text)
}

func (s *service) get(path string) (body string) {
	s.t.Helper()
	status, _, body := s.do(http.MethodGet, path, nil)
	if status != http.StatusOK {
		s.t.Fatalf("GET %s: %d\n%.2000s\n%s", path, status, body, s.said)
	}
	return body
}

// post sends a form that leads on, and returns where.
func (s *service) post(path string, fields ...string) (location string) {
	s.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	status, location, body := s.do(http.MethodPost, path, form)
	if status != http.StatusSeeOther {
		s.t.Fatalf("POST %s: %d\n%.2000s\n%s", path, status, body, s.said)
	}
	return location
}

// link returns the path and the token of the one-time link that was printed.
func (s *service) link() (path, token string) {
	s.t.Helper()
	s.eventually("it prints the link", func() bool { return oneLink.MatchString(s.said.String()) })
	found := oneLink.FindAllStringSubmatch(s.said.String(), -1)
	if len(found) != 1 {
		s.t.Fatalf("%d links in %s", len(found), s.said)
	}
	u, err := url.Parse(found[0][1])
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Path, linkPart.FindStringSubmatch(u.RawQuery)[1]
}

// setUp makes the first user and signs in.
func (s *service) setUp() {
	s.t.Helper()
	path, token := s.link()
	s.post(path, "token", token, "email", "ada@example.org", "password", "correct horse battery")
}

// startClone saves two databases and starts a clone. It returns the path of its page.
func (s *service) startClone(source, target string) (page string) {
	s.t.Helper()
	s.post("/databases", "name", "Library", "environment", "production", "way", "url", "url", source)
	s.post("/databases", "name", "Copy", "environment", "development", "way", "url", "url", target)
	page = s.post("/clones", "source", "1", "target", "2", "scope", "all")
	if !jobPath.MatchString(page) {
		s.t.Fatalf("the clone leads to %s", page)
	}
	return page
}

// awaitStatus waits until the page of a job shows it in a state, and returns that page.
func (s *service) awaitStatus(page, status string) (body string) {
	s.t.Helper()
	s.eventually("the job is "+status, func() bool {
		body = s.get(page)
		return strings.Contains(body, `data-status="`+status+`"`)
	})
	return body
}

// secretOf is the password in a URL.
func secretOf(t *testing.T, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	secret, there := u.User.Password()
	if !there {
		t.Fatal("the URL has no password")
	}
	return secret
}

// folder is where the private server may be: its user must get there.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil { //nolint:gosec // the server's user must pass
			t.Fatal(err)
		}
	}
	return dir
}

// The whole way with the program itself: set-up, databases, a clone to its end. Nothing secret is said, and the next
// start finds all of it.
func TestServe(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, dir := dbtest.Database(t), dbtest.Database(t), folder(t)
	dbtest.Exec(t, source, library)
	s := startService(t, "serve", "--data-dir", dir)
	s.setUp()
	page := s.startClone(source, target)
	s.awaitStatus(page, "completed")
	if got := dbtest.Query(t, target, `SELECT count(*) FROM book`)[0][0]; got != "1000" {
		t.Errorf("%s books", got)
	}
	if secret := secretOf(t, source); strings.Contains(s.said.String(), secret) {
		t.Errorf("the password %q is in the log:\n%s", secret, s.said)
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.said)
	}
	again := startService(t, "serve", "--data-dir", dir)
	again.client = s.client // who is still signed in
	again.awaitStatus(page, "completed")
	if oneLink.MatchString(again.said.String()) {
		t.Error("the set-up link is printed though there is a user")
	}
}

// A process that dies with a clone: the next one has it within 30 seconds, and says so.
func TestServeKilled(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, dir := dbtest.Database(t), dbtest.Database(t), folder(t)
	dbtest.Exec(t, source, slowIndex)
	s := startService(t, "serve", "--data-dir", dir)
	s.setUp()
	page := s.startClone(source, target)
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	s.stop(syscall.SIGKILL)

	again := startService(t, "serve", "--data-dir", dir)
	again.client = s.client
	again.eventually("the page says that the job goes on", func() bool {
		return strings.Contains(again.get(page), "The process that ran the clone was not heard of any more. The clone goes on in another one.")
	})
	again.awaitStatus(page, "completed")
}

// A process that is told to stop puts its clones back into the queue, and leaves nothing running.
func TestServeStops(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target, state := dbtest.Database(t), dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, slowIndex)
	s := startService(t, "serve", "--database-url", state, "--data-dir", folder(t))
	s.setUp()
	s.startClone(source, target)
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.said)
	}
	got := fmt.Sprint(dbtest.Query(t, state, `SELECT status, term, worker FROM background_tasks`))
	if got != "[[queued 2 NULL]]" {
		t.Errorf("the job: %s", got)
	}
	for _, url := range []string{source, target} {
		dbtest.Await(t, url, `SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'calco/%' AND datname = current_database()`)
	}
}

// The demo is there by one link, whose user finds both databases; a clone of it completes; the next run has it all.
func TestDemo(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	dir := folder(t)
	s := startService(t, "demo", "--percent=1", "--data-dir", dir)
	path, token := s.link()
	s.get(path + "?token=" + token) // which only shows a button
	s.post(path+"/link", "token", token)
	form := s.get("/")
	for _, want := range []string{"Demo source", "Demo target"} {
		if !strings.Contains(form, want) {
			t.Errorf("the form does not have %s", want)
		}
	}
	page := s.post("/clones", "source", "1", "target", "2", "scope", "all")
	s.awaitStatus(page, "completed")
	if status, _, _ := s.do(http.MethodPost, path+"/link", url.Values{"token": {token}}); status != http.StatusGone {
		t.Errorf("the link works twice: %d", status)
	}
	if code := s.stop(syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.said)
	}

	again := startService(t, "demo", "--percent=1", "--data-dir", dir)
	path, token = again.link()
	again.post(path+"/link", "token", token)
	again.awaitStatus(page, "completed")
	if form := again.get("/"); strings.Count(form, "Demo source") != 2 { // as source and as target
		t.Errorf("the databases are saved twice:\n%s", form)
	}
}

func TestServeUsage(t *testing.T) {
	t.Parallel()
	listening := dbtest.Database(t)
	u, err := url.Parse(listening)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		args []string
		env  []string
		code int
		says string
	}{
		"less than nobody":  {[]string{"--workers=-1"}, nil, exitUsage, "choose 0 or more"},
		"small parts":       {[]string{"--part-size", "1kB"}, nil, exitUsage, "at least 64kB"},
		"a port in use":     {[]string{"--listen", u.Host}, nil, exitFailed, "address already in use"},
		"a base URL":        {[]string{"--base-url", "calco.example.org"}, nil, exitUsage, "https://calco.example.org"},
		"nobody answers":    {[]string{"--database-url", "postgres://u:" + password[:6] + "@127.0.0.1:1/d"}, nil, exitFailed, "127.0.0.1:1"},
		"a key that is not": {nil, []string{"CALCO_KEY=short"}, exitUsage, "CALCO_KEY"},
		"no folder":         {[]string{"--data-dir", file}, nil, exitFailed, file},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := c.args
			if len(c.args) == 0 || c.args[0] != "--listen" {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			if len(c.args) == 0 || c.args[0] != "--database-url" && c.args[0] != "--data-dir" {
				args = append(args, "--database-url", listening, "--data-dir", t.TempDir())
			}
			got := runCalco(t, c.env, append([]string{"serve"}, args...)...)
			if got.code != c.code || !strings.Contains(got.stderr, c.says) || strings.Contains(got.stderr, password[:6]) || strings.Contains(got.stderr, "goroutine") {
				t.Errorf("exit code %d, want %d and %q:\n%s", got.code, c.code, c.says, got.stderr)
			}
		})
	}
}
