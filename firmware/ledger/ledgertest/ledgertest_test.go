package ledgertest

import (
	"bytes"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
)

func TestNewIsReproducible(t *testing.T) {
	a, b := New(t), New(t)
	if a.State.System() != b.State.System() || !bytes.Equal(a.Bundle.Genesis, b.Bundle.Genesis) {
		t.Fatal("two systems differ")
	}
	// What a test does to one system does not reach the next.
	a.Keys[KeyFiles].Shares[0].Wipe()
	a.Genesis.Keys[0].Public.N[0] ^= 1
	if c := New(t); c.State.System() != b.State.System() {
		t.Fatal("a system reaches into the next")
	}
}

// Shares, certificates and keys fit the genesis: tests elsewhere rely on it.
func TestSystemIsConsistent(t *testing.T) {
	s := New(t)
	for _, k := range s.State.Keys() {
		for _, share := range s.Keys[k.ID].Shares {
			if err := k.Commitment.CheckShare(&k.Public, k.Split(), &share); err != nil {
				t.Errorf("%s: %v", k.ID, err)
			}
		}
		if !k.Public.RSA().Equal(s.Keys[k.ID].Whole.Public()) {
			t.Errorf("%s: whole key is another", k.ID)
		}
	}
	for id, d := range s.Devices {
		if got, ok := s.State.DeviceOfKey(KeyID(t, d.Sign)); !ok || got.ID != id {
			t.Errorf("%s: signature key belongs to %q", id, got.ID)
		}
		if len(s.Officers(id)) != 2 || len(d.Shares) != 3 {
			t.Errorf("%s: %d officers, %d shares", id, len(s.Officers(id)), len(d.Shares))
		}
	}
}

func TestEntry(t *testing.T) {
	s := New(t)
	x := s.Entry(t, s.State, ledger.KindNotice, &ledger.Notice{Text: "power work", From: s.Now, Until: s.Now + 60}, s.Now)
	v, err := ledger.VerifyEntry(s.State, x)
	if err != nil {
		t.Fatal(err)
	}
	next, err := ledger.ApplyVerified(s.State, v)
	if err != nil || next.Height() != 1 || s.State.Height() != 0 {
		t.Fatal(err, next.Height(), s.State.Height())
	}
}
