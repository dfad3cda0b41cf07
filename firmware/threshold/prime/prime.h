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

#endif
