// Package schema reads what a source holds into one plan that does not change, and what a target holds into an inventory. It
// does not know how anything is made or copied.
package schema
