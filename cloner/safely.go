package cloner

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

var errFault = errors.New("a fault in Calco, or a server that does not speak like PostgreSQL; Calco's own log has more")

// safely makes a panic of do an error: it must not end the process, in which others' clones run.
func safely(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in a clone", "panic", p, "stack", string(debug.Stack()))
			err = errFault
		}
	}()
	return do()
}

// group is an errgroup whose functions run safely.
type group struct{ *errgroup.Group }

func newGroup(ctx context.Context) (group, context.Context) {
	eg, ctx := errgroup.WithContext(ctx)
	return group{eg}, ctx
}

func (g group) Go(do func() error) { g.Group.Go(func() error { return safely(do) }) }
