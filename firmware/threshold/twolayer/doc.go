// Package twolayer is the mathematics of the intrusion-tolerant certificate
// authority (B): a private exponent d shared in two layers.
//
//	d = c_a + Σ d_ji   over the t terms ji of a combination a   (B [0063])
//
// Each of k calculators j holds l random sub-keys d_j1 … d_jl of half the length
// of N; each of m combiners holds the c_a of its combinations. Any t calculators
// and one combiner that has a combination of these sign together.
package twolayer
