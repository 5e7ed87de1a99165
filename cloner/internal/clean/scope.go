// Package clean empties a target, of what a person was shown and has confirmed and of nothing else.
package clean

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/internal/locks"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

//go:embed sql/contents.sql
var contentsSQL string

//go:embed sql/changes.sql
var changesSQL string

//go:embed sql/dependents.sql
var dependentsSQL string

// Scope is what is wanted of a target: to be empty, or to be cleaned of what a person has confirmed.
type Scope struct {
	Target    *session.Server
	Schemas   []string // that were chosen; none: the whole database
	Clean     bool
	Confirmed *report.Confirmation // nil where nobody has confirmed anything
	Touched   bool                 // an earlier run of the job may have begun to change the target
}

func (d *Scope) Whole() bool { return len(d.Schemas) == 0 }

const subscriptionsSQL = `
	SELECT oid, quote_ident(subname) AS identity, pg_has_role(subowner, 'USAGE') AS permitted
	FROM pg_subscription
	WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`

// readsSubscriptions tells whether the target's role may read the OID of a subscription.
func (d *Scope) readsSubscriptions() bool {
	return d.Target.Superuser || d.Target.Major() >= 14
}

// Preview is what clean would drop. It changes nothing.
func (d *Scope) Preview(ctx context.Context) (report.CleanPreview, error) {
	p := report.CleanPreview{Database: d.Target.Database}
	contents, err := d.read(ctx)
	if err != nil {
		return report.CleanPreview{}, err
	}
	p.Confirmation = newConfirmation(d.Target.Identity(), contents)
	p.LargeObjects = contents.largeObjects
	p.Objects = p.Confirmation.Objects()
	for _, o := range contents.objects {
		if o.Stays {
			continue
		}
		if o.Type == "table" {
			p.Tables++
		}
		p.Rows += o.Rows
		p.Bytes += o.Bytes
		if len(p.Names) < report.ListedObjects {
			p.Names = append(p.Names, o.String())
		}
	}
	return p, nil
}

// contents is what the target holds in the chosen schemas.
type contents struct {
	objects      []object
	largeObjects int
	large        []report.LargeRun // all of them
	foreignLarge int               // large objects that this role may not drop
}

// object is an object that clean drops, or, with no OID, something that a clone with Clean changes: that is shown,
// confirmed and compared like an object, and not dropped.
type object struct {
	Class     uint32 // OID of its catalog
	OID       uint32
	Type      string // as in pg_identify_object
	Identity  string
	Value     string `db:"-"` // what is compared and not shown
	InSchema  bool
	Stays     bool // an extension needs it
	Permitted bool // this role may drop it
	Rows      int64
	Bytes     int64
	Owns      []string // keys of the sequences of its columns, which go with it
}

// key names the object among all of its database.
func (o object) key() string { return locks.Key(o.Class, o.OID) }

func (o object) String() string { return o.Type + " " + o.Identity }

// read reads them in the order in which they can be dropped.
func (d *Scope) read(ctx context.Context) (contents, error) {
	var c contents
	var err error
	if c.objects, err = session.Query[object](ctx, d.Target.Control, contentsSQL, d.schemasOrAll()); err != nil {
		return c, fmt.Errorf("read what the target holds: %w", err)
	}
	if d.Clean {
		changes, err := session.Query[struct{ Type, Identity, Value string }](ctx, d.Target.Control, changesSQL, d.schemasOrAll())
		if err != nil {
			return c, fmt.Errorf("read what is set on the target: %w", err)
		}
		for _, o := range changes {
			c.objects = append(c.objects, object{Type: o.Type, Identity: o.Identity, Value: o.Value, Permitted: true})
		}
	}
	if d.Whole() && d.readsSubscriptions() {
		subscriptions, err := session.Query[struct {
			OID       uint32
			Identity  string
			Permitted bool
		}](ctx, d.Target.Control, subscriptionsSQL)
		if err != nil {
			return c, fmt.Errorf("read subscriptions of the target: %w", err)
		}
		for _, o := range subscriptions { // first of all
			c.objects = slices.Insert(c.objects, 0, object{
				Class: schema.PgSubscription, OID: o.OID, Type: "subscription", Identity: o.Identity, Permitted: o.Permitted,
			})
		}
	}
	if d.Whole() {
		if c.large, err = readLargeRuns(ctx, d.Target.Control); err != nil {
			return c, err
		}
		for _, run := range c.large {
			c.largeObjects += int(run.Count)
		}
		if c.foreignLarge, err = session.QueryValue[int](ctx, d.Target.Control, `SELECT count(*) FROM pg_largeobject_metadata WHERE NOT pg_has_role(lomowner, 'USAGE')`); err != nil {
			return c, fmt.Errorf("read owners of large objects of the target: %w", err)
		}
	}
	return c, nil
}

// readLargeRuns reads all large objects of a database.
func readLargeRuns(ctx context.Context, s *session.Session) ([]report.LargeRun, error) {
	type row struct {
		First, Last, Count uint32
		Sum                []byte
	}
	rows, err := session.Query[row](ctx, s, `
		SELECT min(oid)                                                               AS first,
		       max(oid)                                                               AS last,
		       count(*)                                                               AS count,
		       decode(md5(string_agg(oid::text, ' ' ORDER BY oid)), 'hex')            AS sum
		FROM (SELECT oid, (row_number() OVER (ORDER BY oid) - 1) / $1::int AS run FROM pg_largeobject_metadata) o
		GROUP BY run
		ORDER BY 1`, report.LargeRunSize)
	if err != nil {
		return nil, fmt.Errorf("list large objects of the target: %w", err)
	}
	var runs []report.LargeRun
	for _, f := range rows {
		runs = append(runs, report.LargeRun{First: f.First, Last: f.Last, Count: f.Count, Sum: [16]byte(f.Sum)})
	}
	return runs, nil
}

