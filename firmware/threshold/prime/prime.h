// The C side of package prime. All functions return 1 for yes, 0 for no and -1
// if libcrypto fails. n is big-endian, secret, and wiped before they return.

#ifndef PRIVYSEAL_PRIME_H
#define PRIVYSEAL_PRIME_H

#include <stddef.h>
#include <stdint.h>

// BN_check_prime: 64 rounds of Miller-Rabin up to 2048 bits, 128 above.
int privyseal_prime_check(const uint8_t *n, size_t len);

// One Fermat test: whether b^(n-1) = 1 mod n, for the base b = n-2 (that is, -2).
int privyseal_prime_fermat(const uint8_t *n, size_t len);

// BN_generate_prime_ex2: a safe prime of 8*len bits, the two highest set, by
// libcrypto's own random numbers. privysealPrimeTested, in Go, is called before
// each test of a candidate and ends the search by 0; then 0 is returned.
int privyseal_prime_safe(uint8_t *out, size_t len, uintptr_t handle);

#endif
