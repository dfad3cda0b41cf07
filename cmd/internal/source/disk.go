package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
)

// disk is how files become durable and go. Tests let each of its steps fail.
type disk struct {
	create  func(path string, data []byte, perm fs.FileMode) error // never overwrites: fs.ErrExist
	write   func(path string, data []byte, perm fs.FileMode) error // replaces
	destroy func(path string) error                                // overwrites and removes; a missing file is gone already
}

func realDisk() *disk { return &disk{atomicfile.Create, atomicfile.Write, destroy} }

// destroy overwrites a file and removes it. On a disk that writes elsewhere
// than it read (flash, copy on write) the old blocks may survive until they
// are used again: what such a file opened has to be worthless by then, as an
// old beat key is once devices have seen the next.
func destroy(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.Write(make([]byte, info.Size())); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// A crash before this line leaves a file of zeros, which is destroyed again.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockFile takes the lock of a directory, or says that another process has it.
// The lock goes with the process, however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, ErrRunning
		}
		return nil, err
	}
	return f, nil
}

// locked reports whether a process holds the lock, without touching it.
func locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, err
	}
	return l.Type != unix.F_UNLCK, nil
}

// readSmall reads a file that people hand over.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, path, maxFile)
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read it: such a key is in strange hands already", path)
	}
	return readAtMost(f, path, maxFile)
}

func readAtMost(f *os.File, path string, n int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, n+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > n {
		return nil, fmt.Errorf("%s has more than %d bytes", path, n)
	}
	return data, nil
}
