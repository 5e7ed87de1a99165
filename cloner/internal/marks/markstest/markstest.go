// Package markstest makes owners of targets for tests.
package markstest

import (
	"context"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Own makes a target a job's, and returns its owner.
func Own(t testing.TB, source, target string, job marks.Job) *marks.Owner {
	t.Helper()
	servers := map[report.Side]*session.Server{}
	for side, url := range map[report.Side]string{report.Source: source, report.Target: target} {
		s, reason, err := session.Connect(t.Context(), session.Way{Side: side, URL: dsn.URL(url), Name: job.ApplicationName()}, 0, "")
		if reason != nil || err != nil {
			t.Fatal(reason, err)
		}
		t.Cleanup(s.Control.Close)
		servers[side] = s
	}
	lock, err := marks.Acquire(t.Context(), servers[report.Source], servers[report.Target], marks.Wish{
		Job: job, Announce: func(context.Context) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := lock.Claim(t.Context(), "15 none")
	if err != nil {
		t.Fatal(err)
	}
	return o
}
