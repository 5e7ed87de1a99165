package main

import (
	"encoding/json"
	"strings"
	"testing"

	"calco/cloner/report"
	"calco/db/dbtest"
)

func TestCheckExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		target string // SQL
		args   []string
		code   int
		reason report.ReasonCode // the only one, or ""
		says   string
	}{
		{"nothing in the way", "", nil, exitCompleted, "", "Nothing is in the way."},
		{"a target that is not empty", "CREATE TABLE mine (a int)", nil, exitRefused, report.ReasonNotEmpty, "table public.mine"},
		{"one that is to be cleaned", "CREATE TABLE mine (a int)", []string{"--clean"}, exitCompleted, "", "Nothing is in the way."},
		{"a schema that is not there", "", []string{"--schema", "none"}, exitRefused, report.ReasonUnknownSchema, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, library)
			dbtest.Exec(t, target, tt.target)
			env := []string{"CALCO_SOURCE=" + source, "CALCO_TARGET=" + target}
			r := runCalco(t, env, append([]string{"check"}, tt.args...)...)
			if r.code != tt.code || !strings.Contains(r.stdout, tt.says) {
				t.Errorf("exit %d, want %d, and %q in:\n%s%s", r.code, tt.code, tt.says, r.stdout, r.stderr)
			}
			r = runCalco(t, env, append([]string{"check", "--json"}, tt.args...)...)
			var found report.Preflight
			if err := json.Unmarshal([]byte(r.stdout), &found); err != nil {
				t.Fatalf("%v: %s", err, r.stdout)
			}
			if r.code != tt.code {
				t.Errorf("as JSON: exit %d, want %d", r.code, tt.code)
			}
			if found.Source.Database == "" || found.Target.Version == "" {
				t.Errorf("the two sides are %+v and %+v", found.Source, found.Target)
			}
			switch {
			case tt.reason == "" && len(found.Reasons) > 0, tt.reason != "" && len(found.Reasons) != 1:
				t.Errorf("reasons %+v", found.Reasons)
			case tt.reason != "" && found.Reasons[0].Code != tt.reason:
				t.Errorf("reason %s, want %s", found.Reasons[0].Code, tt.reason)
			}
		})
	}
}

func TestCheckUsage(t *testing.T) {
	t.Parallel()
	r := runCalco(t, []string{"CALCO_SOURCE=postgres://u@h/d", "CALCO_TARGET=postgres://nobody"}, "check")
	if r.code != exitUsage || !strings.Contains(r.stderr, "Try calco check --help.") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
