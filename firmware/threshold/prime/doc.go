// Package prime finds primes for RSA keys, ordinary and safe ones, as a
// deterministic function of a stream of random bytes.
//
// Candidates come from the stream alone; libcrypto only judges them. Its
// Miller–Rabin bases are its own random numbers, which cannot change which prime
// is found but with the probability that a composite passes, below 2⁻¹²⁸.
//
// [GenerateSafeOpenSSL] is the exception: a search by libcrypto and its own random
// numbers, for keys that no ceremony has to reproduce.
//
// Finding a prime takes time that depends on the prime found: the time of a
// key generation tells how many candidates failed, not which one passed. Tests
// of a candidate run in constant time as far as libcrypto offers it.
package prime
