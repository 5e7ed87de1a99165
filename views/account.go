package views

import (
	"context"
	"strings"
	"time"
)

// AccountPageProps are what the account page shows.
type AccountPageProps struct {
	HasPassword bool
	Errors      Errors // of the change of password
	Sessions    []AccountSession
}

// AccountSession is a browser in which the user is signed in.
type AccountSession struct {
	ID       int64
	Agent    string
	Address  string
	Started  time.Time
	LastSeen time.Time
	Here     bool
}

// browsers and systems are looked for in this order: most of them also claim to be another.
var (
	browsers = []struct{ mark, name string }{
		{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chromium/", "Chromium"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
	}
	systems = []struct{ mark, name string }{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	}
)

// Browser says in words what a browser says of itself.
func Browser(ctx context.Context, agent string) string {
	browser, system := T(ctx, "account.browser"), ""
	for _, b := range browsers {
		if strings.Contains(agent, b.mark) {
			browser = b.name
			break
		}
	}
	for _, s := range systems {
		if strings.Contains(agent, s.mark) {
			system = " · " + s.name
			break
		}
	}
	return browser + system
}
