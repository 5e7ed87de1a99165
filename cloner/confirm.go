package cloner

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Identity tells one database from every other. Forks of one server share System and Database, so the address counts too.
type Identity struct {
	System   string `json:"system"`   // pg_control_system().system_identifier
	Database int64  `json:"database"` // its OID
	Address  string `json:"address"`  // host:port/database, as the URL leads there
}

// Confirmation is what a person agreed to drop from one database: that database, and a set of objects, each by its kind,
// name and OID. It knows no rows. The zero value confirms nothing. As JSON it takes some 22 bytes an object, and as many for
// twenty large objects.
type Confirmation struct {
	Target Identity

	objects []objectSum // sorted
	large   []largeRun  // by OID
}

// objectSum stands for one object. It is half of a SHA-256, which nobody can meet with another object.
type objectSum [16]byte

// largeRun stands for consecutive large objects, at most largeRunSize of them.
type largeRun struct {
	First, Last uint32 // OIDs, both included
	Count       uint32
	Sum         [16]byte // of all their OIDs
}

const largeRunSize = 500

// newConfirmation confirms that these objects of a target may be dropped, and those large objects.
func newConfirmation(target Identity, c contents) Confirmation {
	confirmed := Confirmation{Target: target, large: c.large}
	for _, o := range c.objects {
		if !o.Stays {
			confirmed.objects = append(confirmed.objects, o.sum())
		}
	}
	slices.SortFunc(confirmed.objects, compareSums)
	return confirmed
}

func compareSums(a, b objectSum) int { return bytes.Compare(a[:], b[:]) }

// sum is the identity of an object: one that was dropped and made again is another, and so is a setting with another value.
func (o targetObject) sum() objectSum {
	all := fmt.Appendf(nil, "%s\x00%s\x00%d", o.Type, o.Identity, o.OID)
	if o.Value != "" {
		all = fmt.Appendf(all, "\x00%s", o.Value)
	}
	whole := sha256.Sum256(all)
	return objectSum(whole[:16])
}

// Digest is the same for the same confirmation, and for no other. A form carries it.
func (c Confirmation) Digest() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %d %q %d\n", c.Target.System, c.Target.Database, c.Target.Address, len(c.objects))
	for _, o := range c.objects {
		sum.Write(o[:])
	}
	sum.Write(c.packedLarge())
	return hex.EncodeToString(sum.Sum(nil))
}

// Objects is how many objects were confirmed, large objects included.
func (c Confirmation) Objects() int { return len(c.objects) + c.largeObjects() }

func (c Confirmation) largeObjects() int {
	n := 0
	for _, run := range c.large {
		n += int(run.Count)
	}
	return n
}

// has tells whether an object was confirmed.
func (c Confirmation) has(o targetObject) bool {
	_, found := slices.BinarySearchFunc(c.objects, o.sum(), compareSums)
	return found
}

// unknownLarge counts large objects that were not confirmed. They are dropped in order, a run at a time, so that what is
// left after a part of it still begins with a run; where somebody else has dropped some, they count as unknown.
func (c Confirmation) unknownLarge(now []largeRun) int {
	n := 0
	for _, run := range now {
		if !slices.Contains(c.large, run) {
			n += int(run.Count)
		}
	}
	return n
}

// otherwise tells in what a database is not the one that was confirmed.
func otherwise(now, confirmed Identity) string {
	switch {
	case now.Address != confirmed.Address:
		return "that was " + confirmed.Address
	case now.System != confirmed.System:
		return "another server answers there now"
	}
	return "it was dropped and made again"
}

// confirmationVersion is of the JSON. One of another version is not read: it has to be asked for again.
const confirmationVersion = 1

type confirmationJSON struct {
	Version int      `json:"version"`
	Target  Identity `json:"target"`
	Objects string   `json:"objects"`                 // their sums one after the other, in base64
	Large   string   `json:"large_objects,omitempty"` // as packedLarge, in base64
}

// MarshalJSON writes what UnmarshalJSON reads.
func (c Confirmation) MarshalJSON() ([]byte, error) {
	packed := make([]byte, 0, len(c.objects)*len(objectSum{}))
	for _, o := range c.objects {
		packed = append(packed, o[:]...)
	}
	return json.Marshal(confirmationJSON{
		confirmationVersion, c.Target, base64.StdEncoding.EncodeToString(packed), base64.StdEncoding.EncodeToString(c.packedLarge()),
	})
}

// packedLarge is the runs of large objects as bytes.
func (c Confirmation) packedLarge() []byte {
	var packed []byte
	for _, run := range c.large {
		for _, n := range []uint32{run.First, run.Last, run.Count} {
			packed = binary.BigEndian.AppendUint32(packed, n)
		}
		packed = append(packed, run.Sum[:]...)
	}
	return packed
}

// UnmarshalJSON reads what MarshalJSON has written.
func (c *Confirmation) UnmarshalJSON(text []byte) error {
	var in confirmationJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return fmt.Errorf("read a confirmation: %w", err)
	}
	if in.Version != confirmationVersion {
		return fmt.Errorf("a confirmation of version %d, not %d", in.Version, confirmationVersion)
	}
	objects, err := base64.StdEncoding.DecodeString(in.Objects)
	large, largeErr := base64.StdEncoding.DecodeString(in.Large)
	const run = 3*4 + 16
	if err = cmp.Or(err, largeErr); err != nil || len(objects)%len(objectSum{}) != 0 || len(large)%run != 0 {
		return errors.Join(errors.New("a confirmation that cannot be read"), err)
	}
	*c = Confirmation{Target: in.Target}
	for sum := range slices.Chunk(objects, len(objectSum{})) {
		c.objects = append(c.objects, objectSum(sum))
	}
	for packed := range slices.Chunk(large, run) {
		number := func(i int) uint32 { return binary.BigEndian.Uint32(packed[4*i:]) }
		c.large = append(c.large, largeRun{number(0), number(1), number(2), [16]byte(packed[12:])})
	}
	if !slices.IsSortedFunc(c.objects, compareSums) {
		return errors.New("a confirmation out of order")
	}
	return nil
}
