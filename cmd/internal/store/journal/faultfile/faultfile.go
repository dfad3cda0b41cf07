// Package faultfile is a journal's file that fails when it is told to, for
// tests of what a crash leaves: "every durable write fails once persisted and
// once not".
package faultfile

import (
	"errors"
	"os"
	"sync"

	"github.com/privyseal/privyseal/cmd/internal/store/journal"
)

// ErrFault is the failure.
var ErrFault = errors.New("faultfile: this step was told to fail")

// A Kind is how a step fails.
type Kind int

const (
	Never         Kind = iota
	WriteLost          // the write fails and nothing of it is in the file
	WriteTorn          // the write fails and a part of it is in the file
	SyncLost           // the fsync fails and the disk has nothing of it
	SyncPersisted      // the fsync fails although the disk has all of it
)

// Kinds are all ways to fail.
var Kinds = []Kind{WriteLost, WriteTorn, SyncLost, SyncPersisted}

func (k Kind) String() string {
	return [...]string{"never", "write lost", "write torn", "fsync lost", "fsync persisted"}[k]
}

// Persisted reports whether the record of a failed step is in the file.
func (k Kind) Persisted() bool { return k == SyncPersisted }

// A Plan says which write fails. Writes are counted from 1, from the moment
// the plan was made, over all files that share it; opening a journal makes
// one.
type Plan struct {
	mu   sync.Mutex
	at   int
	kind Kind
	seen int
}

// NewPlan makes the at-th write fail in the way of kind.
func NewPlan(at int, kind Kind) *Plan { return &Plan{at: at, kind: kind} }

// Writes returns how many writes there were: a test that loops over them ends
// when its at was never reached.
func (p *Plan) Writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

func (p *Plan) write() Kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen++; p.seen == p.at {
		return p.kind
	}
	return Never
}

type file struct {
	*os.File
	plan    *Plan
	pending Kind // of the write before the next Sync
	off     int64
	old     []byte // what that write replaced
}

// Open opens the journal at path behind a plan.
func Open(path string, plan *Plan) (*journal.Journal, [][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return journal.OpenFile(&file{File: f, plan: plan}, info.Size())
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	f.off, f.old = off, make([]byte, len(b))
	n, _ := f.File.ReadAt(f.old, off)
	f.old = f.old[:n]
	switch f.pending = f.plan.write(); f.pending {
	case WriteLost:
		return 0, ErrFault
	case WriteTorn:
		n, err := f.File.WriteAt(b[:len(b)*2/3], off)
		return n, errors.Join(ErrFault, err)
	}
	return f.File.WriteAt(b, off)
}

func (f *file) Sync() error {
	switch f.pending {
	case SyncLost:
		_, err := f.File.WriteAt(f.old, f.off)
		return errors.Join(ErrFault, err, f.File.Truncate(f.off+int64(len(f.old))))
	case SyncPersisted:
		return ErrFault
	}
	return f.File.Sync()
}
