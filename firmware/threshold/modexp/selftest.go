package modexp

import (
	"bytes"
	"crypto/sha3"
	"sync"
)

// selfTest compares the vector code with libcrypto, once in a process and before
// its first use: that it was compiled right, that the processor computes right, and
// that the operating system keeps the registers. It takes some milliseconds. What
// fails, fails until the process ends.
//
// A wrong power later is found where the signature is verified, before anybody
// gets it. It gives away no factor: one faulty signature does so only where powers
// are computed modulo p and q. Without that, many powers, each with a fault at a
// place that the attacker knows, give away bits of the exponent (both Boneh,
// DeMillo, Lipton 1997): who can cause these stands beside the machine.
var selfTest = sync.OnceValue(func() error {
	return compare(
		func(n []byte) (*Modulus, error) { return newModulus(n, 0) },
		func(n []byte) (*Modulus, error) { return newModulus(n, 1) })
})

// compare returns ErrSelfTest unless both kinds of modulus give the same powers:
// for each number of vectors, of a random-looking base and of N − 1.
func compare(a, b func(n []byte) (*Modulus, error)) error {
	for _, width := range []int{256, 384, 512} {
		n := sha3.SumSHAKE256([]byte("modulus"), width)
		n[0] |= 0x80
		n[width-1] |= 1
		x := sha3.SumSHAKE256([]byte("base"), width)
		x[0] &= 0x7f
		last := bytes.Clone(n)
		last[width-1]--

		ma, err := a(n)
		if err != nil {
			return err
		}
		mb, err := b(n)
		if err != nil {
			return err
		}
		for _, base := range [][]byte{x, last} {
			pa, err := ma.Exp(base, allWindows)
			if err != nil {
				return err
			}
			pb, err := mb.Exp(base, allWindows)
			if err != nil {
				return err
			}
			if !bytes.Equal(pa, pb) {
				return ErrSelfTest
			}
		}
	}
	return nil
}

// allWindows is the numbers 0 to 31 of 5 bits each: every entry of the vector
// code's table, once.
var allWindows = []byte{
	0x00, 0x44, 0x32, 0x14, 0xc7, 0x42, 0x54, 0xb6, 0x35, 0xcf,
	0x84, 0x65, 0x3a, 0x56, 0xd7, 0xc6, 0x75, 0xbe, 0x77, 0xdf,
}
