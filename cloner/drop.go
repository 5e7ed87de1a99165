package cloner

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// clean drops what the chosen schemas of the target hold, and for a whole database also
// what belongs to no schema. Extensions stay. Each object is dropped without CASCADE in
// a transaction of its own, in rounds, so PostgreSQL itself guards everything else, and
// no number of tables exhausts the lock table. Only circles are broken with CASCADE.
//
// Nothing is dropped that was not confirmed: each round compares what is there with the
// confirmation, and each DROP is guarded against what comes in between.
func (r *run) clean(ctx context.Context) error {
	if err := r.target.Control.Exec(ctx, "SET plan_cache_mode = force_generic_plan; SET lock_timeout = '"+lockPatience+"'; "+cleanGuardSQL); err != nil {
		return fmt.Errorf("prepare to clean the target: %w", err)
	}
	schemas, err := r.dropObjects(ctx)
	if err != nil {
		return err
	}
	if err := r.dropLargeObjects(ctx); err != nil {
		return err
	}
	if err := r.dropSchemas(ctx, schemas); err != nil {
		return err
	}
	if err := r.reset(ctx); err != nil {
		return err
	}
	if err := r.target.Control.Exec(ctx, "RESET plan_cache_mode; SET lock_timeout = 0; DEALLOCATE ALL"); err != nil {
		return fmt.Errorf("end the cleaning of the target: %w", err)
	}
	return nil
}

// dropObjects drops all but schemas and large objects, and returns the schemas.
func (r *run) dropObjects(ctx context.Context) (schemas []targetObject, err error) {
	w := newLockWait()
	for before := -1; ; {
		c, err := r.confirmedContents(ctx)
		if err != nil {
			return nil, err
		}
		var objects []targetObject
		objects, schemas = c.apart()
		r.staying = slices.ContainsFunc(c.objects, func(o targetObject) bool { return o.Stays })
		if before < 0 {
			r.meter.Expect(report.PhaseClean, len(objects)+c.largeObjects)
		} else {
			r.meter.Advance(report.PhaseClean, before-len(objects))
		}
		if len(objects) < before {
			w = newLockWait()
			r.meter.ClearWait()
		}
		if len(objects) == 0 {
			return schemas, nil
		}
		if err := r.dropRound(ctx, w, objects, len(objects) == before); err != nil {
			return nil, err
		}
		before = len(objects)
	}
}

// apart are the schemas, and all else that can go.
func (c contents) apart() (objects, schemas []targetObject) {
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
func (r *run) dropRound(ctx context.Context, w *lockWait, objects []targetObject, stuck bool) error {
	dropped := r.dropped
	holders, err := readHolders(ctx, r.target.Control)
	if err != nil {
		return err
	}
	drops, awaited, err := r.foreignKeyDrops(ctx, objects, holders)
	if err != nil {
		return err
	}
	owned := map[string]bool{} // sequences, which go with their tables
	for _, o := range objects {
		for _, key := range o.Owns {
			owned[key] = true
		}
	}
	var held []targetObject
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
	blocked, failed, err := r.guarded(ctx, drops)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		one := held[w.tries%len(held)]
		if _, _, err := r.guarded(ctx, []guardedStatement{one.guardedDrop(lockPatience)}); err != nil {
			return err
		}
	}
	if r.dropped > dropped {
		return nil
	}
	if len(held)+len(awaited)+blocked == 0 {
		failed = cmp.Or(failed, errors.New("what was to be dropped is still there"))
		if blocked, err = r.dropCircle(ctx, objects); err != nil || r.dropped > dropped {
			return err
		}
		if blocked == 0 && stuck {
			return r.refuseDependents(ctx, failed)
		}
		if blocked == 0 {
			return nil
		}
	}
	return r.awaitLocks(ctx, w, append(objects, awaited...))
}

