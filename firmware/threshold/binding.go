package threshold

import (
	"fmt"

	"github.com/privyseal/privyseal/firmware/threshold/tuplehash"
)

// Binding says what a proof is about. All of it goes into the challenge, so
// that a proof cannot be used for another system, key, epoch, share, request,
// subset or position (CVE-2022-47930 was the lack of such a binding).
type Binding struct {
	System   [32]byte // system id, the hash of its genesis
	Key      string   // key id
	Epoch    uint64   // epoch of the split
	Share    string   // share id
	Request  [32]byte // digest of the request
	Subset   Subset   // devices that sign together
	Position uint64   // 0 in parallel signing, 1, 2, … in a sequence
}

// Validate returns ErrSubset or ErrProof for a binding that binds nothing.
func (b Binding) Validate() error {
	switch {
	case b.Key == "" || len(b.Key) > MaxNameLen:
		return fmt.Errorf("%w: key id of %d bytes", ErrProof, len(b.Key))
	case b.Share == "" || len(b.Share) > MaxNameLen:
		return fmt.Errorf("%w: share id of %d bytes", ErrProof, len(b.Share))
	case b.Subset == 0:
		return fmt.Errorf("%w: empty", ErrSubset)
	case b.Position > uint64(b.Subset.Len()):
		return fmt.Errorf("%w: position %d in subset %v", ErrSubset, b.Position, b.Subset)
	}
	return nil
}

// transcript starts a hash over what a statement by share index is about. The
// label separates kinds of statement; every field is length-prefixed.
func (b Binding) transcript(label string, pub *PublicKey, index uint64) *tuplehash.XOF {
	t := tuplehash.New(label)
	b.bind(t, index)
	t.Add(pub.N)
	t.AddUint(pub.E)
	return t
}

func (b Binding) bind(t *tuplehash.XOF, index uint64) {
	t.Add(b.System[:])
	t.AddString(b.Key)
	t.AddUint(b.Epoch)
	t.AddString(b.Share)
	t.Add(b.Request[:])
	t.AddUint(uint64(b.Subset))
	t.AddUint(b.Position)
	t.AddUint(index)
}
