package marks

import (
	"context"
	"sync/atomic"
	"time"

	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Share opens writers for workers that share some work. It is safe for concurrent use.
type Share struct {
	owner   *Owner
	workers atomic.Int32
	warn    func(text report.Text)
	coming  func() bool
}

// Share is for so many workers. Coming tells whether others will give connections of the target back.
func (o *Owner) Share(workers int, warn func(text report.Text), coming func() bool) *Share {
	s := &Share{owner: o, warn: warn, coming: coming}
	s.workers.Store(int32(workers)) //nolint:gosec // a small number
	return s
}

const (
	lastTries = 5                      // how often a connection is asked for that others have given back: a server takes a moment to notice
	tryEvery  = 250 * time.Millisecond // and how long is waited in between
)

// Writer opens a writer for a worker. Where the target has no connection for it, it is nil, with a warning, and the others carry
// on. The last of them keeps asking while others have connections to give back.
func (s *Share) Writer(ctx context.Context) (*Writer, error) {
	for tries := 1; ; {
		w, err := s.owner.Writer(ctx)
		if session.SQLState(err) != session.TooManyConnections || tries == lastTries {
			return w, err
		}
		if s.workers.Add(-1) > 0 {
			s.warn(report.Said("A session less on the target: " + session.LossReason(err)))
			return nil, nil //nolint:nilnil // there is none
		}
		s.workers.Add(1)
		if !s.coming() {
			tries++
		}
		if session.Pause(ctx, tryEvery) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// batchItems is how many items share a round trip.
const batchItems = 25

// InParallel deals items out in batches, to as many writers as there are lanes. Neighbours are not in one batch: where the items
// are sorted by size, the largest are done side by side.
func (o *Owner) InParallel(ctx context.Context, lanes int, warn func(text report.Text), items []string, do func(context.Context, *Writer, []string) error) error {
	batches := make([][]string, max((len(items)+batchItems-1)/batchItems, min(lanes, len(items))))
	for i, item := range items {
		n := i % len(batches)
		batches[n] = append(batches[n], item)
	}
	eg, ctx := safely.NewGroup(ctx)
	todo := make(chan []string, len(batches))
	for _, b := range batches {
		todo <- b
	}
	close(todo)
	workers := min(lanes, len(batches))
	share := o.Share(workers, warn, func() bool { return false })
	for range workers {
		eg.Go(func() error {
			w, err := share.Writer(ctx)
			if w == nil {
				return err
			}
			defer w.Close()
			for b := range todo {
				if err := do(ctx, w, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return eg.Wait()
}
