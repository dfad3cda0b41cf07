package medium

import (
	"fmt"
	"os"
	"path"

	"github.com/privyseal/privyseal/firmware/ledger"
)

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
