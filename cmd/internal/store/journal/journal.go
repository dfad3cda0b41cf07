// Package journal keeps records in one append-only file, each durable before
// Append returns. It is a device's memory of what it did and saw.
//
// A record is framed by its length, its number and two checksums. Records are
// written one at a time, so a crash can tear only the last one: Open cuts that
// off, because nobody was told that it is there. Damage anywhere else is not a
// crash but a bad disk or a hand, and Open refuses with the offset.
//
// Checksums find accidents. Against a hand the records carry hashes and
// signatures of their own.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Limits of a journal, each with its reason.
const (
	// MaxRecord is the largest record in octets: a message of the device link
	// and what is noted about it.
	MaxRecord = 8 << 20

	// MaxSize is the largest file that Open reads into memory.
	MaxSize = 1 << 30
)

// magic begins every journal: another file is not taken for an empty or a
// torn one.
const magic = "privyseal journal 1\n"

// A record's header is four 4-octet big-endian integers: the length of the
// payload, the record's number from 0, CRC-32C of these two, CRC-32C of the
// payload. The first checksum tells a length that was damaged from a record
// that was cut; the number tells a record that is missing or moved.
const headerSize = 16

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// ErrDead is returned after any failed Append. Whether that record is in
	// the file is unknown until the journal is opened again, so nothing may
	// follow it and nothing that depends on it may leave the device.
	ErrDead = errors.New("journal: a write failed, open it again to learn what is in it")
	// ErrInUse means that another process has the journal open.
	ErrInUse = errors.New("journal: in use by another process")
	// ErrTooLarge refuses a record above MaxRecord; the journal stays alive.
	ErrTooLarge = fmt.Errorf("journal: a record has at most %d octets", MaxRecord)
	// ErrNotJournal means that the file is something else.
	ErrNotJournal = errors.New("journal: the file is not a journal")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("journal: closed")
)

// A CorruptError means that the file is damaged other than by a crash. The
// remedy is a backup, or another device's copy: never a silent repair.
type CorruptError struct {
	Offset int64  // of the damaged record's first octet
	Record uint64 // its number, from 0
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal: record %d at offset %d is damaged (%s): restore the file from a copy", e.Record, e.Offset, e.Reason)
}

// A File is what a journal needs of its file. [os.File] is one; faultfile has
// one that fails on demand.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// A Journal may be used from any goroutine.
type Journal struct {
	mu   sync.Mutex
	f    File
	end  int64  // where the next record goes
	next uint64 // its number
	dead error
}

// Open opens the journal at path, or makes it, and returns its records.
func Open(path string) (*Journal, [][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	// Two writers would interleave. The lock goes with the process, so a crash
	// leaves none behind.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil, fmt.Errorf("%w: %s", ErrInUse, path)
		}
		return nil, nil, fmt.Errorf("journal: lock %s: %w", path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s", ErrNotJournal, path)
	}
	if err == nil {
		// The name itself must be durable before the first record is.
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	j, records, err := OpenFile(f, info.Size())
	if err != nil {
		return nil, nil, fmt.Errorf("%w (file %s)", err, path)
	}
	return j, records, nil
}

// OpenFile opens a journal in f, which has size octets. It takes f over, and
// closes it on an error.
func OpenFile(f File, size int64) (*Journal, [][]byte, error) {
	j := &Journal{f: f}
	records, err := j.load(size)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return j, records, nil
}

func (j *Journal) load(size int64) ([][]byte, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("journal: the file has %d octets, at most %d are read", size, int64(MaxSize))
	}
	data := make([]byte, size)
	if _, err := j.f.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && size == 0) {
		return nil, fmt.Errorf("journal: read: %w", err)
	}
	records, end, err := parse(data)
	if err != nil {
		return nil, err
	}
	j.end, j.next = end, uint64(len(records))
	if end < size {
		// A crash here leaves the torn record to the next Open.
		if err := j.f.Truncate(end); err != nil {
			return nil, fmt.Errorf("journal: cut off a torn record: %w", err)
		}
	}
	// Write the last record again, as it is. After a failed fsync the kernel
	// calls the pages clean although the disk never took them: what was just
	// read may be gone at the next power cut. Writing makes them dirty, and
	// the fsync speaks the truth about them.
	rewrite, at := []byte(magic), int64(0)
	if len(records) > 0 {
		at = end - headerSize - int64(len(records[len(records)-1]))
		rewrite = data[at:end]
	}
	if _, err := j.f.WriteAt(rewrite, at); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.end = max(end, int64(len(magic)))
	return records, nil
}

