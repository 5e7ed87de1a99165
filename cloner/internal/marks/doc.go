// Package marks keeps what a job has done in the schema _calco of its target, and decides who may write there. It has the
// locks that keep two clones from one database, takes a target over from an earlier run of a job, and is the only maker of
// sessions that write: each of their queries begins with the fence, which raises once another run has taken over.
//
// It does not know what is written.
package marks
