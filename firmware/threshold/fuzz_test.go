package threshold_test

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/firmware/envelope"
	"github.com/privyseal/privyseal/firmware/threshold"
)

// seedCBOR adds the encoding of v, and pieces of it, to the corpus.
func seedCBOR(f *testing.F, values ...any) {
	f.Helper()
	for _, v := range values {
		data, err := envelope.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte{})
	f.Add([]byte{0xa0})
}

// roundTrip decodes, and if that succeeds requires that the value encodes to the
// same bytes: no two encodings mean the same.
func roundTrip(t *testing.T, data []byte, v any) bool {
	if envelope.Unmarshal(data, v) != nil {
		return false
	}
	back, err := envelope.Marshal(v)
	if err != nil {
		t.Fatalf("decoded and does not encode: %v", err)
	}
	if !bytes.Equal(back, data) {
		t.Fatalf("%x was decoded and encodes as %x", data, back)
	}
	return true
}

func FuzzShare(f *testing.F) {
	s := deal(f, 2048, threshold.Multiplicative, 2, 3)
	seedCBOR(f, s.shares[0], s.shares[2], threshold.Share{Index: 1, Subs: []threshold.SubShare{{Subset: 3, Value: threshold.NewSecret([]byte{1})}}})
	f.Fuzz(func(t *testing.T, data []byte) {
		var share threshold.Share
		if !roundTrip(t, data, &share) {
			return
		}
		if s.com.CheckShare(s.pub, s.split, &share) == nil && !share.Subs[0].Value.Equal(s.shares[share.Index-1].Subs[0].Value) {
			t.Fatal("a share that nobody dealt passes")
		}
		share.Wipe()
	})
}

func FuzzCommitment(f *testing.F) {
	s := deal(f, 2048, threshold.Additive, 1, 2)
	seedCBOR(f, s.com, threshold.Commitment{G: []byte{4}})
	f.Fuzz(func(t *testing.T, data []byte) {
		var c threshold.Commitment
		if !roundTrip(t, data, &c) {
			return
		}
		if c.Validate(s.pub, s.split) == nil {
			c.CheckDealing(s.pub, s.split)
		}
	})
}

// FuzzPartialSignature feeds decoded partial signatures to everything that takes
// one from the network.
func FuzzPartialSignature(f *testing.F) {
	s := deal(f, 2048, threshold.Multiplicative, 2, 2)
	digest, em := message(f, threshold.RS256, "document", 2048)
	b := s.binding(0b11)
	b.Position = 1
	honest := s.partial(b, 1, em, true)
	bare := honest
	bare.Proof = nil
	seedCBOR(f, honest, bare, threshold.PartialSignature{Index: 1, Subset: 3})
	right := new(big.Int).SetBytes(honest.Value)
	f.Fuzz(func(t *testing.T, data []byte) {
		var p threshold.PartialSignature
		if !roundTrip(t, data, &p) {
			return
		}
		threshold.CombineAdditiveVarTime(s.pub, threshold.RS256, digest, []threshold.PartialSignature{p})
		threshold.FinishSequentialVarTime(s.pub, threshold.RS256, digest, p.Value)
		threshold.VerifyPartials(s.pub, s.com, b, em, []threshold.PartialSignature{p})
		x, err := threshold.VerifySequence(s.pub, s.com, b, em, []threshold.PartialSignature{p})
		if err == nil && p.Index == 1 && new(big.Int).SetBytes(x).Cmp(right) != 0 {
			t.Fatal("a wrong partial signature has a valid proof")
		}
	})
}

// FuzzOpening feeds decoded messages of the commit-and-open check to both sides.
func FuzzOpening(f *testing.F) {
	s := deal(f, 2048, threshold.Additive, 1, 1)
	_, em := message(f, threshold.RS256, "document", 2048)
	b := s.binding(1)
	b.Share = shareID(1)
	y := s.partial(b, 1, em, false).Value
	ch, opening, err := threshold.NewChallenge(bytes.NewReader(bytes.Repeat([]byte{5}, 1000)), s.pub, s.com, em)
	if err != nil {
		f.Fatal(err)
	}
	e := inToken(f, s, 1, 1)
	seedCBOR(f, ch, opening, threshold.Answer{Z: em, Nonce: make([]byte, 32)})
	f.Fuzz(func(t *testing.T, data []byte) {
		var c threshold.Challenge
		if roundTrip(t, data, &c) {
			threshold.CommitAnswer(bytes.NewReader(make([]byte, 32)), s.pub, b, 1, &c, e)
		}
		var o threshold.Opening
		if roundTrip(t, data, &o) {
			commitment, held, err := threshold.CommitAnswer(bytes.NewReader(make([]byte, 32)), s.pub, b, 1, ch, e)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := held.Release(s.com, em, &o)
			if (err == nil) != (bytes.Equal(o.HalfA, opening.HalfA) && bytes.Equal(o.B, opening.B)) {
				t.Fatalf("release: %v", err)
			}
			if err == nil && threshold.VerifyAnswer(s.pub, s.com, b, 1, em, y, ch, &o, commitment, answer) != nil {
				t.Fatal("honest answer refused")
			}
		}
		var a threshold.Answer
		if roundTrip(t, data, &a) && threshold.VerifyAnswer(s.pub, s.com, b, 1, em, y, ch, opening, make([]byte, 32), &a) == nil {
			t.Fatal("an answer fits a commitment of zeros")
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	seedCBOR(f, testKey(2048, true).Public(), threshold.PublicKey{N: []byte{1}, E: 65537})
	f.Fuzz(func(t *testing.T, data []byte) {
		var k threshold.PublicKey
		if roundTrip(t, data, &k) && k.Validate() == nil && (k.Bits() != 8*k.Len() || k.RSA().Size() != k.Len()) {
			t.Fatal("a key of odd length passes")
		}
	})
}
