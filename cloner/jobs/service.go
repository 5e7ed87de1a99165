// Package jobs is what people can do with Calco, each thing once: start, cancel and resume a clone, save and test a
// database, invite a user. Pages and the terminal call it. It knows who may do what, and when; nothing of SQL, of HTTP and
// of HTML.
package jobs

import "log/slog"

// Service does what people ask for. Each method asks whether they may, at the time of the act, and returns ErrForbidden
// where they may not, or ErrNotFound where they may not know either. It is safe for concurrent use.
type Service struct {
	store Store
	tests tests
	log   *slog.Logger
}

// Store keeps all that there is. db has it.
type Store interface {
	TaskStore
	ConnectionStore
	UserStore
}

// Options are what a Service may be told. The zero value is ready.
type Options struct {
	Tests TestLimits
	Log   *slog.Logger // nil is slog.Default
}

// New makes a Service. The store stays the caller's.
func New(store Store, o Options) *Service {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Service{store: store, tests: tests{limits: o.Tests.orUsual()}, log: o.Log}
}

// mayRead is MayRead as an error.
func mayRead(by User) error {
	if !MayRead(by) {
		return ErrForbidden
	}
	return nil
}
