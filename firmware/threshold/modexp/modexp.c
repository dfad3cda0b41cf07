#include "modexp.h"
#include "ifma.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

struct privyseal_modulus {
    BIGNUM *n;
    BN_MONT_CTX *mont;
    int width; // bytes of n
    uint8_t n_bytes[MAX_MODULUS_LEN];
    ifma_modulus ifma;
};

void privyseal_modulus_free(privyseal_modulus *m)
{
    if (m == NULL)
        return;
    BN_MONT_CTX_free(m->mont);
    BN_free(m->n);
    OPENSSL_free(m);
}

int privyseal_modulus_vectors(const privyseal_modulus *m)
{
    return m->ifma.vectors;
}

// The longest modulus and two bits more, in whole limbs.
_Static_assert((8 * MAX_MODULUS_LEN + 2 + 51) / 52 <= IFMA_LIMBS, "IFMA_VECTORS is too small");

// set_ifma prepares the modulus for this processor's 52-bit multipliers, if it has
// any: R² mod n for their R.
static int set_ifma(privyseal_modulus *m, const uint8_t *n, size_t width, BN_CTX *ctx)
{
    uint8_t bytes[MAX_MODULUS_LEN];
    BIGNUM *rr = NULL;
    int ok = 0;

    if (!ifma_new(&m->ifma, n, width, BN_num_bits(m->n)))
        return 1;
    rr = BN_new();
    if (rr != NULL && BN_set_bit(rr, 2 * 52 * m->ifma.limbs) && BN_nnmod(rr, rr, m->n, ctx)
        && BN_bn2binpad(rr, bytes, (int)width) == (int)width) {
        ifma_set(&m->ifma, m->ifma.rr, bytes, width);
        ok = 1;
    }
    BN_free(rr);
    return ok;
}

privyseal_modulus *privyseal_modulus_new(const uint8_t *n, size_t width, int portable)
{
    privyseal_modulus *m = OPENSSL_zalloc(sizeof(*m));
    BN_CTX *ctx = BN_CTX_new();

    if (m == NULL || ctx == NULL)
        goto err;
    m->width = (int)width;
    memcpy(m->n_bytes, n, width);
    m->n = BN_bin2bn(n, (int)width, NULL);
    m->mont = BN_MONT_CTX_new();
    if (m->n == NULL || m->mont == NULL || !BN_MONT_CTX_set(m->mont, m->n, ctx))
        goto err;
    if (!portable && !set_ifma(m, n, width, ctx))
        goto err;
    BN_CTX_free(ctx);
    return m;

err:
    ERR_clear_error();
    BN_CTX_free(ctx);
    privyseal_modulus_free(m);
    return NULL;
}

// secret_exponent reads d without looking at its leading zeros: see doc.go.
static BIGNUM *secret_exponent(const uint8_t *d, size_t len)
{
    BIGNUM *bn = BN_secure_new();
    uint8_t *marked = OPENSSL_secure_malloc(len + 1);

    if (bn == NULL || marked == NULL)
        goto err;
    marked[0] = 1;
    memcpy(marked + 1, d, len);
    if (BN_bin2bn(marked, (int)len + 1, bn) == NULL || !BN_clear_bit(bn, (int)len * 8))
        goto err;
    BN_set_flags(bn, BN_FLG_CONSTTIME);
    OPENSSL_secure_clear_free(marked, len + 1);
    return bn;

err:
    OPENSSL_secure_clear_free(marked, len + 1);
    BN_clear_free(bn);
    return NULL;
}

static int exp_ifma(const privyseal_modulus *m, uint8_t *out,
                    const uint8_t *x, const uint8_t *d, size_t d_len)
{
    size_t size = ifma_table_size(&m->ifma);
    uint64_t *work, *table;
    int ret = -1;

    // The base and the modulus are public, and as long as each other.
    if (memcmp(x, m->n_bytes, (size_t)m->width) >= 0)
        return 0;
    work = OPENSSL_secure_malloc(IFMA_WORK);
    table = OPENSSL_malloc(size); // powers of x, no secrets
    if (work != NULL && table != NULL) {
        ifma_exp(&m->ifma, out, x, d, d_len, work, table);
        ret = 1;
    } else {
        ERR_clear_error();
    }
    OPENSSL_secure_clear_free(work, IFMA_WORK);
    OPENSSL_clear_free(table, size);
    return ret;
}

