package dbtest

import (
	"context"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Hold runs statements in a session that stays open until release is called, which may be
// often; the locks they took are held as long.
func Hold(t testing.TB, url, sql string) (release func()) {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	release = func() { _ = c.Close(context.Background()) }
	t.Cleanup(release)
	if err := c.Exec(t.Context(), sql).Close(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return release
}

// Equal wants the same rows of a query on both sides.
func Equal(t testing.TB, source, target, sql string) {
	t.Helper()
	want, got := Query(t, source, sql), Query(t, target, sql)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%.300s\ngot  %.1000q\nwant %.1000q", sql, got, want)
	}
}
