package schema

import "regexp"

var (
	slotName       = regexp.MustCompile(`( WITH \(connect = false, slot_name = )(?:'(?:[^']|'')*'|E'(?:[^'\\]|''|\\.)*')`)
	mappingOptions = regexp.MustCompile(`(?s)^(CREATE USER MAPPING FOR (?:"(?:[^"]|"")*"|\S+) SERVER (?:"(?:[^"]|"")*"|\S+)) OPTIONS \(.*\);\n$`)
)

// WithoutSlot is the definition of a subscription as pg_dump writes it of one without a slot.
func WithoutSlot(defn string) string {
	return slotName.ReplaceAllString(defn, "${1}NONE")
}

// WithoutOptions is the definition of a user mapping without its options.
func WithoutOptions(defn string) string {
	return mappingOptions.ReplaceAllString(defn, "$1;\n")
}
