package cloner

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed sql/contents.sql
var contentsSQL string

//go:embed sql/dependents.sql
var dependentsSQL string

//go:embed sql/foreign_keys.sql
var foreignKeysSQL string

//go:embed sql/reset_schemas.sql
var resetSchemasSQL string

// CleanPreview is what clean would drop.
type CleanPreview struct {
	Database     string   `json:"database"` // its name, to be typed by who confirms
	Objects      int      `json:"objects"`
	Tables       int      `json:"tables"`
	Rows         int64    `json:"rows"` // by the target's own estimate
	Bytes        int64    `json:"bytes"`
	LargeObjects int      `json:"large_objects"`
	Names        []string `json:"names"` // of the first of the objects

	// Confirmation is for Spec.Confirmed, once a person has agreed to what is shown here.
	Confirmation Confirmation `json:"confirmation"`
}

// PreviewClean looks at what a clone with Clean would drop from the target. It changes
// nothing. A target that cannot be reached is a *RefusedError.
func PreviewClean(ctx context.Context, spec Spec) (CleanPreview, error) {
	spec, err := spec.normalize()
	if err != nil {
		return CleanPreview{}, err
	}
	r := &run{spec: spec, meter: &Meter{}}
	defer r.closeSessions()
	reason, err := r.connect(ctx, Target)
	if err != nil {
		return CleanPreview{}, err
	}
	if reason != nil {
		return CleanPreview{}, refuse(*reason)
	}
	u, err := readUse(ctx, r.control)
	if err != nil {
		return CleanPreview{}, err
	}
	if u.Filled || u.Read {
		return CleanPreview{}, refuse(r.busyReason(Target, u))
	}
	p := CleanPreview{Database: r.targetFacts.Database}
	contents, err := r.contents(ctx)
	if err != nil {
		return CleanPreview{}, err
	}
	p.Confirmation = newConfirmation(r.targetFacts.identity(spec.Target), contents)
	p.LargeObjects = contents.largeObjects
	p.Objects = len(contents.objects) + contents.largeObjects
	for _, o := range contents.objects {
		if o.Type == "table" {
			p.Tables++
		}
		p.Rows += o.Rows
		p.Bytes += o.Bytes
		if len(p.Names) < listedObjects {
			p.Names = append(p.Names, o.String())
		}
	}
	return p, nil
}

// contents is what the target holds in the chosen schemas.
type contents struct {
	objects      []targetObject
	largeObjects int
	large        []largeRun // all of them
	foreignLarge int        // large objects that this role may not drop
}

type targetObject struct {
	Class     uint32 // OID of its catalog
	OID       uint32
	Type      string // as in pg_identify_object
	Identity  string
	InSchema  bool
	Permitted bool // this role may drop it
	Rows      int64
	Bytes     int64
}

func (o targetObject) String() string { return o.Type + " " + o.Identity }

// contents reads them in the order in which they can be dropped.
func (r *run) contents(ctx context.Context) (contents, error) {
	var c contents
	var err error
	if c.objects, err = collect[targetObject](ctx, r.control, contentsSQL, r.schemasOrAll()); err != nil {
		return c, fmt.Errorf("read what the target holds: %w", err)
	}
	if r.spec.whole() {
		if c.large, err = readLargeRuns(ctx, r.control); err != nil {
			return c, err
		}
		for _, run := range c.large {
			c.largeObjects += int(run.Count)
		}
		if c.foreignLarge, err = one[int](ctx, r.control, `SELECT count(*) FROM pg_largeobject_metadata WHERE NOT pg_has_role(lomowner, 'USAGE')`); err != nil {
			return c, fmt.Errorf("read owners of large objects of the target: %w", err)
		}
	}
	return c, nil
}

// readLargeRuns reads all large objects of a database.
func readLargeRuns(ctx context.Context, s *session) ([]largeRun, error) {
	type row struct {
		First, Last, Count uint32
		Sum                []byte
	}
	rows, err := collect[row](ctx, s, `
		SELECT min(oid)                                                               AS first,
		       max(oid)                                                               AS last,
		       count(*)                                                               AS count,
		       decode(md5(string_agg(oid::text, ' ' ORDER BY oid)), 'hex')            AS sum
		FROM (SELECT oid, (row_number() OVER (ORDER BY oid) - 1) / $1::int AS run FROM pg_largeobject_metadata) o
		GROUP BY run
		ORDER BY 1`, largeRunSize)
	if err != nil {
		return nil, fmt.Errorf("list large objects of the target: %w", err)
	}
	var runs []largeRun
	for _, f := range rows {
		runs = append(runs, largeRun{First: f.First, Last: f.Last, Count: f.Count, Sum: [16]byte(f.Sum)})
	}
	return runs, nil
}

// schemasOrAll is the chosen schemas as queries take them: NULL for all.
func (r *run) schemasOrAll() []string {
	if r.spec.whole() {
		return nil
	}
	return r.spec.Schemas
}

