package restore

import (
	"fmt"

	"calco/cloner/archive"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/schema"
	"calco/cloner/report"
)

// keepEntry: the entry's object was there before, and stays as it is.
func keepEntry(plan *schema.Plan, l *ledger.Ledger, e *archive.Entry) {
	l.Skip(e.ID)
	if e.CatalogOID == schema.PgClass {
		l.Keep(int64(e.OID))
	}
	for _, t := range plan.Tables {
		if e.CatalogOID == schema.PgExtension && t.Extension == int64(e.OID) {
			l.Keep(t.OID)
		}
	}
}

// Leave leaves as it is what was on the target before. What a person may not expect is a warning.
func Leave(plan *schema.Plan, l *ledger.Ledger, all []schema.PreexistingEntry) schema.Preexisting {
	kept := schema.Preexisting{}
	for _, k := range all {
		kept[k] = true
	}
	for _, e := range plan.Entries {
		if !kept[schema.PreexistingEntry{Kind: e.Desc, Namespace: e.Namespace, Name: e.Tag}] {
			continue
		}
		keepEntry(plan, l, e)
		if !plan.Pulled[e.ID] && e.Desc != "EVENT TRIGGER" { // clean has left it for being what the source has
			continue
		}
		if e.Desc != "SCHEMA" && e.Desc != "EXTENSION" && e.Desc != "COMMENT" && e.Desc != "ACL" {
			l.Warn(report.Said(schema.Title(e) + " was on the target already and was left as it is."))
		}
	}
	for _, t := range plan.Tables {
		if kept.Rows(t.Schema, t.Name) && !l.Keeps(t.OID) {
			l.Keep(t.OID)
			l.Warn(report.Said(fmt.Sprintf("The rows of %s, which belongs to an extension, are the target's own and stay.", t)))
		}
	}
	return kept
}

// MayStay tells whether an entry is of a kind that clean leaves where an extension needs it.
func MayStay(e *archive.Entry) bool {
	switch e.Desc {
	case "SCHEMA", "EXTENSION", "COMMENT", "ACL", "DEFAULT ACL", "SECURITY LABEL":
		return false
	}
	return true
}
