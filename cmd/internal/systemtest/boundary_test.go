package systemtest

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/ledger"
	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/modexp"
)

// recorder keeps a copy of every byte string that crosses a PKCS#11 boundary.
type recorder struct {
	mu    sync.Mutex
	known [][]byte
}

func (r *recorder) trace(_ string, in, out [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range slices.Concat(in, out) {
		r.known = append(r.known, bytes.Clone(b))
	}
}

// take returns the recording so far and begins a new one.
func (r *recorder) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.known
	r.known = nil
	return k
}

// subShare finds a sub-share of a device among byte strings: the one whose
// published value it gives. Nil if it is not there bare; see sees for the rest.
func subShare(t testing.TB, k *ledger.Key, index uint64, subset threshold.Subset, known [][]byte) []byte {
	t.Helper()
	mod, err := modexp.New(k.Public.N)
	if err != nil {
		t.Fatal(err)
	}
	v, err := k.Commitment.Lookup(subset, index)
	if err != nil {
		t.Fatal(err)
	}
	n := len(k.Public.N)
	for _, b := range known {
		d := bytes.TrimLeft(b, "\x00")
		if len(d) < n-16 || len(d) > n {
			continue
		}
		padded := append(make([]byte, n-len(d)), d...)
		if got, err := mod.Exp(k.Commitment.G, padded); err == nil && bytes.Equal(got, v) {
			return padded
		}
	}
	return nil
}

// sees reports whether any of the byte strings holds a part of a secret number:
// bare, padded, in PKCS#8 or any other frame, in either byte order. Sixteen
// bytes from either end or from the middle are no accident.
func sees(secret []byte, known [][]byte) bool {
	d := bytes.TrimLeft(secret, "\x00")
	for _, part := range [][]byte{d[:16], d[len(d)/2 : len(d)/2+16], d[len(d)-16:]} {
		rev := slices.Clone(part)
		slices.Reverse(rev)
		for _, k := range known {
			if bytes.Contains(k, part) || bytes.Contains(k, rev) {
				return true
			}
		}
	}
	return false
}

// TestBoundaryOfWholeTask records what crosses the PKCS#11 boundary of a device
// from its first day on. The share is seen once, when it is installed at the
// ceremony. While the device is unlocked, signs, is checked and locked, no byte
// string that crosses is the share or holds a part of it. (What combinations of
// them and the officers' key open is tried in package share.)
func TestBoundaryOfWholeTask(t *testing.T) {
	token, host := &recorder{}, &recorder{}
	s := New(t, Only(Certs), Tapped("d2", token.trace), Tapped("d4", host.trace))
	key := s.Key(Certs)
	x := order(2, 4, 5)
	subset, err := threshold.SubsetOf(x...)
	s.check(err)
	installed := map[string][][]byte{"d2": token.take(), "d4": host.take()}
	secret2 := subShare(t, key, 2, subset, installed["d2"])
	secret4 := subShare(t, key, 4, subset, installed["d4"])
	if secret2 == nil || secret4 == nil {
		t.Fatal("the shares were not seen at their installation: the recorder misses something")
	}

	s.Lock("d2")
	s.Unlock("d2")
	r := s.Certificate(newCSR(t, t.TempDir(), "www.example.org"))
	partials, err := s.Partials(r, x...)
	s.check(err)
	_, err = s.Combine(r, partials)
	s.check(err)
	s.Lock("d2")

	known := token.take()
	em := encoded(t, s, r)
	if !slices.ContainsFunc(known, func(b []byte) bool { return bytes.Equal(b, em) }) {
		t.Error("the encoded message was not recorded: the recorder misses something")
	}
	if sees(secret2, known) {
		t.Error("the share crosses the boundary of d2, which uses it in the token")
	}
	if !sees(secret4, host.take()) {
		t.Error("d4 uses its share in the host, and it was not seen: the recorder misses something")
	}
}
