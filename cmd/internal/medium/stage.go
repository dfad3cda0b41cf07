package medium

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/privyseal/privyseal/cmd/internal/term"
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
	root, err := openRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return stage(root)
}

// openRoot opens the directory of a medium that is there.
func openRoot(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		err = term.WithHint(fmt.Errorf("no medium: %w", err), hintInvited)
	}
	return root, err
}

const hintInvited = "name the directory that \"privyseal authority invite\" wrote"

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
		{listInvited, []string{FilePlan, fileSystem, dirInvitations, dirAbandoned, dirLedger}},
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
