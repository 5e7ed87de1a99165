// Package chaos is a test and nothing else: it clones a source that is being written to while workers, servers,
// connections and the target's disk are taken away at random moments, and then looks whether the target is the source,
// once. It knows the program by its commands, its pages and its state, and the engine not at all.
//
// make chaos runs it at its nightly size. Every run prints a seed, and the line that plays the same plan again. go test -run
// ^$ -bench Halfway measures what a worker that is killed half-way costs.
package chaos
