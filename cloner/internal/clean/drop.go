package clean

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/internal/ledger"
	"calco/cloner/internal/locks"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

//go:embed sql/clean_guard.sql
var cleanGuardSQL string

//go:embed sql/foreign_keys.sql
var foreignKeysSQL string

//go:embed sql/resets.sql
var resetsSQL string

// lockPatience is how long one DROP may wait for a lock: others who want to read its table wait behind it meanwhile. It is
// longer than deadlock_timeout, after which PostgreSQL sends its own autovacuum away. What nobody was seen to hold waits less.
const (
	lockPatience     = "1500ms"
	lockPatienceFree = "200ms"
)

// Cleaner cleans a target once.
type Cleaner struct {
	Scope
	Owner       *marks.Owner
	EndBlockers bool // end sessions that hold locks on what is dropped, rather than wait for them
	Patience    *patience.Patience
	Meter       *progress.Meter
	Ledger      *ledger.Ledger

	dropped int // how many times something was dropped
}

// Clean drops what the chosen schemas of the target hold, and for a whole database also
// what belongs to no schema. Extensions stay. Each object is dropped without CASCADE in
// a transaction of its own, in rounds, so PostgreSQL itself guards everything else, and
// no number of tables exhausts the lock table. Only circles are broken with CASCADE.
//
// Nothing is dropped that was not confirmed: each round compares what is there with the
// confirmation, and each DROP is guarded against what comes in between. Stays: an extension needs something that was to go.
func (d *Cleaner) Clean(ctx context.Context) (stays bool, err error) {
	if err := d.Target.Control.Exec(ctx, "SET plan_cache_mode = force_generic_plan; SET lock_timeout = '"+lockPatience+"'; "+cleanGuardSQL); err != nil {
		return false, fmt.Errorf("prepare to clean the target: %w", err)
	}
	schemas, stays, err := d.dropObjects(ctx)
	if err != nil {
		return false, err
	}
	if err := d.dropLargeObjects(ctx); err != nil {
		return false, err
	}
	if err := d.dropSchemas(ctx, schemas); err != nil {
		return false, err
	}
	if err := d.reset(ctx); err != nil {
		return false, err
	}
	if err := d.Target.Control.Exec(ctx, "RESET plan_cache_mode; SET lock_timeout = 0; DEALLOCATE ALL"); err != nil {
		return false, fmt.Errorf("end the cleaning of the target: %w", err)
	}
	return stays, nil
}

// dropObjects drops all but schemas and large objects, and returns the schemas.
func (d *Cleaner) dropObjects(ctx context.Context) (schemas []object, stays bool, err error) {
	w := newLockWait()
	for before := -1; ; {
		c, err := d.confirmedContents(ctx)
		if err != nil {
			return nil, false, err
		}
		var objects []object
		objects, schemas = c.apart()
		stays = slices.ContainsFunc(c.objects, func(o object) bool { return o.Stays })
		if before < 0 {
			d.Meter.Expect(report.PhaseClean, len(objects)+c.largeObjects)
		} else {
			d.Meter.Advance(report.PhaseClean, before-len(objects))
		}
		if len(objects) < before {
			w = newLockWait()
			d.Meter.ClearWait()
		}
		if len(objects) == 0 {
			return schemas, stays, nil
		}
		if err := d.dropRound(ctx, w, objects, len(objects) == before); err != nil {
			return nil, false, err
		}
		before = len(objects)
	}
}

// apart are the schemas, and all else that can go.
func (c contents) apart() (objects, schemas []object) {
	for _, o := range c.objects {
		switch {
		case o.Stays, o.OID == 0:
		case o.Type == "schema":
			schemas = append(schemas, o)
		default:
			objects = append(objects, o)
		}
	}
	return objects, schemas
}

