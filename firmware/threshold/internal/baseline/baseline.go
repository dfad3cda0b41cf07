// Package baseline measures what libcrypto needs for one constant-time modular
// exponentiation without any of our code around it. Only benchmarks use it.
package baseline

/*
#cgo pkg-config: libcrypto
#include <stdint.h>
#include <openssl/bn.h>

static int baseline_run(const uint8_t *n, int n_len, const uint8_t *x, int x_len,
                        const uint8_t *d, int d_len, int rounds)
{
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *bn = BN_bin2bn(n, n_len, NULL), *bx = BN_bin2bn(x, x_len, NULL);
    BIGNUM *bd = BN_bin2bn(d, d_len, NULL), *r = BN_new();
    BN_MONT_CTX *mont = BN_MONT_CTX_new();
    int ok = BN_MONT_CTX_set(mont, bn, ctx);

    BN_set_flags(bd, BN_FLG_CONSTTIME);
    while (ok && rounds-- > 0)
        ok = BN_mod_exp_mont_consttime(r, bx, bd, bn, ctx, mont);
    BN_MONT_CTX_free(mont);
    BN_free(r);
    BN_free(bd);
    BN_free(bx);
    BN_free(bn);
    BN_CTX_free(ctx);
    return ok;
}
*/
import "C"

import "unsafe"

// Run computes x^d mod n the given number of times by
// BN_mod_exp_mont_consttime, in a loop in C, and reports success.
func Run(n, x, d []byte, rounds int) bool {
	p := func(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(&b[0])) }
	return C.baseline_run(p(n), C.int(len(n)), p(x), C.int(len(x)), p(d), C.int(len(d)), C.int(rounds)) == 1
}
