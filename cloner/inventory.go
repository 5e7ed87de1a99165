package cloner

import (
	"context"
	"slices"

	"calco/cloner/archive"
	"calco/cloner/report"
)

// inventory is what a target holds, by pg_dump.
type inventory struct {
	entries map[entryKey][]*archive.Entry
	chosen  []*archive.Entry // those that belong to the chosen schemas themselves
}

func (r *run) takeInventory(ctx context.Context) (inventory, error) {
	a, err := r.dump(ctx, report.Target, "")
	if err != nil {
		return inventory{}, err
	}
	there := inventory{entries: map[entryKey][]*archive.Entry{}}
	for _, e := range a.Entries {
		there.entries[keyOf(e)] = append(there.entries[keyOf(e)], e)
	}
	chosen, pulled := selectEntries(a.Entries, r.spec.Schemas)
	for _, e := range chosen {
		if !pulled[e.ID] {
			there.chosen = append(there.chosen, e)
		}
	}
	return there, nil
}

func (i inventory) has(e *archive.Entry) bool { return len(i.entries[keyOf(e)]) > 0 }

// stands tells whether an entry of the plan is there. Some share a key, such as operators of one name.
func (i inventory) stands(e *archive.Entry, p *plan) bool {
	if p.keys[keyOf(e)] > 1 {
		return i.same(e)
	}
	return i.has(e)
}

// same tells whether an entry is there just like this.
func (i inventory) same(e *archive.Entry) bool {
	return slices.ContainsFunc(i.entries[keyOf(e)], func(t *archive.Entry) bool { return t.Defn == e.Defn })
}

// hasIndex tells whether an index of that name is there that is no constraint.
func (i inventory) hasIndex(namespace, name string) bool {
	return len(i.entries[entryKey{"INDEX", namespace, name}]) > 0
}

func (i inventory) forget(e *archive.Entry) { delete(i.entries, keyOf(e)) }
