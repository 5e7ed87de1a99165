package report

import "bytes"

// Identity tells one database from every other. Forks of one server share System and Database, so the address counts too.
type Identity struct {
	System   string `json:"system"`   // pg_control_system().system_identifier
	Database int64  `json:"database"` // its OID
	Address  string `json:"address"`  // host:port/database, as the URL leads there
}

// ObjectSum stands for one object. It is half of a SHA-256, which nobody can meet with another object.
type ObjectSum [16]byte

// LargeRun stands for consecutive large objects, at most largeRunSize of them.
type LargeRun struct {
	First, Last uint32 // OIDs, both included
	Count       uint32
	Sum         [16]byte // of all their OIDs
}

const LargeRunSize = 500

func compareSums(a, b ObjectSum) int { return bytes.Compare(a[:], b[:]) }
