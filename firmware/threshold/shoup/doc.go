// Package shoup is Victor Shoup's threshold RSA: "Practical Threshold
// Signatures" (Eurocrypt 2000), §2; B [0026] and [0027].
//
// # The sharing
//
// N = p·q with safe primes p = 2p'+1, q = 2q'+1, and m = p'·q', the order of the
// squares modulo N. The private exponent d = e⁻¹ mod m is the constant term of a
// polynomial f of degree t − 1 whose other coefficients are uniform modulo m;
// device i holds s_i = f(i) mod m, |N| bytes. For Δ = n! it answers to x with
//
//	x_i = x^(2Δ·s_i),
//
// and anyone who has t of these makes, with the integers λ_i = Δ·Π j/(j − i) of
// package lagrange,
//
//	w = Π x_i^(2λ_i) = x^(4Δ²·d),   w^e = x^(4Δ²),
//
// and, as e is a prime above n and so coprime to 4Δ², with a·4Δ² + b·e = 1 the
// signature y = w^a·x^b: y^e = x.
//
// A device that has x can compute x^(2Δ) in public, so its secret exponent is no
// longer than N and fits a token. It need not know who else signs: the result is
// the same for every set. x_i travels as min(x_i, N − x_i), which the even
// exponents 2λ_i make good.
//
// # Why t − 1 devices learn nothing
//
// The differences of indices, at most n, are coprime to m, whose prime factors
// are of half the length of N. So for any t − 1 devices and any d there is exactly
// one polynomial for each t − 1 values that they might hold: their shares are
// uniform modulo m and independent of d. That they are below m, which is secret,
// says next to nothing: t − 1 numbers uniform below m differ from as many uniform
// below N/4 by a statistical distance of at most (t − 1)·2^(2−|N|/2).
//
// # Proofs
//
// v generates the squares and v_i = v^(s_i) are published. A proof shows that
// x_i² is to x^(4Δ) as v_i is to v ([threshold.Equality]). It carries its weight
// because the primes are safe: the squares have no elements of small order.
package shoup
