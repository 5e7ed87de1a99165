package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

const (
	tablesAPage = 50
	logLines    = 200
)

// task is the job of the path.
func (s *Server) task(c echo.Context) (jobs.Task, error) {
	return s.jobs.Task(c.Request().Context(), currentUser(c), c.Param("id"))
}

// showClone leads from a job that was tried again to the newest attempt. With a query this one is meant: that of its list
// of attempts, or of its tables.
func (s *Server) showClone(c echo.Context) error {
	task, err := s.task(c)
	if err != nil {
		return err
	}
	if task.Newest != "" && c.Request().URL.RawQuery == "" {
		return c.Redirect(http.StatusSeeOther, clonePath(task.Newest))
	}
	return s.drawClone(c, http.StatusOK, task, "")
}

// drawClone draws the page of a job, with the id of a text that says why it was not resumed.
func (s *Server) drawClone(c echo.Context, status int, task jobs.Task, refused string) error {
	panel, err := s.clonePanel(c, task)
	if err != nil {
		return err
	}
	panel.Refused = refused
	p := s.page(c, "clone.title")
	p.Title += " #" + task.ID
	return s.render(c, status, views.ClonePage(p, panel))
}

// clonePanel is a job with all that belongs to it.
func (s *Server) clonePanel(c echo.Context, task jobs.Task) (views.ClonePageProps, error) {
	ctx := c.Request().Context()
	panel := views.ClonePageProps{Clone: viewTask(task, s.audience(c, task.ID))}
	if !over(task) {
		panel.Live = templ.Join(views.ConnectionBanner(), views.LiveStream(clonePath(task.ID)+"/events"))
	}
	var err error
	if panel.Tables, err = s.tableList(c, task.ID); err != nil {
		return panel, err
	}
	if panel.Log, err = s.readLog(c, task.ID); err != nil {
		return panel, err
	}
	attempts, err := s.jobs.Attempts(ctx, currentUser(c), task.ID)
	for _, a := range attempts {
		panel.Attempts = append(panel.Attempts, views.CloneAttempt{ID: a.ID, Status: shownStatus(a), Created: a.CreatedAt, Here: a.ID == task.ID})
	}
	return panel, err
}

func (s *Server) showTables(c echo.Context) error {
	if _, err := s.task(c); err != nil {
		return err
	}
	list, err := s.tableList(c, c.Param("id"))
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.TableList(list))
}

// tableList is the page of the job's tables that the query asks for. What makes no sense there filters nothing.
func (s *Server) tableList(c echo.Context, id string) (views.TableListProps, error) {
	list := views.TableListProps{Path: clonePath(id), Name: c.QueryParam("table"), Limit: tablesAPage}
	if status := report.TableStatus(c.QueryParam("state")); slices.Contains(views.TableStates, status) {
		list.Status = status
	}
	if from, err := strconv.Atoi(c.QueryParam("from")); err == nil {
		list.Offset = max(from, 0)
	}
	var err error
	list.Rows, list.Total, err = s.jobs.Tables(c.Request().Context(), currentUser(c), id, jobs.TableFilter{
		Name: list.Name, Status: list.Status, Offset: list.Offset, Limit: list.Limit,
	})
	return list, err
}

func (s *Server) showLog(c echo.Context) error {
	if _, err := s.task(c); err != nil {
		return err
	}
	log, err := s.readLog(c, c.Param("id"))
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.LogList(log))
}

func (s *Server) readLog(c echo.Context, id string) (views.LogProps, error) {
	events, err := s.jobs.Events(c.Request().Context(), currentUser(c), id, logLines)
	return views.LogProps{Path: clonePath(id), Lines: events}, err
}

