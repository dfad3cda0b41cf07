package threshold

import (
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/privyseal/privyseal/firmware/threshold/prime"
)

// GenerateSafeKeyOpenSSL makes a key with safe primes as GenerateKey does, of
// primes that libcrypto finds by its own random numbers: see
// [prime.GenerateSafeOpenSSL]. Nobody can make the same key again, so no ceremony
// uses it.
//
// progress, if not nil, is called before every test of a candidate with the number
// of tests so far, and ends it by returning false, with prime.ErrCancelled.
func GenerateSafeKeyOpenSSL(bits int, progress func(tests int) (more bool)) (*WholeKey, error) {
	if !slices.Contains(modulusBits, bits) {
		return nil, fmt.Errorf("%w: %d bits; need one of %d", ErrPublicKey, bits, modulusBits)
	}
	tests := 0
	find := func() (*big.Int, error) {
		return prime.GenerateSafeOpenSSL(bits/2, func(int) bool {
			tests++
			return progress == nil || progress(tests)
		})
	}
	for {
		p, err := find()
		if err != nil {
			return nil, err
		}
		q, err := find()
		if err != nil {
			wipe(p)
			return nil, err
		}
		k, err := newWholeKey(p, q, true)
		wipe(p, q)
		// One in 30,000 has e as a factor of p − 1 or q − 1.
		if !errors.Is(err, ErrPublicKey) {
			return k, err
		}
	}
}
