package views

import (
	"context"
	"strconv"
)

// databaseGroup is the databases of one owner in a select: the user's own, or the team's.
type databaseGroup struct {
	label string
	list  []CloneDatabase
}

func (f CloneForm) groups(ctx context.Context) []databaseGroup {
	own, shared := databaseGroup{label: T(ctx, "form.own")}, databaseGroup{label: T(ctx, "form.shared")}
	for _, d := range f.Databases {
		if d.Owner == "" {
			own.list = append(own.list, d)
		} else {
			shared.list = append(shared.list, d)
		}
	}
	var groups []databaseGroup
	for _, g := range []databaseGroup{own, shared} {
		if len(g.list) > 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

// option is a database in a select.
func (d CloneDatabase) option(ctx context.Context, target bool) string {
	text := d.Name + " · " + ClonePlace{Address: d.Address, Database: d.Database}.where()
	text += " · " + T(ctx, "clone.environment."+environmentOf(d.Environment))
	if target && d.Protected {
		text += " · " + T(ctx, "form.protected")
	}
	return text
}

// barred tells whether some databases cannot be chosen as the target.
func (f CloneForm) barred() bool {
	for _, d := range f.Databases {
		if d.Protected {
			return true
		}
	}
	return false
}

func idText(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatInt(id, 10)
}

func percentOf(share float64) int { return min(max(int(100*share), 0), 99) }

// more is how many objects are not among the names.
func (c CleanPreviewProps) more() int { return c.Objects - len(c.Names) }

// fewNames is how many names are shown before the others are folded.
const fewNames = 6
