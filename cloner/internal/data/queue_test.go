package data

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestPartQueue(t *testing.T) {
	t.Parallel()
	failed := errors.New("not yet")
	tests := []struct {
		name   string
		passes int // the round in which the stubborn part arrives; 0 for never
		others int // parts that arrive at once
		want   int // how often the stubborn one is tried
		left   int
	}{
		{"at once", 1, 3, 1, 0},
		{"in the second round", 2, 3, 2, 0},
		{"never, and nothing else moves", 0, 3, 2, 1},
		{"never, and alone", 0, 0, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQueue()
			stubborn := &part{relation: "stubborn"}
			q.waiting = []*part{stubborn}
			for range tt.others {
				q.waiting = append(q.waiting, &part{})
			}
			var mu sync.Mutex
			tries := 0
			var wait sync.WaitGroup
			for range 4 {
				wait.Go(func() {
					for p := q.next(t.Context()); p != nil; p = q.next(t.Context()) {
						if p != stubborn {
							q.arrived(p)
							continue
						}
						mu.Lock()
						tries++
						passes := tries == tt.passes
						mu.Unlock()
						if passes {
							q.arrived(p)
						} else {
							q.later(p, failed)
						}
					}
				})
			}
			wait.Wait()
			if tries != tt.want {
				t.Errorf("tried %d times, want %d", tries, tt.want)
			}
			if len(q.putOff) != tt.left {
				t.Errorf("%d parts left, want %d", len(q.putOff), tt.left)
			}
		})
	}
}

// TestPartQueueRounds: a chain of parts of which each needs the one before it moves on by
// one in each round, and is given up after a while.
func TestPartQueueRounds(t *testing.T) {
	t.Parallel()
	q := newQueue()
	const chain = 2 * rounds
	for i := range chain {
		q.waiting = append([]*part{{number: i}}, q.waiting...) // the worst order
	}
	arrived, tries := 0, 0
	for p := q.next(t.Context()); p != nil; p = q.next(t.Context()) {
		tries++
		switch {
		case p.number == arrived:
			arrived++
			q.arrived(p)
		case p.number == chain-1 && tries == 1:
			q.again(p) // another way, without being put off
		default:
			q.later(p, errors.New("not yet"))
		}
	}
	if want := rounds + 1; arrived != want {
		t.Errorf("%d parts arrived, want %d", arrived, want)
	}
	if want := chain - rounds - 1; len(q.putOff) != want {
		t.Errorf("%d parts left, want %d", len(q.putOff), want)
	}
}

func TestPartQueueEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	q := newQueue()
	q.waiting = []*part{{}}
	first := q.next(ctx)
	if first == nil { // under way for ever: the others wait for it
		t.Fatal("no part")
	}
	defer context.AfterFunc(ctx, q.wake)()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if p := q.next(ctx); p != nil {
				t.Errorf("next = %v, want none", p)
			}
		})
	}
	cancel()
	wait.Wait()
	q.dropped(first)
	if p := q.next(ctx); p != nil {
		t.Errorf("next = %v after the end, want none", p)
	}
}
