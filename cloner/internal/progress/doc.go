// Package progress shows how far a clone is: totals, tables, a log, the time left. It is told, and decides nothing.
package progress
