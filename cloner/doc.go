// Package cloner copies one PostgreSQL database into another and proves that
// the copy is true. It is one blocking call, [Clone]; it knows PostgreSQL and
// pg_dump, and nothing of pages, jobs or the store that keeps them.
//
// The way of a clone, each step a phase: the two servers are checked
// (preflight); one snapshot of the source is exported and held; the schema is
// dumped under it and read entry by entry; the target is emptied if that was
// asked for (clean); tables are made (pre-data), filled (copy), indexed and
// tied together (indexes, constraints, post-data); sequences, owners, grants
// and materialized views follow; and at the end the target is compared with
// the source (verify). The comparison alone decides the outcome.
package cloner
