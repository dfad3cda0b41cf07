// Package integer shares an RSA key by a polynomial over the integers, of which
// nobody ever has to divide a value: Frankel, Gemmell, MacKenzie and Yung,
// "Optimal-Resilience Proactive Public-Key Cryptosystems" (FOCS 1997), and
// CertCo's US patent 6,035,041 of nearly the same title; B [0028] and [0029]. It
// takes any RSA key: the primes need not be safe.
//
// # The sharing
//
// L = n!, and e is a prime above n, so that 1 = e·P + L²·s' for public integers P and
// s', 0 ≤ P < L². With k = d·s' mod φ(N),
//
//	d = d·(e·P + L²·s') = P + L²·k   mod φ(N).
//
// P is public and k is shared: f(x) = L²·k + a_1·x + … + a_{t−1}·x^{t−1}, the a_j
// uniform in {0, L, 2L, …, 2L³N^{2+ε}t}, with N^ε = 2^128 here. All coefficients and
// so all values f(i) are divisible by L. Device i holds s_i = f(i)/L and answers to x
// with x^s_i. From t of these anyone makes, with the integers λ_i = L·Π j/(j − i)
// of package lagrange,
//
//	x^P·Π (x^s_i)^λ_i = x^P·x^f(0) = x^d.
//
// The paper (and B) has the device itself raise x to s_i·λ_i, for which it has to know
// who else signs. The λ_i have some twenty bits, so here the combiner does it.
//
// # Why t − 1 devices learn nothing
//
// Let A be t − 1 devices, and k' another value of the secret. The polynomial
//
//	h(x) = L²·(k' − k)·Π_{i∈A} (1 − x/i)
//
// is 0 for all of A, and f + h has the constant term L²·k': what A holds is the same
// with f for k as with f + h for k'. L·Π_{i∈A}(1 − x/i) has integer coefficients, as
// products of different i ≤ n divide L; so those of h are divisible by L, as the
// a_j are. The absolute values of its coefficients sum to at most
// L²·|k' − k|·Π_{i∈A}(1 + 1/i) ≤ L²·N·t. A shift of an a_j by c·L changes its
// distribution by a distance of c/(2L²N^{2+ε}t), so the shares of A under k and under
// k' differ by a statistical distance of at most
//
//	L·N·t / (2L²·N^{2+ε}·t) < 2^−(|N|+128).
//
// This argument alone would be content with a range of L²·t·N·2^128, and shares
// of half the length. The range is the paper's: its shares are also re-shared and
// added up.
//
// # Proofs
//
// g is a square and g^s_i is published: [threshold.Equality]. With ordinary primes
// a proof is worth what [threshold.VerifyProof] says of these: a liar who
// knows an element of small order can pass. The final signature is verified
// whatever the proofs say.
package integer