// parse returns the records in data and where the last whole one ends.
func parse(data []byte) (records [][]byte, end int64, err error) {
	if len(data) < len(magic) {
		// Made by a process that died before its first fsync: all that can be
		// there is a beginning of magic, or zeros in its place.
		if string(data) == magic[:len(data)] || allZero(data) {
			return nil, 0, nil
		}
		return nil, 0, ErrNotJournal
	}
	if string(data[:len(magic)]) != magic {
		if len(data) == len(magic) && allZero(data) {
			return nil, 0, nil
		}
		return nil, 0, ErrNotJournal
	}
	off := len(magic)
	for off < len(data) {
		n := uint64(len(records))
		size, number, ok := header(data[off:])
		switch {
		case !ok:
			return tail(data, records, off)
		case uint64(number) != n:
			return nil, 0, &CorruptError{int64(off), n, fmt.Sprintf("record %d is in its place", number)}
		case size > MaxRecord:
			return nil, 0, &CorruptError{int64(off), n, "its length is above the limit"}
		}
		begin, rest := off+headerSize, len(data)-off-headerSize
		switch {
		case size > rest:
			// The header is good, so the length is true and the record was cut:
			// nothing can follow it.
			return records, int64(off), nil
		case crc32.Checksum(data[begin:begin+size], castagnoli) != payloadSum(data[off:]):
			if size == rest {
				// The last one, as long as it should be, but the disk did not
				// take all of its blocks.
				return records, int64(off), nil
			}
			return nil, 0, &CorruptError{int64(off), n, "its content does not match its checksum"}
		}
		records = append(records, data[begin:begin+size:begin+size])
		off = begin + size
	}
	return records, int64(off), nil
}

// tail judges octets at off that are no header. A crash leaves part of one
// record there, any of its blocks missing; if there is more, or a whole record
// further on, it was no crash.
func tail(data []byte, records [][]byte, off int) ([][]byte, int64, error) {
	rest := data[off:]
	damage := &CorruptError{int64(off), uint64(len(records)), "its header does not match its checksum"}
	if len(rest) > headerSize+MaxRecord {
		return nil, 0, damage
	}
	for i := 1; i+headerSize <= len(rest); i++ {
		size, _, ok := header(rest[i:])
		if !ok || size > len(rest)-i-headerSize {
			continue
		}
		if payloadSum(rest[i:]) == crc32.Checksum(rest[i+headerSize:i+headerSize+size], castagnoli) {
			return nil, 0, damage
		}
	}
	return records, int64(off), nil
}

func header(b []byte) (size int, number uint32, ok bool) {
	if len(b) < headerSize {
		return 0, 0, false
	}
	ok = crc32.Checksum(b[:8], castagnoli) == binary.BigEndian.Uint32(b[8:])
	return int(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:]), ok
}

func payloadSum(b []byte) uint32 { return binary.BigEndian.Uint32(b[12:]) }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Append adds a record. When it returns nil the record survives a power cut.
// After an error of the file the journal is dead.
func (j *Journal) Append(rec []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dead != nil {
		return j.dead
	}
	if len(rec) > MaxRecord {
		return fmt.Errorf("%w, not %d", ErrTooLarge, len(rec))
	}
	if j.end+headerSize+int64(len(rec)) > MaxSize {
		return fmt.Errorf("journal: full at %d octets", j.end)
	}
	b := make([]byte, headerSize, headerSize+len(rec))
	binary.BigEndian.PutUint32(b, uint32(len(rec)))
	binary.BigEndian.PutUint32(b[4:], uint32(j.next)) // MaxSize keeps it in range
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	binary.BigEndian.PutUint32(b[12:], crc32.Checksum(rec, castagnoli))
	// A crash from here to the end of Sync leaves nothing, a torn record or
	// the whole one. The caller was told nothing in each case.
	if _, err := j.f.WriteAt(append(b, rec...), j.end); err != nil {
		return j.die("write", err)
	}
	if err := j.f.Sync(); err != nil {
		return j.die("fsync", err)
	}
	j.end += headerSize + int64(len(rec))
	j.next++
	return nil
}

func (j *Journal) die(step string, err error) error {
	j.dead = ErrDead
	return fmt.Errorf("%w: %s: %w", ErrDead, step, err)
}

// Len returns the number of records.
func (j *Journal) Len() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// Close closes the file. What Append acknowledged is durable without it.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.dead, ErrClosed) {
		return nil
	}
	j.dead = ErrClosed
	return j.f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