// dropRound drops what it can. What others hold it leaves, but for one object at a time that it waits for a moment, and if
// that is all there is left, it waits. Where nobody holds anything and nothing can go by itself it breaks a circle; it is an
// error if that fails too, and the round before, which was stuck, had the same objects.
func (d *Cleaner) dropRound(ctx context.Context, w *lockWait, objects []object, stuck bool) error {
	dropped := d.dropped
	holders, err := locks.ReadHolders(ctx, d.Target.Control)
	if err != nil {
		return err
	}
	drops, awaited, err := d.foreignKeyDrops(ctx, objects, holders)
	if err != nil {
		return err
	}
	owned := map[string]bool{} // sequences, which go with their tables
	for _, o := range objects {
		for _, key := range o.Owns {
			owned[key] = true
		}
	}
	var held []object
	for _, o := range objects {
		if owned[o.key()] {
			continue
		}
		if len(holders[o.key()]) > 0 {
			held = append(held, o)
		} else {
			drops = append(drops, o.guardedDrop(lockPatienceFree))
		}
	}
	blocked, failed, err := d.guarded(ctx, drops)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		one := held[w.tries%len(held)]
		if _, _, err := d.guarded(ctx, []guardedStatement{one.guardedDrop(lockPatience)}); err != nil {
			return err
		}
	}
	if d.dropped > dropped {
		return nil
	}
	if len(held)+len(awaited)+blocked == 0 {
		failed = cmp.Or(failed, errors.New("what was to be dropped is still there"))
		if blocked, err = d.dropCircle(ctx, objects); err != nil || d.dropped > dropped {
			return err
		}
		if blocked == 0 && stuck {
			return d.refuseDependents(ctx, failed)
		}
		if blocked == 0 {
			return nil
		}
	}
	return d.awaitLocks(ctx, w, append(objects, awaited...))
}

// foreignKeyDrops are statements that drop the foreign keys of these objects, without those that would have to wait for
// others who use one of these tables.
func (d *Cleaner) foreignKeyDrops(ctx context.Context, objects []object, holders map[string][]locks.Holder) (drops []guardedStatement, used []object, err error) {
	type foreignKey struct {
		SQL, From, To           string
		OID, FromTable, ToTable uint32
	}
	keys, err := session.Query[foreignKey](ctx, d.Target.Control, foreignKeysSQL, d.schemasOrAll())
	if err != nil {
		return nil, nil, fmt.Errorf("read foreign keys of the target: %w", err)
	}
	here := map[uint32]bool{}
	for _, o := range objects {
		if o.Class == schema.PgClass {
			here[o.OID] = true
		}
	}
	for _, k := range keys {
		from := object{Class: schema.PgClass, OID: k.FromTable, Type: "table", Identity: k.From}
		to := object{Class: schema.PgClass, OID: k.ToTable, Type: "table", Identity: k.To}
		switch {
		case !here[k.FromTable]: // it came after the comparison
		case len(holders[from.key()])+len(holders[to.key()]) > 0:
			used = append(used, from, to)
		default:
			drops = append(drops, guard(schema.PgConstraint, k.OID, nil, false, lockPatienceFree, k.SQL))
		}
	}
	return drops, used, nil
}

const restrict, cascade = " RESTRICT", " CASCADE"

// drop is the statement that drops an object if nothing depends on it.
func (o object) drop() string {
	switch o.Type {
	case "function", "procedure", "aggregate":
		return "DROP ROUTINE " + o.Identity + restrict
	case "subscription":
		// It leaves its slot to whoever has it: without that the DROP would take it from the publisher.
		return fmt.Sprintf("ALTER SUBSCRIPTION %s DISABLE; ALTER SUBSCRIPTION %[1]s SET (slot_name = NONE); DROP SUBSCRIPTION %[1]s", o.Identity) + restrict
	case "statistics object":
		return "DROP STATISTICS " + o.Identity
	case "foreign-data wrapper":
		return "DROP FOREIGN DATA WRAPPER " + o.Identity + restrict
	case "composite type":
		return "DROP TYPE " + o.Identity + restrict
	}
	return "DROP " + strings.ToUpper(o.Type) + " " + o.Identity + restrict
}

// guardedStatement is a statement that drops something, and what is sent to do so.
type guardedStatement struct{ sql, sent string }

func (o object) guardedDrop(patience string) guardedStatement {
	return guard(o.Class, o.OID, o.Owns, false, patience, o.drop())
}

// guardedCascade also takes what depends on the object, as far as it is among the known ones.
func (o object) guardedCascade(known []string) guardedStatement {
	return guard(o.Class, o.OID, known, true, lockPatience, strings.TrimSuffix(o.drop(), restrict)+cascade)
}

// guard is a statement that drops an object by name, in a transaction that raises if that is another one by now, or more
// would go with it. See clean_guard.sql.
func guard(class, oid uint32, known []string, cascading bool, patience, sql string) guardedStatement {
	return guardedStatement{sql, fmt.Sprintf("SET LOCAL lock_timeout = '%s'; EXECUTE calco_guard(%d, %d, '{%s}', %t); %s; EXECUTE calco_taken(%[2]d, %[3]d)",
		patience, class, oid, strings.Join(known, ","), cascading, sql)}
}

