#include "prime.h"

#include <openssl/bn.h>
#include <openssl/err.h>

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
