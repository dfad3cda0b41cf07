package medium

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/privyseal/privyseal/cmd/internal/term"
)

// A DamagedError is a file that is not as it was written.
type DamagedError struct {
	File string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s: %v", e.File, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says what to do.
func (*DamagedError) Hint() string {
	return "the medium is damaged or was altered: take a new one and begin again"
}

// file is one that is written to a medium.
type file struct {
	name string
	data []byte
}

// write makes files, one at a time, and their list last: a crash before it, and
// an error, leave a medium that stage calls half written. A root keeps every name inside the directory,
// whatever links are there.
func write(dir string, at Stage, subs []string, list string, files iter.Seq2[file, error]) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch s, err := stage(root); {
	case err != nil:
		return err
	case s == StageDealt:
		return ErrDealt
	case s == StageEmpty && at == StageInvited:
		return ErrEmpty
	case s != at:
		return term.WithHint(fmt.Errorf("%s is a medium already", dir), "nothing is overwritten: take another directory")
	}
	for _, sub := range subs {
		if err := root.Mkdir(sub, 0o700); err != nil {
			return err
		}
	}
	var sums bytes.Buffer
	for f, err := range files {
		if err != nil {
			return err
		}
		if err := create(root, f.name, f.data); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(f.data), f.name)
	}
	for _, d := range append(slices.Clone(subs), ".") {
		if err := sync(root, d); err != nil {
			return err
		}
	}
	if err := create(root, partOf(list), sums.Bytes()); err != nil {
		return err
	}
	if err := root.Rename(partOf(list), list); err != nil {
		return err
	}
	return sync(root, ".")
}

// create makes one file that was not there.
func create(root *os.Root, name string, data []byte) (err error) {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// sync makes names durable. FAT, which sticks have, knows no such thing.
func sync(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// listed is a line of a list.
type listed struct {
	sum  [sha256.Size]byte
	name string
}

// read reads a file as its list has it.
func (l listed) read(root *os.Root, list string, limit int64) ([]byte, error) {
	data, err := readFile(root, l.name, limit)
	if err != nil {
		return nil, &DamagedError{l.name, err}
	}
	if sha256.Sum256(data) != l.sum {
		return nil, &DamagedError{l.name, errors.New("its checksum is not that in " + list)}
	}
	return data, nil
}

// open opens a medium and reads one of its lists. The caller closes the root.
func open(dir, list string) (*os.Root, []listed, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	lines, err := readList(root, list)
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	return root, lines, nil
}

// readList reads a list of a medium that has it. Nothing else that lies there
// counts.
func readList(root *os.Root, list string) ([]listed, error) {
	switch s, err := stage(root); {
	case err != nil && !(list == listInvited && isHalfDealt(err)):
		return nil, err
	case err == nil && s == StageEmpty:
		return nil, term.WithHint(fmt.Errorf("%s: %w", root.Name(), ErrEmpty), hintInvited)
	case err == nil && s == StageInvited && list == listDealt:
		return nil, term.WithHint(fmt.Errorf("%s: %w", root.Name(), ErrNotDealt), "carry it to the distributor: privyseal-distributor deal")
	}
	sums, err := readFile(root, list, maxList)
	if err != nil {
		return nil, err
	}
	lines, err := parseList(list, sums)
	if err != nil {
		return nil, &DamagedError{list, err}
	}
	return lines, nil
}

// parseList reads a list. It returns the lines in the order of their names, each
// of which is known and there once.
func parseList(list string, sums []byte) ([]listed, error) {
	var out []listed
	pages := 0
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		want, err := hex.DecodeString(sum)
		if !ok || err != nil || len(want) != sha256.Size || !fs.ValidPath(name) {
			return nil, errors.New("is no list of checksums")
		}
		if !known(list, name) {
			return nil, fmt.Errorf("names %q, and no such file belongs to a medium", name)
		}
		if _, ok := inDir(name, dirLedger, extPage); ok {
			pages++
		}
		if pages > maxPages || len(out)-pages >= maxFiles {
			return nil, errors.New("names too many files")
		}
		out = append(out, listed{[sha256.Size]byte(want), name})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	for i := range out[:max(len(out), 1)-1] {
		if name := out[i].name; name == out[i+1].name {
			return nil, fmt.Errorf("names %s twice", name)
		}
	}
	return out, nil
}

// readAll reads the files of a list into memory.
func readAll(root *os.Root, list string, lines []listed) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, l := range lines {
		data, err := l.read(root, list, maxFile)
		if l.name == FileReserve && errors.Is(err, fs.ErrNotExist) {
			continue // taken to a place of its own, as it should be
		}
		if err != nil {
			return nil, err
		}
		files[l.name] = data
	}
	return files, nil
}

func isHalfDealt(err error) bool {
	var half *HalfWrittenError
	return errors.As(err, &half) && half.list == listDealt
}

// readFile reads a plain file, not a device or what a link leads to.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no plain file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}
