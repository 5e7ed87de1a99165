package clean

import (
	"crypto/sha256"
	"fmt"

	"calco/cloner/report"
)

// newConfirmation confirms that these objects of a target may be dropped, and those large objects.
func newConfirmation(target report.Identity, c contents) report.Confirmation {
	var objects []report.ObjectSum
	for _, o := range c.objects {
		if !o.Stays {
			objects = append(objects, o.sum())
		}
	}
	return report.Confirm(target, objects, c.large)
}

// sum is the identity of an object: one that was dropped and made again is another, and so is a setting with another value.
func (o object) sum() report.ObjectSum {
	all := fmt.Appendf(nil, "%s\x00%s\x00%d", o.Type, o.Identity, o.OID)
	if o.Value != "" {
		all = fmt.Appendf(all, "\x00%s", o.Value)
	}
	whole := sha256.Sum256(all)
	return report.ObjectSum(whole[:16])
}

// otherwise tells in what a database is not the one that was confirmed.
func otherwise(now, confirmed report.Identity) string {
	switch {
	case now.Address != confirmed.Address:
		return "that was " + confirmed.Address
	case now.System != confirmed.System:
		return "another server answers there now"
	}
	return "it was dropped and made again"
}
