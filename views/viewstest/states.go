// Package viewstest has a picture of every state of the pages about clones: for the tests, and for the screenshots. It
// knows neither jobs nor databases; its values only look like them.
package viewstest

import (
	"time"

	"calco/views"
)

// State is one page in one state.
type State struct {
	Name      string // fit for a file's name
	Component views.Component
}

// States returns all of them. Their times are relative to now.
func States() []State {
	var all []State
	for _, s := range Clones() {
		all = append(all, State{s.Name, views.ClonePage(page("/clones/"+s.Props.Clone.ID), s.Props)})
	}
	running := named("running")
	running.Notice = "clone.reconnected"
	failed := named("failed")
	empty := form()
	empty.Databases = nil
	start := func(name string, s views.StartPageProps) {
		all = append(all, State{name, views.StartPage(page("/"), s)})
	}
	f := form()
	start("start-first", views.StartPageProps{Form: &empty})
	start("start", views.StartPageProps{Form: &f, Running: others()})
	start("start-reconnected", views.StartPageProps{Current: &running, Running: others()})
	start("start-failed", views.StartPageProps{Current: &failed, Form: &f})
	for _, s := range Forms() {
		start("form-"+s.Name, views.StartPageProps{Form: &s.Form})
	}
	for _, s := range Retries() {
		all = append(all, State{s.Name, views.RetryPage(page("/clones/k3f9wd2mpa/retry"), s.Props)})
	}
	for _, s := range Histories() {
		all = append(all, State{s.Name, views.HistoryPage(page("/history"), s.Props)})
	}
	return all
}

func page(path string) views.Page {
	return views.Page{Title: "Calco", User: &views.User{Email: "ana@example.com", Admin: true}, Theme: "auto", Path: path, Wide: true}
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

var (
	production = views.ClonePlace{Name: "production", Environment: "production", Address: "db.example.com:5432", Database: "shop"}
	staging    = views.ClonePlace{Name: "staging", Environment: "staging", Address: "staging.example.com:5432", Database: "shop"}
	laptop     = views.ClonePlace{Name: "Ben's laptop", Environment: "development", Address: "10.0.4.17:5433", Database: "shop_dev"}
	analytics  = views.ClonePlace{Name: "analytics", Environment: "other", Address: "warehouse.example.com:5432", Database: "shop_copy"}
)

func others() []views.CloneRow {
	return []views.CloneRow{
		{ID: "p7xk2mv4qa", Status: "running", Owner: "ben@example.com", Source: production, Target: laptop, Done: .34, Left: 7 * time.Minute},
		{ID: "b2nd8ws6ye", Status: "running", Owner: "carmen@example.com", Source: staging, Target: analytics, Done: .91, Left: 21 * time.Second},
		{ID: "t5gq9hz3uc", Status: "queued", Owner: "ben@example.com", Source: production, Target: analytics},
	}
}

// NamedHistory is a history page with its name.
type NamedHistory struct {
	Name  string
	Props views.HistoryPageProps
}

// Histories are the history in its states.
func Histories() []NamedHistory {
	databases := []views.SelectOption{{Value: "1", Text: "production"}, {Value: "2", Text: "staging"}, {Value: "3", Text: "Ben's laptop"}}
	row := func(id, status, owner string, source, target views.ClonePlace, back time.Duration, rows, bytes int64, took time.Duration) views.HistoryRow {
		return views.HistoryRow{
			ID: id, Status: status, Owner: owner, Source: source, Target: target, Created: ago(back), Rows: rows, Bytes: bytes, Duration: took,
			Again: "/?source=1&target=2",
		}
	}
	rows := []views.HistoryRow{
		row("k3f9wd2mpa", "running", "ana@example.com", production, staging, 2*time.Minute, 7_870_000, 618_000_000, 88*time.Second),
		row("t5gq9hz3uc", "queued", "ben@example.com", production, analytics, 4*time.Minute, 0, 0, 0),
		row("m8rj4cx7vo", "failed", "ana@example.com", production, staging, 14*time.Minute, 7_100_000, 590_000_000, 71*time.Second),
		row("w6ya1ke9bn", "completed", "carmen@example.com", production, laptop, 3*time.Hour, 10_204_117, 1_070_000_000, 131*time.Second),
		row("q9ph5tl2sd", "differences", "ben@example.com", staging, analytics, 26*time.Hour, 5_400_200, 402_000_000, 64*time.Second),
		row("f4zu8gi3xm", "failed", "ben@example.com", production, laptop, 49*time.Hour, 1_200_000, 88_000_000, 12*time.Second),
		row("c1vb6no7ej", "refused", "ana@example.com", staging, laptop, 5*24*time.Hour, 0, 0, 900*time.Millisecond),
		row("y2kd3rw8ha", "cancelled", "", production, analytics, 12*24*time.Hour, 3_000, 2_400_000, 3*time.Second),
	}
	return []NamedHistory{
		{"history", views.HistoryPageProps{Rows: rows, Databases: databases, Older: "/history?before=y2kd3rw8ha"}},
		{"history-filtered", views.HistoryPageProps{Rows: rows[2:3], Status: "failed", Database: 2, Databases: databases, Later: true}},
		{"history-empty", views.HistoryPageProps{Databases: databases}},
		{"history-no-match", views.HistoryPageProps{Status: "refused", Databases: databases}},
	}
}