// guarded runs guarded statements. Those that did not get a lock in time are counted. Those whose guard has raised, that
// others depend on, or whose object is gone, have failed, and the last of their errors is returned: the next look at what
// is there tells which it is.
func (d *Cleaner) guarded(ctx context.Context, drops []guardedStatement) (timedOut int, failed, err error) {
	queries := make([]string, len(drops))
	for i, d := range drops {
		queries[i] = d.sent
	}
	errs, err := d.Owner.Control.Pipeline(ctx, queries)
	if err != nil {
		return 0, nil, err
	}
	for i, err := range errs {
		switch session.SQLState(err) {
		case "":
			if err != nil {
				return 0, nil, err // the fence's
			}
			d.dropped++
		case session.LockNotAvailable:
			timedOut++
		case session.DivisionByZero,
			session.DependentObjects, session.Deadlock, session.InvalidTable, // dependent objects still exist, deadlock, inherited constraint
			session.NoFunction, session.NoTable, session.NoObject, session.NoSchema: // gone with something else, and its types with it
			failed = fmt.Errorf("%s: %w", drops[i].sql, err)
		default:
			return 0, nil, fmt.Errorf("%s: %w", drops[i].sql, err)
		}
	}
	return timedOut, failed, nil
}

// dropCircle drops one of these objects together with those that depend on it, which are among them. It counts those that
// others use.
func (d *Cleaner) dropCircle(ctx context.Context, objects []object) (blocked int, err error) {
	known := make([]string, len(objects))
	for i, o := range objects {
		known[i] = o.key()
	}
	dropped := d.dropped
	for _, o := range objects {
		timedOut, _, err := d.guarded(ctx, []guardedStatement{o.guardedCascade(known)})
		if err != nil || d.dropped > dropped {
			return 0, err
		}
		blocked += timedOut
	}
	return blocked, nil
}

// refuseDependents: what is left was confirmed, but something that was not depends on it.
func (d *Cleaner) refuseDependents(ctx context.Context, failed error) error {
	if d.Whole() {
		return failed
	}
	outside, err := d.dependents(ctx)
	if err != nil {
		return err
	}
	if len(outside) == 0 {
		return failed
	}
	c, err := d.read(ctx)
	if err != nil {
		return err
	}
	return d.refuseToClean(ctx, []report.Reason{d.notShown(outside, c, d.cleaningBegun())})
}

func (d *Cleaner) dropLargeObjects(ctx context.Context) error {
	if !d.Whole() {
		return nil
	}
	for _, run := range d.Confirmed.LargeRuns() {
		// The division raises if these are not the objects that were confirmed, all of them, or none.
		unlink := fmt.Sprintf(`SELECT count(lo_unlink(oid)), 1 / (count(*) = 0 OR count(*) = %d AND md5(string_agg(oid::text, ' ' ORDER BY oid)) = '%x')::int
			FROM pg_largeobject_metadata WHERE oid BETWEEN %d AND %d`, run.Count, run.Sum, run.First, run.Last)
		err := d.patiently(ctx, object{}, func() error { return d.Owner.Control.Write(ctx, unlink) })
		if err != nil && session.SQLState(err) != session.DivisionByZero {
			return fmt.Errorf("drop large objects: %w", err)
		}
		if err == nil {
			d.Meter.Advance(report.PhaseClean, int(run.Count))
		}
	}
	c, err := d.confirmedContents(ctx)
	if err != nil {
		return err
	}
	if c.largeObjects > 0 {
		return errors.New("large objects of the target were changed while they were dropped")
	}
	return nil
}

// dropSchemas drops the emptied schemas, which the archive brings back.
func (d *Cleaner) dropSchemas(ctx context.Context, schemas []object) error {
	for _, s := range schemas {
		err := d.patiently(ctx, s, func() error {
			return d.Owner.Control.Write(ctx, s.guardedDrop(lockPatience).sent)
		})
		switch session.SQLState(err) {
		case session.DependentObjects, session.NoPrivilege, session.NoSchema, session.DivisionByZero:
			// Kept: something came into it, or somebody has taken it away. The copy finds out what that means to it.
		default:
			if err != nil {
				return fmt.Errorf("drop schema %s: %w", s.Identity, err)
			}
		}
	}
	return nil
}

