package document

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/privyseal/privyseal/firmware/ledger"
)

// Errors of files.
var (
	ErrFile = fmt.Errorf("%w: file", ErrRequest)
	// ErrBlind: the key does not sign digests.
	ErrBlind = fmt.Errorf("%w: it signs no digests, of which nobody sees the document", ErrFamily)
)

func checkFile(req *Request) (*content, error) {
	if err := req.only(fieldDocument | fieldName); err != nil {
		return nil, err
	}
	if len(req.Document) > MaxFile {
		return nil, fmt.Errorf("%w: %d octets, more than %d: a longer file needs a key that signs digests", ErrFile, len(req.Document), MaxFile)
	}
	if req.Size != uint64(len(req.Document)) {
		return nil, fmt.Errorf("%w: the request says %d octets, the file has %d", ErrFile, req.Size, len(req.Document))
	}
	if err := checkFileName(req.Name); err != nil {
		return nil, err
	}
	if err := checkPrivateKey(req.Document); err != nil {
		return nil, err
	}
	if err := checkDisguise(req.Document); err != nil {
		return nil, err
	}
	r := *req
	return &content{view: func(v *View) { fileView(v, &r) }}, nil
}

func checkDigest(req *Request, key *ledger.Key) (*content, error) {
	if !key.AllowDigest {
		return nil, fmt.Errorf("%w: key %q", ErrBlind, key.ID)
	}
	if err := req.only(fieldName | fieldDigest); err != nil {
		return nil, err
	}
	if want := req.Algorithm.Hash().Size(); len(req.Digest) != want {
		return nil, fmt.Errorf("%w: a digest of %d octets, %s takes %d", ErrFile, len(req.Digest), req.Algorithm, want)
	}
	if req.Size == 0 {
		return nil, fmt.Errorf("%w: no size", ErrFile)
	}
	if err := checkFileName(req.Name); err != nil {
		return nil, err
	}
	r := *req
	return &content{digest: req.Digest, view: func(v *View) { digestView(v, &r) }}, nil
}

// checkFileName takes the last element of a path, as people write it.
func checkFileName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: it has no name", ErrFile)
	case len(name) > maxFileName || !utf8.ValidString(name):
		return fmt.Errorf("%w: its name is longer than %d octets, or not UTF-8", ErrFile, maxFileName)
	case strings.ContainsAny(name, "/\\\x00"):
		return fmt.Errorf("%w: its name %q is a path", ErrFile, Escape(name))
	}
	return nil
}
