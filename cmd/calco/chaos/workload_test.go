package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calco/db/dbtest"
)

// writers is how many sessions write to the source. The source has a row for each.
const writers = 4

// workload is what writes to the source. Each of its transactions keeps the invariants.
type workload struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	made   atomic.Int64 // transactions that were committed

	mu    sync.Mutex
	first error // that no crash explains
}

// write starts to write, until stop. It goes on when the source was away.
func write(url string, s size, seed uint64) *workload {
	ctx, cancel := context.WithCancel(context.Background())
	w := &workload{cancel: cancel}
	for n := 1; n <= writers; n++ {
		one := &writer{id: n, size: s, random: rand.New(rand.NewPCG(seed, uint64(n))), load: w} //nolint:gosec // it is to be repeatable
		w.done.Go(func() { one.write(ctx, url) })
	}
	return w
}

// stop returns when nothing is written any more. A transaction under way is rolled back.
func (w *workload) stop() error {
	w.cancel()
	w.done.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

func (w *workload) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = err
	}
}

// writer is one session of the workload.
type writer struct {
	id     int
	size   size
	random *rand.Rand
	load   *workload
}

func (w *writer) write(ctx context.Context, url string) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		for ctx.Err() == nil && !conn.IsClosed() {
			w.transact(ctx, conn)
			pause(ctx, time.Duration(2+w.random.IntN(15))*time.Millisecond)
		}
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = conn.Close(closing)
		cancel()
	}
}

// transact sends one transaction. Its end by stop, a crash or a deadlock is no failure.
func (w *writer) transact(ctx context.Context, conn *pgx.Conn) {
	sql := w.transaction()
	_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	switch {
	case err == nil:
		w.load.made.Add(1)
	case ctx.Err() != nil: // before the transaction was sent it leaves the connection open
	case !conn.IsClosed():
		if code := sqlState(err); code != "40P01" && code != "57P01" && code != "57P02" && code != "57P03" { // deadlock, shutdown
			w.load.fail(fmt.Errorf("%w in %s", err, sql))
		}
		_, _ = conn.Exec(ctx, "ROLLBACK") // a closed connection is noticed by the caller
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// transaction returns one to three acts, in a subtransaction or not, of which some do not come to pass.
func (w *writer) transaction() string {
	var b strings.Builder
	b.WriteString("BEGIN; SET LOCAL search_path = bank; ")
	for n := 1 + w.random.IntN(3); n > 0; n-- {
		switch w.random.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "SAVEPOINT a; %s; RELEASE a; ", w.act())
		case 1:
			fmt.Fprintf(&b, "SAVEPOINT b; %s; UPDATE account SET balance = balance + 1000000 WHERE id = %d; ROLLBACK TO b; %s; ", w.act(), w.account(), w.act())
		default:
			b.WriteString(w.act() + "; ")
		}
	}
	if w.random.IntN(12) == 0 {
		return b.String() + "ROLLBACK"
	}
	return b.String() + "COMMIT"
}

// account is mostly one of the last fifth, so that the rest of the table stays as it is.
func (w *writer) account() int {
	if w.random.IntN(50) == 0 {
		return 1 + w.random.IntN(w.size.accounts)
	}
	return w.size.accounts - w.random.IntN(w.size.accounts/5)
}

// own is a number of the writer's own, so that writers seldom wait for each other.
func (w *writer) own(n int) int { return 1 + w.random.IntN(n/writers)*writers + (w.id - 1) }

// act returns one change that keeps the invariants.
func (w *writer) act() string {
	switch w.random.IntN(12) {
	case 0:
		return w.trim()
	case 1:
		return w.exchange()
	case 2, 3:
		return w.order()
	case 4, 5:
		return w.event()
	case 6:
		return w.document()
	case 7:
		return w.blob()
	case 8:
		return w.cache()
	default:
		return w.transfer()
	}
}

func (w *writer) transfer() string {
	teller, delta := 1+w.random.IntN(20), w.random.IntN(2001)-1000
	return fmt.Sprintf(`
		UPDATE account SET balance = balance + %[4]d, moved = moved + 1 WHERE id = %[2]d;
		UPDATE teller SET balance = balance + %[4]d WHERE id = %[3]d;
		UPDATE branch SET balance = balance + %[4]d WHERE id = (SELECT branch_id FROM teller WHERE id = %[3]d);
		UPDATE writer SET written = written + 1 WHERE id = %[1]d;
		INSERT INTO history (writer_id, number, account_id, teller_id, delta) SELECT %[1]d, written, %[2]d, %[3]d, %[4]d FROM writer WHERE id = %[1]d`,
		w.id, w.account(), teller, delta)
}

func (w *writer) trim() string {
	return fmt.Sprintf(`
		WITH gone AS (
			DELETE FROM history WHERE writer_id = %[1]d AND number <= (SELECT trimmed + %[2]d FROM writer WHERE id = %[1]d) RETURNING delta
		)
		UPDATE writer SET trimmed = trimmed + (SELECT count(*) FROM gone), trimmed_delta = trimmed_delta + (SELECT coalesce(sum(delta), 0) FROM gone)
		WHERE id = %[1]d`, w.id, 1+w.random.IntN(4))
}

