package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/views"
)

// feedPath is the route of the only event stream.
const feedPath = "/clones/:id/events"

// feedClone shows a job to whoever watches it, until it has ended.
func (s *Server) feedClone(c echo.Context) error {
	id := c.Param("id")
	task, err := s.jobs.Task(c.Request().Context(), currentUser(c), id)
	if err != nil {
		return err
	}
	leave, ok := s.streams.take(currentUser(c).ID)
	if !ok {
		return echo.NewHTTPError(http.StatusTooManyRequests, "too many event streams")
	}
	defer leave()
	defer s.endWithSession(c)()
	v := s.audience(c, id)
	language := views.Language(c.Request().Context())
	variant := fmt.Sprint(language, " ", jobs.MayAct(v.user, task), " ", task.UserID == v.user.ID, " ", v.link)
	return s.hub.Serve(c, id, variant, func(ctx context.Context, t jobs.Task) ([]byte, error) {
		var frame bytes.Buffer
		err := views.JobFrame(viewTask(t, v)).Render(views.WithLanguage(ctx, language), &frame)
		return frame.Bytes(), err
	})
}

const (
	streamsAUser = 30
	// sessionEvery is how often an open stream looks whether its session has ended.
	sessionEvery = 5 * time.Second
)

// endWithSession ends the request when its session does: of a user who signs out or is removed, nothing more is shown.
func (s *Server) endWithSession(c echo.Context) (stop func()) {
	ctx, end := context.WithCancel(c.Request().Context())
	c.SetRequest(c.Request().WithContext(ctx))
	token := jobs.Token(cookieValue(c, sessionCookie))
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(sessionEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := s.accounts.CheckSession(ctx, token); errors.Is(err, jobs.ErrNotFound) {
				end()
			}
		}
	})
	return func() {
		end()
		watching.Wait()
	}
}

// streams counts the open event streams of each user. It is safe for concurrent use.
type streams struct {
	mu   sync.Mutex
	open map[int64]int
}

// take counts one more until leave is called, unless the user has enough.
func (s *streams) take(user int64) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[user] >= streamsAUser {
		return nil, false
	}
	if s.open == nil {
		s.open = map[int64]int{}
	}
	s.open[user]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open[user]--
		if s.open[user] == 0 {
			delete(s.open, user)
		}
	}, true
}

// readTask is what the hub shows.
func (s *Server) readTask(ctx context.Context, id string) (task jobs.Task, ended bool, err error) {
	task, err = s.jobs.Reread(ctx, id)
	return task, over(task), err
}

// over tells whether a job will not change any more. One that can be resumed may go on before the eyes of who watches it.
func over(t jobs.Task) bool { return t.Status.Ended() && !t.Resumable }
