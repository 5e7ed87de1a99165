package restore

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"calco/cloner/archive"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/schema"
)

// labelled makes a node that tests can name.
func labelled(name string, weight int64, locks ...lock) *step {
	return &step{statement: statement{object: name}, weight: weight, locks: locks}
}

func objects(batch []*step) []string {
	names := make([]string, len(batch))
	for i, n := range batch {
		names[i] = n.object
	}
	return names
}

func TestGraphOrder(t *testing.T) {
	t.Parallel()
	g := newScheduler()
	a, b, c := labelled("a", 1), labelled("b", 2), labelled("c", 3)
	g.add(a, nil, []int64{10})
	g.add(b, []*step{a}, nil)
	g.add(c, []*step{a, b}, []int64{10, 20})
	g.start([]*step{a, b, c}, map[int64]int64{10: 10}) // no part will open 20
	if got := g.pick(); got != nil {
		t.Fatalf("before the rows are there: %v", objects(got))
	}
	g.RowsReady(10)
	g.RowsReady(10) // a second time changes nothing
	var got [][]string
	for batch := g.take(t.Context()); batch != nil; batch = g.take(t.Context()) {
		got = append(got, objects(batch))
		g.finish(batch)
	}
	if want := [][]string{{"a"}, {"b"}, {"c"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("batches %v, want %v", got, want)
	}
}

func TestGraphBatches(t *testing.T) {
	t.Parallel()
	many := make([]*step, batchNodes+1)
	for i := range many {
		many[i] = labelled(fmt.Sprint(i), 0)
	}
	const half = batchWeight / 2
	tests := []struct {
		name  string
		nodes []*step
		want  [][]string // what can be taken without finishing any
	}{
		{"none", nil, nil},
		{"the heaviest first, a large one alone", []*step{labelled("small", 1), labelled("large", batchWeight+1), labelled("other", 2)}, [][]string{{"large"}, {"other", "small"}}},
		{"as heavy as a batch may be", []*step{labelled("a", half), labelled("b", half), labelled("c", 1)}, [][]string{{"a", "b"}, {"c"}}},
		{"as many as a batch may hold", many, [][]string{objects(many[:batchNodes]), {many[batchNodes].object}}},
		{"shared locks", []*step{labelled("a", batchWeight, lock{1, false}), labelled("b", batchWeight, lock{1, false})}, [][]string{{"a"}, {"b"}}},
		{"exclusive locks", []*step{labelled("a", batchWeight, lock{1, true}), labelled("b", batchWeight-1, lock{1, true}), labelled("c", batchWeight-2)}, [][]string{{"a"}, {"c"}}},
		{"shared, then exclusive", []*step{labelled("a", batchWeight, lock{1, false}), labelled("b", batchWeight-1, lock{1, true})}, [][]string{{"a"}}},
		{"exclusive, then shared", []*step{labelled("a", batchWeight, lock{1, true}), labelled("b", batchWeight-1, lock{1, false})}, [][]string{{"a"}}},
		{"both in one batch", []*step{labelled("a", 2, lock{1, false}), labelled("b", 1, lock{1, true}, lock{2, true})}, [][]string{{"a", "b"}}},
		{"one of two locks", []*step{labelled("a", batchWeight, lock{1, true}), labelled("b", batchWeight, lock{2, false}, lock{1, false})}, [][]string{{"a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newScheduler()
			for _, n := range tt.nodes {
				g.add(n, nil, nil)
			}
			g.start(tt.nodes, nil)
			var got [][]string
			for batch := g.pick(); batch != nil; batch = g.pick() {
				got = append(got, objects(batch))
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("batches %v, want %v", got, tt.want)
			}
		})
	}
}

// TestGraphAtRandom works off random graphs with many builders, while the rows arrive.
func TestGraphAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 0))
			g := newScheduler()
			var all []*step
			needs := map[*step][]*step{}
			rows := map[*step][]int64{}
			coming := map[int64]int64{} // three tables a tree
			leaf := func(root int64, i int) int64 { return 100*root + int64(i) }
			for i := range 1 + rnd.IntN(300) {
				n := labelled(fmt.Sprint(i), rnd.Int64N(2*batchWeight))
				for range rnd.IntN(4) {
					n.locks = append(n.locks, lock{rnd.Int64N(12), rnd.IntN(2) == 0})
				}
				for range min(i, rnd.IntN(4)) {
					needs[n] = append(needs[n], all[rnd.IntN(i)])
				}
				for range rnd.IntN(3) {
					root := rnd.Int64N(15)
					rows[n] = append(rows[n], root)
					for i := range 3 {
						if root%5 != 0 {
							coming[leaf(root, i)] = root
						}
					}
				}
				g.add(n, needs[n], rows[n])
				all = append(all, n)
			}
			g.start(all, maps.Clone(coming))

			var mu sync.Mutex // guards what the builders see
			done := map[*step]int{}
			opened := map[int64]bool{}
			type held struct{ shared, exclusive int }
			holding := map[int64]*held{}
			build := func() {
				for batch := g.take(t.Context()); batch != nil; batch = g.take(t.Context()) {
					mine := map[int64]bool{}
					mu.Lock()
					for _, n := range batch {
						for _, l := range n.locks {
							mine[l.root] = mine[l.root] || l.exclusive
						}
						for _, m := range needs[n] {
							if done[m] == 0 {
								t.Errorf("%s began before %s was done", n.object, m.object)
							}
						}
						for _, root := range rows[n] {
							for i := range 3 {
								if table := leaf(root, i); coming[table] == root && root%5 != 0 && !opened[table] {
									t.Errorf("%s began before the rows of %d were there", n.object, table)
								}
							}
						}
					}
					for root, exclusive := range mine {
						if holding[root] == nil {
							holding[root] = &held{}
						}
						h := holding[root]
						if h.exclusive > 0 || exclusive && h.shared > 0 {
							t.Errorf("two batches hold %d", root)
						}
						if exclusive {
							h.exclusive++
						} else {
							h.shared++
						}
					}
					mu.Unlock()
					mu.Lock()
					for root, exclusive := range mine {
						if exclusive {
							holding[root].exclusive--
						} else {
							holding[root].shared--
						}
					}
					for _, n := range batch {
						done[n]++
					}
					mu.Unlock()
					g.finish(batch)
				}
			}
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(build)
			}
			for table := range coming {
				wait.Go(func() {
					mu.Lock()
					opened[table] = true
					mu.Unlock()
					g.RowsReady(table)
				})
			}
			wait.Wait()
			for _, n := range all {
				if done[n] != 1 {
					t.Errorf("%s was done %d times", n.object, done[n])
				}
			}
			for root, n := range g.locked {
				if n != 0 {
					t.Errorf("lock %d is still held: %d", root, n)
				}
			}
		})
	}
}

