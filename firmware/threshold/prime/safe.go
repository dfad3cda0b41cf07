package prime

import (
	"io"
	"math/big"
)

const (
	// sieveBound is the largest prime by which candidates are sieved. Larger
	// bounds save fewer exponentiations than the sieving costs.
	sieveBound = 1 << 20
	// window is how many candidates p, p+12, p+24, … one sieve covers. A safe
	// prime of 1024 bits is met about every 60,000.
	window = 1 << 17
)

// GenerateSafe returns a safe prime p, one for which q = (p−1)/2 is prime too,
// of exactly the given number of bits, its two highest bits set.
//
// From a random starting point it takes the first safe prime of a window, or
// another starting point if the window has none. Primes after long gaps are
// therefore somewhat more likely than others; Brandt and Damgård ("On generation
// of probable primes by incremental search", Crypto '92) bound the loss of
// entropy by a few bits, which no known attack can use.
//
// A candidate must pass a sieve of both p and q, then one Fermat test of p and of
// q (a composite survives that with negligible probability, but wastes time
// only), then Check of both. progress, if not nil, is called with the number of
// Fermat tests of p so far: some 700 on average at 1024 bits, growing with the
// square of the length, and with a spread as large as the average.
func GenerateSafe(rand io.Reader, bits int, accept func(*big.Int) bool, progress func(int)) (*big.Int, error) {
	if err := checkBits(bits); err != nil {
		return nil, err
	}
	tested := 0
	for {
		start, err := draw(rand, bits)
		if err != nil {
			return nil, err
		}
		// p ≡ 11 mod 12: p ≡ 3 mod 4 makes q odd, p ≡ 2 mod 3 leaves neither
		// p nor q divisible by 3.
		r := new(big.Int).Mod(start, big.NewInt(12)).Uint64()
		start.Add(start, new(big.Int).SetUint64(11-r))
		for i, struck := range sieve(start) {
			if struck {
				continue
			}
			p := new(big.Int).Add(start, big.NewInt(12*int64(i)))
			if p.BitLen() != bits { // the window ran over the top
				break
			}
			if accept != nil && !accept(p) {
				continue
			}
			if tested++; progress != nil {
				progress(tested)
			}
			ok, err := isSafe(p)
			if ok || err != nil {
				return p, err
			}
		}
	}
}

// CheckSafe reports whether p and (p−1)/2 are prime, as Check does.
func CheckSafe(p *big.Int) (bool, error) {
	if p.Bit(0) == 0 {
		return false, nil
	}
	q := new(big.Int).Rsh(p, 1)
	if ok, err := Check(q); !ok || err != nil {
		return false, err
	}
	return Check(p)
}

func isSafe(p *big.Int) (bool, error) {
	if ok, err := fermat(p); !ok || err != nil {
		return false, err
	}
	q := new(big.Int).Rsh(p, 1)
	if ok, err := fermat(q); !ok || err != nil {
		return false, err
	}
	return CheckSafe(p)
}

// sieve strikes out every i for which start + 12i, or half of it rounded down,
// has a prime factor from 5 to sieveBound.
func sieve(start *big.Int) []bool {
	struck := make([]bool, window)
	for _, r := range smallPrimes() {
		if r < 5 {
			continue
		}
		// p + 12i ≡ 0 mod r, and for q = (p−1)/2 ≡ 0 the same as p + 12i ≡ 1.
		p := mod(start, r)
		inv := inverse(12%r, r)
		for _, i := range [2]uint64{(r - p) * inv % r, (r + 1 - p) * inv % r} {
			for ; i < window; i += r {
				struck[i] = true
			}
		}
	}
	return struck
}

// inverse returns a⁻¹ mod the prime r, by Fermat's little theorem. r is below
// 2³², so that products fit.
func inverse(a, r uint64) uint64 {
	result := uint64(1)
	for e := r - 2; e > 0; e >>= 1 {
		if e&1 == 1 {
			result = result * a % r
		}
		a = a * a % r
	}
	return result
}
