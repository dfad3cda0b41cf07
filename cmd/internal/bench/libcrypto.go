package main

/*
#cgo pkg-config: libcrypto
#include <stdint.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>

typedef struct { BN_CTX *ctx; BN_MONT_CTX *mont; BIGNUM *n, *x, *d, *r; } bare;

static bare bare_new(const uint8_t *n, const uint8_t *x, const uint8_t *d, int len)
{
    bare b = { BN_CTX_new(), BN_MONT_CTX_new(), BN_bin2bn(n, len, NULL),
               BN_bin2bn(x, len, NULL), BN_bin2bn(d, len, NULL), BN_new() };
    BN_MONT_CTX_set(b.mont, b.n, b.ctx);
    BN_set_flags(b.d, BN_FLG_CONSTTIME);
    return b;
}

static int bare_exp(bare *b)
{
    return BN_mod_exp_mont_consttime(b->r, b->x, b->d, b->n, b->ctx, b->mont);
}
*/
import "C"

import (
	"errors"
	"unsafe"
)

// libcryptoExp returns a function that computes x^d mod n, all of the same
// length, by BN_mod_exp_mont_consttime and nothing else: what it needs is made
// beforehand, and stays until the process ends.
func libcryptoExp(n, x, d []byte) func() error {
	p := func(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(b)) }
	b := C.bare_new(p(n), p(x), p(d), C.int(len(n)))
	return func() error {
		if C.bare_exp(&b) != 1 {
			return errors.New("BN_mod_exp_mont_consttime failed")
		}
		return nil
	}
}

func libcryptoVersion() string { return C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION)) }
