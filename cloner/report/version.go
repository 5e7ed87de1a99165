package report

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Version is that of the JSON of Report and of Progress, which both carry it. It is raised when an older version of Calco
// would misread what this one writes, and not for a field more. JSON without a version is of version 0: its texts are
// English sentences, and some fields have other names.
const Version = 1

// VersionError is that a newer version of Calco has written a Report or a Progress, so that this one does not read it.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("What this clone did was written by a newer version of Calco (in format %d, this one reads up to %d). Update Calco to see it.", e.Version, Version)
}

// MarshalJSON adds the version.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report // has no methods
	return marshal(struct {
		Version int `json:"version"`
		plain
	}{Version, plain(r)})
}

// UnmarshalJSON reads this version and older ones. Its error for a newer one is a VersionError.
func (r *Report) UnmarshalJSON(text []byte) error {
	type plain Report
	version, err := readVersion(text)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, (*plain)(r)); err != nil || version > 0 {
		return err
	}
	var old struct {
		Pulled      []string `json:"pulled"`
		Differences []struct {
			Harmless Text `json:"harmless"`
		} `json:"differences"`
	}
	if err := json.Unmarshal(text, &old); err != nil {
		return err
	}
	r.Dependencies = old.Pulled
	for i, d := range old.Differences {
		r.Differences[i].ExpectedBecause = d.Harmless
	}
	return nil
}

// MarshalJSON adds the version.
func (p Progress) MarshalJSON() ([]byte, error) {
	type plain Progress
	return marshal(struct {
		Version int `json:"version"`
		plain
	}{Version, plain(p)})
}

// UnmarshalJSON reads this version and older ones. Its error for a newer one is a VersionError.
func (p *Progress) UnmarshalJSON(text []byte) error {
	type plain Progress
	version, err := readVersion(text)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, (*plain)(p)); err != nil || version > 0 {
		return err
	}
	var old struct {
		Trouble *Wait `json:"trouble"`
	}
	err = json.Unmarshal(text, &old)
	p.Waiting = old.Trouble
	return err
}

// marshal escapes nothing for HTML: the encoder that asks does, where it is to.
func marshal(v any) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return text.Bytes(), err
}

func readVersion(text []byte) (int, error) {
	var of struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &of); err != nil {
		return 0, err
	}
	if of.Version > Version {
		return 0, &VersionError{of.Version}
	}
	return of.Version, nil
}