// checkContents refuses a target that is not empty, or, where it is to be cleaned, one
// that cannot be cleaned without harm to something else.
func (r *run) checkContents(ctx context.Context) ([]Reason, error) {
	if r.left != nil && r.left.Filling {
		return nil, nil // what is there is this job's
	}
	if r.spec.Clean {
		if err := r.endInterrupted(ctx); err != nil { // its locks would be waited for
			return nil, err
		}
	}
	c, err := r.contents(ctx)
	if err != nil {
		return nil, err
	}
	if r.spec.Touched && r.left == nil && len(c.objects)+c.largeObjects > 0 {
		return nil, cannotGoOn("it holds something, and Calco's marks of an earlier run are not there")
	}
	if r.spec.Clean {
		return r.checkClean(ctx, c)
	}
	var names []string
	for _, o := range c.objects {
		if o.InSchema {
			names = append(names, o.String())
		}
	}
	if c.largeObjects > 0 {
		names = append(names, count(c.largeObjects, "large object", "large objects"))
	}
	if len(names) == 0 {
		return nil, nil
	}
	return []Reason{{
		Code: ReasonNotEmpty, Side: Target, Objects: atMost(names),
		Text: fmt.Sprintf("The target %s is not empty: it holds %s.", r.spec.Target, listed(names)),
		Hint: "Choose an empty database, or clean the target first (--clean): that drops all of it.",
	}}, nil
}

