package prime

import (
	"crypto/sha3"
	"errors"
	"io"
	"math/big"
	"testing"
	"testing/iotest"
)

// stream is a reproducible source of random bytes.
func stream(seed string) io.Reader {
	s := sha3.NewSHAKE256()
	s.Write([]byte(seed))
	return s
}

func TestGenerate(t *testing.T) {
	for _, bits := range []int{128, 136, 512, 1024} {
		for _, safe := range []bool{false, true} {
			generate := Generate
			if safe {
				generate = GenerateSafe
			}
			calls := 0
			p, err := generate(stream("a"), bits, nil, func(n int) {
				if calls++; n != calls {
					t.Errorf("progress %d at call %d", n, calls)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if p.BitLen() != bits || p.Bit(bits-2) != 1 || !p.ProbablyPrime(20) || calls == 0 {
				t.Errorf("%d bits, safe %v, %d candidates: %x", bits, safe, calls, p)
			}
			if safe && !new(big.Int).Rsh(p, 1).ProbablyPrime(20) {
				t.Errorf("%d bits: %x is not safe", bits, p)
			}
			again, err := generate(stream("a"), bits, nil, nil)
			if err != nil || again.Cmp(p) != 0 {
				t.Errorf("%d bits, safe %v: same stream, another prime (%v)", bits, safe, err)
			}
			other, err := generate(stream("b"), bits, nil, nil)
			if err != nil || other.Cmp(p) == 0 {
				t.Errorf("%d bits, safe %v: another stream, same prime (%v)", bits, safe, err)
			}
			refused, err := generate(stream("a"), bits, func(q *big.Int) bool { return q.Cmp(p) != 0 }, nil)
			if err != nil || refused.Cmp(p) == 0 {
				t.Errorf("%d bits, safe %v: refused candidate returned (%v)", bits, safe, err)
			}
		}
	}
}

// TestSieve: the sieve strikes out what has a small factor in p or (p−1)/2, and
// no safe prime.
func TestSieve(t *testing.T) {
	start, _ := new(big.Int).SetString("c0000000000000000000000000000000", 16)
	r := new(big.Int).Mod(start, big.NewInt(12)).Uint64()
	start.Add(start, new(big.Int).SetUint64(11-r))
	struck := sieve(start)
	small := new(big.Int).MulRange(1, 1000) // any factor up to 1000
	for i := range 3000 {
		p := new(big.Int).Add(start, big.NewInt(12*int64(i)))
		both := new(big.Int).Mul(p, new(big.Int).Rsh(p, 1))
		if hasFactor := new(big.Int).GCD(nil, nil, both, small).Cmp(big.NewInt(1)) != 0; hasFactor && !struck[i] {
			t.Fatalf("candidate %d has a small factor and was not struck", i)
		}
		if struck[i] && p.ProbablyPrime(10) && new(big.Int).Rsh(p, 1).ProbablyPrime(10) {
			t.Fatalf("candidate %d is a safe prime and was struck", i)
		}
	}
}

func TestInverse(t *testing.T) {
	for _, r := range smallPrimes()[2:200] {
		for _, a := range []uint64{1, 2, 12 % r, r - 1} {
			if a*inverse(a, r)%r != 1 {
				t.Errorf("inverse(%d, %d) = %d", a, r, inverse(a, r))
			}
		}
	}
}

// TestCheck includes Carmichael numbers and strong pseudoprimes to the first
// bases: ψ₄ of Jaeschke (1993) and ψ₁₂ of Sorenson and Webster (2017).
func TestCheck(t *testing.T) {
	for text, want := range map[string]bool{
		"0": false, "1": false, "2": true, "3": true, "4": false,
		"561": false, "3215031751": false, "318665857834031151167461": false,
		"170141183460469231731687303715884105727": true, // 2^127−1
		"170141183460469231731687303715884105729": false,
	} {
		n, _ := new(big.Int).SetString(text, 10)
		if got, err := Check(n); err != nil || got != want {
			t.Errorf("Check(%s) = %v, %v", text, got, err)
		}
	}
	for p, want := range map[int64]bool{5: true, 7: true, 11: true, 13: false, 23: true, 29: false, 2: false, 9: false} {
		if got, err := CheckSafe(big.NewInt(p)); err != nil || got != want {
			t.Errorf("CheckSafe(%d) = %v, %v", p, got, err)
		}
	}
}

func TestFermat(t *testing.T) {
	mersenne := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 521), big.NewInt(1))
	if ok, err := fermat(mersenne); !ok || err != nil {
		t.Errorf("2^521 − 1: %v, %v", ok, err)
	}
	if ok, err := fermat(new(big.Int).Add(mersenne, big.NewInt(4))); ok || err != nil {
		t.Errorf("2^521 + 3: %v, %v", ok, err)
	}
}

func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, generate := range []func(io.Reader, int, func(*big.Int) bool, func(int)) (*big.Int, error){Generate, GenerateSafe} {
		if _, err := generate(iotest.ErrReader(broken), 512, nil, nil); !errors.Is(err, broken) {
			t.Errorf("broken reader: %v", err)
		}
		for _, bits := range []int{0, 64, 511, MaxBits + 8} {
			if _, err := generate(stream("a"), bits, nil, nil); err == nil {
				t.Errorf("%d bits accepted", bits)
			}
		}
	}
}

func BenchmarkGenerateSafe1024(b *testing.B) {
	tests := 0
	for i := range b.N {
		if _, err := GenerateSafe(stream(string(rune('a'+i))), 1024, nil, func(int) { tests++ }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(tests)/float64(b.N), "candidates/op")
}
