package schema

import (
	"testing"

	"calco/cloner/report"
)

// TestSample: the sample is bounded, by table and in all.
func TestSample(t *testing.T) {
	const partSize = 64 << 20
	t.Parallel()
	const mb = 1 << 20
	var p Plan
	add := func(size, pages int64, change func(*Table)) *Table {
		x := &Table{Size: size, Pages: pages, Heap: true, Columns: []string{"a"}}
		if change != nil {
			change(x)
		}
		x.Split = splitTable(x, 150000, partSize)
		p.Tables = append(p.Tables, x)
		return x
	}
	const pages = 10000 // that do not divide evenly may come to the last part
	huge := add(1000000*mb, 128000000, nil)
	foreign := add(900*mb, 115200, func(x *Table) { x.Heap = false })
	toasted := add(800*mb, 1000, nil)
	tree := add(700*mb, 89600, func(x *Table) { x.ThroughRoot = true })
	fair := add(64*mb, 8192, nil)
	small := add(2*mb, 256, nil)
	p.sample(report.VerifySample)
	sampled := func(x *Table) int64 {
		bytes := 0.0
		for n := range x.Split.Parts {
			if x.Hashes(n) {
				bytes += x.Split.Share(n, x.Pages) * float64(x.Size)
			}
		}
		return int64(bytes)
	}
	for _, test := range []struct {
		name        string
		table       *Table
		least, most int64
	}{
		{"a huge table", huge, sampleMost, sampleMost + pages*8192},
		{"a table of an access method of its own", foreign, 0, 0},
		{"a table whose rows are out of line", toasted, sampleMost / 2, 2 * sampleMost},
		{"a tree", tree, 0, 0},
		{"a table of one part", fair, mb - 1, 2 * mb},
		{"a small table", small, 2*mb - 1, 2 * mb},
	} {
		if got := sampled(test.table); got < test.least || got > test.most {
			t.Errorf("%s: %d bytes, want %d to %d", test.name, got, test.least, test.most)
		}
	}

	p.Tables = nil
	for range 100 {
		add(15*mb, 1920, nil)
	}
	first, last := add(10*mb, 1280, nil), add(mb, 128, nil)
	p.sample(report.VerifySample)
	var all int64
	for _, x := range p.Tables {
		all += sampled(x)
	}
	if all > 1511*mb/sampleShare || sampled(first) == 0 || sampled(last) == 0 {
		t.Errorf("%d bytes of many tables, %d and %d of the smallest", all, sampled(first), sampled(last))
	}
	p.sample(report.VerifyContents)
	for _, x := range p.Tables {
		if sampled(x) < x.Size-mb {
			t.Errorf("%d of %d bytes", sampled(x), x.Size)
		}
	}
}
