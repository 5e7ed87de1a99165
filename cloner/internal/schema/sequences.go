package schema

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"calco/cloner/internal/session"
)

// Sequence is the state of one sequence: not part of any snapshot.
type Sequence struct {
	Name      string // quoted
	LastValue string
	IsCalled  string // t or f
}

// sequencesAPart is how many sequences one query reads.
const sequencesAPart = 100

// ReadSequences reads the state of sequences by their quoted names. One that cannot be read is left out, and failed is told
// of it.
func ReadSequences(ctx context.Context, s *session.Session, names []string, failed func(name string, err error)) ([]Sequence, error) {
	var state []Sequence
	for batch := range slices.Chunk(names, sequencesAPart) {
		read, err := readSequenceBatch(ctx, s, batch)
		if session.Classify(err).Ends() {
			return nil, err
		}
		if err == nil {
			state = append(state, read...)
			continue
		}
		for _, name := range batch { // one of them is gone or forbidden
			one, err := readSequenceBatch(ctx, s, []string{name})
			if session.Classify(err).Ends() {
				return nil, err
			}
			if err != nil {
				failed(name, err)
			}
			state = append(state, one...)
		}
	}
	return state, nil
}

func readSequenceBatch(ctx context.Context, s *session.Session, names []string) ([]Sequence, error) {
	selects := make([]string, len(names))
	for i, name := range names {
		selects[i] = fmt.Sprintf("SELECT %d AS n, last_value, is_called FROM %s", i, name)
	}
	rows, err := s.SimpleQuery(ctx, strings.Join(selects, " UNION ALL ")+" ORDER BY n")
	if err != nil {
		return nil, err
	}
	state := make([]Sequence, 0, len(rows))
	for _, row := range rows {
		i, err := strconv.Atoi(row[0])
		if err != nil || i >= len(names) {
			return nil, fmt.Errorf("read sequences: row %q", row)
		}
		state = append(state, Sequence{Name: names[i], LastValue: row[1], IsCalled: row[2]})
	}
	return state, nil
}
