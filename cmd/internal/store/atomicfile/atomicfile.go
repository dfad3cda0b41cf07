// Package atomicfile writes whole files so that after a crash at any moment a
// reader finds the old content or the new one, never a part.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces path with data, or makes it. When it returns nil the content
// survives a power cut. On an error the old file is in place, or the new one
// if only the last step (making the rename durable) failed.
func Write(path string, data []byte, perm fs.FileMode) error {
	tmp, err := temporary(path, data, perm)
	if err != nil {
		return err
	}
	// A crash before this line leaves the old file and a stray temporary one;
	// after it, the new file.
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("atomicfile: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// Create makes path with data and never overwrites: when path exists, be it a
// file, a directory or a dangling link, the error is [fs.ErrExist].
func Create(path string, data []byte, perm fs.FileMode) error {
	tmp, err := temporary(path, data, perm)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	// link(2) is the one call that names a finished file and fails if the name
	// is taken. A crash after it leaves the whole file and a second name.
	if err := os.Link(tmp, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("atomicfile: %s already exists and is not overwritten: %w", path, fs.ErrExist)
		}
		return fmt.Errorf("atomicfile: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// temporary writes and syncs data under a fresh name beside path.
func temporary(path string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", fmt.Errorf("atomicfile: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = cerr
		}
		if err != nil {
			os.Remove(f.Name())
			name, err = "", fmt.Errorf("atomicfile: %w", err)
		}
	}()
	// CreateTemp made it 0600, so nothing wider was ever readable.
	if err := f.Chmod(perm); err != nil {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return f.Name(), nil
}

// syncDir makes a new name in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("atomicfile: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("atomicfile: make the name durable: %w", err)
	}
	return nil
}
