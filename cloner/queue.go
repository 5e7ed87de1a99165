package cloner

import (
	"context"
	"sync"
)

// partQueue hands parts to lanes. One that fails for now is put off until all others
// are through, and then tried again for as long as that brings anything new.
type partQueue struct {
	mu       sync.Mutex
	changed  *sync.Cond
	waiting  []*part
	putOff   []putOff // at the end: what never arrived
	inFlight int
	moved    bool // a part arrived since the last round began
	round    int
}

type putOff struct {
	part *part
	err  error
}

// rounds bounds how often a part is tried: a large table must not be sent for ever.
const rounds = 8

func newPartQueue() *partQueue {
	q := &partQueue{}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// next waits for a part to carry. It returns nil when there is none left, or ctx has
// ended and wake was called.
func (q *partQueue) next(ctx context.Context) *part {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return nil
		case len(q.waiting) > 0:
			p := q.waiting[0]
			q.waiting = q.waiting[1:]
			q.inFlight++
			return p
		case q.inFlight > 0:
			q.changed.Wait()
		case len(q.putOff) > 0 && q.moved && q.round < rounds:
			for _, f := range q.putOff {
				q.waiting = append(q.waiting, f.part)
			}
			q.putOff, q.moved = nil, false
			q.round++
		default:
			q.changed.Broadcast()
			return nil
		}
	}
}

// arrived, dropped, later and again each account for one part that next handed out.
func (q *partQueue) arrived() { q.settle(func() { q.moved = true }) }

// dropped: the part will not be tried again.
func (q *partQueue) dropped() { q.settle(func() {}) }

// later: the part is to be tried when the others are through.
func (q *partQueue) later(p *part, err error) {
	q.settle(func() { q.putOff = append(q.putOff, putOff{p, err}) })
}

// again: another part takes the place of the one that was handed out.
func (q *partQueue) again(p *part) { q.settle(func() { q.waiting = append(q.waiting, p) }) }

func (q *partQueue) settle(how func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	how()
	q.inFlight--
	q.changed.Broadcast()
}

// wake makes all callers of next look at their ctx.
func (q *partQueue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed.Broadcast()
}