int privyseal_exp_consttime(const privyseal_modulus *m, uint8_t *out,
                            const uint8_t *x, const uint8_t *d, size_t d_len)
{
    int ret = -1;
    BN_CTX *ctx;
    BIGNUM *base, *exponent, *power;

    if (m->ifma.vectors > 0)
        return exp_ifma(m, out, x, d, d_len);
    ctx = BN_CTX_secure_new();
    base = BN_bin2bn(x, m->width, NULL);
    exponent = secret_exponent(d, d_len);
    power = BN_secure_new();
    if (ctx == NULL || base == NULL || exponent == NULL || power == NULL)
        goto done;
    if (BN_ucmp(base, m->n) >= 0) {
        ret = 0;
        goto done;
    }
    if (BN_mod_exp_mont_consttime(power, base, exponent, m->n, ctx, m->mont)
        && BN_bn2binpad(power, out, m->width) == m->width)
        ret = 1;

done:
    ERR_clear_error();
    BN_clear_free(power);
    BN_clear_free(exponent);
    BN_free(base);
    BN_CTX_free(ctx);
    return ret;
}

int privyseal_exp_vartime(const privyseal_modulus *m, uint8_t *out,
                          const uint8_t *x, const uint8_t *e, size_t e_len)
{
    int ret = -1;
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *base = BN_bin2bn(x, m->width, NULL);
    BIGNUM *exponent = BN_bin2bn(e, (int)e_len, NULL);
    BIGNUM *power = BN_new();

    if (ctx == NULL || base == NULL || exponent == NULL || power == NULL)
        goto done;
    if (BN_ucmp(base, m->n) >= 0) {
        ret = 0;
        goto done;
    }
    if (BN_mod_exp_mont(power, base, exponent, m->n, ctx, m->mont)
        && BN_bn2binpad(power, out, m->width) == m->width)
        ret = 1;

done:
    ERR_clear_error();
    BN_free(power);
    BN_free(exponent);
    BN_free(base);
    BN_CTX_free(ctx);
    return ret;
}

int privyseal_exp2_vartime(const privyseal_modulus *m, uint8_t *out,
                           const uint8_t *x, const uint8_t *a, size_t a_len,
                           const uint8_t *y, const uint8_t *b, size_t b_len)
{
    int ret = -1;
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *base1 = BN_bin2bn(x, m->width, NULL);
    BIGNUM *base2 = BN_bin2bn(y, m->width, NULL);
    BIGNUM *exponent1 = BN_bin2bn(a, (int)a_len, NULL);
    BIGNUM *exponent2 = BN_bin2bn(b, (int)b_len, NULL);
    BIGNUM *power = BN_new();

    if (ctx == NULL || base1 == NULL || base2 == NULL || exponent1 == NULL
        || exponent2 == NULL || power == NULL)
        goto done;
    // BN_mod_exp2_mont says that 0^0 is 0, unlike the other functions.
    if (BN_is_zero(base1) || BN_is_zero(base2)
        || BN_ucmp(base1, m->n) >= 0 || BN_ucmp(base2, m->n) >= 0) {
        ret = 0;
        goto done;
    }
    if (BN_mod_exp2_mont(power, base1, exponent1, base2, exponent2, m->n, ctx, m->mont)
        && BN_bn2binpad(power, out, m->width) == m->width)
        ret = 1;

done:
    ERR_clear_error();
    BN_free(power);
    BN_free(exponent1);
    BN_free(exponent2);
    BN_free(base1);
    BN_free(base2);
    BN_CTX_free(ctx);
    return ret;
}

int privyseal_lock_heap(size_t size)
{
    int ret = CRYPTO_secure_malloc_init(size, 16);

    ERR_clear_error();
    return ret;
}
