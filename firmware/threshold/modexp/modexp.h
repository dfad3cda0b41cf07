// The C side of package modexp. All functions are safe for concurrent use of
// one modulus: libcrypto only reads it and its Montgomery constants.

#ifndef PRIVYSEAL_MODEXP_H
#define PRIVYSEAL_MODEXP_H

#include <stddef.h>
#include <stdint.h>

typedef struct privyseal_modulus privyseal_modulus;

#define MAX_MODULUS_LEN 512 // as in limits.go

// portable leaves out what only some processors have.
privyseal_modulus *privyseal_modulus_new(const uint8_t *n, size_t width, int portable);
void privyseal_modulus_free(privyseal_modulus *m);

// privyseal_modulus_vectors returns ifma_modulus.vectors.
int privyseal_modulus_vectors(const privyseal_modulus *m);

// The exponentiations write exactly as many bytes as the modulus has and
// return 1, or 0 if a base is out of range, or -1 if libcrypto fails.
int privyseal_exp_consttime(const privyseal_modulus *m, uint8_t *out,
                            const uint8_t *x, const uint8_t *d, size_t d_len);
int privyseal_exp_vartime(const privyseal_modulus *m, uint8_t *out,
                          const uint8_t *x, const uint8_t *e, size_t e_len);
int privyseal_exp2_vartime(const privyseal_modulus *m, uint8_t *out,
                           const uint8_t *x, const uint8_t *a, size_t a_len,
                           const uint8_t *y, const uint8_t *b, size_t b_len);

// 1: locked heap made. 2: made, but not locked. 0: not made.
int privyseal_lock_heap(size_t size);

#endif
