package schema

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"calco/cloner/internal/session"
)

//go:embed sql/properties.sql
var propertiesSQL string

// Property is a setting, the comment or a grant of the database itself.
type Property struct {
	Property string
	Value    string
	Make     string // on the target
	Unmake   string
}

// ReadProperties reads what is set on the database of a session, by what sets apart one property from another. The statements
// are for a target's database of this name.
func ReadProperties(ctx context.Context, s *session.Session, database string) (map[string]Property, error) {
	all, err := session.Query[Property](ctx, s, propertiesSQL, session.QuoteName(database))
	if err != nil {
		return nil, fmt.Errorf("read properties of the %s's database: %w", s.Side, err)
	}
	byName := map[string]Property{}
	for _, p := range all {
		byName[p.Property] = p
	}
	return byName, nil
}

// ToPublic is the grant of the same privilege to everybody.
func ToPublic(grant string) string {
	privilege, _, _ := strings.Cut(grant, " TO ")
	return privilege + " TO PUBLIC"
}
