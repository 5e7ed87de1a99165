package restore

import (
	"context"
	"strings"

	"calco/cloner/archive"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// grantGroup are the grants on one object, which are made in one transaction.
type grantGroup struct {
	object  string // for the ledger
	opening string // what PostgreSQL itself gives to everybody, which closing took away, and what is taken away of that
	grants  []grant
}

// grant is a grant on an object, or several that cannot be divided.
type grant struct{ object, sql string }

// sql makes the grants of a group.
func (g grantGroup) sql() string {
	var b strings.Builder
	b.WriteString(g.opening)
	for _, s := range g.grants {
		b.WriteString(s.sql)
	}
	return b.String()
}

// Grants comes after all objects and their owners. Each object is opened in one transaction, so that at no time it is more
// open than the source's, and no REVOKE is lost for a role that the target has not: only the grants to that role are.
func (m *Maker) Grants(ctx context.Context) error {
	groups := m.grantGroups()
	queries := make([]string, len(groups))
	for i, g := range groups {
		queries[i] = g.sql()
	}
	errs, err := m.Owner.Control.Pipeline(ctx, queries)
	if err != nil {
		return err
	}
	for i, err := range errs {
		if err == nil {
			continue
		}
		if err := m.grantWhatCan(ctx, groups[i]); err != nil {
			return err
		}
	}
	return nil
}

// grantWhatCan makes those grants on an object that can be made, and blames the others. What was made before is made again
// with each that follows, in its transaction. An object whose opening fails stays closed.
func (m *Maker) grantWhatCan(ctx context.Context, g grantGroup) error {
	made := ""
	recorded := map[string]bool{}
	for _, s := range append([]grant{{g.object, g.opening}}, g.grants...) {
		const tries = 5
		err := m.Owner.Control.Write(ctx, made+s.sql)
		for try := 0; try < tries && err != nil && session.Classify(err) == session.Transient; try++ {
			err = m.Owner.Control.Write(ctx, made+s.sql)
		}
		switch {
		case err == nil:
			made += s.sql
		case session.Classify(err).Ends():
			return err
		case !recorded[s.object]:
			m.Ledger.Record(report.PhasePostData, s.object, err)
			recorded[s.object] = true
		}
	}
	return nil
}

// grantGroups are the grants of the archive by the object they are on, and those that PostgreSQL itself makes.
func (m *Maker) grantGroups() []grantGroup {
	var groups []grantGroup
	of := map[int]int{} // the group of an entry, by its ID
	for _, list := range [][]*archive.Entry{m.Plan.Pre, m.Plan.Post} {
		for _, e := range list {
			if kind, on := grantable(e); kind == functions && !m.Ledger.Skips(e.ID) {
				of[e.ID] = len(groups)
				groups = append(groups, grantGroup{object: "ACL " + schema.Title(e), opening: "GRANT ALL ON " + on + " TO PUBLIC;\n"})
			}
		}
	}
	for _, e := range m.Plan.ACLs {
		if m.Ledger.Skips(e.ID) {
			continue // it is not to be made
		}
		on := e.ID
		for _, d := range e.Deps { // those of a column are also on the table's
			if o := m.Plan.ByID[d]; o != nil && o.Desc != "ACL" && e.Desc == "ACL" {
				on = d
				break
			}
		}
		n, ok := of[on]
		if !ok {
			n = len(groups)
			of[on] = n
			groups = append(groups, grantGroup{object: schema.Title(e)})
		}
		revokes, grants := divideGrants(e.Defn)
		groups[n].opening += revokes
		for _, sql := range grants {
			groups[n].grants = append(groups[n].grants, grant{schema.Title(e), sql})
		}
	}
	return groups
}

// divideGrants divides the definition of an ACL into what it takes away, which in pg_dump's comes first, and the grants. What
// somebody else than the owner has granted stays together with the name that pg_dump takes on for it (buildACLCommands).
func divideGrants(defn string) (revokes string, grants []string) {
	var piece strings.Builder
	other := false
	for rest := defn; strings.TrimSpace(rest) != ""; {
		var sql string
		sql, rest = cutStatement(rest)
		sql = strings.TrimSpace(sql)
		switch {
		case strings.HasPrefix(sql, "SET SESSION AUTHORIZATION "):
			other = true
		case strings.HasPrefix(sql, "RESET SESSION AUTHORIZATION"):
			other = false
		}
		piece.WriteString(sql + ";\n")
		switch {
		case other:
			continue
		case strings.HasPrefix(sql, "REVOKE "):
			revokes += piece.String()
		default:
			grants = append(grants, piece.String())
		}
		piece.Reset()
	}
	return revokes, grants
}
