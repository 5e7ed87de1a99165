package web

import (
	"bytes"
	"context"
	"fmt"

	"github.com/labstack/echo/v4"

	"calco/db/state"
	"calco/views"
)

// feedPath is the route of the only event stream.
const feedPath = "/clones/:id/events"

// feedClone shows a job to whoever watches it, until it has ended.
func (s *Server) feedClone(c echo.Context) error {
	id := c.Param("id")
	task, err := s.tasks.Task(c.Request().Context(), id)
	if err != nil {
		return err
	}
	v := s.onlooker(c, id)
	language := views.Language(c.Request().Context())
	variant := fmt.Sprint(language, " ", task.MayAct(v.user), " ", task.UserID == v.user.ID, " ", v.link)
	return s.hub.Serve(c, id, variant, func(ctx context.Context, t state.Task) ([]byte, error) {
		var frame bytes.Buffer
		err := views.JobFrame(viewTask(t, v)).Render(views.WithLanguage(ctx, language), &frame)
		return frame.Bytes(), err
	})
}

// readTask is what the hub shows.
func (s *Server) readTask(ctx context.Context, id string) (task state.Task, ended bool, err error) {
	task, err = s.tasks.Task(ctx, id)
	return task, over(task), err
}

// over tells whether a job will not change any more. One that can be resumed may go on before the eyes of who watches it.
func over(t state.Task) bool { return t.Status.Ended() && !t.Resumable }
