package threshold

import (
	"bytes"
	"fmt"
	"math/big"
	"testing"
)

// TestFewerThanTLearnNothing enumerates, for a toy key with φ(N) = 40 and t = 3,
// every stream of random bytes that the dealer accepts, for every possible d. The
// joint distribution of any two of the three parts must be exactly the same for
// all d, and the three together must give d.
func TestFewerThanTLearnNothing(t *testing.T) {
	phi := big.NewInt(40) // N = 55
	for _, scheme := range []Scheme{Additive, Multiplicative} {
		var reference [3]map[string]int
		for d := int64(1); d < 40; d++ {
			if !coprime(big.NewInt(d), phi) {
				continue
			}
			var seen [3]map[string]int
			for i := range seen {
				seen[i] = map[string]int{}
			}
			for a := range 64 {
				for b := range 64 {
					priv := &privateParts{d: big.NewInt(d), phi: phi}
					k := &WholeKey{n: big.NewInt(55), priv: &priv}
					parts, err := k.parts(bytes.NewReader([]byte{byte(a), byte(b)}), scheme, 3)
					if err != nil {
						continue // rejected, and the stream is at its end
					}
					whole := new(big.Int).Add(parts[0], new(big.Int).Add(parts[1], parts[2]))
					if scheme == Multiplicative {
						whole.Mul(parts[0], new(big.Int).Mul(parts[1], parts[2]))
					}
					if whole.Mod(whole, phi).Int64() != d {
						t.Fatalf("%v: parts %v do not make %d", scheme, parts, d)
					}
					for missing := range 3 {
						seen[missing][fmt.Sprint(parts[(missing+1)%3], parts[(missing+2)%3])]++
					}
				}
			}
			for missing := range 3 {
				if reference[missing] == nil {
					reference[missing] = seen[missing]
				}
				if fmt.Sprint(seen[missing]) != fmt.Sprint(reference[missing]) {
					t.Errorf("%v: without part %d, the others tell d = %d", scheme, missing, d)
				}
			}
		}
		size := map[Scheme]int{Additive: 40 * 40, Multiplicative: 16 * 16}[scheme]
		if len(reference[0]) != size {
			t.Errorf("%v: %d pairs seen, want all %d", scheme, len(reference[0]), size)
		}
	}
}

func TestUniform(t *testing.T) {
	counts := map[int64]int{}
	for b := range 256 {
		x, err := uniform(bytes.NewReader([]byte{byte(b)}), big.NewInt(40))
		if err == nil {
			counts[x.Int64()]++
		}
	}
	for x := range int64(40) {
		if counts[x] != 4 {
			t.Errorf("%d drawn %d times of 160", x, counts[x])
		}
	}
	if len(counts) != 40 {
		t.Errorf("%d values", len(counts))
	}
}

func TestWipe(t *testing.T) {
	x := new(big.Int).Lsh(big.NewInt(12345), 200)
	words := x.Bits()
	all := words[:cap(words)]
	x.Rsh(x, 100) // leaves old words beyond the length
	wipe(x, nil)
	for i, w := range all {
		if w != 0 {
			t.Errorf("word %d survives", i)
		}
	}
	if x.Sign() != 0 {
		t.Error("not zero")
	}
}
