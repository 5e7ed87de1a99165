package cloner

import (
	"errors"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

// errOtherServer is for a URL that leads to another server than when the clone began.
var errOtherServer = errors.New("another server answers there than the one that the clone began with")

// way is how one side is reached: anew, or at the very address where the first session of the attempt is.
func (r *run) way(side report.Side, anew bool) (dsn.URL, *dsn.Hosts) {
	u, hosts := r.spec.Source, r.spec.SourceHosts
	if side == report.Target {
		u, hosts = r.spec.Target, r.spec.TargetHosts
	}
	at := r.reached[side]
	if u = at.Narrow(u); anew {
		return u, hosts
	}
	return u, at.Only(hosts)
}
