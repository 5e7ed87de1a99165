package report

import (
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

// Confirmation is what a person agreed to drop from one database: that database, and a set of objects, each by its kind,
// name and OID. It knows no rows. The zero value confirms nothing. As JSON it takes some 22 bytes an object, and as many for
// twenty large objects.
type Confirmation struct {
	Target Identity

	objects []ObjectSum // sorted
	large   []LargeRun  // by OID
}

// Confirm makes the confirmation that these objects of a target may be dropped, and those large objects.
func Confirm(target Identity, objects []ObjectSum, large []LargeRun) Confirmation {
	objects = slices.SortedFunc(slices.Values(objects), compareSums)
	return Confirmation{Target: target, objects: objects, large: large}
}

// LargeRuns are the large objects that were confirmed.
func (c Confirmation) LargeRuns() []LargeRun { return c.large }

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

// Has tells whether an object was confirmed.
func (c Confirmation) Has(sum ObjectSum) bool {
	_, found := slices.BinarySearchFunc(c.objects, sum, compareSums)
	return found
}

// UnknownLarge counts large objects that were not confirmed. They are dropped in order, a run at a time, so that what is
// left after a part of it still begins with a run; where somebody else has dropped some, they count as unknown.
func (c Confirmation) UnknownLarge(now []LargeRun) int {
	n := 0
	for _, run := range now {
		if !slices.Contains(c.large, run) {
			n += int(run.Count)
		}
	}
	return n
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
	packed := make([]byte, 0, len(c.objects)*len(ObjectSum{}))
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
	if err = cmp.Or(err, largeErr); err != nil || len(objects)%len(ObjectSum{}) != 0 || len(large)%run != 0 {
		return errors.Join(errors.New("a confirmation that cannot be read"), err)
	}
	*c = Confirmation{Target: in.Target}
	for sum := range slices.Chunk(objects, len(ObjectSum{})) {
		c.objects = append(c.objects, ObjectSum(sum))
	}
	for packed := range slices.Chunk(large, run) {
		number := func(i int) uint32 { return binary.BigEndian.Uint32(packed[4*i:]) }
		c.large = append(c.large, LargeRun{number(0), number(1), number(2), [16]byte(packed[12:])})
	}
	if !slices.IsSortedFunc(c.objects, compareSums) {
		return errors.New("a confirmation out of order")
	}
	return nil
}
