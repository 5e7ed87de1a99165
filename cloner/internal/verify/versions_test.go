package verify

import "testing"

// TestNewerVersion compares versions as extensions write them.
func TestNewerVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ newer, older string }{{"1.10", "1.9"}, {"3.4.2", "3.4"}, {"2.0", "1.8"}, {"1.1", "1.0-beta"}} {
		if !newerVersion(test.newer, test.older) || newerVersion(test.older, test.newer) || newerVersion(test.newer, test.newer) {
			t.Errorf("%s is newer than %s", test.newer, test.older)
		}
	}
}
