package data

import (
	"context"
	"slices"
	"sync"
)

// Queue hands parts to lanes. One that fails for now is put off until all others
// are through, and then tried again for as long as that brings anything new.
type Queue struct {
	LargeObjects int64 // that the source has, where they are to be copied

	mu      sync.Mutex
	changed *sync.Cond
	waiting []*part
	putOff  []putOff // at the end: what never arrived
	busy    int
	busyBy  map[string]int // parts under way, by relation
	moved   bool           // a part arrived since the last round began
	pieces  map[int64]int  // parts of large objects that are to come, by the first OID of each
	round   int
}

type putOff struct {
	part *part
	err  error
}

// rounds bounds how often a part is tried: a large table must not be sent for ever.
const rounds = 8

func newQueue() *Queue {
	q := &Queue{busyBy: map[string]int{}, pieces: map[int64]int{}}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// next waits for a part to carry. It returns nil when there is none left, or ctx has
// ended and wake was called.
func (q *Queue) next(ctx context.Context) *part {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return nil
		case len(q.waiting) > 0:
			return q.take()
		case q.busy > 0:
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

// addLarge enters a part of large objects.
func (q *Queue) addLarge(p *part) {
	q.waiting = append(q.waiting, p)
	q.pieces[p.large.First]++
}

// lastPiece counts a part of large objects as arrived, and tells whether all of its objects have.
func (q *Queue) lastPiece(p *part) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pieces[p.large.First]--
	return q.pieces[p.large.First] == 0
}

// take takes the first part of those tables that have the fewest parts under way: lanes that fill one table wait for each
// other when it grows. It must be called with mu held.
func (q *Queue) take() *part {
	best := 0
	for i, p := range q.waiting {
		if q.busyBy[p.relation] < q.busyBy[q.waiting[best].relation] {
			best = i
		}
		if q.busyBy[q.waiting[best].relation] == 0 {
			break
		}
	}
	p := q.waiting[best]
	q.waiting = slices.Delete(q.waiting, best, best+1)
	q.busy++
	q.busyBy[p.relation]++
	return p
}

// arrived, dropped, later and again each account for one part that next handed out.
func (q *Queue) arrived(p *part) { q.settle(p, func() { q.moved = true }) }

// dropped: the part will not be tried again.
func (q *Queue) dropped(p *part) { q.settle(p, func() {}) }

// later: the part is to be tried when the others are through.
func (q *Queue) later(p *part, err error) {
	q.settle(p, func() { q.putOff = append(q.putOff, putOff{p, err}) })
}

// again: the part sets out once more, perhaps another way.
func (q *Queue) again(p *part) { q.settle(p, func() { q.waiting = append(q.waiting, p) }) }

func (q *Queue) settle(p *part, how func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	how()
	q.busy--
	q.busyBy[p.relation]--
	q.changed.Broadcast()
}

// wake makes all callers of next look at their ctx.
func (q *Queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed.Broadcast()
}
