//go:build !linux

package dbtest

// memory is empty: only Linux has a folder in memory for everybody.
func memory() string { return "" }
