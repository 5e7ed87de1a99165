package chaos

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"calco/cloner/dsn"
	"calco/db/dbtest"
)

// sketched makes a small source.
func sketched(t testing.TB) string {
	t.Helper()
	url := dbtest.Database(t)
	fill(t, url, sketch)
	return url
}

// twin makes an equal of a database on its server.
func twin(t testing.TB, url, name string) string {
	t.Helper()
	server := dbtest.Database(t)
	quoted := pgx.Identifier{name}.Sanitize()
	dbtest.Exec(t, server, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", quoted, pgx.Identifier{dsn.URL(url).Database()}.Sanitize()))
	t.Cleanup(func() { dbtest.Exec(t, server, "DROP DATABASE "+quoted+" WITH (FORCE)") })
	return strings.Replace(url, "/"+dsn.URL(url).Database()+"?", "/"+name+"?", 1)
}

// TestChecksFindDamage: each thing that a clone could do wrong is found by the check that is there for it, and a good
// copy has no fault.
func TestChecksFindDamage(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source := sketched(t)
	cases := []struct {
		name, sql string
		check     string // empty for none
		exact     string // what an exact comparison finds, where that is another
	}{
		{"none", "", "", ""},
		{"a row twice", "ALTER TABLE bank.history DROP CONSTRAINT history_pkey; INSERT INTO bank.history SELECT * FROM bank.history WHERE number = 7", "unique bank.history_pkey", ""},
		{"a part twice", "ALTER TABLE archive.y2021 DROP CONSTRAINT y2021_pkey, DROP CONSTRAINT y2021_number_key; INSERT INTO archive.y2021 SELECT * FROM archive.y2021 WHERE id < 50", "unique archive.y2021_number_key", ""},
		{"a row of the past missing", "DELETE FROM bank.history WHERE number = 13", "history", ""},
		{"a row missing that nobody writes to", "DELETE FROM archive.y2023 WHERE id = 9", "rows of archive.y2023", ""},
		{"a row changed that nobody writes to", "UPDATE archive.y2023 SET note = '' WHERE id = 9", "rows of archive.y2023", ""},
		{"an account of another moment", "UPDATE bank.account SET balance = balance + 5 WHERE id = 3", "balances", ""},
		{"an account not moved", "UPDATE bank.account SET moved = moved - 1 WHERE id = 3", "moves", ""},
		{"tellers of another moment", "UPDATE bank.teller SET balance = balance + CASE id WHEN 1 THEN 5 ELSE -5 END WHERE id IN (1, 2)", "branches", ""},
		{"a line missing", "DELETE FROM bank.line WHERE order_id = 4 AND number = 1", "lines", ""},
		{"an order missing", "DELETE FROM bank.orders WHERE id = 4", "orders", ""},
		{"an event missing", "DELETE FROM bank.event WHERE id = 5", "events", ""},
		{"an event in two partitions", "INSERT INTO bank.event SELECT id, 1 + quarter % 4, writer_id, text FROM bank.event WHERE id = 8; DELETE FROM bank.event WHERE id = 12", "event twice", ""},
		{"a document of another moment", "UPDATE bank.document SET body = body || 'x' WHERE id = 2", "documents", ""},
		{"a large object of another moment", "SELECT lo_put(object, 3, 'xyz') FROM bank.blob WHERE id = 1", "blobs", ""},
		{"a large object missing", "SELECT lo_unlink(object) FROM bank.blob WHERE id = 1", "large objects", ""},
		{"a large object too many", "SELECT lo_create(0)", "large objects", ""},
		{"a row of the cache", "UPDATE bank.cache SET value = 'x' WHERE key = 3", "cache", ""},
		{"a cache row missing, where nobody writes", "DELETE FROM bank.cache WHERE key = 3", "", "rows of bank.cache"},
		{"a sequence behind", "SELECT setval('bank.event_id', 3)", "sequences", ""},
		{"a sequence elsewhere, where nobody writes", "SELECT setval('bank.event_id', 100000)", "", "sequence"},
		{"an orphan", "SET session_replication_role = replica; UPDATE bank.orders SET account_id = 999999 WHERE id = 2", "orphans bank.orders.orders_account_id_fkey", ""},
		{"a foreign key missing", "ALTER TABLE bank.line DROP CONSTRAINT line_order_id_fkey", "structure", ""},
		{"a foreign key not checked", "ALTER TABLE bank.line DROP CONSTRAINT line_order_id_fkey; ALTER TABLE bank.line ADD FOREIGN KEY (order_id) REFERENCES bank.orders ON DELETE CASCADE NOT VALID", "structure", ""},
		{"a unique constraint missing", "ALTER TABLE bank.account DROP CONSTRAINT account_number_key", "structure", ""},
		{"an index missing", "DROP INDEX bank.history_account_id_idx", "structure", ""},
		{"an index not finished", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bank.history_account_id_idx'::regclass", "structure", ""},
		{"a trigger off", "ALTER TABLE bank.line DISABLE TRIGGER ALL", "structure", ""},
		{"a logged cache", "ALTER TABLE bank.cache SET LOGGED", "structure", ""},
		{"an old view", "INSERT INTO bank.history VALUES (1, 1, 1, 1, 0); UPDATE bank.writer SET written = 1 WHERE id = 1; UPDATE bank.account SET moved = moved + 1 WHERE id = 1", "totals", ""},
		{"an empty view", "REFRESH MATERIALIZED VIEW bank.totals WITH NO DATA", "totals", ""},
		{"marks left", "CREATE SCHEMA _calco", "marks", ""},
		{"a whole transaction missing", "DELETE FROM bank.orders WHERE id = 5; UPDATE bank.writer SET orders = orders - 1 WHERE id = 0", "", "rows of bank.orders"},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			copied := twin(t, source, fmt.Sprintf("twin_%d", i))
			dbtest.Exec(t, copied, "SELECT; "+c.sql)
			wants(t, examine(t, source, copied, false, ""), c.check)
			exact := c.exact
			if exact == "" {
				exact = c.check
			}
			wants(t, examine(t, source, copied, true, ""), exact)
		})
	}
}

// wants a finding of one check, or none at all.
func wants(t *testing.T, found []string, check string) {
	t.Helper()
	if check == "" {
		if len(found) > 0 {
			t.Errorf("found %q, want nothing", found)
		}
		return
	}
	for _, f := range found {
		if strings.HasPrefix(f, check+":") {
			return
		}
	}
	t.Errorf("found %q, want one of the check %s", found, check)
}
