// Package patience knows how long a clone goes on waiting for trouble to pass. It counts what gets done, and knows nothing of
// what that is.
package patience

import (
	"sync/atomic"
	"time"
)

// Patience is how long a clone waits since it last got anything done. It is safe for concurrent use.
type Patience struct {
	limit time.Duration
	done  atomic.Int64
}

// New returns a patience that ends after limit.
func New(limit time.Duration) *Patience { return &Patience{limit: limit} }

// Limit is how long it lasts.
func (p *Patience) Limit() time.Duration { return p.limit }

// Achieve counts things that got done; a negative number takes back what has to be done again.
func (p *Patience) Achieve(n int) { p.done.Add(int64(n)) }

// Wait is some trouble, from the first failure until something gets done that was not done before. The zero value is none.
type Wait struct {
	Since time.Time
	Tries int // that failed
	done  int64
}

// Again counts another try that failed. Trouble begins anew when something got done since, so that what fails again and
// again at the same point does not go on for ever. It returns when the patience ends.
func (w *Wait) Again(p *Patience) (until time.Time) {
	if done := p.done.Load(); w.Tries == 0 || done > w.done {
		*w = Wait{Since: time.Now(), done: done}
	}
	w.Tries++
	return w.Since.Add(p.limit)
}
