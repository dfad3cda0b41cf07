package share_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"

	"github.com/privyseal/privyseal/firmware/share"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// hashToken stands in for a token where only the outer layer matters, and a
// real one would slow the fuzzing to nothing. It wraps to a hash and gives
// nothing back.
type hashToken struct{ share.Token }

func (hashToken) Wrap(n, d []byte) ([]byte, error) {
	if len(d) != len(n) {
		return nil, errors.New("sub-share and modulus differ in length")
	}
	h := sha256.Sum256(d)
	return h[:], nil
}

// FuzzParseStored: what parses is encoded again to the same bytes, and what
// opens is the one share that was sealed, with all its facts.
func FuzzParseStored(f *testing.F) {
	facts := share.Facts{Key: "root", Epoch: 3, ShareID: "root/2", Index: 2, Modulus: bytes.Repeat([]byte{0xfb}, 32), Version: 5}
	value := func(b byte) threshold.Secret { return threshold.NewSecret(bytes.Repeat([]byte{b}, 32)) }
	s := threshold.Share{Index: 2, Subs: []threshold.SubShare{{Subset: 0b011, Value: value(1)}, {Subset: 0b110, Value: value(2)}}}
	officers, err := share.NewOfficersKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	stored, err := share.Seal(rand.Reader, hashToken{}, officers, facts, &s)
	if err != nil {
		f.Fatal(err)
	}
	data, err := stored.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	if w, err := stored.Open(facts, officers, 0b011); err != nil || len(w) != 32 {
		f.Fatal("the seed does not open", err)
	}
	f.Add(data)
	parts := share.Facts{Key: "ca", Epoch: 1, ShareID: "ca.3", Index: 300, Modulus: bytes.Repeat([]byte{0xfb}, 32), Version: 2, Layer: share.LayerCombiner}
	if stored, err = share.SealParts(rand.Reader, mirror{}, officers, parts, []threshold.Secret{value(3), value(4)}); err != nil {
		f.Fatal(err)
	}
	if data, err = stored.Marshal(); err != nil {
		f.Fatal(err)
	}
	if p, err := stored.OpenParts(mirror{}, nil, parts, officers); err != nil || p.Len() != 2 {
		f.Fatal("the second seed does not open", err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := share.ParseStored(data)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x became %x, %v", data, again, err)
		}
		claimed := share.Facts{Key: s.Key, Epoch: s.Epoch, ShareID: s.ShareID, Index: s.Index, Modulus: s.N, Version: s.Version, Layer: s.Layer}
		for _, sub := range s.Subs {
			if claimed.Layer != 0 {
				_, err = s.OpenParts(mirror{}, nil, claimed, officers)
			} else {
				_, err = s.Open(claimed, officers, threshold.Subset(sub.Label))
			}
			if err == nil && !reflect.DeepEqual(claimed, facts) && !reflect.DeepEqual(claimed, parts) {
				t.Fatalf("opened as %+v", claimed)
			}
		}
	})
}
