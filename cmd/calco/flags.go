package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/runner"
)

// engineFlags say how rows are carried, wherever a clone is started.
type engineFlags struct {
	PartSize    byteSize      `env:"CALCO_PART_SIZE" default:"64MB" placeholder:"SIZE" help:"How much of a table goes to the target at a time, by its size on the source's disk (${default}). It is what has to be copied again when a connection is lost."`
	GiveUpAfter time.Duration `env:"CALCO_GIVE_UP_AFTER" default:"10m" placeholder:"TIME" help:"How long a clone waits for a server or a network to come back, since it last got anything done (${default})."`
}

// check refuses what cannot be meant.
func (f engineFlags) check() error {
	switch {
	case f.PartSize < cloner.MinPartSize:
		return usageError{fmt.Errorf("parts of %d bytes: choose at least %dkB", f.PartSize, cloner.MinPartSize>>10)}
	case f.GiveUpAfter < time.Second:
		return usageError{fmt.Errorf("give up after %v: choose at least 1s", f.GiveUpAfter)}
	}
	return nil
}

// options are those of a process that runs so many clones at a time.
func (f engineFlags) options(workers int) runner.Options {
	return runner.Options{Jobs: workers, Idle: workers == 0, PartSize: int64(f.PartSize), Patience: f.GiveUpAfter}
}

// hostFlags say which servers saved databases may lead to, and with which files.
type hostFlags struct {
	AllowHost []dsn.HostRule `env:"CALCO_ALLOW_HOST" placeholder:"HOST" help:"Let databases saved by members lead there: an address, a range like 10.0.0.0/8, the name of a host, or the folder of a socket. By default they may lead neither to this machine itself nor to link-local and metadata addresses; those of admins may. May be given more than once."`
	DenyHost  []dsn.HostRule `env:"CALCO_DENY_HOST" placeholder:"HOST" help:"Let no saved database lead there, whoever saved it. Where an address is in several ranges, the narrowest counts. May be given more than once."`

	CertificateDir string `env:"CALCO_CERTIFICATE_DIR" type:"existingdir" placeholder:"DIR" help:"Let the URL of a saved database, whoever saves it, name certificates and keys in this folder with sslrootcert, sslcert and sslkey. Without it, they can be pasted."`
}

func (f hostFlags) policy() dsn.HostPolicy {
	return dsn.HostPolicy{Allow: f.AllowHost, Deny: f.DenyHost, Certificates: f.CertificateDir}
}

// byteSize is a number of bytes, written as PostgreSQL's own settings are: 64MB, 1 MB being 1024 kB.
// https://www.postgresql.org/docs/current/config-setting.html
type byteSize int64

var byteUnits = []struct {
	name  string
	bytes int64
}{{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"tb", 1 << 40}, {"b", 1}}

// UnmarshalText reads a size, whatever the case of its unit. Without one it is in bytes.
func (s *byteSize) UnmarshalText(text []byte) error {
	number, unit := strings.ToLower(strings.TrimSpace(string(text))), int64(1)
	for _, u := range byteUnits {
		if before, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(before), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size: write it like 64MB", text)
	}
	*s = byteSize(n * unit)
	return nil
}
