package archive_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"calco/cloner/archive"
)

func TestReadEveryFormat(t *testing.T) {
	for version := 1012; version <= 1016; version++ {
		for _, intSize := range []int{2, 4, 8} {
			want := sample(version)
			got, err := archive.Read(iotest.OneByteReader(bytes.NewReader(encode(want, intSize))))
			if err != nil {
				t.Errorf("format %d, %d-byte integers: %v", version, intSize, err)
				continue
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("format %d, %d-byte integers: got %+v, want %+v", version, intSize, got, want)
			}
		}
	}
}

func TestReadStopsBeforeRows(t *testing.T) {
	data := append(encode(sample(1014), 4), "rows, which are none of Read's business"...)
	if _, err := archive.Read(bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
}

func TestReadRefuses(t *testing.T) {
	const minor, intSize, offSize, format = 6, 8, 9, 10 // places in the head
	head := func(at int, b byte) []byte {
		data := encode(sample(1014), 4)
		data[at] = b
		return data
	}
	entry := func(change func(e *archive.Entry)) []byte {
		a := sample(1014)
		change(a.Entries[3])
		return encode(a, 4)
	}
	text := func(before, after string) []byte {
		return bytes.Replace(encode(sample(1014), 4), []byte(before), []byte(after), 1)
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"plain text dump":     {[]byte("--\n-- PostgreSQL database dump\n--\n"), "read archive head: not a pg_dump archive"},
		"three bytes of else": {[]byte("abc"), "not a pg_dump archive"},
		"format of tar":       {head(format, 3), "not a pg_dump archive in custom format (pg_dump -Fc): format 3"},
		"newer format":        {head(minor, 17), "archive format 1.17 is not one of 1.12 to 1.16: use pg_dump 9.6 to 18"},
		"older format":        {head(minor, 11), "archive format 1.11 is not one"},
		"no integer size":     {head(intSize, 0), "read archive head: integers of 0 and offsets of 8 bytes"},
		"large integer size":  {head(intSize, 9), "integers of 9"},
		"large offset size":   {head(offSize, 33), "offsets of 33"},
		"negative count":      {text("\x00\x04\x00\x00\x00\x00\x01", "\x01\x04\x00\x00\x00\x00\x01"), "number of archive entries: -4 entries"},
		"large integer":       {text("\x00\x04\x00\x00\x00\x00\x01", "\x00\x04\x00\x00\x80\x00\x01"), "integer 2147483652 out of range"},
		"ID 0":                {entry(func(e *archive.Entry) { e.ID = 0 }), "read archive entry 4 of 4: entry ID 0"},
		"ID twice":            {entry(func(e *archive.Entry) { e.ID = 6 }), "read archive entry 4 of 4: second entry with ID 6"},
		"no section":          {entry(func(e *archive.Entry) { e.Section = 0 }), "section 0"},
		"unknown section":     {entry(func(e *archive.Entry) { e.Section = 5 }), "section 5"},
		"OID of letters":      {text("1259", "12x9"), `parse OID: strconv.ParseUint: parsing "12x9"`},
		"OID too large":       {text("4294967295", "4294967296"), "value out of range"},
		"dependency":          {text("4711", "47.1"), `parse dependency: strconv.ParseInt: parsing "47.1"`},
		"offset flag":         {text("\x03\x00\x00", "\x04\x00\x00"), "data offset flag 4"},
		"encoding unquoted":   {text("'LATIN1'", "_LATIN1_"), "ENCODING entry"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := archive.Read(bytes.NewReader(test.data))
			if err == nil || !strings.Contains(err.Error(), test.want) || a != nil {
				t.Errorf("got %v, %v, want an error with %q", a, err, test.want)
			}
		})
	}
}

func TestReadErrorTypes(t *testing.T) {
	newer := sample(1017)
	_, err := archive.Read(bytes.NewReader(encode(newer, 4)))
	if version, ok := errors.AsType[*archive.VersionError](err); !ok || version.Version != 1017 {
		t.Errorf("newer format: got %v, want a VersionError of 1017", err)
	}
	_, err = archive.Read(strings.NewReader("CREATE TABLE"))
	if !errors.Is(err, archive.ErrNotArchive) {
		t.Errorf("SQL text: got %v, want ErrNotArchive", err)
	}
	_, err = archive.Read(iotest.ErrReader(io.ErrClosedPipe))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("broken reader: got %v, want its own error", err)
	}
}

func TestReadCutOff(t *testing.T) {
	data := encode(sample(1016), 4)
	first := bytes.Index(data, []byte("ENCODING"))
	for n := range data {
		a, err := archive.Read(bytes.NewReader(data[:n]))
		if !errors.Is(err, io.ErrUnexpectedEOF) || a != nil {
			t.Fatalf("%d of %d bytes: got %v, %v, want io.ErrUnexpectedEOF", n, len(data), a, err)
		}
		if n >= first && !strings.Contains(err.Error(), "of 4: unexpected EOF") {
			t.Fatalf("%d of %d bytes: error does not say which entry: %v", n, len(data), err)
		}
	}
}

// Any single wrong bit gives an error or an archive that is written and read the
// same, but no panic.
func TestReadWrongBit(t *testing.T) {
	data := encode(sample(1016), 4)
	for i := range len(data) * 8 {
		wrong := bytes.Clone(data)
		wrong[i/8] ^= 1 << (i % 8)
		checkRead(t, wrong)
	}
}

// A length that is not backed by bytes must not be believed.
func TestReadAllocatesWhatArrives(t *testing.T) {
	const huge = "\x00\xff\xff\xff\x7f"
	data := encode(sample(1014), 4)
	for name, before := range map[string]string{
		"string": "\x00\x04\x00\x00\x00shop",
		"count":  "\x00\x04\x00\x00\x00\x00\x01",
	} {
		at := bytes.Index(data, []byte(before))
		lying := append(bytes.Clone(data[:at]), huge...)
		var was, is runtime.MemStats
		runtime.ReadMemStats(&was)
		_, err := archive.Read(bytes.NewReader(lying))
		runtime.ReadMemStats(&is)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %v, want io.ErrUnexpectedEOF", name, err)
		}
		if got := is.TotalAlloc - was.TotalAlloc; got > 1<<20 {
			t.Errorf("%s: %d bytes allocated for %d bytes of input", name, got, len(lying))
		}
	}
}

func FuzzRead(f *testing.F) {
	for version := 1012; version <= 1016; version++ {
		f.Add(encode(sample(version), 4))
	}
	f.Fuzz(checkRead)
}

// checkRead reads data and checks what holds for every archive: it is no larger
// than the input, and written again it reads the same.
func checkRead(t *testing.T, data []byte) {
	t.Helper()
	a, err := archive.Read(bytes.NewReader(data))
	if err != nil {
		if a != nil {
			t.Errorf("got an archive with the error %v", err)
		}
		return
	}
	size := len(a.Database) + len(a.ServerVersion) + len(a.DumpVersion)
	for _, e := range a.Entries {
		size += len(e.Tag) + len(e.Desc) + len(e.Defn) + len(e.DropStmt) + len(e.CopyStmt)
		size += len(e.Namespace) + len(e.Tablespace) + len(e.TableAM) + len(e.Owner) + len(e.Deps)
	}
	if size > len(data) {
		t.Errorf("%d bytes of text from %d bytes of archive", size, len(data))
	}
	again, err := archive.Read(bytes.NewReader(encode(a, 4)))
	if err != nil {
		t.Fatalf("read again: %v", err)
	}
	if !reflect.DeepEqual(again, a) {
		t.Errorf("read again: got %+v, want %+v", again, a)
	}
}
