package web

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

const jobsAPage = 50

// showHistory is a page of all jobs, filtered.
func (s *Server) showHistory(c echo.Context) error {
	ctx := c.Request().Context()
	filter := jobs.TaskFilter{Status: jobs.Status(c.QueryParam("state")), Before: c.QueryParam("before"), Limit: jobsAPage + 1}
	filter.ConnectionID = parseID(c.QueryParam("database")) // what is no id filters nothing
	if !slices.Contains(views.HistoryStates, string(filter.Status)) {
		filter.Status = ""
	}
	tasks, err := s.jobs.Tasks(ctx, currentUser(c), filter)
	if err != nil {
		return err
	}
	connections, err := s.jobs.Databases(ctx, currentUser(c))
	if err != nil {
		return err
	}

	props := views.HistoryPageProps{Status: string(filter.Status), Database: filter.ConnectionID, Later: filter.Before != ""}
	if len(tasks) > jobsAPage {
		tasks = tasks[:jobsAPage]
		older := c.QueryParams()
		older.Set("before", tasks[jobsAPage-1].ID)
		props.Older = "/history?" + older.Encode()
	}
	for _, d := range connections {
		props.Databases = append(props.Databases, views.SelectOption{Value: strconv.FormatInt(d.ID, 10), Text: d.Name})
	}
	for _, t := range tasks {
		row := views.HistoryRow{
			ID: t.ID, Status: shownStatus(t), Owner: t.Owner, Source: viewPlace(t.Source), Target: viewPlace(t.Target),
			Created: t.CreatedAt, Rows: t.Progress.Rows, Bytes: t.Progress.Bytes, Again: againPath(t, connections),
		}
		if !t.StartedAt.IsZero() && !t.FinishedAt.IsZero() {
			row.Duration = t.FinishedAt.Sub(t.StartedAt)
		}
		props.Rows = append(props.Rows, row)
	}
	p := s.page(c, "history.title")
	p.Wide = true
	return s.render(c, http.StatusOK, views.HistoryPage(p, props))
}

// againPath leads to the form filled in like a job, or is empty where one of its databases is not to be had for this user.
func againPath(t jobs.Task, connections []jobs.Connection) string {
	for _, id := range []int64{t.Source.ConnectionID, t.Target.ConnectionID} {
		if !slices.ContainsFunc(connections, func(d jobs.Connection) bool { return d.ID == id }) {
			return ""
		}
	}
	return formPath(t)
}

// formPath leads to the form filled in like a job.
func formPath(t jobs.Task) string { return "/clones/new?" + formLike(t).Encode() }
