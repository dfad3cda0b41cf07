package prime

/*
#cgo pkg-config: libcrypto
#include "prime.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"unsafe"
)

const (
	// MinBits is the shortest prime made here. Below it the sieve would strike
	// out primes of the size sought.
	MinBits = 128
	// MaxBits is the longest: half of RSA-4096, with room for one more step.
	MaxBits = 4096
)

// ErrLibcrypto is returned when libcrypto fails for want of memory.
var ErrLibcrypto = errors.New("prime: libcrypto failed, most likely for want of (locked) memory")

// Generate returns an odd prime p of exactly the given number of bits with its
// two highest bits set, so that the product of two such primes has exactly twice
// as many bits (FIPS 186-5 A.1.3 asks for p ≥ √2·2^(bits−1), which is weaker).
// Every candidate is drawn afresh, so that p is uniform among such primes.
//
// accept is asked about each candidate that has passed a trial division, and
// may refuse it; progress, if not nil, is called with the number of
// candidates tested so far.
func Generate(rand io.Reader, bits int, accept func(*big.Int) bool, progress func(int)) (*big.Int, error) {
	if err := checkBits(bits); err != nil {
		return nil, err
	}
	for tested := 1; ; {
		p, err := draw(rand, bits)
		if err != nil {
			return nil, err
		}
		p.SetBit(p, 0, 1)
		if hasSmallFactor(p) || accept != nil && !accept(p) {
			continue
		}
		if progress != nil {
			progress(tested)
		}
		tested++
		if ok, err := Check(p); ok || err != nil {
			return p, err
		}
	}
}

// Check reports whether n is prime, in error with a probability below 2⁻¹²⁸
// whoever chose n (64 rounds of Miller–Rabin with random bases, 128 above 2048
// bits).
func Check(n *big.Int) (bool, error) {
	return ask(n, func(p *C.uint8_t, l C.size_t) C.int { return C.privyseal_prime_check(p, l) })
}

// fermat reports whether n passes one Fermat test. It is a quick filter before
// Check.
func fermat(n *big.Int) (bool, error) {
	return ask(n, func(p *C.uint8_t, l C.size_t) C.int { return C.privyseal_prime_fermat(p, l) })
}

func ask(n *big.Int, question func(*C.uint8_t, C.size_t) C.int) (bool, error) {
	if n.Sign() <= 0 {
		return false, nil
	}
	b := n.Bytes()
	defer clear(b)
	switch question((*C.uint8_t)(unsafe.Pointer(&b[0])), C.size_t(len(b))) {
	case 1:
		return true, nil
	case 0:
		return false, nil
	}
	return false, ErrLibcrypto
}

func checkBits(bits int) error {
	if bits < MinBits || bits > MaxBits || bits%8 != 0 {
		return fmt.Errorf("prime: %d bits; need a multiple of 8 from %d to %d", bits, MinBits, MaxBits)
	}
	return nil
}

// draw returns a random number of exactly bits bits, the two highest set.
func draw(rand io.Reader, bits int) (*big.Int, error) {
	b := make([]byte, bits/8)
	defer clear(b)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("prime: reading randomness: %w", err)
	}
	b[0] |= 0xc0
	return new(big.Int).SetBytes(b), nil
}
