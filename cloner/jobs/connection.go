package jobs

import "time"

// Environment is what a database is used for. It colours the database wherever it is shown.
type Environment string

// The environments.
const (
	Production  Environment = "production"
	Staging     Environment = "staging"
	Development Environment = "development"
	OtherUse    Environment = "other"
)

// Environments returns all of them, the most delicate first.
func Environments() []Environment {
	return []Environment{Production, Staging, Development, OtherUse}
}

// Connection is a saved database, without the URL that leads to it: that leaves the store only towards a clone.
type Connection struct {
	ID          int64
	OwnerID     int64
	Owner       string // the e-mail address
	Name        string // no other one of the owner has it
	Environment Environment
	Address     string // host:port
	Database    string
	User        string // the role that connects
	Shared      bool   // with the team; otherwise its owner alone sees it
	Protected   bool   // can never be a target
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// SeenBy tells whether somebody may look at the database and clone from or into it.
func (c Connection) SeenBy(u User) bool { return c.Shared || c.OwnerID == u.ID }

// ChangedBy tells whether somebody may change or remove it: its owner, and admins where they see it.
func (c Connection) ChangedBy(u User) bool { return c.OwnerID == u.ID || c.Shared && u.Admin() }

// Place returns what a job keeps of the database.
func (c Connection) Place() Place {
	return Place{ConnectionID: c.ID, Name: c.Name, Environment: c.Environment, Address: c.Address, Database: c.Database}
}
