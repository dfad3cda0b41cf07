package medium

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/privyseal/privyseal/cmd/internal/term"
	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/ledger"
)

// Names on a medium.
const (
	FilePlan    = "plan.yaml"
	FileDealing = "dealing.cbor"
	FileReserve = "reserve.cbor"
	FileRoot    = "root.pem"

	fileSystem     = "system.cbor"
	dirInvitations = "invitations"
	dirAbandoned   = "abandoned"
	dirShares      = "shares"
	listInvited    = "INVITED.sha256"
	listDealt      = "DEALT.sha256"

	extInvitation = ".invitation"
	extAbandoned  = ".dealing"
	extShare      = ".share"
)

// Invited is what a medium carries to the distributor.
type Invited struct {
	Plan        []byte            // YAML, byte for byte
	System      System            // proves itself
	Invitations map[string][]byte // by device
	// Abandoned are dealings of this authority that were given out, or may have
	// been, and never came into force: the distributor counts them.
	Abandoned []ledger.Dealing
}

// System is a system with its ledger.
type System struct {
	Bundle  []byte   `cbor:"1,keyasint"` // ledger.Bundle, encoded
	Entries [][]byte `cbor:"2,keyasint"` // ledger.SignedEntry, encoded, in order
}

// State verifies a system against its id, entry by entry.
func (s *System) State(id envelope.Hash) (ledger.State, error) {
	var b ledger.Bundle
	if err := envelope.Unmarshal(s.Bundle, &b); err != nil {
		return ledger.State{}, fmt.Errorf("genesis: %w", err)
	}
	v, err := ledger.VerifyGenesisOf(id, b)
	if err != nil {
		return ledger.State{}, err
	}
	state := ledger.New(v)
	for i, raw := range s.Entries {
		var x ledger.SignedEntry
		if err := envelope.Unmarshal(raw, &x); err != nil {
			return ledger.State{}, fmt.Errorf("ledger entry %d: %w", i+1, err)
		}
		e, err := ledger.VerifyEntry(state, x)
		if err != nil {
			return ledger.State{}, err
		}
		if state, err = ledger.ApplyVerified(state, e); err != nil {
			return ledger.State{}, err
		}
	}
	return state, nil
}

// Dealt is what it carries back.
type Dealt struct {
	Dealing ledger.Dealing
	Shares  map[string][]byte // sealed, by device
	Reserve []byte            // nil: none was made
}

var (
	// ErrEmpty: the directory is no medium.
	ErrEmpty = errors.New("nothing was written here by \"privyseal authority invite\"")
	// ErrNotDealt: the distributor has not dealt yet.
	ErrNotDealt = errors.New("the distributor has not dealt to this medium yet")
	// ErrDealt: it has.
	ErrDealt = errors.New("this medium was dealt to already, and nothing is overwritten")
)

// A HalfWrittenError is a medium on which somebody was interrupted.
type HalfWrittenError struct {
	Dir   string
	Files []string // that are there without their list
	list  string
}

func (e *HalfWrittenError) Error() string {
	return fmt.Sprintf("%s was half written: %s without %s", e.Dir, strings.Join(e.Files, ", "), e.list)
}

// Hint says what to do.
func (e *HalfWrittenError) Hint() string {
	if e.list == listDealt {
		return "nothing of it counts, and no key is left anywhere: remove these files from the medium and deal again"
	}
	return "remove these files, or take another medium, and invite again"
}

// A DamagedError is a file that is not as it was written.
type DamagedError struct{ File, Why string }

func (e *DamagedError) Error() string { return fmt.Sprintf("%s: %s", e.File, e.Why) }

// Hint says what to do.
func (*DamagedError) Hint() string {
	return "the medium is damaged or was altered: take a new one and begin again"
}

// Stage is how far a medium is.
type Stage string

// Stages.
const (
	StageEmpty   Stage = "empty"
	StageInvited Stage = "invited"
	StageDealt   Stage = "dealt"
)

// StageOf looks what is on a medium. The error is a *HalfWrittenError, or one of
// the file system.
func StageOf(dir string) (Stage, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return stage(root)
}

// stage looks at the names alone.
func stage(root *os.Root) (Stage, error) {
	there := func(names ...string) (out []string, err error) {
		for _, name := range names {
			switch _, err := root.Lstat(name); {
			case err == nil:
				out = append(out, name)
			case !errors.Is(err, fs.ErrNotExist):
				return nil, err
			}
		}
		return out, nil
	}
	lists, err := there(listInvited, listDealt)
	if err != nil {
		return "", err
	}
	for _, s := range []struct {
		list  string
		files []string
	}{
		{listInvited, []string{FilePlan, fileSystem, dirInvitations, dirAbandoned}},
		{listDealt, []string{FileDealing, FileRoot, dirShares, FileReserve}},
	} {
		files, err := there(append(s.files, partOf(s.list))...)
		if err != nil {
			return "", err
		}
		if !slices.Contains(lists, s.list) && len(files) > 0 {
			return "", &HalfWrittenError{Dir: root.Name(), Files: files, list: s.list}
		}
	}
	switch {
	case slices.Contains(lists, listDealt):
		return StageDealt, nil
	case slices.Contains(lists, listInvited):
		return StageInvited, nil
	}
	return StageEmpty, nil
}

func partOf(list string) string { return list + ".part" }

