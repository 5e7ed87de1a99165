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

// LeftOpen tells whether it is a production database that is not protected, because an admin said so.
func (c Connection) LeftOpen() bool { return c.Environment == Production && !c.Protected }

// Place returns what a job keeps of the database.
func (c Connection) Place() Place {
	return Place{ConnectionID: c.ID, Name: c.Name, Environment: c.Environment, Address: c.Address, Database: c.Database}
}
