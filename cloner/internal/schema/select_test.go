package schema

import (
	"slices"
	"testing"

	"calco/cloner/archive"
)

func TestSelectEntries(t *testing.T) {
	t.Parallel()
	const none, pre, data, post = archive.SectionNone, archive.SectionPreData, archive.SectionData, archive.SectionPostData
	all := []*archive.Entry{
		{ID: 1, Desc: "ENCODING", Section: pre},
		{ID: 2, Desc: "SCHEMA", Tag: "app", Section: pre},
		{ID: 3, Desc: "SCHEMA", Tag: "other", Section: pre},
		{ID: 4, Desc: "EXTENSION", Tag: "hstore", Section: pre, Deps: []int{3}},
		{ID: 5, Desc: "TYPE", Namespace: "other", Tag: "mood", Section: pre, Deps: []int{3}},
		{ID: 6, Desc: "TABLE", Namespace: "app", Tag: "a", Section: pre, Deps: []int{2, 4, 5}},
		{ID: 7, Desc: "TABLE", Namespace: "other", Tag: "b", Section: pre, Deps: []int{3}},
		{ID: 8, Desc: "TABLE DATA", Namespace: "app", Tag: "a", Section: data, Deps: []int{6}},
		{ID: 9, Desc: "COMMENT", Tag: "SCHEMA app", Section: none, Deps: []int{2}},
		{ID: 10, Desc: "COMMENT", Tag: "SCHEMA other", Section: none, Deps: []int{3}},
		{ID: 11, Desc: "ACL", Tag: "DATABASE x", Section: none},
		{ID: 12, Desc: "TABLE", Namespace: "other", Tag: "part", Section: pre, Deps: []int{3}},
		{ID: 13, Desc: "TABLE ATTACH", Namespace: "other", Tag: "part", Section: pre, Deps: []int{6, 12}},
		{ID: 14, Desc: "INDEX", Namespace: "other", Tag: "part_i", Section: post, Deps: []int{12}},
		{ID: 15, Desc: "INDEX", Namespace: "app", Tag: "a_i", Section: post, Deps: []int{6}},
		{ID: 16, Desc: "INDEX ATTACH", Namespace: "other", Tag: "part_i", Section: post, Deps: []int{14, 15}},
		{ID: 17, Desc: "PUBLICATION", Tag: "p", Section: post},
		{ID: 18, Desc: "PUBLICATION TABLE", Namespace: "app", Tag: "p a", Section: post, Deps: []int{17, 6}},
		{ID: 19, Desc: "ACL", Namespace: "app", Tag: "TABLE a", Section: none, Deps: []int{6}},
		{ID: 20, Desc: "COMMENT", Tag: `SCHEMA "Odd ""one"`, Section: none},
		{ID: 21, Desc: "VIEW", Namespace: "other", Tag: "v", Section: pre, Deps: []int{6, 3}},
		{ID: 22, Desc: "FUNCTION", Namespace: "app", Tag: "f()", Section: pre, Deps: []int{23, 2}},
		{ID: 23, Desc: "FUNCTION", Namespace: "app", Tag: "g()", Section: pre, Deps: []int{22, 2, 999}}, // a circle, and a dangling number
	}
	whole := []int{2, 3, 4, 5, 6, 7, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}
	tests := []struct {
		name         string
		schemas      []string
		want, pulled []int
	}{
		{"everything", nil, whole, nil},
		{"one schema", []string{"app"}, []int{2, 3, 4, 5, 6, 9, 12, 13, 14, 15, 16, 19, 22, 23}, []int{3, 4, 5, 12, 13, 14, 16}},
		{"the other schema", []string{"other"}, []int{2, 3, 4, 5, 6, 7, 10, 12, 13, 14, 15, 16, 21}, []int{2, 4, 6, 15}},
		{"both", []string{"other", "app"}, []int{2, 3, 4, 5, 6, 7, 9, 10, 12, 13, 14, 15, 16, 19, 21, 22, 23}, []int{4}},
		{"a quoted name", []string{`Odd "one`}, []int{20}, nil},
		{"none of them", []string{"nothing"}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			chosen, pulled := SelectEntries(all, tt.schemas)
			var got, gotPulled []int
			for _, e := range chosen {
				got = append(got, e.ID)
				if pulled[e.ID] {
					gotPulled = append(gotPulled, e.ID)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("chosen %v, want %v", got, tt.want)
			}
			if !slices.Equal(gotPulled, tt.pulled) || len(pulled) != len(tt.pulled) {
				t.Errorf("pulled %v, want %v", gotPulled, tt.pulled)
			}
		})
	}
}