// exchange gives two accounts each other's number, which is unique.
func (w *writer) exchange() string {
	a, b := w.account(), w.account()
	if a == b {
		return w.transfer()
	}
	return fmt.Sprintf(`
		CREATE TEMP TABLE IF NOT EXISTS swap (id int, number text) ON COMMIT DELETE ROWS; DELETE FROM swap;
		SELECT FROM account WHERE id IN (%[1]d, %[2]d) ORDER BY id FOR UPDATE;
		INSERT INTO swap SELECT id, number FROM account WHERE id IN (%[1]d, %[2]d);
		UPDATE account SET number = 'writer %[3]d' WHERE id = %[1]d;
		UPDATE account SET number = (SELECT number FROM swap WHERE id = %[1]d) WHERE id = %[2]d;
		UPDATE account SET number = (SELECT number FROM swap WHERE id = %[2]d) WHERE id = %[1]d`, min(a, b), max(a, b), w.id)
}

func (w *writer) order() string {
	const first = `(SELECT min(id) FROM orders WHERE writer_id = %[1]d)`
	switch w.random.IntN(4) {
	case 0:
		return fmt.Sprintf(`
			WITH gone AS (DELETE FROM orders WHERE id = `+first+` RETURNING id)
			UPDATE writer SET orders = orders - (SELECT count(*) FROM gone) WHERE id = %[1]d`, w.id)
	case 1:
		return fmt.Sprintf(`
			INSERT INTO line SELECT id, lines + 1, 7 FROM orders WHERE id = `+first+`;
			UPDATE orders SET lines = lines + 1, total = total + 7 WHERE id = `+first, w.id)
	default:
		return fmt.Sprintf(`
			WITH o AS (INSERT INTO orders (writer_id, account_id, lines, total) VALUES (%[1]d, %[2]d, %[3]d, %[3]d * 11) RETURNING id)
			INSERT INTO line SELECT id, n, 11 FROM o, generate_series(1, %[3]d) n;
			UPDATE writer SET orders = orders + 1 WHERE id = %[1]d`, w.id, w.account(), 1+w.random.IntN(4))
	}
}

func (w *writer) event() string {
	switch w.random.IntN(4) {
	case 0:
		return fmt.Sprintf(`
			WITH gone AS (DELETE FROM event WHERE id = (SELECT min(id) FROM event WHERE writer_id = %[1]d) RETURNING id)
			UPDATE writer SET events = events - (SELECT count(*) FROM gone) WHERE id = %[1]d`, w.id)
	case 1: // to another partition
		return fmt.Sprintf(`UPDATE event SET quarter = 1 + quarter %% 4 WHERE id = (SELECT max(id) FROM event WHERE writer_id = %d)`, w.id)
	default:
		return fmt.Sprintf(`
			INSERT INTO event (quarter, writer_id, text) VALUES (%[2]d, %[1]d, 'Event of %[1]d');
			UPDATE writer SET events = events + 1 WHERE id = %[1]d`, w.id, 1+w.random.IntN(4))
	}
}

func (w *writer) document() string {
	id := w.own(w.size.documents)
	if w.random.IntN(3) == 0 {
		return fmt.Sprintf(`DELETE FROM document WHERE id = %d`, id)
	}
	return fmt.Sprintf(`
		INSERT INTO document SELECT %d, b, md5(b) FROM body(%d) b
		ON CONFLICT (id) DO UPDATE SET body = excluded.body, digest = excluded.digest`, id, w.random.IntN(1000))
}

// blob writes to a large object, or puts a new one in its place.
func (w *writer) blob() string {
	id := w.own(w.size.documents / 4)
	if w.random.IntN(2) == 0 {
		return fmt.Sprintf(`
			SELECT lo_put(object, %[2]d, 'changed') FROM blob WHERE id = %[1]d;
			UPDATE blob SET digest = md5(lo_get(object)) WHERE id = %[1]d`, id, w.random.IntN(4000))
	}
	return fmt.Sprintf(`
		SELECT lo_unlink(object) FROM blob WHERE id = %[1]d;
		DELETE FROM blob WHERE id = %[1]d;
		INSERT INTO blob SELECT %[1]d, lo_from_bytea(0, convert_to(b, 'UTF8')), md5(b) FROM body(%[2]d) b`, id, w.random.IntN(1000))
}

func (w *writer) cache() string {
	key := w.own(w.size.accounts / 4)
	if w.random.IntN(3) == 0 {
		return fmt.Sprintf(`DELETE FROM cache WHERE key = %d`, key)
	}
	return fmt.Sprintf(`INSERT INTO cache VALUES (%[1]d, md5('%[1]d')) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key)
}

// TestWorkload writes for a while: no transaction fails, all kinds of rows change, and the invariants hold at any moment.
func TestWorkload(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source := sketched(t)
	before := digests(t, source)
	load := write(source, sketch, 1)
	for n := int64(1); n <= 5; n++ {
		eventually(t, time.Minute, "it writes", func() bool { return load.made.Load() > 60*n })
		if found := invariants(t, source); len(found) > 0 {
			t.Errorf("after %d transactions: %q", load.made.Load(), found)
		}
	}
	if err := load.stop(); err != nil {
		t.Error(err)
	}
	after := digests(t, source)
	for name := range before {
		if changed := before[name] != after[name]; changed != (strings.HasPrefix(name, "bank.") && name != "bank.totals") {
			t.Errorf("%s changed: %v", name, changed)
		}
	}
}

// TestWorkloadStopsBetweenTransactions stops after a writer looked whether it goes on, and before it sends.
func TestWorkloadStopsBetweenTransactions(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	conn, err := pgx.Connect(t.Context(), sketched(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // it has answered
	ctx, cancel := context.WithCancel(t.Context())
	load := &workload{cancel: cancel}
	one := &writer{id: 1, size: sketch, random: rand.New(rand.NewPCG(1, 1)), load: load} //nolint:gosec // it is to be repeatable
	cancel()
	one.transact(ctx, conn)
	if err := load.stop(); err != nil {
		t.Error(err)
	}
}
