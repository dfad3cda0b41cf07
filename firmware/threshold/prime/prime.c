#include "prime.h"

#include <openssl/bn.h>
#include <openssl/err.h>

extern int privysealPrimeTested(uintptr_t handle); // openssl.go

int privyseal_prime_check(const uint8_t *n, size_t len)
{
    int ret = -1;
    BN_CTX *ctx = BN_CTX_secure_new();
    BIGNUM *bn = BN_secure_new();

    if (ctx != NULL && bn != NULL && BN_bin2bn(n, (int)len, bn) != NULL)
        ret = BN_check_prime(bn, ctx, NULL);
    ERR_clear_error();
    BN_clear_free(bn);
    BN_CTX_free(ctx);
    return ret;
}

int privyseal_prime_fermat(const uint8_t *n, size_t len)
{
    int ret = -1;
    BN_CTX *ctx = BN_CTX_secure_new();
    BIGNUM *m = BN_secure_new();
    BIGNUM *base = BN_secure_new();
    BIGNUM *exponent = BN_secure_new();
    BIGNUM *power = BN_secure_new();

    if (ctx == NULL || m == NULL || base == NULL || exponent == NULL || power == NULL)
        goto done;
    // The base is -2 and not 2 because libcrypto has a faster routine for 1024
    // bits that wants base, exponent and modulus of full length; as n-1 is even,
    // the power is the same.
    if (BN_bin2bn(n, (int)len, m) == NULL
        || BN_copy(base, m) == NULL || !BN_sub_word(base, 2)
        || BN_copy(exponent, m) == NULL || !BN_sub_word(exponent, 1))
        goto done;
    BN_set_flags(exponent, BN_FLG_CONSTTIME);
    if (BN_mod_exp_mont_consttime(power, base, exponent, m, ctx, NULL))
        ret = BN_is_one(power);

done:
    ERR_clear_error();
    BN_clear_free(power);
    BN_clear_free(exponent);
    BN_clear_free(base);
    BN_clear_free(m);
    BN_CTX_free(ctx);
    return ret;
}

struct search {
    uintptr_t handle;
    int cancelled;
};

static int on_candidate(int what, int number, BN_GENCB *cb)
{
    struct search *s = BN_GENCB_get_arg(cb);

    (void)number;
    if (what == 0 && !privysealPrimeTested(s->handle))
        s->cancelled = 1;
    return !s->cancelled;
}

int privyseal_prime_safe(uint8_t *out, size_t len, uintptr_t handle)
{
    int ret = -1;
    struct search s = { handle, 0 };
    BN_CTX *ctx = BN_CTX_secure_new();
    BIGNUM *p = BN_secure_new();
    BN_GENCB *cb = BN_GENCB_new();

    if (ctx == NULL || p == NULL || cb == NULL)
        goto done;
    BN_GENCB_set(cb, on_candidate, &s);
    if (BN_generate_prime_ex2(p, (int)len * 8, 1, NULL, NULL, cb, ctx))
        ret = BN_bn2binpad(p, out, (int)len) == (int)len ? 1 : -1;
    else if (s.cancelled)
        ret = 0;

done:
    ERR_clear_error();
    BN_GENCB_free(cb);
    BN_clear_free(p);
    BN_CTX_free(ctx);
    return ret;
}