// schemasOrAll is the chosen schemas as queries take them: NULL for all.
func (d *Scope) schemasOrAll() []string {
	if d.Whole() {
		return nil
	}
	return d.Schemas
}

// Check refuses a target that is not empty, or, where it is to be cleaned, one
// that cannot be cleaned without harm to something else.
//
// Previous is what an earlier run of the job has left there, or nil.
func (d *Scope) Check(ctx context.Context, previous *marks.Previous) ([]report.Reason, error) {
	if previous != nil && previous.Copying {
		return nil, nil // what is there is this job's
	}
	c, err := d.read(ctx)
	if err != nil {
		return nil, err
	}
	if d.Touched && previous == nil && c.holds() {
		return nil, marks.CannotResume("it holds something, and Calco's marks of an earlier run are not there")
	}
	if d.Clean {
		return d.checkClean(ctx, c, previous != nil)
	}
	var names []string
	for _, o := range c.objects {
		if o.InSchema {
			names = append(names, o.String())
		}
	}
	if c.largeObjects > 0 {
		names = append(names, report.Count(c.largeObjects, "large object", "large objects"))
	}
	if len(names) == 0 {
		return nil, nil
	}
	return []report.Reason{{
		Code: report.ReasonNotEmpty, Side: report.Target, Objects: report.AtMost(names),
		Text: report.Said(fmt.Sprintf("The target %s is not empty: it holds %s.", d.Target.URL, report.Listed(names))),
		Hint: report.Said("Choose an empty database, or clean the target first: that drops all of it."),
	}}, nil
}

// holds tells whether there is anything that could be dropped.
func (c contents) holds() bool {
	return c.largeObjects > 0 || slices.ContainsFunc(c.objects, func(o object) bool { return o.OID != 0 })
}

func (d *Scope) checkClean(ctx context.Context, c contents, begun bool) ([]report.Reason, error) {
	reasons := d.unconfirmed(c, begun)
	if !d.Whole() || !d.readsSubscriptions() {
		found, err := d.checkSubscriptions(ctx)
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, found...)
	}
	var foreign []string
	for _, o := range c.objects {
		if !o.Permitted && !o.Stays {
			foreign = append(foreign, o.String())
		}
	}
	n := len(foreign) + c.foreignLarge
	if c.foreignLarge > 0 {
		foreign = append(foreign, report.Count(c.foreignLarge, "large object", "large objects"))
	}
	if n > 0 {
		reasons = append(reasons, report.Reason{
			Code: report.ReasonPermission, Side: report.Target, Objects: report.AtMost(foreign),
			Text: report.Said(fmt.Sprintf("The role %s may not drop %s of the target: %s.", d.Target.Role, report.Count(n, "object", "objects"), report.Listed(foreign))),
			Hint: report.Said("Connect as their owner, or as a member of it."),
		})
	}
	if d.Whole() {
		return reasons, nil
	}
	dependents, err := d.dependents(ctx)
	if err != nil {
		return nil, err
	}
	if len(dependents) > 0 {
		reasons = append(reasons, dependentsReason(d.Schemas, dependents))
	}
	return reasons, nil
}

// checkSubscriptions refuses to clean a target with subscriptions that are not dropped with it.
func (d *Scope) checkSubscriptions(ctx context.Context) ([]report.Reason, error) {
	names, err := session.Query[struct{ Name string }](ctx, d.Target.Control, `
		SELECT subname::text AS name FROM pg_subscription
		WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions of the target: %w", err)
	}
	if len(names) == 0 {
		return nil, nil
	}
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = n.Name
	}
	hint := "Connect as a superuser, who can drop it."
	if !d.Whole() {
		hint = "Cleaning some of its schemas would break it. Clone the whole database: then it is dropped too, once you have seen and confirmed that."
	}
	return []report.Reason{{
		Code: report.ReasonSubscription, Side: report.Target, Objects: list, Hint: report.Said(hint),
		Text: report.Said(fmt.Sprintf("The target %s receives data through the subscription %s.", d.Target.URL, report.Listed(list))),
	}}, nil
}

func dependentsReason(schemas, names []string) report.Reason {
	return report.Reason{
		Code: report.ReasonDependents, Side: report.Target, Objects: report.AtMost(names),
		Text: report.Said(fmt.Sprintf("Cleaning %s on the target would also take what is outside: %s.", strings.Join(schemas, ", "), report.Listed(names))),
		Hint: report.Said("Choose the schemas of these too, or drop them yourself first."),
	}
}

// dependents are what outside the chosen schemas depends on what is in them.
func (d *Scope) dependents(ctx context.Context) ([]string, error) {
	found, err := session.Query[struct{ Name string }](ctx, d.Target.Control, dependentsSQL, d.Schemas)
	if err != nil {
		return nil, fmt.Errorf("read what depends on the chosen schemas: %w", err)
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = f.Name
	}
	return names, nil
}
