package schema

import "fmt"

// Split is how a table is divided into parts: ranges of pages, the last of which has no end, since the table may have
// grown. It stands in each mark, so that a later epoch finds the same parts.
type Split struct {
	Parts  int
	Stride int64 // pages a part
}

// maxParts bounds how many marks a table has; from there on its parts are larger.
const maxParts = 10000

// tidRangeScans is the first version, as server_version_num, that reads a range of pages without reading all.
const tidRangeScans = 140000

// splitTable divides a table for a source of that version. Only heap tables have rows that stay on their pages. The last
// part of a large one is small: its sample.
func splitTable(t *Table, version int, partSize int64) Split {
	whole := Split{Parts: 1}
	if version < tidRangeScans || !t.Heap || t.Condition != "" || len(t.Columns) == 0 || t.Pages < 2 {
		return whole
	}
	parts := min((t.Size+partSize-1)/partSize, t.Pages, maxParts)
	if sample := samplePages(t); sample > 0 {
		if stride := (t.Pages - sample) / min(parts, maxParts-1); stride > sample {
			return Split{Parts: int((t.Pages-sample)/stride) + 1, Stride: stride}
		}
	}
	if parts < 2 {
		return whole
	}
	stride := (t.Pages + parts - 1) / parts
	return Split{Parts: int((t.Pages + stride - 1) / stride), Stride: stride}
}

// Share is how much of a table of so many pages a part is.
func (s Split) Share(part int, pages int64) float64 {
	if s.Parts < 2 || pages == 0 {
		return 1 / float64(s.Parts)
	}
	return float64(min(s.Stride, max(pages-int64(part)*s.Stride, 0))) / float64(pages)
}

// Where is the condition that a row is in a part, or "" for the whole table.
// https://www.postgresql.org/docs/current/ddl-system-columns.html
func (s Split) Where(part int) string {
	if s.Parts < 2 {
		return ""
	}
	from := int64(part) * s.Stride
	if part == s.Parts-1 {
		return fmt.Sprintf(" WHERE ctid >= '(%d,0)'", from)
	}
	return fmt.Sprintf(" WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)'", from, from+s.Stride)
}