func (r *run) checkClean(ctx context.Context, c contents) ([]Reason, error) {
	var reasons []Reason
	subscriptions, err := collect[struct{ Name string }](ctx, r.control, `
		SELECT subname::text AS name FROM pg_subscription
		WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions of the target: %w", err)
	}
	if len(subscriptions) > 0 {
		var names []string
		for _, s := range subscriptions {
			names = append(names, s.Name)
		}
		reasons = append(reasons, Reason{
			Code: ReasonSubscription, Side: Target, Objects: names,
			Text: fmt.Sprintf("The target %s receives data through the subscription %s.", r.spec.Target, listed(names)),
			Hint: "Cleaning would cut it off from its publisher. Drop the subscription there first, if you are sure.",
		})
	}
	var foreign []string
	for _, o := range c.objects {
		if !o.Permitted {
			foreign = append(foreign, o.String())
		}
	}
	n := len(foreign) + c.foreignLarge
	if c.foreignLarge > 0 {
		foreign = append(foreign, count(c.foreignLarge, "large object", "large objects"))
	}
	if n > 0 {
		reasons = append(reasons, Reason{
			Code: ReasonPermission, Side: Target, Objects: atMost(foreign),
			Text: fmt.Sprintf("The role %s may not drop %s of the target: %s.", r.targetFacts.Role, count(n, "object", "objects"), listed(foreign)),
			Hint: "Connect as their owner, or as a member of it.",
		})
	}
	if r.spec.whole() {
		return reasons, nil
	}
	dependents, err := r.dependents(ctx)
	if err != nil {
		return nil, err
	}
	if len(dependents) > 0 {
		reasons = append(reasons, dependentsReason(r.spec, dependents))
	}
	return reasons, nil
}

func dependentsReason(spec Spec, names []string) Reason {
	return Reason{
		Code: ReasonDependents, Side: Target, Objects: atMost(names),
		Text: fmt.Sprintf("Cleaning %s on the target would also take what is outside: %s.", strings.Join(spec.Schemas, ", "), listed(names)),
		Hint: "Choose the schemas of these too, or drop them yourself first.",
	}
}

// dependents are what outside the chosen schemas depends on what is in them.
func (r *run) dependents(ctx context.Context) ([]string, error) {
	found, err := collect[struct{ Name string }](ctx, r.control, dependentsSQL, r.spec.Schemas)
	if err != nil {
		return nil, fmt.Errorf("read what depends on the chosen schemas: %w", err)
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = f.Name
	}
	return names, nil
}

// clean drops what the chosen schemas of the target hold, and for a whole database also
// what belongs to no schema. Extensions stay. Each object is dropped without CASCADE in
// a transaction of its own, in rounds, so PostgreSQL itself guards everything else, and
// no number of tables exhausts the lock table. Only circles are broken with CASCADE, and
// only while nothing outside depends on them.
func (r *run) clean(ctx context.Context) error {
	c, err := r.contents(ctx)
	if err != nil {
		return err
	}
	r.meter.expect(PhaseClean, len(c.objects)+c.largeObjects)
	keys, err := collect[struct{ SQL string }](ctx, r.control, foreignKeysSQL, r.schemasOrAll())
	if err != nil {
		return fmt.Errorf("read foreign keys of the target: %w", err)
	}
	drops := make([]string, 0, len(keys))
	for _, k := range keys {
		drops = append(drops, k.SQL)
	}
	if _, err := r.dropEach(ctx, drops); err != nil {
		return err
	}
	drops = drops[:0]
	for _, o := range c.objects {
		drops = append(drops, o.drop())
	}
	left, err := r.dropRounds(ctx, drops)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		if err := r.dropCircles(ctx, left); err != nil {
			return err
		}
	}
	if r.spec.whole() {
		if err := r.dropLargeObjects(ctx, c.largeObjects); err != nil {
			return err
		}
	}
	return r.resetSchemas(ctx)
}

const restrict, cascade = " RESTRICT", " CASCADE"

// drop is the statement that drops an object if nothing depends on it.
func (o targetObject) drop() string {
	switch o.Type {
	case "function", "procedure", "aggregate":
		return "DROP ROUTINE IF EXISTS " + o.Identity + restrict
	case "statistics object":
		return "DROP STATISTICS IF EXISTS " + o.Identity
	case "server": // with its user mappings, which are no objects of their own to anybody
		return "DROP SERVER IF EXISTS " + o.Identity + cascade
	case "foreign-data wrapper":
		return "DROP FOREIGN DATA WRAPPER IF EXISTS " + o.Identity + restrict
	case "composite type":
		return "DROP TYPE IF EXISTS " + o.Identity + restrict
	}
	return "DROP " + strings.ToUpper(o.Type) + " IF EXISTS " + o.Identity + restrict
}

// dropRounds drops as long as a round gets anything done, and returns what is left.
func (r *run) dropRounds(ctx context.Context, drops []string) ([]string, error) {
	for len(drops) > 0 {
		left, err := r.dropEach(ctx, drops)
		if err != nil {
			return nil, err
		}
		r.meter.advance(PhaseClean, len(drops)-len(left))
		if len(left) == len(drops) {
			return left, nil
		}
		drops = left
	}
	return nil, nil
}

// dropEach runs each statement and returns those that others depend on.
func (r *run) dropEach(ctx context.Context, drops []string) (left []string, err error) {
	errs, err := r.control.pipeline(ctx, drops)
	if err != nil {
		return nil, err
	}
	for i, err := range errs {
		switch sqlState(err) {
		case "2BP01", "40P01", "42P16": // dependent objects still exist, deadlock, inherited constraint
			left = append(left, drops[i])
			continue
		case "42883", "42P01", "42704", "3F000": // gone with something else, and its types with it
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", drops[i], err)
		}
	}
	return left, nil
}

// dropCircles drops objects that depend on each other, each with what depends on it.
func (r *run) dropCircles(ctx context.Context, drops []string) error {
	for _, sql := range drops {
		if !r.spec.whole() {
			outside, err := r.dependents(ctx)
			if err != nil {
				return err
			}
			if len(outside) > 0 {
				// They came after preflight, and things have been dropped: no refusal any more.
				reason := dependentsReason(r.spec, outside)
				return &Error{Phase: PhaseClean, Hint: reason.Hint, Err: errors.New(reason.Text)}
			}
		}
		if _, err := r.dropEach(ctx, []string{strings.TrimSuffix(sql, restrict) + cascade}); err != nil {
			return err
		}
		r.meter.advance(PhaseClean, 1)
	}
	return nil
}

func (r *run) dropLargeObjects(ctx context.Context, n int) error {
	return r.unlinkLargeObjects(ctx, n, func(n int) { r.meter.advance(PhaseClean, n) })
}

func (r *run) unlinkLargeObjects(ctx context.Context, n int, unlinked func(int)) error {
	const atATime = 1000
	for left := n; left > 0; left -= atATime {
		err := r.control.write(ctx, fmt.Sprintf("SELECT count(lo_unlink(oid)) FROM (SELECT oid FROM pg_largeobject_metadata LIMIT %d) o", atATime))
		if err != nil {
			return fmt.Errorf("drop large objects: %w", err)
		}
		unlinked(min(left, atATime))
	}
	return nil
}

// resetSchemas drops the emptied schemas, which the archive brings back, and gives those
// that stay (public, and homes of extensions) what a new schema has.
func (r *run) resetSchemas(ctx context.Context) error {
	names, err := collect[struct{ Name string }](ctx, r.control, `
		SELECT nspname::text AS name FROM pg_namespace
		WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', '_calco', 'public')
		  AND ($1::text[] IS NULL OR nspname = ANY ($1))`, r.schemasOrAll())
	if err != nil {
		return fmt.Errorf("list schemas of the target: %w", err)
	}
	for _, n := range names {
		err := r.control.write(ctx, "DROP SCHEMA IF EXISTS "+quoteName(n.Name)+restrict)
		// Kept: it is the home of an extension, or another role's.
		if err != nil && !slices.Contains([]string{"2BP01", "42501"}, sqlState(err)) {
			return fmt.Errorf("drop schema %s: %w", n.Name, err)
		}
	}
	type reset struct {
		Pass int
		SQL  string
	}
	resets, err := collect[reset](ctx, r.control, resetSchemasSQL, r.schemasOrAll())
	if err != nil {
		return fmt.Errorf("read grants on schemas of the target: %w", err)
	}
	for _, s := range resets {
		err := r.control.write(ctx, s.SQL)
		if endsClone(err) {
			return err
		}
		if err != nil {
			r.warn(fmt.Sprintf("Could not reset what was granted on the target before (%s): %v", s.SQL, err))
		}
	}
	return nil
}
