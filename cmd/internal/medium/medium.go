package medium

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

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
	dirLedger      = "ledger"
	dirShares      = "shares"
	listInvited    = "INVITED.sha256"
	listDealt      = "DEALT.sha256"

	extInvitation = ".invitation"
	extAbandoned  = ".dealing"
	extPage       = ".cbor"
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

// WriteInvited makes a medium of a directory, which is made if it is not there.
// progress, which may be nil, hears how far it is.
func WriteInvited(dir string, x *Invited, progress func(string)) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	subs := []string{dirInvitations}
	if len(x.Abandoned) > 0 {
		subs = append(subs, dirAbandoned)
	}
	if x.System.Height > 0 {
		subs = append(subs, dirLedger)
	}
	return write(dir, StageEmpty, subs, listInvited, func(yield func(file, error) bool) {
		for f, err := range x.files() {
			if progress != nil {
				progress(f.name)
			}
			if !yield(f, err) {
				return
			}
		}
	})
}

// files are those of a medium, in the order in which they are written.
func (x *Invited) files() iter.Seq2[file, error] {
	return func(yield func(file, error) bool) {
		system, err := envelope.Marshal(&systemFile{x.System.Bundle, x.System.Height, x.System.Head})
		if !yield(file{FilePlan, x.Plan}, nil) || !yield(file{fileSystem, system}, err) {
			return
		}
		for i := range x.Abandoned {
			raw, err := envelope.Marshal(&x.Abandoned[i])
			if !yield(file{path.Join(dirAbandoned, fmt.Sprintf("%02d%s", i+1, extAbandoned)), raw}, err) {
				return
			}
		}
		for _, device := range slices.Sorted(maps.Keys(x.Invitations)) {
			if !yield(file{path.Join(dirInvitations, device+extInvitation), x.Invitations[device]}, nil) {
				return
			}
		}
		if x.System.pages == nil {
			return
		}
		for f, err := range x.System.pages {
			if !yield(f, err) {
				return
			}
		}
	}
}

// ReadInvited reads what was carried to the distributor, whether it has dealt
// already or not. The ledger is read by [System.State].
func ReadInvited(dir string) (*Invited, error) {
	root, lines, err := open(dir, listInvited)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var pages, others []listed
	for _, l := range lines {
		if path.Dir(l.name) == dirLedger {
			pages = append(pages, l)
		} else {
			others = append(others, l)
		}
	}
	for i, l := range pages {
		if want := pageName(i + 1); l.name != want {
			return nil, &DamagedError{listInvited, fmt.Errorf("names %s where %s is due", l.name, want)}
		}
	}
	files, err := readAll(root, listInvited, others)
	if err != nil {
		return nil, err
	}
	x := &Invited{Plan: files[FilePlan], Invitations: map[string][]byte{}}
	if x.Plan == nil || files[fileSystem] == nil {
		return nil, &DamagedError{listInvited, errors.New("names no plan or no system")}
	}
	system, err := decodeSystem(files[fileSystem])
	if err != nil {
		return nil, &DamagedError{fileSystem, err}
	}
	x.System = *system
	x.System.pages = readPages(dir, pages)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if device, ok := inDir(name, dirInvitations, extInvitation); ok {
			x.Invitations[device] = files[name]
		}
		if _, ok := inDir(name, dirAbandoned, extAbandoned); ok {
			d, err := ledger.DecodeDealing(files[name])
			if err != nil {
				return nil, &DamagedError{name, err}
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
	files := []file{
		{FileDealing, dealing},
		{FileRoot, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Dealing.Key.Certificate})},
	}
	if x.Reserve != nil {
		files = append(files, file{FileReserve, x.Reserve})
	}
	for _, device := range slices.Sorted(maps.Keys(x.Shares)) {
		files = append(files, file{path.Join(dirShares, device+extShare), x.Shares[device]})
	}
	return write(dir, StageInvited, []string{dirShares}, listDealt, func(yield func(file, error) bool) {
		for _, f := range files {
			if !yield(f, nil) {
				return
			}
		}
	})
}

// ReadDealt reads what was carried back.
func ReadDealt(dir string) (*Dealt, error) {
	root, lines, err := open(dir, listDealt)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files, err := readAll(root, listDealt, lines)
	if err != nil {
		return nil, err
	}
	d, err := ledger.DecodeDealing(files[FileDealing])
	if err != nil {
		return nil, &DamagedError{FileDealing, err}
	}
	x := &Dealt{Dealing: *d, Shares: map[string][]byte{}, Reserve: files[FileReserve]}
	for name, raw := range files {
		if device, ok := inDir(name, dirShares, extShare); ok {
			x.Shares[device] = raw
		}
	}
	return x, nil
}

// known reports whether a list may name a file. What it does not know it does
// not pass over: somebody may think that it counts.
func known(list, name string) bool {
	type dirExt struct{ dir, ext string }
	plain, dirs := []string{FilePlan, fileSystem}, []dirExt{{dirInvitations, extInvitation}, {dirAbandoned, extAbandoned}, {dirLedger, extPage}}
	if list == listDealt {
		plain, dirs = []string{FileDealing, FileRoot, FileReserve}, []dirExt{{dirShares, extShare}}
	}
	return slices.Contains(plain, name) || slices.ContainsFunc(dirs, func(d dirExt) bool {
		_, ok := inDir(name, d.dir, d.ext)
		return ok
	})
}

// inDir is the part of a name between its directory and its extension.
func inDir(name, dir, ext string) (string, bool) {
	base, ok := strings.CutPrefix(name, dir+"/")
	base, ok2 := strings.CutSuffix(base, ext)
	return base, ok && ok2 && base != "" && !strings.Contains(base, "/")
}
