package web

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/cloner/pgtools"
	"calco/cloner/runner"
	"calco/db/dbtest"
)

// The passwords of the databases of a job appear nowhere, whatever becomes of it: in no page, no frame, no file, no line
// of the logs of the app and of its worker, no command line, and not in a dump of the state database.
func TestSecretsOfClones(t *testing.T) {
	t.Parallel()
	c := newClones(t, library)
	u, err := url.Parse(c.targetURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	hidden := []string{password, secret, `of 'no/body%`, url.QueryEscape(`of 'no/body%`), url.PathEscape(`of 'no/body%`)}
	u.User = url.UserPassword("nobody_there", `of 'no/body%`)
	stranger := c.save(jobs.Connection{OwnerID: c.owner.ID, Name: "Stranger"}, u.String())
	away := c.save(jobs.Connection{OwnerID: c.owner.ID, Name: "Away"}, nowhere("away"))

	ctx, stop := context.WithCancel(context.Background())
	worker := make(chan error, 1)
	go func() {
		worker <- runner.New(c.store, runner.Options{Log: c.log.debug()}).Run(ctx)
	}()
	defer func() {
		stop()
		if err := <-worker; err != nil {
			t.Errorf("the worker: %v", err)
		}
		for _, password := range hidden {
			if password == "" || strings.Contains(c.log.String(), password) {
				t.Errorf("the logs have %q", password)
			}
			if strings.Contains(dumpOf(t, c.database), password) {
				t.Errorf("the state database has %q", password)
			}
		}
	}()
	v := c.as(c.owner)
	look := func(task jobs.Task, wanted jobs.Status) {
		t.Helper()
		if task.Status != wanted {
			t.Errorf("the job is %s, want %s: %s", task.Status, wanted, task.Error)
		}
		paths := []string{"/", "/history", "/databases"}
		for _, more := range []string{"?attempt", "/events", "/tables", "/log", "/report.json", "/retry"} {
			paths = append(paths, "/clones/"+task.ID+more)
		}
		query := fmt.Sprintf("?clean=yes&scope=chosen&source=%d&target=%d", task.Source.ConnectionID, task.Target.ConnectionID)
		for _, path := range []string{"/clones/new", "/clones/schemas", "/clones/clean", "/clones/check"} {
			paths = append(paths, path+query)
		}
		answers := map[string]answer{}
		for _, path := range paths {
			answers[path] = v.get(path)
			want(t, path, answers[path], "200")
		}
		form := strings.NewReader(strings.TrimPrefix(query, "?"))
		answers["the form"] = v.do("POST", "/clones", form, formHeader)
		answers["test"] = v.post(fmt.Sprintf("/databases/%d/test", task.Target.ConnectionID))
		for path, got := range answers {
			for _, password := range hidden {
				if strings.Contains(got.body, password) {
					t.Errorf("%s has %q", path, password)
				}
			}
		}
	}
	into := func(target jobs.Connection) func(*jobs.NewTask) {
		return func(n *jobs.NewTask) { n.TargetID = target.ID }
	}

	release := c.hold("book")
	cut := c.create()
	c.awaitWaiting()
	for _, password := range hidden {
		if line := pgDumpOf(t, cut); strings.Contains(line, password) {
			t.Errorf("pg_dump is run as %q", line)
		}
	}
	dbtest.Exec(t, c.sourceURL, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'calco/%'`)
	task := c.awaitEnd(cut)
	release()
	look(task, jobs.Failed)
	look(c.awaitEnd(c.create(c.confirm)), jobs.Completed)
	look(c.awaitEnd(c.create(into(away))), jobs.Refused)
	look(c.awaitEnd(c.create(into(stranger))), jobs.Refused)
}

// pgDumpOf is the command line of the pg_dump of a job, which runs.
func pgDumpOf(t *testing.T, job string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		return ""
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		line, err := os.ReadFile(name) //nolint:gosec // a process may end
		if err == nil && bytes.Contains(line, []byte("pg_dump")) && bytes.Contains(line, []byte("calco/"+job+"/")) {
			return string(line)
		}
	}
	t.Fatal("no pg_dump runs")
	return ""
}

// dumpOf is all that a database holds.
func dumpOf(t *testing.T, from string) string {
	t.Helper()
	pgDump, _, err := pgtools.Newest(t.Context(), "pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	dump, err := exec.CommandContext(t.Context(), pgDump, "--dbname="+from).Output() //nolint:gosec // of this machine
	if err != nil || !bytes.Contains(dump, []byte("COPY public.connections")) {
		t.Fatalf("a dump of %d bytes: %v", len(dump), err)
	}
	return string(dump)
}
