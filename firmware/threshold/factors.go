package threshold

import (
	"math/big"

	"github.com/privyseal/privyseal/firmware/threshold/prime"
)

// Factors returns copies of the two prime factors, big-endian, for packages that
// deal a key in ways of their own. The caller wipes them. It returns ErrWiped
// after Wipe.
func (k *WholeKey) Factors() (p, q Secret, err error) {
	if k.erased {
		return Secret{}, Secret{}, ErrWiped
	}
	return NewSecret(k.private().p.Bytes()), NewSecret(k.private().q.Bytes()), nil
}

// SafePrimes reports whether both prime factors are safe. It tests them unless the
// key was made of such. It returns ErrWiped after Wipe.
func (k *WholeKey) SafePrimes() (bool, error) {
	if k.erased {
		return false, ErrWiped
	}
	if k.safe {
		return true, nil
	}
	for _, x := range []*big.Int{k.private().p, k.private().q} {
		if ok, err := prime.CheckSafe(x); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}
