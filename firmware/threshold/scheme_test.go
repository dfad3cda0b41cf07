package threshold_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

// system is a dealt key with all that its devices, and they alone, know.
type system struct {
	t      testing.TB
	whole  *threshold.WholeKey
	pub    *threshold.PublicKey
	split  threshold.Split
	shares []threshold.Share
	com    *threshold.Commitment
}

type keyKind struct {
	bits int
	safe bool
}

var (
	keysMu sync.Mutex
	keys   = map[keyKind]*threshold.WholeKey{}
)

// testKey returns a fixed key, loaded once. Nobody may wipe it.
func testKey(bits int, safe bool) *threshold.WholeKey {
	keysMu.Lock()
	defer keysMu.Unlock()
	kind := keyKind{bits, safe}
	if keys[kind] == nil {
		keys[kind] = thresholdtest.Key(bits, safe)
	}
	return keys[kind]
}

func deal(t testing.TB, bits int, scheme threshold.Scheme, T, N uint64) *system {
	t.Helper()
	k := testKey(bits, true)
	split := threshold.Split{Scheme: scheme, T: T, N: N}
	shares, com, err := threshold.Deal(rand.Reader, k, split)
	if err != nil {
		t.Fatal(err)
	}
	return &system{t, k, k.Public(), split, shares, com}
}

func (s *system) binding(subset threshold.Subset) threshold.Binding {
	return threshold.Binding{
		System: [32]byte{1}, Key: "key 7", Epoch: 3, Request: [32]byte{2}, Subset: subset,
	}
}

func shareID(index uint64) string { return fmt.Sprintf("share %d", index) }

// partial lets a device sign x; it proves its work if position is not nil.
func (s *system) partial(b threshold.Binding, index uint64, x []byte, prove bool) threshold.PartialSignature {
	s.t.Helper()
	d, ok := s.shares[index-1].Sub(b.Subset)
	if !ok {
		s.t.Fatalf("share %d has no sub-share for %v", index, b.Subset)
	}
	e, err := threshold.NewHostExponentiator(s.pub, d)
	if err != nil {
		s.t.Fatal(err)
	}
	y, err := threshold.Partial(s.pub, x, e)
	if err != nil {
		s.t.Fatal(err)
	}
	p := threshold.PartialSignature{Index: index, Share: shareID(index), Subset: b.Subset, Value: y}
	if prove {
		b.Share = p.Share
		if p.Proof, err = threshold.Prove(rand.Reader, s.pub, s.com, b, index, x, y, d); err != nil {
			s.t.Fatal(err)
		}
	}
	return p
}

// message is a digest with its encoded message.
func message(t testing.TB, alg threshold.Algorithm, text string, bits int) (digest, em []byte) {
	t.Helper()
	h := alg.Hash().New()
	h.Write([]byte(text))
	digest = h.Sum(nil)
	var salt []byte
	if alg.PSS() {
		salt = bytes.Repeat([]byte{0x5a}, alg.SaltLen())
	}
	em, err := threshold.Encode(alg, digest, salt, bits)
	if err != nil {
		t.Fatal(err)
	}
	return digest, em
}

// parallel signs with one subset and combines.
func (s *system) parallel(alg threshold.Algorithm, subset threshold.Subset, digest, em []byte) ([]byte, error) {
	var partials []threshold.PartialSignature
	for _, i := range subset.Indices() {
		partials = append(partials, s.partial(s.binding(subset), i, em, false))
	}
	return threshold.CombineAdditiveVarTime(s.pub, alg, digest, partials)
}

// sequential signs in the given order, every device checking the proofs of
// those before it if check is set.
func (s *system) sequential(alg threshold.Algorithm, order []uint64, digest, em []byte, check bool) ([]byte, error) {
	subset, err := threshold.SubsetOf(order...)
	if err != nil {
		return nil, err
	}
	b := s.binding(subset)
	var steps []threshold.PartialSignature
	x := em
	for i, index := range order {
		if check {
			if x, err = threshold.VerifySequence(s.pub, s.com, b, em, steps); err != nil {
				return nil, err
			}
		}
		b.Position = uint64(i + 1)
		steps = append(steps, s.partial(b, index, x, check))
		x = steps[i].Value
	}
	return threshold.FinishSequentialVarTime(s.pub, alg, digest, x)
}

// wholeSignature is what crypto/rsa makes with the key in one piece.
func wholeSignature(t testing.TB, k *threshold.WholeKey, em []byte) []byte {
	t.Helper()
	sig, err := k.SignEncoded(em)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

var splits = [][2]uint64{{1, 1}, {1, 3}, {2, 2}, {2, 3}, {3, 5}, {4, 5}}

// TestEveryCombinationAdditive: each subset of t devices makes the signature
// that the whole key makes, and a verified one for PSS.
func TestEveryCombinationAdditive(t *testing.T) {
	for _, tn := range splits {
		t.Run(fmt.Sprintf("%d of %d", tn[0], tn[1]), func(t *testing.T) {
			s := deal(t, 2048, threshold.Additive, tn[0], tn[1])
			if err := s.com.CheckDealing(s.pub, s.split); err != nil {
				t.Fatal(err)
			}
			algs := threshold.Algorithms()
			for i, subset := range s.split.Subsets() {
				alg := algs[i%len(algs)]
				digest, em := message(t, alg, "document", 2048)
				sig, err := s.parallel(alg, subset, digest, em)
				if err != nil {
					t.Errorf("%v: %v", subset, err)
				} else if !bytes.Equal(sig, wholeSignature(t, s.whole, em)) {
					t.Errorf("%v: %s signature differs from the whole key's", subset, alg)
				}
			}
		})
	}
}

// TestEveryOrderMultiplicative: each subset in each order (up to 3 of them) makes
// the same PKCS #1 v1.5 signature, and the proofs hold on the way.
func TestEveryOrderMultiplicative(t *testing.T) {
	for _, tn := range splits {
		t.Run(fmt.Sprintf("%d of %d", tn[0], tn[1]), func(t *testing.T) {
			s := deal(t, 2048, threshold.Multiplicative, tn[0], tn[1])
			digest, em := message(t, threshold.RS256, "document", 2048)
			want := wholeSignature(t, s.whole, em)
			for n, subset := range s.split.Subsets() {
				orders := permutations(subset.Indices())
				if len(orders) > 6 {
					orders = [][]uint64{orders[0], orders[len(orders)/2], orders[len(orders)-1]}
				}
				for m, order := range orders {
					sig, err := s.sequential(threshold.RS256, order, digest, em, n == 0 && m == 0)
					if err != nil {
						t.Errorf("%v: %v", order, err)
					} else if !bytes.Equal(sig, want) {
						t.Errorf("%v: another signature", order)
					}
				}
			}
		})
	}
}

func permutations(of []uint64) [][]uint64 {
	if len(of) == 0 {
		return [][]uint64{nil}
	}
	var all [][]uint64
	for i, first := range of {
		rest := append(append([]uint64{}, of[:i]...), of[i+1:]...)
		for _, p := range permutations(rest) {
			all = append(all, append([]uint64{first}, p...))
		}
	}
	return all
}
