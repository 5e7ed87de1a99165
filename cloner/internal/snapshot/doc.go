// Package snapshot holds one exported snapshot of a source for as long as a clone needs it. It does not know what is read
// under it.
package snapshot
