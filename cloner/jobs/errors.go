package jobs

import "errors"

// The errors that mean something to a person. Everything else is a fault.
var (
	// ErrNotFound: it is not there, or not for this user.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: this user may not.
	ErrForbidden = errors.New("not allowed")
	// ErrConflict: it cannot be done as things stand now.
	ErrConflict = errors.New("conflict")
	// ErrTaken: another one has this name.
	ErrTaken = errors.New("taken")
	// ErrUsedUp: the one-time link is unknown, used or too old.
	ErrUsedUp = errors.New("the link is used up")

	// ErrProtected: the database can never be a target. It is protected here, or as another saved database that leads there.
	ErrProtected = errors.New("the target is protected")
	// ErrFork: the target has the identity of a protected database, and nobody has said that it is a fork of that.
	ErrFork = errors.New("the target has the identity of a protected database")
	// ErrTargetBusy: another job is queued or running into this target.
	ErrTargetBusy = errors.New("another job has this target")
	// ErrIsSource: another job is reading from this target.
	ErrIsSource = errors.New("another job reads from this target")
	// ErrIsTarget: another job is writing to this source.
	ErrIsTarget = errors.New("another job writes to this source")
	// ErrMoved: a saved database of the job leads elsewhere by now.
	ErrMoved = errors.New("the saved database leads elsewhere by now")
	// ErrSameConnection: source and target are one saved database.
	ErrSameConnection = errors.New("source and target are the same")
)
