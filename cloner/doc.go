// Package cloner copies one PostgreSQL database into another one, and compares
// the two. It is one blocking call, [Clone]. It knows the order of the phases,
// and nothing of pages, jobs or the store that keeps them.
//
// A clone is made of attempts, and attempt.do is the table of contents of one:
//
//  1. preflight: both servers are checked. This only reads. Then both databases
//     are locked, and an earlier run of the job is ended.
//  2. snapshot: one snapshot of the source is exported and held; under it the
//     schema is dumped and read, entry by entry, into a plan.
//  3. The target becomes this job's, and its row is written there. Only a
//     takeover has written before: the higher term.
//  4. clean: the target is emptied, if that was asked for. Or, if an earlier run
//     has begun to copy: what is on the target is compared with the marks.
//  5. pre-data: tables and all else that has to be there before the rows.
//  6. copy; and beside it indexes, constraints and post-data, each as soon as the
//     rows are there that it needs. The snapshot goes with the last row.
//  7. sequences, analyze, owners and grants, views (materialized ones), event
//     triggers, settings of the database.
//  8. verify: the target is compared with the source. Differences and what could
//     not be made decide the outcome, and nothing else does.
//
// What the phases are made of is under internal, a room each. The picture of the
// rooms, walks through the code, and the words are in docs/architecture.md and
// docs/glossary.md.
package cloner
