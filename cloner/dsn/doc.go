// Package dsn reads PostgreSQL connection strings, says where they may lead, and turns them into what pgx and libpq's programs
// need. Nothing is taken from the environment, and nothing prints a password.
package dsn
