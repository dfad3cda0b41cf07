// Package tuplehash hashes sequences of byte strings without ambiguity, by
// TupleHashXOF256 of NIST SP 800-185 §5: every string is preceded by its
// length, the label separates one use from all others, and the output, from
// SHAKE256's sponge, is as long as one likes.
//
// Ambiguous concatenation and missing separation have broken threshold
// signatures before (tss-lib before 2.0, "TSSHOCK"): within package threshold
// every hash is one of these.
package tuplehash

import (
	"crypto/sha3"
	"encoding/binary"
)

// XOF is the state of one hash. Write strings with Add, then Read the output.
type XOF struct {
	sponge *sha3.SHAKE
	closed bool
}

// New returns a hash for the purpose that label names (SP 800-185's
// customization string S).
func New(label string) *XOF {
	return &XOF{sponge: sha3.NewCSHAKE256([]byte("TupleHash"), []byte(label))}
}

// Add appends one string to the tuple. It panics after the first Read.
func (x *XOF) Add(s []byte) {
	if x.closed {
		panic("tuplehash: Add after Read")
	}
	var length [9]byte
	x.sponge.Write(leftEncode(length[:0], 8*uint64(len(s))))
	x.sponge.Write(s)
}

// AddString appends a text to the tuple.
func (x *XOF) AddString(s string) { x.Add([]byte(s)) }

// AddUint appends a number to the tuple, as 8 bytes, big-endian.
func (x *XOF) AddUint(n uint64) { x.Add(binary.BigEndian.AppendUint64(nil, n)) }

// Read fills p with the next bytes of output. It never fails.
func (x *XOF) Read(p []byte) (int, error) {
	if !x.closed {
		x.sponge.Write([]byte{0, 1}) // right_encode(0): output of arbitrary length
		x.closed = true
	}
	return x.sponge.Read(p)
}

// Sum returns the next n bytes of output.
func (x *XOF) Sum(n int) []byte {
	out := make([]byte, n)
	x.Read(out)
	return out
}

// Wipe clears the sponge, from which its output and, as the permutation can be
// inverted, parts of its input could be learned. The hash cannot be used again.
func (x *XOF) Wipe() {
	x.sponge.Reset()
	x.sponge = nil
}

// leftEncode appends left_encode(n) of SP 800-185 §2.3.1: the number of bytes
// of n, then n in as few bytes as possible, at least one.
func leftEncode(dst []byte, n uint64) []byte {
	size := 1
	for m := n >> 8; m > 0; m >>= 8 {
		size++
	}
	dst = append(dst, byte(size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}