// TestGraphEndsWithContext: builders that wait for rows that never come must not wait on.
func TestGraphEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	g := newScheduler()
	n := labelled("a", 1)
	g.add(n, nil, []int64{1})
	g.start([]*step{n}, map[int64]int64{1: 1})
	defer context.AfterFunc(ctx, g.wake)()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if batch := g.take(ctx); batch != nil {
				t.Errorf("take = %v, want none", objects(batch))
			}
		})
	}
	cancel()
	wait.Wait()
}

func TestCutStatement(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, sql, first, rest string }{
		{"one", "ALTER TABLE a ADD b;", "ALTER TABLE a ADD b", ""},
		{"no semicolon", "ALTER TABLE a", "ALTER TABLE a", ""},
		{"two", "A;\n\nB;\n", "A", "\n\nB;\n"},
		{"in a name", `ALTER TABLE "a;""b" ADD c;D`, `ALTER TABLE "a;""b" ADD c`, "D"},
		{"in a literal", `CHECK (a <> 'x;''y"');D`, `CHECK (a <> 'x;''y"')`, "D"},
		{"a quote in a name", `"it's;";D`, `"it's;"`, "D"},
		{"empty", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if first, rest := cutStatement(tt.sql); first != tt.first || rest != tt.rest {
				t.Errorf("got %q and %q, want %q and %q", first, rest, tt.first, tt.rest)
			}
		})
	}
}

// A tree of many partitions is planned with as many edges as it has indexes: each index of each partition waited for each
// partition, so that 20,000 took gigabytes and the better part of an hour.
func TestGraphOfManyPartitions(t *testing.T) {
	t.Parallel()
	const partitions, root = 20_000, 1
	c := &schema.Catalog{Indexes: map[schema.Object]*schema.Index{}, Roots: map[int64]int64{root: root}}
	p := &schema.Plan{ByID: map[int]*archive.Entry{}, Keys: map[schema.EntryKey]int{}, Catalog: c}
	for i := range partitions {
		oid := int64(10 + i)
		c.Roots[oid] = root
		p.Tables = append(p.Tables, &schema.Table{OID: oid, RootOID: root, Split: schema.Split{Parts: 1}})
		for k := range 2 {
			e := &archive.Entry{ID: 2*i + k, CatalogOID: schema.PgClass, OID: uint32(100_000 + 2*i + k), Desc: "INDEX", Tag: fmt.Sprintf("i%d_%d", i, k), Defn: "CREATE INDEX;\n"}
			c.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)] = &schema.Index{Definition: "CREATE INDEX", TableOID: oid}
			p.ByID[e.ID], p.Post = e, append(p.Post, e)
		}
	}
	r := &Maker{Config: Config{Plan: p, Meter: &progress.Meter{}, Ledger: ledger.New(&progress.Meter{})}}
	r.Meter.Start(nil)
	g := r.Schedule(func(int64) bool { return true })
	edges := 0
	for _, waiting := range g.waiting {
		edges += len(waiting)
	}
	if g.todo != 2*partitions || edges != 2*partitions {
		t.Fatalf("%d nodes with %d edges", g.todo, edges)
	}
	for _, table := range p.Tables {
		if len(g.ready) > 0 {
			t.Fatal("an index may be built before all rows are there")
		}
		g.RowsReady(table.OID)
	}
	if len(g.ready) != 2*partitions {
		t.Errorf("%d nodes are ready", len(g.ready))
	}
}
