package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
)

const connectionColumns = `
	c.id, coalesce(c.owner_id, 0), coalesce(u.email, ''), c.name, c.environment, c.address, c.database, c.role,
	c.shared, c.protected, c.created_at, c.updated_at`

func scanConnection(row pgx.CollectableRow) (c jobs.Connection, err error) {
	err = row.Scan(&c.ID, &c.OwnerID, &c.Owner, &c.Name, &c.Environment, &c.Address, &c.Database, &c.User,
		&c.Shared, &c.Protected, &c.CreatedAt, &c.UpdatedAt)
	return c, err
}

// Connections returns all saved databases, by name.
func (s *Store) Connections(ctx context.Context) ([]jobs.Connection, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT   `+connectionColumns+`
		FROM     connections c
		LEFT     JOIN users u ON u.id = c.owner_id
		ORDER BY lower(c.name), c.id`)
	connections, err := pgx.CollectRows(rows, scanConnection)
	return connections, explain("list the saved databases", err)
}

// Connection implements jobs.Store.
func (s *Store) Connection(ctx context.Context, id int64) (jobs.Connection, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT `+connectionColumns+`
		FROM   connections c
		LEFT   JOIN users u ON u.id = c.owner_id
		WHERE  c.id = $1`, id)
	c, err := pgx.CollectExactlyOneRow(rows, scanConnection)
	return c, explain("find the saved database", err)
}

// lockConnection returns a saved database, and keeps it for the transaction.
func lockConnection(ctx context.Context, tx pgx.Tx, id int64) (jobs.Connection, error) {
	rows, _ := tx.Query(ctx, `
		SELECT `+connectionColumns+`
		FROM   connections c
		LEFT   JOIN users u ON u.id = c.owner_id
		WHERE  c.id = $1
		FOR    UPDATE OF c`, id)
	return pgx.CollectExactlyOneRow(rows, scanConnection)
}

// AddConnection saves a database. Of c, the owner, the name, the environment, and whether it is shared and protected
// count; where it is, is read from the URL. The error for a name that another one of the owner has is jobs.ErrTaken.
func (s *Store) AddConnection(ctx context.Context, c jobs.Connection, url dsn.URL) (id int64, err error) {
	if err := url.Check(); err != nil {
		return 0, fmt.Errorf("save a database: the URL cannot be used: %w", err)
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT nextval(pg_get_serial_sequence('connections', 'id'))`).Scan(&id); err != nil {
			return err
		}
		sealed, err := s.key.seal(placeOfURL(id), string(url))
		if err != nil {
			return err
		}
		at := url.Endpoint()
		_, err = tx.Exec(ctx, `
			INSERT INTO connections (id, owner_id, name, environment, shared, protected, address, database, role, url_sealed)
			VALUES                  ($1, $2,       $3,   $4,          $5,     $6,        $7,      $8,       $9,   $10)`,
			id, c.OwnerID, c.Name, c.Environment, c.Shared, c.Protected, at.Address, at.Database, at.User, sealed)
		return err
	})
	return id, explain("save a database", err)
}

// ChangeConnection implements jobs.Store: it saves the name, the environment, and whether it is shared and protected.
func (s *Store) ChangeConnection(ctx context.Context, id int64, url dsn.URL, change func(jobs.Connection) (jobs.Connection, error)) error {
	return explain("change the saved database", s.inTx(ctx, func(tx pgx.Tx) error {
		saved, err := lockConnection(ctx, tx, id)
		if err != nil {
			return err
		}
		c, err := change(saved)
		if err != nil {
			return err
		}
		if url != "" {
			if err := s.changeURL(ctx, tx, id, url); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `
			UPDATE connections
			SET    name = $2, environment = $3, shared = $4, protected = $5, updated_at = now()
			WHERE  id = $1`, id, c.Name, c.Environment, c.Shared, c.Protected)
		return err
	}))
}

// changeURL refuses while a job is on its way: it was confirmed for the database that the URL led to then. The transaction has
// the row.
func (s *Store) changeURL(ctx context.Context, tx pgx.Tx, id int64, url dsn.URL) error {
	if err := url.Check(); err != nil {
		return fmt.Errorf("the URL cannot be used: %w", err)
	}
	if err := checkUnused(ctx, tx, id); err != nil {
		return err
	}
	sealed, err := s.key.seal(placeOfURL(id), string(url))
	if err != nil {
		return err
	}
	at := url.Endpoint()
	_, err = tx.Exec(ctx, `
		UPDATE connections
		SET    address = $2, database = $3, role = $4, url_sealed = $5, answered = answered AND (address, database) = ($2, $3),
		       system_identifier = CASE WHEN (address, database) = ($2, $3) THEN system_identifier END,
		       database_oid      = CASE WHEN (address, database) = ($2, $3) THEN database_oid END
		WHERE  id = $1`, id, at.Address, at.Database, at.User, sealed)
	return err
}

// RemoveConnection implements jobs.Store.
func (s *Store) RemoveConnection(ctx context.Context, id int64, may func(jobs.Connection) error) error {
	return explain("remove the saved database", s.inTx(ctx, func(tx pgx.Tx) error {
		saved, err := lockConnection(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := may(saved); err != nil {
			return err
		}
		if err := checkUnused(ctx, tx, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM connections WHERE id = $1`, id)
		return err
	}))
}

// ConnectionURL returns what leads to a saved database, and the hosts that it may lead to. It is for a clone or a look at
// the database, and for nobody's eyes.
func (s *Store) ConnectionURL(ctx context.Context, id int64) (dsn.URL, *dsn.Hosts, error) {
	var sealed []byte
	var byAdmin bool
	err := s.pool.QueryRow(ctx, `SELECT c.url_sealed, `+savedByAdmin("c")+` FROM connections c WHERE c.id = $1`, id).Scan(&sealed, &byAdmin)
	if err != nil {
		return "", nil, explain("find the saved database", err)
	}
	url, err := s.key.open(placeOfURL(id), sealed)
	return dsn.URL(url), s.hosts.Of(byAdmin), explain("read the URL of the saved database", err)
}

// savedByAdmin asks whether the owner of a connection is an admin now.
func savedByAdmin(connection string) string {
	return `EXISTS (SELECT FROM users u WHERE u.id = ` + connection + `.owner_id AND u.role = 'admin')`
}

// placeOfURL is where the URL of a saved database may be read, and nowhere else.
func placeOfURL(id int64) string { return fmt.Sprintf("URL of connection %d", id) }
