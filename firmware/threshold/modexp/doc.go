// Package modexp raises numbers to secret powers modulo an odd number, in
// constant time, by OpenSSL's libcrypto.
//
// Go's standard library has no such operation in public: math/big says of
// itself that it is not constant-time, and crypto/rsa signs only with a whole
// key. Of the implementations that are (libcrypto, GMP's mpz_powm_sec,
// filippo.io/bigmod) libcrypto was the fastest at every size.
//
// Where the processor has 52-bit vector multipliers (AVX-512 IFMA: Intel since Ice
// Lake, AMD since Zen 4), [Modulus.Exp] uses them for moduli of about 2048 to 4096
// bits, in ifma.c, and takes a quarter of libcrypto's time. libcrypto has such
// code too, in 3.0 for the halves of an RSA-2048 key only, later for pairs of
// exponentiations only. A share has no halves: without this, an owner of the whole
// key, who computes modulo p and q, would be faster than a calculator with its
// half-length sub-key. All else, and every other processor, is libcrypto's.
//
// The first New of a process compares the two and refuses to work if they differ
// (ErrSelfTest). With the build tag modexp_portable there is no vector code; with
// modexp_model it runs on plain C instead of vectors (lanes.h), for tests on any
// machine. The package's tests run themselves in both builds.
//
// # What is secret
//
// The exponent of [Modulus.Exp] and the exponent's intermediate powers are
// secret; the modulus, the base, the result and the *length* of the exponent
// are public. [Modulus.ExpVarTime] and [Modulus.Exp2VarTime] are for public
// exponents only, as their names say.
//
// # How constant the time is
//
// BN_mod_exp_mont_consttime walks a fixed window over all words of the
// exponent ("bits = p->top * BN_BITS2") and gathers table entries without
// secret-dependent addresses (Percival 2005; Gueron 2012). ifma.c does the same, by
// bits of the exponent's bytes, all of which it reads alike: it has no branch, no
// address and no mask of a load or store that depends on the exponent. That is of
// the machine code, which a test inspects, as compilers make masked loads out of C
// that has none. In libcrypto two places remain where a BIGNUM is normalised:
//
//   - BN_bin2bn skips leading zero bytes in a loop. Exp hands it a buffer with
//     a marker byte 1 in front, so that the loop always ends at once.
//   - BN_clear_bit, which takes the marker off again, drops leading zero
//     *words*. An exponent with a zero top word is thereby a little faster.
//     For a share uniform modulo φ(N) that happens with probability 2⁻⁶⁴, and
//     what it then tells is those 64 bits; the event is unobservable in
//     practice and no public function of libcrypto avoids it.
//
// # Memory
//
// All secret numbers live in BN_secure_new and BN_CTX_secure_new memory and
// are cleansed before they are freed. That memory is locked and kept out of
// core dumps only after a program has called [LockHeap]; otherwise libcrypto
// takes it from malloc. The table of powers, of a public base, is always taken from
// malloc, and cleansed. The vector code erases the vector registers and its stack.
// Other registers, what libcrypto leaves on the stack, and what the kernel saves of
// registers when it interrupts a computation are out of reach.
package modexp
