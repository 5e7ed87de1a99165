package db_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db/dbtest"
)

// newer is a report and a progress as a later version may write them.
func newer(status report.Status) string {
	return fmt.Sprintf(`report = jsonb_build_object('version', %[1]d, 'status', '%[2]s', 'tables', '{"public": 3}'::jsonb, 'resumable', 'wholly', 'ledger', 7),
		metadata = '{"clone": {"progress": {"version": %[1]d, "phases": "all"}, "speeds": [1]}}'`, report.Version+1, status)
}

// What was written before there were versions is read.
func TestVersionZero(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target := save(t, store, ana, "source"), save(t, store, ana, "target")
	id := create(t, store, ana, source, target)
	end(t, store, id, report.StatusDifferences)
	dbtest.Exec(t, url, fmt.Sprintf(`UPDATE background_tasks SET report = $json$%s$json$, metadata = jsonb_build_object('clone', jsonb_build_object('progress', $json$%s$json$::jsonb)) WHERE id = '%s'`,
		file(t, "report_0.json"), file(t, "progress_0.json"), id))
	got := task(t, store, id)
	if got.Report == nil || got.Report.Rows != 1011 || len(got.Report.Ledger) != 1 {
		t.Errorf("the report is %+v", got.Report)
	}
	if got.Progress.Rows != 1011 || len(got.Progress.Phases) != 11 {
		t.Errorf("the progress is %+v", got.Progress)
	}
	if got.Error != "" {
		t.Errorf("the error is %q", got.Error)
	}
	if job := claim(t, store, create(t, store, ana, source, target)); job.Past == nil || job.Past.Rows != 1011 {
		t.Errorf("the past is %+v", job.Past)
	}
}

func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../cloner/report/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Report and progress are stored with their version.
func TestVersionIsStored(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target := save(t, store, ana, "source"), save(t, store, ana, "target")
	end(t, store, create(t, store, ana, source, target), report.StatusCompleted)
	got := dbtest.Query(t, url, `SELECT report ->> 'version', metadata #>> '{clone,progress,version}' FROM background_tasks`)
	if fmt.Sprint(got) != "[[1 1]]" {
		t.Errorf("stored are the versions %v", got)
	}
}

// A job that a newer version has written is shown without its report, and says why. It stops no list and no other job.
func TestNewerVersion(t *testing.T) {
	t.Parallel()
	const why = "was written by a newer version of Calco"
	store, url := openAt(t)
	ana := addUser(t, store, jobs.RoleMember)
	source, target := save(t, store, ana, "source"), save(t, store, ana, "target")
	for _, status := range []report.Status{report.StatusCompleted, report.StatusFailed} {
		id := create(t, store, ana, source, target)
		end(t, store, id, status)
		dbtest.Exec(t, url, fmt.Sprintf(`UPDATE background_tasks SET touched = true, %s WHERE id = '%s'`, newer(status), id))
		check := func(where string, got jobs.Task) {
			t.Helper()
			if got.ID != id || got.Status != jobs.Status(status) {
				t.Errorf("%s: %s is %s, want %s %s", where, got.ID, got.Status, id, status)
			}
			if got.Report != nil || len(got.Progress.Phases) != 0 || got.Resumable {
				t.Errorf("%s: %s: %+v, %+v, resumable %t", where, status, got.Report, got.Progress, got.Resumable)
			}
			if !strings.Contains(got.Error, why) || status == report.StatusFailed && !strings.HasPrefix(got.Error, "the disk is full. What ") {
				t.Errorf("%s: the error of the %s job is %q", where, status, got.Error)
			}
		}
		check("alone", task(t, store, id))
		for where, list := range map[string]func() ([]jobs.Task, error){
			"all":      func() ([]jobs.Task, error) { return store.Tasks(t.Context(), jobs.TaskFilter{Limit: 1}) },
			"attempts": func() ([]jobs.Task, error) { return store.Attempts(t.Context(), id) },
		} {
			got, err := list()
			if err != nil || len(got) != 1 {
				t.Fatalf("%s: %v, %v", where, got, err)
			}
			check(where, got[0])
		}
		if err := people(store).Resume(t.Context(), ana, id); !errors.Is(err, jobs.ErrConflict) {
			t.Errorf("resume the %s job: %v", status, err)
		}
	}

	next := create(t, store, ana, source, target)
	job := claim(t, store, next)
	if job.Past != nil {
		t.Errorf("the past is %+v", job.Past)
	}
	dbtest.Exec(t, url, fmt.Sprintf(`UPDATE background_tasks SET metadata = '{"clone": {"progress": {"version": 99}}}' WHERE id = '%s'`, next))
	if running, err := store.RunningTasks(t.Context()); err != nil || len(running) != 1 || !strings.Contains(running[0].Error, why) {
		t.Errorf("running: %+v, %v", running, err)
	}
	if _, err := store.Beat(t.Context(), runner.Beat{Run: runner.Run{Task: next, Term: 1}, Progress: report.Progress{Rows: 5}}); err != nil {
		t.Fatal(err)
	}
	if got := task(t, store, next); got.Progress.Rows != 5 || got.Error != "" {
		t.Errorf("after a beat of this version: %+v, %q", got.Progress, got.Error)
	}
}
