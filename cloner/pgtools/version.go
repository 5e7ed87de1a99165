package pgtools

import (
	"fmt"
	"regexp"
	"strconv"
)

// Version is a PostgreSQL version in the form of server_version_num: 150020 is 15.20. Versions compare as numbers; a
// beta or a development version counts as the first release of its major version.
type Version int

// Major returns the major version: 15 for 15.20.
func (v Version) Major() int { return int(v) / 10000 }

// Minor returns the minor version: 20 for 15.20.
func (v Version) Minor() int { return int(v) % 10000 }

// String returns the version as people write it: 15.20, or 9.6.24 before PostgreSQL 10.
func (v Version) String() string {
	if v.Major() < 10 {
		return fmt.Sprintf("%d.%d.%d", v.Major(), v.Minor()/100, v.Minor()%100)
	}
	return fmt.Sprintf("%d.%d", v.Major(), v.Minor())
}

var versionPattern = regexp.MustCompile(`\) (\d{1,2})(?:\.(\d{1,3}))?(?:\.(\d{1,2}))?`)

// parseVersion reads what PostgreSQL's programs print for --version: "pg_dump (PostgreSQL) 15.20 (Debian 15.20-0)".
func parseVersion(s string) (Version, error) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("no PostgreSQL version in %q", s)
	}
	number := func(digits string) int {
		n, _ := strconv.Atoi(digits) // the pattern lets only digits through, or nothing, which is zero
		return n
	}
	major, minor := number(m[1]), number(m[2])
	if major < 10 { // before PostgreSQL 10 the major version had two parts
		minor = minor*100 + number(m[3])
	}
	return Version(major*10000 + minor), nil
}
