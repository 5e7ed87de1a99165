package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// decoder reads the values an archive is made of. Its first error stays: from
// then on every method returns a zero value and reads nothing.
type decoder struct {
	r       *bufio.Reader
	intSize int // bytes of an integer, without its sign
	offSize int // bytes of a file offset
	buf     []byte
	err     error
}

// fail keeps err, unless there was one before or it is nil. The input may not end
// inside an archive, so io.EOF becomes io.ErrUnexpectedEOF.
func (d *decoder) fail(err error) {
	if d.err != nil {
		return
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
}

// setSizes sets how integers and offsets are stored: what sizeof was on the
// machine of pg_dump.
func (d *decoder) setSizes(intSize, offSize int) {
	const limit = 8
	if intSize < 1 || intSize > limit || offSize < 1 || offSize > limit {
		d.fail(fmt.Errorf("integers of %d and offsets of %d bytes", intSize, offSize))
		return
	}
	d.intSize, d.offSize = intSize, offSize
}

// bytes reads n bytes, which are good until the next read. Memory grows as the
// bytes arrive, so a length without bytes behind it costs nothing.
func (d *decoder) bytes(n int) []byte {
	const step = 64 << 10
	d.buf = d.buf[:0]
	for d.err == nil && len(d.buf) < n {
		have := len(d.buf)
		want := min(n, have+step)
		d.buf = slices.Grow(d.buf, want-have)[:want]
		if _, err := io.ReadFull(d.r, d.buf[have:]); err != nil {
			d.fail(err)
		}
	}
	if d.err != nil {
		return nil
	}
	return d.buf
}

func (d *decoder) skip(n int) { d.bytes(n) }

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// int reads a sign byte and intSize bytes, the lowest first. pg_dump's own type
// is a C int, so a larger value is corrupt.
func (d *decoder) int() int {
	negative := d.byte() != 0
	var v uint64
	for i, b := range d.bytes(d.intSize) {
		v |= uint64(b) << (8 * i)
	}
	if v > math.MaxInt32 {
		d.fail(fmt.Errorf("integer %d out of range", v))
		return 0
	}
	if negative {
		return -int(v)
	}
	return int(v)
}

// nullable reads a string and reports whether there is one: the length of NULL
// is negative.
func (d *decoder) nullable() (string, bool) {
	n := d.int()
	if n < 0 {
		return "", false
	}
	s := string(d.bytes(n))
	return s, d.err == nil
}

func (d *decoder) str() string {
	s, _ := d.nullable()
	return s
}

// oid reads an OID, which archives hold as decimal text.
func (d *decoder) oid() uint32 {
	s := d.str()
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		d.fail(fmt.Errorf("parse OID: %w", err))
	}
	return uint32(v)
}

// ids reads entry IDs, each as decimal text, up to a NULL.
func (d *decoder) ids() []int {
	var ids []int
	for {
		s, ok := d.nullable()
		if !ok {
			return ids
		}
		id, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			d.fail(fmt.Errorf("parse dependency: %w", err))
			return nil
		}
		ids = append(ids, int(id))
	}
}

// skipOffset skips where in the file the rows of an entry are. Its flag is
// checked because a wrong one means that the fields before it were misread.
func (d *decoder) skipOffset() {
	const notSet, noData = 1, 3 // K_OFFSET_… in pg_backup_archiver.h
	if flag := d.byte(); flag < notSet || flag > noData {
		d.fail(fmt.Errorf("data offset flag %d", flag))
	}
	d.skip(d.offSize)
}