// reset gives schemas that stay (public, and homes of extensions) what a new schema has, and the database too. What it undoes
// is read before it is compared with the confirmation: what comes later stays.
func (d *Cleaner) reset(ctx context.Context) error {
	type reset struct {
		Pass int
		SQL  string
	}
	resets, err := session.Query[reset](ctx, d.Target.Control, resetsSQL, d.schemasOrAll())
	if err != nil {
		return fmt.Errorf("read what is set on the target: %w", err)
	}
	if _, err := d.confirmedContents(ctx); err != nil {
		return err
	}
	for _, s := range resets {
		err := d.patiently(ctx, object{}, func() error { return d.Owner.Control.Write(ctx, s.SQL) })
		if session.Classify(err).Ends() || session.SQLState(err) == "" && err != nil {
			return err
		}
		if err != nil {
			d.Ledger.Warn(report.Said(fmt.Sprintf("Could not reset what was granted on the target before (%s): %v", s.SQL, err)))
		}
	}
	return nil
}

// confirmedContents is what the target holds, where that is no more than what was confirmed; else the clone is refused.
func (d *Cleaner) confirmedContents(ctx context.Context) (contents, error) {
	c, err := d.read(ctx)
	if err != nil {
		return c, err
	}
	if reasons := d.unconfirmed(c, d.cleaningBegun()); len(reasons) > 0 {
		return c, d.refuseToClean(ctx, reasons)
	}
	return c, nil
}

// unconfirmed are reasons not to clean: the target is not the one that was confirmed, or holds more. Begun: this job may have
// dropped something.
func (d *Scope) unconfirmed(c contents, begun bool) []report.Reason {
	confirmed := d.Confirmed
	again := "Look at what would be dropped now, and confirm that."
	if confirmed == nil {
		return []report.Reason{{
			Code: report.ReasonNotConfirmed, Side: report.Target,
			Text: report.Said(fmt.Sprintf("Nobody has confirmed what cleaning the target %s drops.%s", d.Target.URL, d.gone(c, begun))), Hint: report.Said(again),
		}}
	}
	if now := d.Target.Identity(); now != confirmed.Target {
		return []report.Reason{{
			Code: report.ReasonOtherTarget, Side: report.Target,
			Text: report.Said(fmt.Sprintf("The target %s is not the database that was confirmed to be cleaned (%s).%s", d.Target.URL, otherwise(now, confirmed.Target), d.gone(c, begun))), Hint: report.Said(again),
		}}
	}
	var more []string
	for _, o := range c.objects {
		if !o.Stays && !confirmed.Has(o.sum()) {
			more = append(more, o.String())
		}
	}
	if n := confirmed.UnknownLarge(c.large); n > 0 {
		more = append(more, report.Count(n, "large object", "large objects"))
	}
	if len(more) == 0 {
		return nil
	}
	return []report.Reason{d.notShown(more, c, begun)}
}

func (d *Scope) notShown(names []string, c contents, begun bool) report.Reason {
	return report.Reason{
		Code: report.ReasonNotShown, Side: report.Target, Objects: report.AtMost(names),
		Text: report.Said(fmt.Sprintf("The target %s holds what was not there when cleaning it was confirmed: %s.%s", d.Target.URL, report.Listed(names), d.gone(c, begun))),
		Hint: report.Said("Look at what would be dropped now, and confirm that."),
	}
}

// gone tells what became of the objects that were confirmed, where this job may have dropped some.
func (d *Scope) gone(c contents, begun bool) string {
	confirmed := d.Confirmed
	if confirmed == nil || confirmed.Target != d.Target.Identity() || !begun {
		return " Nothing was dropped."
	}
	here := 0
	for _, o := range c.objects {
		if confirmed.Has(o.sum()) {
			here++
		}
	}
	here += c.largeObjects - confirmed.UnknownLarge(c.large)
	if here == confirmed.Objects() {
		return " Nothing was dropped."
	}
	return fmt.Sprintf(" Cleaning had begun (of %s %d gone), and nothing else was dropped.",
		report.Count(confirmed.Objects(), "confirmed object", "confirmed objects"), confirmed.Objects()-here)
}

// cleaningBegun tells whether this job may have dropped something.
func (d *Cleaner) cleaningBegun() bool { return d.dropped > 0 || d.Owner.Resumed }

// refuseToClean leaves nothing of this job on a target of which it has dropped nothing.
func (d *Cleaner) refuseToClean(ctx context.Context, reasons []report.Reason) error {
	if !d.cleaningBegun() {
		if err := d.Owner.Abandon(ctx); err != nil {
			return err
		}
	}
	return report.Refuse(reasons...)
}