// WriteInvited makes a medium of a directory, which is made if it is not there.
func WriteInvited(dir string, x *Invited) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	system, err := envelope.Marshal(&x.System)
	if err != nil {
		return err
	}
	files := map[string][]byte{FilePlan: x.Plan, fileSystem: system}
	for device, raw := range x.Invitations {
		files[path.Join(dirInvitations, device+extInvitation)] = raw
	}
	subs := []string{dirInvitations}
	for i := range x.Abandoned {
		raw, err := envelope.Marshal(&x.Abandoned[i])
		if err != nil {
			return err
		}
		files[path.Join(dirAbandoned, fmt.Sprintf("%02d%s", i+1, extAbandoned))] = raw
	}
	if len(x.Abandoned) > 0 {
		subs = append(subs, dirAbandoned)
	}
	return write(dir, StageEmpty, subs, listInvited, files)
}

// ReadInvited reads what was carried to the distributor, whether it has dealt
// already or not.
func ReadInvited(dir string) (*Invited, error) {
	files, err := read(dir, listInvited)
	if err != nil {
		return nil, err
	}
	x := &Invited{Plan: files[FilePlan], Invitations: map[string][]byte{}}
	if x.Plan == nil || files[fileSystem] == nil {
		return nil, &DamagedError{listInvited, "names no plan or no system"}
	}
	if err := envelope.Unmarshal(files[fileSystem], &x.System); err != nil {
		return nil, &DamagedError{fileSystem, err.Error()}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if device, ok := inDir(name, dirInvitations, extInvitation); ok {
			x.Invitations[device] = files[name]
		}
		if _, ok := inDir(name, dirAbandoned, extAbandoned); ok {
			d, err := ledger.DecodeDealing(files[name])
			if err != nil {
				return nil, &DamagedError{name, err.Error()}
			}
			x.Abandoned = append(x.Abandoned, *d)
		}
	}
	return x, nil
}

// WriteDealt puts a dealing on the medium that the invitations came on.
func WriteDealt(dir string, x *Dealt) error {
	dealing, err := envelope.Marshal(&x.Dealing)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		FileDealing: dealing,
		FileRoot:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Dealing.Key.Certificate}),
	}
	if x.Reserve != nil {
		files[FileReserve] = x.Reserve
	}
	for device, raw := range x.Shares {
		files[path.Join(dirShares, device+extShare)] = raw
	}
	return write(dir, StageInvited, []string{dirShares}, listDealt, files)
}

// ReadDealt reads what was carried back.
func ReadDealt(dir string) (*Dealt, error) {
	files, err := read(dir, listDealt)
	if err != nil {
		return nil, err
	}
	d, err := ledger.DecodeDealing(files[FileDealing])
	if err != nil {
		return nil, &DamagedError{FileDealing, err.Error()}
	}
	x := &Dealt{Dealing: *d, Shares: map[string][]byte{}, Reserve: files[FileReserve]}
	for name, raw := range files {
		if device, ok := inDir(name, dirShares, extShare); ok {
			x.Shares[device] = raw
		}
	}
	return x, nil
}

// ReadReserve reads a reserve: the file, or that of the medium in a directory.
func ReadReserve(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		x, err := ReadDealt(name)
		if err != nil {
			return nil, err
		}
		if x.Reserve == nil {
			return nil, fmt.Errorf("there is no reserve on the medium %s", name)
		}
		return x.Reserve, nil
	}
	root, err := os.OpenRoot(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readFile(root, path.Base(name), maxFile)
}

// ReadAbandoned reads dealings that are to be counted: one in a file, or that of
// the medium in a directory, with those that were brought to be counted there.
func ReadAbandoned(name string) ([]ledger.Dealing, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		dealt, err := ReadDealt(name)
		if err != nil {
			return nil, err
		}
		invited, err := ReadInvited(name)
		if err != nil {
			return nil, err
		}
		return append(invited.Abandoned, dealt.Dealing), nil
	}
	root, err := os.OpenRoot(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	raw, err := readFile(root, path.Base(name), ledger.MaxEntry)
	if err != nil {
		return nil, err
	}
	d, err := ledger.DecodeDealing(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return []ledger.Dealing{*d}, nil
}

func inDir(name, dir, ext string) (string, bool) {
	base, ok := strings.CutPrefix(name, dir+"/")
	base, ok2 := strings.CutSuffix(base, ext)
	return base, ok && ok2
}

// write makes files, and their list last: a crash before it leaves a medium that
// stage calls half written. A root keeps every name inside the directory,
// whatever links are there.
func write(dir string, at Stage, subs []string, list string, files map[string][]byte) error {
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
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := create(root, name, files[name]); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(files[name]), name)
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

// read takes the files of a list, and nothing else that lies there.
func read(dir, list string) (map[string][]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	switch s, err := stage(root); {
	case err != nil && !(list == listInvited && isHalfDealt(err)):
		return nil, err
	case err == nil && s == StageEmpty:
		return nil, term.WithHint(fmt.Errorf("%s: %w", dir, ErrEmpty), "name the directory that \"privyseal authority invite\" wrote")
	case err == nil && s == StageInvited && list == listDealt:
		return nil, term.WithHint(fmt.Errorf("%s: %w", dir, ErrNotDealt), "carry it to the distributor: privyseal-distributor deal")
	}
	sums, err := readFile(root, list, maxFile)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		want, err := hex.DecodeString(sum)
		if !ok || err != nil || len(want) != sha256.Size || !fs.ValidPath(name) || files[name] != nil || len(files) == maxFiles {
			return nil, &DamagedError{list, "is no list of checksums"}
		}
		data, err := readFile(root, name, maxFile)
		if name == FileReserve && errors.Is(err, fs.ErrNotExist) {
			continue // taken to a place of its own, as it should be
		}
		if err != nil {
			return nil, &DamagedError{name, err.Error()}
		}
		if got := sha256.Sum256(data); !bytes.Equal(got[:], want) {
			return nil, &DamagedError{name, "its checksum is not that in " + list}
		}
		files[name] = data
	}
	return files, lines.Err()
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