// downloadReport sends the report as a file.
func (s *Server) downloadReport(c echo.Context) error {
	task, err := s.task(c)
	if err != nil {
		return err
	}
	if task.Report == nil {
		return jobs.ErrNotFound
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	c.Response().Header().Set(echo.HeaderContentDisposition, fmt.Sprintf(`attachment; filename="calco-%s.json"`, task.ID))
	return c.JSONPretty(http.StatusOK, views.WithSentences(*task.Report), "  ")
}

// cancelClone asks for it. A job may have ended meanwhile.
func (s *Server) cancelClone(c echo.Context) error {
	id := c.Param("id")
	err := s.jobs.Cancel(c.Request().Context(), currentUser(c), id)
	if errors.Is(err, jobs.ErrConflict) {
		return s.redirect(c, clonePath(id), "done.clone.ended")
	}
	if err != nil {
		return err
	}
	return s.redirect(c, clonePath(id), "")
}

// reconnect draws the page anew, which opens the feed again, after looking for the worker of the job.
func (s *Server) reconnect(c echo.Context) error {
	id := c.Param("id")
	if err := s.jobs.Reconnect(c.Request().Context(), currentUser(c), id); err != nil {
		return err
	}
	return s.redirect(c, clonePath(id), "")
}

// resume has a job go on that ended early, or says on its page why that cannot be.
func (s *Server) resume(c echo.Context) error {
	id := c.Param("id")
	err := s.jobs.Resume(c.Request().Context(), currentUser(c), id)
	if errors.Is(err, jobs.ErrConflict) {
		return s.redirect(c, clonePath(id), "done.clone.unresumed")
	}
	if _, text := createError(err); text != "" {
		task, err := s.task(c)
		if err != nil {
			return err
		}
		return s.drawClone(c, http.StatusUnprocessableEntity, task, text)
	}
	if err != nil {
		return err
	}
	return s.redirect(c, clonePath(id), "")
}

// tryAgain makes a new job like one that was refused. One that cleans goes through the confirmation, for its target may
// hold something else by now. One that was refused when it was to go on, goes on.
func (s *Server) tryAgain(c echo.Context) error {
	task, err := s.jobs.TaskToRetry(c.Request().Context(), currentUser(c), c.Param("id"))
	switch {
	case err != nil:
		return err
	case task.Resumable:
		return s.resume(c)
	case task.Clean:
		return s.redirect(c, clonePath(task.ID)+"/retry", "")
	}
	err = s.createRetry(c, task, nil)
	field, text := createError(err)
	if text == "" {
		return err
	}
	form := parseCloneForm(formLike(task))
	form.Errors[field] = text
	form.AskFork = errors.Is(err, jobs.ErrFork)
	return s.drawStart(c, http.StatusUnprocessableEntity, views.StartPageProps{Form: &form})
}

// showRetry is clean's confirmation before a job is tried again.
func (s *Server) showRetry(c echo.Context) error {
	task, err := s.jobs.TaskToRetry(c.Request().Context(), currentUser(c), c.Param("id"))
	if err != nil {
		return err
	}
	if task.Newest != "" {
		return s.retriedAlready(c, task)
	}
	return s.drawRetry(c, http.StatusOK, task, nil, "")
}

// retry cancels a job that goes on, and tries one again that has ended, on a cleaned target.
func (s *Server) retry(c echo.Context) error {
	task, err := s.jobs.TaskToRetry(c.Request().Context(), currentUser(c), c.Param("id"))
	if err != nil {
		return err
	}
	if !task.Status.Ended() {
		if err := s.jobs.Cancel(c.Request().Context(), currentUser(c), task.ID); err != nil && !errors.Is(err, jobs.ErrConflict) {
			return err
		}
		return s.redirect(c, clonePath(task.ID)+"/retry", "")
	}
	if task.Newest != "" {
		return s.retriedAlready(c, task)
	}
	preview, shown, err := s.previewRetry(c, task)
	if err != nil {
		return err
	}
	confirmed := confirm(c, preview, &shown)
	if confirmed == nil {
		return s.drawRetry(c, http.StatusUnprocessableEntity, task, &shown, "")
	}
	err = s.createRetry(c, task, confirmed)
	if _, text := createError(err); text != "" {
		return s.drawRetry(c, http.StatusUnprocessableEntity, task, &shown, text)
	}
	return err
}

// createRetry makes a new job like an old one, which cleans what was confirmed, or nothing for nil, and leads to it.
func (s *Server) createRetry(c echo.Context, task jobs.Task, confirmed *report.Confirmation) error {
	id, err := s.jobs.Retry(c.Request().Context(), currentUser(c), task.ID, jobs.Again{
		Clean: confirmed, Fork: c.FormValue("fork") == "yes", EndBlockers: c.FormValue("end") == "yes",
	})
	if errors.Is(err, jobs.ErrConflict) { // somebody was faster
		return s.retriedAlready(c, task)
	}
	if err != nil {
		return err
	}
	return s.redirect(c, clonePath(id), "")
}

// retriedAlready leads to the newest attempt.
func (s *Server) retriedAlready(c echo.Context, task jobs.Task) error {
	return s.redirect(c, clonePath(task.ID), "done.clone.retried")
}

// drawRetry shows the job, and what clean would drop once nothing of the old run is left: what was just looked at, or else
// what is there now. The text whose id is problem says what is wrong with the whole.
func (s *Server) drawRetry(c echo.Context, status int, task jobs.Task, preview *views.CleanPreviewProps, problem string) error {
	props := views.RetryPageProps{
		ID: task.ID, Source: viewPlace(task.Source), Target: viewPlace(task.Target), Schemas: task.Schemas, Error: problem,
		Fork: c.FormValue("fork") == "yes",
	}
	props.AskFork = props.Fork || props.Error == "form.error.fork"
	switch {
	case preview != nil:
		props.Preview = *preview
	case task.Status.Ended():
		var err error
		if _, props.Preview, err = s.previewRetry(c, task); err != nil {
			return err
		}
	case task.Cancelling:
		props.Waiting = true
	default:
		props.Running = true
	}
	return s.render(c, status, views.RetryPage(s.page(c, "clone.retry"), props))
}

// previewRetry looks at what clean would drop before a job is tried again.
func (s *Server) previewRetry(c echo.Context, task jobs.Task) (jobs.CleanPreview, views.CleanPreviewProps, error) {
	p, err := s.jobs.PreviewRetry(c.Request().Context(), currentUser(c), task.ID)
	var shown views.CleanPreviewProps
	err = fillPreview(c, &shown, task.Target, task.Schemas, p, err)
	return p, shown, err
}

func clonePath(id string) string { return "/clones/" + url.PathEscape(id) }
