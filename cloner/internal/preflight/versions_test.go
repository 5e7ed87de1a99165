package preflight

import (
	"reflect"
	"slices"
	"testing"

	"calco/cloner/internal/session"
	"calco/cloner/pgtools"
	"calco/cloner/report"
)

func TestStandbySnapshotsTrusted(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]bool{
		130023: false, 140024: false, 140025: true, 150019: false, 150020: true, 160015: false, 160016: true,
		170011: false, 170012: true, 180006: false, 180007: true, 190000: true, 200001: true,
	} {
		if got := StandbySnapshotsTrusted(version); got != want {
			t.Errorf("%d: got %v, want %v", version, got, want)
		}
	}
}

func TestCheckVersions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		source, target session.Facts
		want           []report.ReasonCode
		side           report.Side
	}{
		{"known", session.Facts{VersionNum: 130000}, session.Facts{VersionNum: 180000}, nil, ""},
		{"newer", session.Facts{VersionNum: 190000}, session.Facts{VersionNum: 200000}, nil, ""},
		{"old source", session.Facts{VersionNum: 120022, Version: "12.22"}, session.Facts{VersionNum: 150000}, []report.ReasonCode{report.ReasonUnknownVersion}, report.Source},
		{"old target", session.Facts{VersionNum: 150000}, session.Facts{VersionNum: 90624, Version: "9.6.24"}, []report.ReasonCode{report.ReasonUnknownVersion}, report.Target},
		{"standby", session.Facts{VersionNum: 150019, InRecovery: true}, session.Facts{VersionNum: 150000}, []report.ReasonCode{report.ReasonStandby}, report.Source},
		{"old standby", session.Facts{VersionNum: 120000, InRecovery: true}, session.Facts{VersionNum: 150000}, []report.ReasonCode{report.ReasonUnknownVersion, report.ReasonStandby}, report.Source},
		{"good standby", session.Facts{VersionNum: 150020, InRecovery: true}, session.Facts{VersionNum: 150000}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &check{Input: Input{Source: &session.Server{Facts: tt.source}, Target: &session.Server{Facts: tt.target}}}
			reasons, err := r.versions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []report.ReasonCode
			for _, reason := range reasons {
				got = append(got, reason.Code)
				if reason.Side != tt.side || reason.Text.IsZero() || reason.Hint.IsZero() {
					t.Errorf("reason %+v, want one of the %s", reason, tt.side)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestToolsReasons(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		source, target int
		version        pgtools.Version
		side           report.Side
		text, hint     string
	}{
		{"same", 15, 15, 150020, "", "", ""},
		{"newer tools", 13, 15, 180004, "", "", ""},
		{"newer source", 17, 15, 160014, report.Source, "The source runs PostgreSQL 17, but the newest pg_dump here is of version 16.14.", "Install the package postgresql-client-17 (Debian, Ubuntu) or postgresql17 (RHEL) where Calco runs."},
		{"newer target", 15, 18, 170011, report.Target, "The target runs PostgreSQL 18, but the newest pg_dump here is of version 17.11.", "Install the package postgresql-client-18 (Debian, Ubuntu) or postgresql18 (RHEL) where Calco runs."},
		{"no tools", 15, 14, 0, report.Source, "No pg_dump was found where Calco runs.", "Install the package postgresql-client-15 (Debian, Ubuntu), postgresql15 (RHEL) or libpq (Homebrew)."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var want []report.Reason
			if tt.text != "" {
				want = []report.Reason{{Code: report.ReasonClientTools, Side: tt.side, Text: report.Said(tt.text), Hint: report.Said(tt.hint)}}
			}
			if got := toolsReasons(tt.source, tt.target, tt.version); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
