package web

import (
	"context"
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

// Tasks are the jobs.
type Tasks interface {
	CreateTask(context.Context, jobs.NewTask) (id string, err error)
	Task(ctx context.Context, id string) (jobs.Task, error)
	CurrentTask(ctx context.Context, userID int64) (jobs.Task, error)
	RunningTasks(context.Context) ([]jobs.Task, error)
	Tasks(context.Context, jobs.TaskFilter) ([]jobs.Task, error)
	Attempts(ctx context.Context, id string) ([]jobs.Task, error)
	TaskTables(ctx context.Context, id string, f jobs.TableFilter) (rows []report.TableState, total int, err error)
	TaskEvents(ctx context.Context, id string, limit int) ([]report.Event, error)
	CancelTask(ctx context.Context, id string) error
	// ReconnectTask takes a job from a worker that has been silent for too long.
	ReconnectTask(ctx context.Context, id string) error
	// ResumeTask has a job go on that ended early; jobs.ErrConflict is that it cannot, or does already.
	ResumeTask(ctx context.Context, u jobs.User, id string) error
	// Listen blocks, and tells of each job that has changed; "" is any of them.
	Listen(ctx context.Context, changed func(id string)) error
}

const (
	tablesAPage = 50
	logLines    = 200
)

// showClone leads from a job that was tried again to the newest attempt. With a query this one is meant: that of its list
// of attempts, or of its tables.
func (s *Server) showClone(c echo.Context) error {
	task, err := s.tasks.Task(c.Request().Context(), c.Param("id"))
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
	panel := views.ClonePageProps{Clone: viewTask(task, s.onlooker(c, task.ID))}
	if !over(task) {
		panel.Live = templ.Join(views.ConnectionBanner(), views.LiveStream(clonePath(task.ID)+"/events"))
	}
	var err error
	if panel.Tables, err = s.tableList(c, task.ID); err != nil {
		return panel, err
	}
	if panel.Log, err = s.readLog(ctx, task.ID); err != nil {
		return panel, err
	}
	attempts, err := s.tasks.Attempts(ctx, task.ID)
	for _, a := range attempts {
		panel.Attempts = append(panel.Attempts, views.CloneAttempt{ID: a.ID, Status: shownStatus(a), Created: a.CreatedAt, Here: a.ID == task.ID})
	}
	return panel, err
}

func (s *Server) showTables(c echo.Context) error {
	if _, err := s.tasks.Task(c.Request().Context(), c.Param("id")); err != nil {
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
	if status := c.QueryParam("state"); slices.Contains(views.TableStates, status) {
		list.Status = status
	}
	if from, err := strconv.Atoi(c.QueryParam("from")); err == nil {
		list.Offset = max(from, 0)
	}
	tables, total, err := s.tasks.TaskTables(c.Request().Context(), id, jobs.TableFilter{
		Name: list.Name, Status: report.TableStatus(list.Status), Offset: list.Offset, Limit: list.Limit,
	})
	list.Total = total
	for _, t := range tables {
		list.Rows = append(list.Rows, views.CloneTable{
			Relation: t.Relation, Status: string(t.Status), Rows: t.Rows, Bytes: t.Bytes, Size: t.Size, Built: t.Built, ToBuild: t.ToBuild,
		})
	}
	return list, err
}

func (s *Server) showLog(c echo.Context) error {
	if _, err := s.tasks.Task(c.Request().Context(), c.Param("id")); err != nil {
		return err
	}
	log, err := s.readLog(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.LogList(log))
}

func (s *Server) readLog(ctx context.Context, id string) (views.LogProps, error) {
	log := views.LogProps{Path: clonePath(id)}
	events, err := s.tasks.TaskEvents(ctx, id, logLines)
	for _, e := range events {
		log.Lines = append(log.Lines, views.LogLine{At: e.At, Kind: string(e.Kind), Phase: string(e.Phase), Object: e.Object, Text: e.Text})
	}
	return log, err
}

// downloadReport sends the report as a file.
func (s *Server) downloadReport(c echo.Context) error {
	task, err := s.tasks.Task(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	if task.Report == nil {
		return jobs.ErrNotFound
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	c.Response().Header().Set(echo.HeaderContentDisposition, fmt.Sprintf(`attachment; filename="calco-%s.json"`, task.ID))
	return c.JSONPretty(http.StatusOK, task.Report, "  ")
}

// actOn returns the job of the path to somebody who may act on it.
func (s *Server) actOn(c echo.Context) (jobs.Task, error) {
	task, err := s.tasks.Task(c.Request().Context(), c.Param("id"))
	if err == nil && !task.MayAct(currentUser(c)) {
		err = errForbidden
	}
	return task, err
}

// cancelClone asks for it. A job may have ended meanwhile.
func (s *Server) cancelClone(c echo.Context) error {
	task, err := s.actOn(c)
	if err != nil {
		return err
	}
	err = s.tasks.CancelTask(c.Request().Context(), task.ID)
	if errors.Is(err, jobs.ErrConflict) {
		return s.redirect(c, clonePath(task.ID), "done.clone.ended")
	}
	if err != nil {
		return err
	}
	return s.redirect(c, clonePath(task.ID), "")
}

// reconnect draws the page anew, which opens the feed again, after looking for the worker of the job.
func (s *Server) reconnect(c echo.Context) error {
	task, err := s.actOn(c)
	if err != nil {
		return err
	}
	if err := s.tasks.ReconnectTask(c.Request().Context(), task.ID); err != nil {
		return err
	}
	return s.redirect(c, clonePath(task.ID), "")
}

// resume has a job go on that ended early.
func (s *Server) resume(c echo.Context) error {
	task, err := s.actOn(c)
	if err != nil {
		return err
	}
	return s.goOn(c, task)
}

// goOn queues a job again, or says on its page why that cannot be.
func (s *Server) goOn(c echo.Context, task jobs.Task) error {
	err := s.tasks.ResumeTask(c.Request().Context(), currentUser(c), task.ID)
	if errors.Is(err, jobs.ErrConflict) {
		return s.redirect(c, clonePath(task.ID), "done.clone.unresumed")
	}
	if _, text := createError(err); text != "" {
		return s.drawClone(c, http.StatusUnprocessableEntity, task, text)
	}
	if err != nil {
		return err
	}
	return s.redirect(c, clonePath(task.ID), "")
}

// tryAgain makes a new job like one that was refused. One that cleans goes through the confirmation, for its target may
// hold something else by now. One that was refused when it was to go on, goes on.
func (s *Server) tryAgain(c echo.Context) error {
	task, err := s.actOn(c)
	switch {
	case err != nil:
		return err
	case task.Resumable:
		return s.goOn(c, task)
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
	task, err := s.actOn(c)
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
	task, err := s.actOn(c)
	if err != nil {
		return err
	}
	if !task.Status.Ended() {
		if err := s.tasks.CancelTask(c.Request().Context(), task.ID); err != nil && !errors.Is(err, jobs.ErrConflict) {
			return err
		}
		return s.redirect(c, clonePath(task.ID)+"/retry", "")
	}
	if task.Newest != "" {
		return s.retriedAlready(c, task)
	}
	preview, confirmed, err := s.previewRetry(c, task)
	if err != nil {
		return err
	}
	if !confirms(c, &preview) {
		return s.drawRetry(c, http.StatusUnprocessableEntity, task, &preview, "")
	}
	err = s.createRetry(c, task, confirmed)
	if _, text := createError(err); text != "" {
		return s.drawRetry(c, http.StatusUnprocessableEntity, task, &preview, text)
	}
	return err
}

// createRetry makes a new job like an old one, which cleans what was confirmed, or nothing for nil, and leads to it.
func (s *Server) createRetry(c echo.Context, task jobs.Task, confirmed *report.Confirmation) error {
	id, err := s.tasks.CreateTask(c.Request().Context(), jobs.NewTask{
		User: currentUser(c), SourceID: task.Source.ConnectionID, TargetID: task.Target.ConnectionID,
		Schemas: task.Schemas, Verify: task.Verify, Clean: confirmed, RetryOf: task.ID, Fork: c.FormValue("fork") == "yes",
		EndBlockers: c.FormValue("end") == "yes",
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
		if props.Preview, _, err = s.previewRetry(c, task); err != nil {
			return err
		}
	case task.Cancelling:
		props.Waiting = true
	default:
		props.Running = true
	}
	return s.render(c, status, views.RetryPage(s.page(c, "clone.retry"), props))
}

// previewRetry is previewClean, only where the job went and where its reader may go now: nothing is told of another database.
func (s *Server) previewRetry(c echo.Context, task jobs.Task) (props views.CleanPreviewProps, confirmed *report.Confirmation, err error) {
	target, err := s.connections.Connection(c.Request().Context(), currentUser(c), task.Target.ConnectionID)
	if err == nil && !task.Target.Same(target.Place()) {
		err = jobs.ErrMoved
	}
	if _, text := createError(err); text != "" {
		props.Reasons = []views.CloneReason{{Text: views.T(c.Request().Context(), text)}}
		return props, nil, nil
	}
	if err == nil {
		confirmed, err = s.previewClean(c, task.Target, task.Schemas, &props)
	}
	return props, confirmed, err
}

func clonePath(id string) string { return "/clones/" + url.PathEscape(id) }
