package restore

import (
	"context"
	"slices"
	"sync"
)

// step is one statement that waits for others, for rows, or for a lock.
type step struct {
	statement
	weight    int64   // how much there is to read, in bytes of the source's disk
	work      float64 // what it costs, in bytes of copying
	locks     []lock  // that it takes
	completes bool    // it completes an entry that another step began
	isLast    bool    // its entry is complete with it

	needs int     // steps and rows it still waits for
	next  []*step // that wait for it
}

// lock is one that a step takes on a partition tree or a plain table. The root stands
// for its tree: work on partitions reaches up and down, and would deadlock.
type lock struct {
	root      int64
	exclusive bool
}

// Scheduler hands out steps when all they need is done, the heaviest first, and never two
// at a time that would wait for each other's locks. A wait stands for all rows of a
// partition tree, or of a plain table: one a tree, which counts the tables whose rows are
// still to come, because a step for each index of each of n partitions would wait for n.
type Scheduler struct {
	mu           sync.Mutex
	changed      *sync.Cond
	ready        []*step // heaviest first
	locked       map[int64]int
	todo         int               // steps not done
	waiting      map[int64][]*step // by the root of the tree
	pending      map[int64]int64   // tables whose rows are to come, with their roots
	treesPending map[int64]int     // how many of those each tree has
}

// exclusively marks, in Scheduler.locked, a lock that is not shared.
const exclusively = -1

func newScheduler() *Scheduler {
	g := &Scheduler{locked: map[int64]int{}, waiting: map[int64][]*step{}, treesPending: map[int64]int{}}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// add enters a step that needs the given steps, all added before it (so that there is
// no circle), and the rows of the trees with the given roots.
func (g *Scheduler) add(n *step, after []*step, roots []int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range after {
		m.next = append(m.next, n)
		n.needs++
	}
	for _, root := range roots {
		g.waiting[root] = append(g.waiting[root], n)
		n.needs++
	}
	g.todo++
}

// start releases what needs nothing, and the rows of trees of which no table has rows to come. It keeps coming: those that
// have, with their roots.
func (g *Scheduler) start(all []*step, coming map[int64]int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range all {
		if n.needs == 0 {
			g.push(n)
		}
	}
	g.pending = coming
	for _, root := range coming {
		g.treesPending[root]++
	}
	for root := range g.waiting {
		if g.treesPending[root] == 0 {
			g.release(root)
		}
	}
	g.changed.Broadcast()
}

// RowsReady says that the rows of a table are there, or will not come.
func (g *Scheduler) RowsReady(table int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	root, isComing := g.pending[table]
	if !isComing {
		return
	}
	delete(g.pending, table)
	g.treesPending[root]--
	if g.treesPending[root] == 0 {
		g.release(root)
		g.changed.Broadcast()
	}
}

// release, satisfy and push must be called with mu held.
func (g *Scheduler) release(root int64) {
	for _, n := range g.waiting[root] {
		g.satisfy(n)
	}
	delete(g.waiting, root)
}

// satisfy counts one thing that n needed as done.
func (g *Scheduler) satisfy(n *step) {
	n.needs--
	if n.needs == 0 {
		g.push(n)
	}
}

func (g *Scheduler) push(n *step) {
	i, _ := slices.BinarySearchFunc(g.ready, n.weight, func(m *step, w int64) int {
		if m.weight >= w {
			return -1
		}
		return 1
	})
	g.ready = slices.Insert(g.ready, i, n)
}

// What fits into one batch: many small statements share a round trip, a large one
// travels alone so that others can be done beside it.
const (
	batchNodes  = 25
	batchWeight = 4 << 20
)

// take waits for work and returns a batch whose locks do not conflict with those of
// other batches. It returns nil when all is done, or ctx has ended and wake was called.
func (g *Scheduler) take(ctx context.Context) []*step {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ctx.Err() == nil && g.todo > 0 {
		if batch := g.pick(); len(batch) > 0 {
			return batch
		}
		g.changed.Wait()
	}
	return nil
}

// pick must be called with mu held. Locks within a batch do not conflict: its
// statements are run one after the other.
func (g *Scheduler) pick() []*step {
	var batch []*step
	var weight int64
	mine := map[int64]bool{} // whether exclusively
	rest := g.ready[:0]
	for i, n := range g.ready {
		if len(batch) == batchNodes || len(batch) > 0 && weight+n.weight > batchWeight {
			rest = append(rest, g.ready[i:]...)
			break
		}
		if !g.free(n, mine) {
			rest = append(rest, n)
			continue
		}
		for _, l := range n.locks {
			mine[l.root] = mine[l.root] || l.exclusive
		}
		batch = append(batch, n)
		weight += n.weight
	}
	clear(g.ready[len(rest):])
	g.ready = rest
	for root, exclusive := range mine {
		if exclusive {
			g.locked[root] = exclusively
		} else {
			g.locked[root]++
		}
	}
	return batch
}

// free tells whether a step's locks are to be had beside those of other batches.
func (g *Scheduler) free(n *step, mine map[int64]bool) bool {
	for _, l := range n.locks {
		held := g.locked[l.root]
		if held == exclusively || held > 0 && (l.exclusive || mine[l.root]) {
			return false
		}
	}
	return true
}

// finish gives back the locks of a batch and releases what waited for it.
func (g *Scheduler) finish(batch []*step) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlock(batch)
	for _, n := range batch {
		g.todo--
		for _, m := range n.next {
			g.satisfy(m)
		}
	}
	g.changed.Broadcast()
}

// giveBack returns a batch of which nothing was done, for others to take.
func (g *Scheduler) giveBack(batch []*step) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlock(batch)
	for _, n := range batch {
		g.push(n)
	}
	g.changed.Broadcast()
}

// unlock must be called with mu held.
func (g *Scheduler) unlock(batch []*step) {
	freed := map[int64]bool{}
	for _, n := range batch {
		for _, l := range n.locks {
			if freed[l.root] {
				continue
			}
			freed[l.root] = true
			if g.locked[l.root] == exclusively {
				g.locked[l.root] = 0
			} else {
				g.locked[l.root]--
			}
		}
	}
}

// rowsPending tells whether the rows of some table are still to come.
func (g *Scheduler) rowsPending() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending) > 0
}

// wake makes all callers of take look at their ctx.
func (g *Scheduler) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed.Broadcast()
}
