package cloner

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"calco/cloner/dsn"
	"calco/cloner/internal/clean"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// DefaultLanes is how many lanes a clone uses when its Spec does not say.
const DefaultLanes = 4

// MaxLanes bounds the connections a clone may open: two a lane on the target
// and one on the source, beside a handful of others.
const MaxLanes = 64

// Spec says what to clone. It is a plain value; Clone does not change it.
type Spec struct {
	Source dsn.URL
	Target dsn.URL

	// SourceHosts and TargetHosts are the hosts that the URLs may lead to. Nil is any.
	SourceHosts, TargetHosts *dsn.Hosts

	// Schemas are the chosen schemas; none means the whole database. What the
	// chosen schemas depend on is copied too (see Report.Dependencies).
	Schemas []string

	// Clean drops what the chosen schemas of the target hold, after the source
	// was read. Asking a person first is the caller's duty: see PreviewClean.
	Clean bool

	// Confirmed is what a person agreed to drop: CleanPreview.Confirmation of what was shown. Clean drops nothing
	// else: where the target is another one by then, or holds more, the clone is refused.
	Confirmed *report.Confirmation

	// EndBlockers ends sessions that hold locks on what clean drops. Without it clean waits for them.
	EndBlockers bool

	// Lanes is how many tables are copied at a time; 0 means DefaultLanes.
	Lanes int

	// Job identifies this clone on both servers, in application_name and in
	// the target's _calco.job. Letters, digits and dashes, at most 36 of them.
	// Empty means a random one.
	Job string

	// Term is the number of the job's owner; 0 means 1. Every write on the
	// target checks that it is still the newest.
	Term int64

	// Resume goes on with what this job has left on the target, and begins anew
	// where it has left nothing. With no Job it goes on with whatever interrupted
	// job has left its marks there, if that was from the same source and schemas,
	// and takes over its id with a higher term.
	Resume bool

	// Touched: an earlier run of this job may have begun to change the target. Should its
	// marks be gone, then what the target holds is nobody's to drop.
	Touched bool

	// PartSize is how many bytes of a table, on the source's disk, go to the target
	// at a time; 0 means DefaultPartSize. It is what is lost when a connection is.
	PartSize int64

	// Verify says how much of what rows hold is compared at the end; "" means VerifySample. Their number always is.
	Verify report.Verify

	adopt bool // the job is that of the marks on the target, if there are any
}

// DefaultPartSize is about what a lane carries in a second or two.
const DefaultPartSize = 64 << 20

// MinPartSize keeps the cost of a part below that of its rows.
const MinPartSize = 64 << 10

var jobPattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,36}$`)

// Check reports what is wrong with the spec itself, before anybody connects anywhere.
func (s Spec) Check() error {
	if _, err := s.normalize(); err != nil {
		return err
	}
	if err := s.Source.Check(); err != nil {
		return fmt.Errorf("the URL of the source cannot be used: %w", err)
	}
	if err := s.Target.Check(); err != nil {
		return fmt.Errorf("the URL of the target cannot be used: %w", err)
	}
	return nil
}

// normalize fills in defaults and reports what cannot be meant.
func (s Spec) normalize() (Spec, error) {
	if s.Lanes == 0 {
		s.Lanes = DefaultLanes
	}
	if s.Lanes < 1 || s.Lanes > MaxLanes {
		return s, fmt.Errorf("%d lanes: choose 1 to %d", s.Lanes, MaxLanes)
	}
	if s.PartSize == 0 {
		s.PartSize = DefaultPartSize
	}
	if s.PartSize < MinPartSize {
		return s, fmt.Errorf("parts of %d bytes: choose at least %d", s.PartSize, MinPartSize)
	}
	if s.Verify == "" {
		s.Verify = report.VerifySample
	}
	if s.Verify != report.VerifySample && s.Verify != report.VerifyContents {
		return s, fmt.Errorf("verify %q: choose %s or %s", s.Verify, report.VerifySample, report.VerifyContents)
	}
	s.adopt = s.Resume && s.Job == ""
	if s.Job == "" {
		s.Job = NewJob()
	}
	if !jobPattern.MatchString(s.Job) {
		return s, fmt.Errorf("job %q: use at most 36 letters, digits and dashes", s.Job)
	}
	if s.Term == 0 {
		s.Term = 1
	}
	for _, name := range s.Schemas {
		if name == "" || strings.ContainsRune(name, 0) {
			return s, fmt.Errorf("schema %q is no schema name", name)
		}
		if schema.IsSystemSchema(name) {
			return s, fmt.Errorf("schema %q belongs to PostgreSQL itself or to Calco and cannot be cloned", name)
		}
	}
	return s, nil
}

// whole says that the whole database is cloned, with what belongs to no schema.
func (s Spec) whole() bool { return len(s.Schemas) == 0 }

// source and target are how the two sides are reached by a run of a job.
func (s Spec) source(job marks.Job) session.Way {
	return session.Way{Side: report.Source, URL: s.Source, Hosts: s.SourceHosts, Name: job.ApplicationName()}
}

func (s Spec) target(job marks.Job) session.Way {
	return session.Way{Side: report.Target, URL: s.Target, Hosts: s.TargetHosts, Name: job.ApplicationName()}
}

// scope is what is wanted of a target.
func (s Spec) scope(target *session.Server) clean.Scope {
	return clean.Scope{Target: target, Schemas: s.Schemas, Clean: s.Clean, Confirmed: s.Confirmed, Touched: s.Touched}
}

// NewJob returns a random id for Spec.Job.
func NewJob() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}
