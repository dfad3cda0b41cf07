// Modular exponentiation with the 52-bit multipliers of AVX-512 (IFMA): see doc.go.

#ifndef PRIVYSEAL_IFMA_H
#define PRIVYSEAL_IFMA_H

#include <stddef.h>
#include <stdint.h>

#define IFMA_VECTORS 10 // at most, of 8 limbs: for 4096 bits
#define IFMA_LIMBS (8 * IFMA_VECTORS)

// Numbers are arrays of limbs of 52 bits, least significant first, padded with
// zeros to whole vectors.
typedef struct {
    int vectors;  // 0: this machine or this modulus has no use for it
    int limbs;    // R = 2^(52·limbs) > 4n
    int width;    // bytes of n
    uint64_t k0;  // −n⁻¹ mod 2^52
    uint64_t n[IFMA_LIMBS];
    uint64_t rr[IFMA_LIMBS]; // R² mod n
} ifma_modulus;

// ifma_new prepares a modulus of so many bits, of which limbs and vectors are
// set, and returns 0 if the processor or the length is not one for it. The caller
// then fills in rr.
int ifma_new(ifma_modulus *m, const uint8_t *n, size_t width, int bits);

// ifma_set writes a big-endian number of width bytes as limbs.
void ifma_set(const ifma_modulus *m, uint64_t *limbs, const uint8_t *x, size_t width);

// ifma_exp writes x^d mod n, in time that depends on the lengths only. x is below n.
// work is secret memory of IFMA_WORK bytes; table is other memory of
// ifma_table_size bytes, for powers of x. The caller erases both.
void ifma_exp(const ifma_modulus *m, uint8_t *out, const uint8_t *x,
              const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table);

#define IFMA_WORK (3 * IFMA_LIMBS * sizeof(uint64_t))
#define IFMA_WINDOW 5
size_t ifma_table_size(const ifma_modulus *m);

#endif
