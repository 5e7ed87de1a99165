package report

// CleanPreview is what clean would drop.
type CleanPreview struct {
	Database     string   `json:"database"` // its name, to be typed by who confirms
	Objects      int      `json:"objects"`
	Tables       int      `json:"tables"`
	Rows         int64    `json:"rows"` // by the target's own estimate
	Bytes        int64    `json:"bytes"`
	LargeObjects int      `json:"large_objects"`
	Names        []string `json:"names"` // of the first of the objects

	// Confirmation is for Spec.Confirmed, once a person has agreed to what is shown here.
	Confirmation Confirmation `json:"confirmation"`
}

// Inspection is what a connection leads to, for people who are about to choose it.
type Inspection struct {
	Endpoint
	Provider string       `json:"provider,omitempty"` // who runs the server, where it shows
	Size     int64        `json:"size"`               // of the database, in bytes
	Schemas  []SchemaInfo `json:"schemas"`
	Identity Identity     `json:"-"`

	// What a clone of the whole database from here, or into here without clean, would be
	// refused for.
	AsSource []Reason `json:"as_source"`
	AsTarget []Reason `json:"as_target"`
}

// SchemaInfo is one schema that can be chosen.
type SchemaInfo struct {
	Name   string `json:"name"`
	Tables int    `json:"tables"` // with rows of their own: partitions count, the tables that they are parts of do not
	Bytes  int64  `json:"bytes"`  // of its tables and materialized views, with their indexes
}

// Preflight is what stands in the way of a clone, before it is started.
type Preflight struct {
	Source   Endpoint `json:"source"`
	Target   Endpoint `json:"target"`
	Schemas  []string `json:"schemas,omitempty"` // none: the whole database
	Reasons  []Reason `json:"reasons"`           // for which the clone would be refused; none: nothing is in the way
	Warnings []Text   `json:"warnings"`          // what cannot be told by reading, and what is worth knowing
}
