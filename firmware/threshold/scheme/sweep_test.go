package scheme_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/grouping"
	"github.com/privyseal/privyseal/firmware/threshold/scheme"
	"github.com/privyseal/privyseal/firmware/threshold/thresholdtest"
)

var (
	keysMu sync.Mutex
	keys   = map[string]*threshold.WholeKey{}
)

// testKey is a fixed key of the kind that a scheme needs. Nobody may wipe it.
func testKey(bits int, safe bool) *threshold.WholeKey {
	keysMu.Lock()
	defer keysMu.Unlock()
	name := thresholdtest.FileName(bits, safe)
	if keys[name] == nil {
		keys[name] = thresholdtest.Key(bits, safe)
	}
	return keys[name]
}

// newTask is a task for a document, for no set yet.
func newTask(t testing.TB, alg threshold.Algorithm, text string, bits int) *scheme.Task {
	t.Helper()
	h := alg.Hash().New()
	h.Write([]byte(text))
	task := &scheme.Task{Algorithm: alg, Digest: h.Sum(nil), Binding: threshold.Binding{System: [32]byte{1}, Key: "key 7", Epoch: 3, Request: [32]byte{2}}}
	var salt []byte
	if alg.PSS() {
		salt = bytes.Repeat([]byte{0x5a}, alg.SaltLen())
	}
	em, err := threshold.Encode(alg, task.Digest, salt, bits)
	if err != nil {
		t.Fatal(err)
	}
	task.EM = em
	return task
}

// whole is what math/big makes of the whole key: em^d mod N.
func whole(t testing.TB, k *threshold.WholeKey, em []byte) []byte {
	t.Helper()
	d, _ := thresholdtest.Exponent(k)
	n := new(big.Int).SetBytes(k.Public().N)
	return new(big.Int).Exp(new(big.Int).SetBytes(em), d, n).FillBytes(make([]byte, len(em)))
}

func deal(t testing.TB, s scheme.Scheme, T, N uint64, bits int) (*scheme.Dealing, *scheme.Facts, *threshold.WholeKey) {
	t.Helper()
	p := scheme.Params{T: T, N: N, Bits: bits}
	facts, err := s.Facts(p)
	if err != nil {
		t.Fatal(err)
	}
	k := testKey(bits, s.SafePrimes())
	d, err := s.Deal(rand.Reader, k, p)
	if err != nil {
		t.Fatal(err)
	}
	return d, facts, k
}

func subsets(T, N uint64) []threshold.Subset {
	return threshold.Split{Scheme: threshold.Additive, T: T, N: N}.Subsets()
}

// TestEverySet: in every scheme, for every t up to 5 of n up to 9 devices, every
// set of t devices makes the signature that math/big makes with the whole key.
func TestEverySet(t *testing.T) {
	for _, p := range groupings {
		p.Budget = 1 << 14
		g, err := grouping.Find(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		scheme.UseGrouping(g)
	}
	task := newTask(t, threshold.RS256, "document", 2048)
	want := map[bool][]byte{} // by whether the key's primes are safe
	for _, safe := range []bool{false, true} {
		want[safe] = whole(t, testKey(2048, safe), task.EM)
	}
	for _, s := range scheme.All() {
		for n := uint64(9); n >= 1; n-- { // the longest first
			for T := min(n, 5); T >= 1; T-- {
				if testing.Short() && n > 5 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d of %d", s.Name(), T, n), func(t *testing.T) {
					t.Parallel()
					d, facts, _ := deal(t, s, T, n, 2048)
					task := *task
					made := map[string]*scheme.Partial{}
					for _, set := range subsets(T, n) {
						task.Set = set
						sig, err := sign(d, facts, &task, made)
						if err != nil {
							t.Errorf("%v: %v", set, err)
						} else if !bytes.Equal(sig, want[s.SafePrimes()]) {
							t.Errorf("%v: another signature", set)
						}
					}
					for _, device := range d.Devices {
						if device.Size() != facts.ShareLen {
							t.Errorf("device %d holds %d bytes, not %d", device.Index(), device.Size(), facts.ShareLen)
						}
					}
					if d.Combiner.Size() != facts.CombinerLen {
						t.Errorf("combiners hold %d bytes, not %d", d.Combiner.Size(), facts.CombinerLen)
					}
				})
			}
		}
	}
}

// groupings are some for many calculators that are found at once: what takes
// seconds is to look for the fewest combiners, which package grouping tests.
var groupings = []grouping.Params{
	{K: 5, T: 2, L: 3, M: 2}, {K: 5, T: 4, L: 2, M: 2}, {K: 6, T: 2, L: 3, M: 2}, {K: 6, T: 3, L: 2, M: 2}, {K: 6, T: 4, L: 2, M: 3},
	{K: 6, T: 5, L: 2, M: 2}, {K: 7, T: 2, L: 3, M: 2}, {K: 7, T: 3, L: 2, M: 3}, {K: 7, T: 4, L: 2, M: 4}, {K: 7, T: 5, L: 2, M: 3},
	{K: 8, T: 2, L: 3, M: 2}, {K: 8, T: 3, L: 2, M: 3}, {K: 8, T: 4, L: 2, M: 5}, {K: 8, T: 5, L: 2, M: 9},
	{K: 9, T: 2, L: 3, M: 2}, {K: 9, T: 3, L: 2, M: 3}, {K: 9, T: 4, L: 2, M: 8}, {K: 9, T: 5, L: 3, M: 6},
}

// sign lets a set sign without proofs. Partial signatures that were made of the
// same message by the same secret are not made again.
func sign(d *scheme.Dealing, facts *scheme.Facts, task *scheme.Task, made map[string]*scheme.Partial) ([]byte, error) {
	var partials []*scheme.Partial
	x := task.EM
	for _, i := range task.Set.Indices() {
		device := d.Devices[i-1]
		secret := scheme.SecretOf(device, task.Set)
		p := made[secret]
		if p == nil {
			var err error
			if p, err = device.Partial(task, x); err != nil {
				return nil, err
			}
			made[secret] = p
		}
		if facts.Chained {
			x = p.Values[0]
		}
		partials = append(partials, p)
	}
	return d.Combiner.Combine(task, partials)
}