// foreignKeyDrops are statements that drop the foreign keys of these objects, without those that would have to wait for
// others who use one of these tables.
func (r *run) foreignKeyDrops(ctx context.Context, objects []targetObject, holders map[string][]lockHolder) (drops []guardedStatement, used []targetObject, err error) {
	type foreignKey struct {
		SQL, From, To           string
		OID, FromTable, ToTable uint32
	}
	keys, err := session.Query[foreignKey](ctx, r.target.Control, foreignKeysSQL, r.schemasOrAll())
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
		from := targetObject{Class: schema.PgClass, OID: k.FromTable, Type: "table", Identity: k.From}
		to := targetObject{Class: schema.PgClass, OID: k.ToTable, Type: "table", Identity: k.To}
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
func (o targetObject) drop() string {
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

func (o targetObject) guardedDrop(patience string) guardedStatement {
	return guard(o.Class, o.OID, o.Owns, false, patience, o.drop())
}

// guardedCascade also takes what depends on the object, as far as it is among the known ones.
func (o targetObject) guardedCascade(known []string) guardedStatement {
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
func (r *run) guarded(ctx context.Context, drops []guardedStatement) (timedOut int, failed, err error) {
	queries := make([]string, len(drops))
	for i, d := range drops {
		queries[i] = d.sent
	}
	errs, err := r.owner.Control.Pipeline(ctx, queries)
	if err != nil {
		return 0, nil, err
	}
	for i, err := range errs {
		switch session.SQLState(err) {
		case "":
			if err != nil {
				return 0, nil, err // the fence's
			}
			r.dropped++
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
func (r *run) dropCircle(ctx context.Context, objects []targetObject) (blocked int, err error) {
	known := make([]string, len(objects))
	for i, o := range objects {
		known[i] = o.key()
	}
	dropped := r.dropped
	for _, o := range objects {
		timedOut, _, err := r.guarded(ctx, []guardedStatement{o.guardedCascade(known)})
		if err != nil || r.dropped > dropped {
			return 0, err
		}
		blocked += timedOut
	}
	return blocked, nil
}

// refuseDependents: what is left was confirmed, but something that was not depends on it.
func (r *run) refuseDependents(ctx context.Context, failed error) error {
	if r.spec.whole() {
		return failed
	}
	outside, err := r.dependents(ctx)
	if err != nil {
		return err
	}
	if len(outside) == 0 {
		return failed
	}
	c, err := r.contents(ctx)
	if err != nil {
		return err
	}
	return r.refuseToClean(ctx, []report.Reason{r.notShown(outside, c, r.cleaningBegun())})
}

func (r *run) dropLargeObjects(ctx context.Context) error {
	if !r.spec.whole() {
		return nil
	}
	for _, run := range r.spec.Confirmed.LargeRuns() {
		// The division raises if these are not the objects that were confirmed, all of them, or none.
		unlink := fmt.Sprintf(`SELECT count(lo_unlink(oid)), 1 / (count(*) = 0 OR count(*) = %d AND md5(string_agg(oid::text, ' ' ORDER BY oid)) = '%x')::int
			FROM pg_largeobject_metadata WHERE oid BETWEEN %d AND %d`, run.Count, run.Sum, run.First, run.Last)
		err := r.patiently(ctx, targetObject{}, func() error { return r.owner.Control.Write(ctx, unlink) })
		if err != nil && session.SQLState(err) != session.DivisionByZero {
			return fmt.Errorf("drop large objects: %w", err)
		}
		if err == nil {
			r.meter.Advance(report.PhaseClean, int(run.Count))
		}
	}
	c, err := r.confirmedContents(ctx)
	if err != nil {
		return err
	}
	if c.largeObjects > 0 {
		return errors.New("large objects of the target were changed while they were dropped")
	}
	return nil
}

// dropSchemas drops the emptied schemas, which the archive brings back.
func (r *run) dropSchemas(ctx context.Context, schemas []targetObject) error {
	for _, s := range schemas {
		err := r.patiently(ctx, s, func() error {
			return r.owner.Control.Write(ctx, s.guardedDrop(lockPatience).sent)
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
func (r *run) reset(ctx context.Context) error {
	type reset struct {
		Pass int
		SQL  string
	}
	resets, err := session.Query[reset](ctx, r.target.Control, resetsSQL, r.schemasOrAll())
	if err != nil {
		return fmt.Errorf("read what is set on the target: %w", err)
	}
	if _, err := r.confirmedContents(ctx); err != nil {
		return err
	}
	for _, s := range resets {
		err := r.patiently(ctx, targetObject{}, func() error { return r.owner.Control.Write(ctx, s.SQL) })
		if session.Classify(err).Ends() || session.SQLState(err) == "" && err != nil {
			return err
		}
		if err != nil {
			r.ledger.Warn(fmt.Sprintf("Could not reset what was granted on the target before (%s): %v", s.SQL, err))
		}
	}
	return nil
}

// dropEach runs each statement and returns those that others depend on.
func (r *run) dropEach(ctx context.Context, drops []string) (left []string, err error) {
	errs, err := r.owner.Control.Pipeline(ctx, drops)
	if err != nil {
		return nil, err
	}
	for i, err := range errs {
		switch session.SQLState(err) {
		case session.DependentObjects, session.Deadlock, session.InvalidTable: // dependent objects still exist, deadlock, inherited constraint
			left = append(left, drops[i])
			continue
		case session.NoFunction, session.NoTable, session.NoObject, session.NoSchema: // gone with something else, and its types with it
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", drops[i], err)
		}
	}
	return left, nil
}

// confirmedContents is what the target holds, where that is no more than what was confirmed; else the clone is refused.
func (r *run) confirmedContents(ctx context.Context) (contents, error) {
	c, err := r.contents(ctx)
	if err != nil {
		return c, err
	}
	if reasons := r.unconfirmed(c, r.cleaningBegun()); len(reasons) > 0 {
		return c, r.refuseToClean(ctx, reasons)
	}
	return c, nil
}

// unconfirmed are reasons not to clean: the target is not the one that was confirmed, or holds more. Begun: this job may have
// dropped something.
func (r *run) unconfirmed(c contents, begun bool) []report.Reason {
	confirmed := r.spec.Confirmed
	again := "Look at what would be dropped now, and confirm that."
	if confirmed == nil {
		return []report.Reason{{
			Code: report.ReasonNotConfirmed, Side: report.Target,
			Text: fmt.Sprintf("Nobody has confirmed what cleaning the target %s drops.%s", r.spec.Target, r.gone(c, begun)), Hint: again,
		}}
	}
	if now := r.target.Identity(); now != confirmed.Target {
		return []report.Reason{{
			Code: report.ReasonOtherTarget, Side: report.Target,
			Text: fmt.Sprintf("The target %s is not the database that was confirmed to be cleaned (%s).%s", r.spec.Target, otherwise(now, confirmed.Target), r.gone(c, begun)), Hint: again,
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
	return []report.Reason{r.notShown(more, c, begun)}
}

func (r *run) notShown(names []string, c contents, begun bool) report.Reason {
	return report.Reason{
		Code: report.ReasonNotShown, Side: report.Target, Objects: report.AtMost(names),
		Text: fmt.Sprintf("The target %s holds what was not there when cleaning it was confirmed: %s.%s", r.spec.Target, report.Listed(names), r.gone(c, begun)),
		Hint: "Look at what would be dropped now, and confirm that.",
	}
}

// gone tells what became of the objects that were confirmed, where this job may have dropped some.
func (r *run) gone(c contents, begun bool) string {
	confirmed := r.spec.Confirmed
	if confirmed == nil || confirmed.Target != r.target.Identity() || !begun {
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
func (r *run) cleaningBegun() bool { return r.dropped > 0 || r.owner.Resumed }

// refuseToClean leaves nothing of this job on a target of which it has dropped nothing.
func (r *run) refuseToClean(ctx context.Context, reasons []report.Reason) error {
	if !r.cleaningBegun() {
		if err := r.owner.Abandon(ctx); err != nil {
			return err
		}
	}
	return report.Refuse(reasons...)
}
