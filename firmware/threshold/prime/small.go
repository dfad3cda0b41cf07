package prime

import (
	"math/big"
	"math/bits"
	"sync"
)

// smallPrimes returns the primes below sieveBound.
var smallPrimes = sync.OnceValue(func() []uint64 {
	composite := make([]bool, sieveBound)
	var primes []uint64
	for i := uint64(2); i < sieveBound; i++ {
		if composite[i] {
			continue
		}
		primes = append(primes, i)
		for j := i * i; j < sieveBound; j += i {
			composite[j] = true
		}
	}
	return primes
})

// hasSmallFactor tries the first few hundred primes: more cost more than the
// Miller–Rabin rounds that they save.
func hasSmallFactor(n *big.Int) bool {
	for _, r := range smallPrimes()[:512] {
		if mod(n, r) == 0 {
			return true
		}
	}
	return false
}

// mod returns n mod r, which math/big offers only for big r.
func mod(n *big.Int, r uint64) uint64 {
	words := n.Bits()
	rem := uint64(0)
	for i := len(words) - 1; i >= 0; i-- {
		if bits.UintSize == 64 {
			_, rem = bits.Div64(rem, uint64(words[i]), r)
		} else {
			rem = (rem<<32 | uint64(words[i])) % r
		}
	}
	return rem
}
