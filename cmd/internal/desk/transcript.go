package desk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/cmd/internal/store/atomicfile"
	"github.com/privyseal/privyseal/firmware/ceremony"
	"github.com/privyseal/privyseal/firmware/envelope"
)

// fileTranscript is the state of a ceremony's desk. It holds no secret: the
// desk's own keys live in memory, and a desk that restarts has the
// administrator's card name new ones.
const fileTranscript = "transcript.cbor"

type state struct {
	File       envelope.Hash            `cbor:"1,keyasint"`
	Attempt    uint64                   `cbor:"2,keyasint"` // the last one used
	Open       []byte                   `cbor:"3,keyasint"`
	Identities [][]byte                 `cbor:"4,keyasint"`
	Enrolments [][]byte                 `cbor:"5,keyasint"`
	Roster     []byte                   `cbor:"6,keyasint"`
	Tests      []ceremony.TestSignature `cbor:"7,keyasint"`
	Bundle     []byte                   `cbor:"8,keyasint"` // once it is there, the system exists
}

type transcript struct {
	path  string
	state state
}

func openTranscript(dir string) (*transcript, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t := &transcript{path: filepath.Join(dir, fileTranscript)}
	data, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if err := envelope.Unmarshal(data, &t.state); err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	return t, nil
}

// save makes the state durable: the file is replaced whole or not at all.
func (t *transcript) save() error {
	data, err := envelope.Marshal(t.state)
	if err != nil {
		return err
	}
	return atomicfile.Write(t.path, data, 0o600)
}

// forget drops what belongs to an attempt, but never a finished genesis and
// what goes with it.
func (t *transcript) forget() {
	if len(t.state.Bundle) > 0 {
		return
	}
	t.state = state{File: t.state.File, Attempt: t.state.Attempt}
}
