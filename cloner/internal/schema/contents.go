package schema

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// The sample is one byte of sampleShare, and of a database at least sampleLeast bytes. Of a table of sampledFrom bytes or
// more it is the last pages, of at most sampleMost bytes, which are a part of their own. Of the small tables it is as many
// as there is room for, the smallest first.
const (
	sampleShare = 64
	sampleLeast = 8 << 20
	sampleMost  = 8 << 20
	sampledFrom = 16 << 20
)

// samplePages is how many of the last pages of a table are its sample: 0 where that would not be its own part.
func samplePages(t *Table) int64 {
	if t.Size < sampledFrom {
		return 0
	}
	return max(1, min(t.Pages/sampleShare, t.Pages*sampleMost/t.Size)) // with its share of what is out of line
}

// sample chooses the parts whose contents are compared. Rows that the root of their tree sorts are not found again by their
// parts, so of those there is no sample.
func (p *Plan) sample(v report.Verify) {
	var all, tails int64
	for _, t := range p.Tables {
		all += t.Size
		t.hashedFrom = t.Split.Parts
		switch {
		case v == report.VerifyContents:
			t.hashedFrom = 0
		case t.ThroughRoot || t.Size < sampledFrom || t.Split.Parts < 2:
		default:
			t.hashedFrom--
			tails += int64(t.Split.Share(t.hashedFrom, t.Pages) * float64(t.Size))
		}
	}
	room := max(all/sampleShare-tails, sampleLeast)
	for _, t := range slices.Backward(p.Tables) {
		if t.hashedFrom == t.Split.Parts && !t.ThroughRoot && t.Size < sampledFrom && t.Size <= room {
			t.hashedFrom = 0
			room -= t.Size
		}
	}
}

// Hashes tells whether the contents of a part are compared.
func (t *Table) Hashes(part int) bool { return part >= t.hashedFrom }

// AddChecksums is the checksum of all rows that have one of these. A checksum is the sums of two hashes of each row: the same
// for the same rows, whatever their order and their parts.
func AddChecksums(checksums []string) (string, error) {
	var first, second big.Int
	for _, c := range checksums {
		var a, b big.Int
		if _, err := fmt.Sscan(c, &a, &b); err != nil {
			return "", fmt.Errorf("read the checksum %q of a mark: %w", c, err)
		}
		first.Add(&first, &a)
		second.Add(&second, &b)
	}
	return first.String() + " " + second.String(), nil
}

// ChecksumOf is the checksum of texts, the column t of a subquery; NULL adds nothing. The hash is of bytes, and the same in
// all versions, as that of a record is not.
const ChecksumOf = "concat_ws(' ', coalesce(sum(hashtextextended(t, 0)), 0), coalesce(sum(hashtextextended(t, 1)), 0))"

// RowText is a row as text, by which it is compared. Two databases of unlike encodings have the same text in other bytes.
func (p *Plan) RowText(columns string) string {
	text := "ROW(" + columns + ")::text"
	if p.converts {
		text = "encode(convert_to(" + text + ", 'UTF8'), 'hex')"
	}
	return text + ` COLLATE "C"`
}

// ChecksumSQL is a query for the checksum of rows; from is what comes after FROM. OFFSET 0 keeps the text from being made
// once for each hash.
func (p *Plan) ChecksumSQL(columns, from string) string {
	return fmt.Sprintf("SELECT %s FROM (SELECT %s AS t FROM %s OFFSET 0) s", ChecksumOf, p.RowText(columns), from)
}

// ContentList lists all columns of a table, by name: their order may differ on the target.
func (t *Table) ContentList() string {
	quoted := make([]string, len(t.Contents))
	for i, c := range t.Contents {
		quoted[i] = session.QuoteName(c)
	}
	return strings.Join(quoted, ", ")
}
