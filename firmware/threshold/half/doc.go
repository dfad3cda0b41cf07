// Package half shares an RSA key by a polynomial over the integers whose values are
// hardly longer than half of N, so that a device works half as long. It takes any
// RSA key with factors of half its length.
//
// It joins three things: the combination of Shoup, "Practical Threshold
// Signatures" (Eurocrypt 2000), §2.2; shares over the integers in the place of shares
// modulo p'q', so that the primes need not be safe, as Damgård and Koprowski have them
// in "Practical Threshold RSA Signatures Without a Trusted Dealer" (Eurocrypt 2001);
// and the upper half of d, which for a small e is no secret: Boneh, Durfee, Frankel,
// "An Attack on RSA Given a Small Fraction of the Private Key Bits" (Asiacrypt 1998),
// as B [0063] and [0100] have half-length sub-keys for other reasons.
//
// # The upper half
//
// From e·d = 1 + κ·φ(N) and φ(N) = N + 1 − s, s = p + q, follows
//
//	d = (1 + κ·(N + 1 − s))/e = C − δ,   C = ⌈(1 + κ·(N + 1))/e⌉,   0 < δ ≤ s < 2^(|N|/2+1),
//
// as δ = κ·s/e, rounded up, and κ < e. C depends on κ only, which is published.
// An attacker could guess it among e − 1 = 65536 values: who is given κ gains a
// factor of 65536 at most. (Were e long, C would give away half of a secret; a
// public key with another e than 65537 is refused.)
//
// # The sharing
//
// Δ = n!, f(x) = Δ·δ + a_1·x + … + a_{t−1}·x^{t−1}, the a_j uniform below
// Δ·t·2^(|N|/2+1+128). Device i holds s_i = f(i) and answers to x with x_i = x^(Δ·s_i), for
// which it raises the public x^Δ to its share. With the integers λ_i of package
// lagrange,
//
//	Π x_i^λ_i = x^(Δ²·f(0)) = x^(Δ³·δ),
//
// and with a·Δ³ + b·e = 1 the signature is x^d = x^(a·Δ³·C + b)·(Π x_i^λ_i)^(−a), since
// x = (x^d)^e. The first factor is a public power of full length, which whoever
// combines can compute while the devices work.
//
// # Why t − 1 devices learn nothing
//
// Let A be t − 1 devices and δ' another value of the secret. The polynomial
// h(x) = Δ·(δ' − δ)·Π_{i∈A}(1 − x/i) is 0 for all of A and has integer coefficients,
// as products of different i ≤ n divide Δ; their absolute values sum to at most
// Δ·2^(|N|/2+1)·Π_{i∈A}(1 + 1/i) ≤ Δ·2^(|N|/2+1)·t. With f for δ the devices of A hold
// what they hold with f + h for δ'; a shift of a_j by c changes its distribution by
// a distance of c over its range. So what A holds under δ and under δ' differs
// by at most 2^−128.
//
// What A sees of the others is made of that and of the signatures. For j not in A,
// Δ·s_j is an integer combination of f(0) and the shares of A (Shoup 2000, §2.2), so
// x^(Δ·s_j) is one of the powers of x by these; and x^f(0) = (x^C/x^d)^Δ is known
// from the signature x^d. That is why the devices raise x^Δ and not x. The base g of
// the check values is the Δ-th power of a random square γ for the same reason:
// γ^d is the signature of a random number γ = (γ^d)^e, and g^s_j = γ^(Δ·s_j).
//
// # Proofs
//
// As in package integer: [threshold.Equality], worth with ordinary primes what
// [threshold.VerifyProof] says of these.
package half
