package threshold

import "math/bits"

// mulAdd sets z = a·b + c for big-endian integers, in time that depends on
// their lengths only (math/big's does not). z must be at least one byte longer
// than both c and a·b.
//
// Schoolbook multiplication with limbs of 32 bits: column sums of at most
// 2·min(len) products of 64 bits are kept in 128 bits.
func mulAdd(z, a, b, c []byte) {
	A, B, C := limbs(a), limbs(b), limbs(c)
	defer clear(B)
	defer clear(C)
	var lo, hi uint64 // the running column and its carry
	for i := range (len(z) + 3) / 4 {
		for j := max(0, i-len(B)+1); j <= min(i, len(A)-1); j++ {
			var carry uint64
			lo, carry = bits.Add64(lo, uint64(A[j])*uint64(B[i-j]), 0)
			hi += carry
		}
		if i < len(C) {
			var carry uint64
			lo, carry = bits.Add64(lo, uint64(C[i]), 0)
			hi += carry
		}
		for k := range 4 {
			if at := len(z) - 1 - 4*i - k; at >= 0 {
				z[at] = byte(lo >> (8 * k))
			}
		}
		lo, hi = lo>>32|hi<<32, hi>>32
	}
}

// limbs returns the 32-bit limbs of x, least significant first.
func limbs(x []byte) []uint32 {
	out := make([]uint32, (len(x)+3)/4)
	for i := range x {
		out[i/4] |= uint32(x[len(x)-1-i]) << (8 * (i % 4))
	}
	return out
}
