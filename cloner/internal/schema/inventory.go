package schema

import (
	"context"
	"slices"

	"calco/cloner/archive"
	"calco/cloner/internal/session"
)

// Inventory is what a target holds, by pg_dump.
type Inventory struct {
	Entries map[EntryKey][]*archive.Entry
	Chosen  []*archive.Entry // those that belong to the chosen schemas themselves
}

// Inventory reads what a target holds, and which of it belongs to the chosen schemas.
func (d Dumper) Inventory(ctx context.Context, target *session.Server, schemas []string) (Inventory, error) {
	a, err := d.Dump(ctx, target, "")
	if err != nil {
		return Inventory{}, err
	}
	there := Inventory{Entries: map[EntryKey][]*archive.Entry{}}
	for _, e := range a.Entries {
		there.Entries[KeyOf(e)] = append(there.Entries[KeyOf(e)], e)
	}
	chosen, pulled := SelectEntries(a.Entries, schemas)
	for _, e := range chosen {
		if !pulled[e.ID] {
			there.Chosen = append(there.Chosen, e)
		}
	}
	return there, nil
}

func (i Inventory) Has(e *archive.Entry) bool { return len(i.Entries[KeyOf(e)]) > 0 }

// HasPlanned tells whether an entry of the plan is there. Some share a key, such as operators of one name.
func (i Inventory) HasPlanned(e *archive.Entry, p *Plan) bool {
	if p.Keys[KeyOf(e)] > 1 {
		return i.HasSame(e)
	}
	return i.Has(e)
}

// HasSame tells whether an entry is there just like this.
func (i Inventory) HasSame(e *archive.Entry) bool {
	return slices.ContainsFunc(i.Entries[KeyOf(e)], func(t *archive.Entry) bool { return t.Defn == e.Defn })
}

// HasIndex tells whether an index of that name is there that is no constraint.
func (i Inventory) HasIndex(namespace, name string) bool {
	return len(i.Entries[EntryKey{"INDEX", namespace, name}]) > 0
}

func (i Inventory) Forget(e *archive.Entry) { delete(i.Entries, KeyOf(e)) }
