// Package safely keeps a fault in one clone from ending the process in which others run.
package safely

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

var ErrFault = errors.New("a fault in Calco, or a server that does not speak like PostgreSQL; Calco's own log has more")

// Do makes a panic of do an error: it must not end the process, in which others' clones run.
func Do(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in a clone", "panic", p, "stack", string(debug.Stack()))
			err = ErrFault
		}
	}()
	return do()
}

// Group is an errgroup whose functions run safely.
type Group struct{ *errgroup.Group }

func NewGroup(ctx context.Context) (Group, context.Context) {
	eg, ctx := errgroup.WithContext(ctx)
	return Group{eg}, ctx
}

func (g Group) Go(do func() error) { g.Group.Go(func() error { return Do(do) }) }
