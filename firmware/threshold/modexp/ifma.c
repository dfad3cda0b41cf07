#include "ifma.h"
#include "lanes.h"

#include <string.h>

#define MASK ((UINT64_C(1) << 52) - 1)
#define STACK 1024 // bytes, several times what the functions below put on it

void ifma_set(const ifma_modulus *m, uint64_t *limbs, const uint8_t *x, size_t width)
{
    uint64_t buffer = 0;
    int bits = 0, at = 0;

    memset(limbs, 0, (size_t)m->vectors * LANES * sizeof(*limbs));
    for (size_t i = width; i > 0; i--) {
        buffer |= (uint64_t)x[i - 1] << bits;
        bits += 8;
        if (bits >= 52) {
            limbs[at++] = buffer & MASK;
            bits -= 52;
            buffer = bits > 0 ? (uint64_t)x[i - 1] >> (8 - bits) : 0;
        }
    }
    if (bits > 0 && at < m->vectors * LANES)
        limbs[at] = buffer;
}

size_t ifma_table_size(const ifma_modulus *m)
{
    return ((size_t)m->vectors * LANES * sizeof(uint64_t)) << IFMA_WINDOW;
}

#if PRIVYSEAL_LANES != 0

int ifma_new(ifma_modulus *m, const uint8_t *n, size_t width, int bits)
{
    uint64_t inverse = 1;

    m->vectors = 0;
    if (!lanes_usable())
        return 0;
    m->limbs = (bits + 2 + 51) / 52;
    m->width = (int)width;
    // The three lengths that are in use: 2048, 3072 and 4096 bits, and what is
    // little shorter. Below, libcrypto is as good.
    if (m->limbs <= 32 || m->limbs > 80)
        return 0;
    m->vectors = m->limbs <= 40 ? 5 : m->limbs <= 64 ? 8 : 10;
    ifma_set(m, m->n, n, width);
    for (int i = 0; i < 6; i++) // Newton: 1, 2, 4, … 64 bits are right
        inverse *= 2 - m->n[0] * inverse;
    m->k0 = -inverse & MASK;
    return 1;
}

// multiply sets out = a·b/R mod n, "almost" (Gueron, WAIFI 2012): of a and b below
// 2n follows out < 2n, and nothing has to be subtracted, as R > 4n:
//
//   out = (a·b + k·n)/R,  k < R:   out < 2n·2n/R + n < 2n
//
// out may be a or b.
//
// A lane collects up to 4 products' halves of 52 bits in each of at most 80 steps,
// and one carry: less than 2^61. Carries are passed on at the end, but for that of
// the lowest limb, which decides the next step.
INLINE void multiply(uint64_t *out, const uint64_t *a, const uint64_t *b, const ifma_modulus *m, const int vectors)
{
    const vector zero = all(0);
    const uint64_t a0 = a[0], n0 = m->n[0], k0 = m->k0;
    uint64_t carry = 0;
    vector acc[IFMA_VECTORS];

#pragma GCC unroll 10
    for (int v = 0; v < vectors; v++)
        acc[v] = zero;
    for (int i = 0; i < m->limbs; i++) {
        uint64_t low = lowest(acc[0]), k;
        vector bi = all(b[i]), ki, high;

        low += a0 * b[i] & MASK;
        k = low * k0 & MASK;
        low += n0 * k & MASK; // now a multiple of 2^52
        ki = all(k);
        high = add_high(only(low >> 52), bi, load(a));
        high = add_high(high, ki, load(m->n));
#pragma GCC unroll 10
        for (int v = 0; v < vectors; v++) {
            acc[v] = add_low(acc[v], bi, load(a + LANES * v));
            acc[v] = add_low(acc[v], ki, load(m->n + LANES * v));
        }
#pragma GCC unroll 10
        for (int v = 0; v < vectors; v++) // one limb down: divided by 2^52
            acc[v] = down(acc[v], v + 1 < vectors ? acc[v + 1] : zero);
        acc[0] = sum(acc[0], high);
#pragma GCC unroll 10
        for (int v = 1; v < vectors; v++) {
            acc[v] = add_high(acc[v], bi, load(a + LANES * v));
            acc[v] = add_high(acc[v], ki, load(m->n + LANES * v));
        }
    }
#pragma GCC unroll 10
    for (int v = 0; v < vectors; v++)
        store(out + LANES * v, acc[v]);
    for (int i = 0; i < LANES * vectors; i++) {
        carry += out[i];
        out[i] = carry & MASK;
        carry >>= 52;
    }
}

// pick sets out to the entry of the table with the given number, and really reads
// all of them, in order.
INLINE void pick(uint64_t *out, const uint64_t *table, unsigned number, const int vectors)
{
    const vector wanted = all(number);
    vector entry[IFMA_VECTORS];

#pragma GCC unroll 10
    for (int v = 0; v < vectors; v++)
        entry[v] = all(0);
    for (unsigned e = 0; e < 1u << IFMA_WINDOW; e++) {
        const vector mask = ones_if_equal(wanted, all(e));
#pragma GCC unroll 10
        for (int v = 0; v < vectors; v++)
            entry[v] = or_masked(entry[v], mask, load(table + LANES * v));
        table += LANES * vectors;
    }
#pragma GCC unroll 10
    for (int v = 0; v < vectors; v++)
        store(out + LANES * v, entry[v]);
}

// bits_at returns size bits of d above the given bit, as far as d has them. Only
// the place in d, which is public, decides what is read.
static unsigned bits_at(const uint8_t *d, size_t d_len, size_t bit, int size)
{
    size_t low = d_len - 1 - bit / 8;
    unsigned two = d[low];

    if (low > 0)
        two |= (unsigned)d[low - 1] << 8;
    return two >> (bit % 8) & ((1u << size) - 1);
}

// power is a fixed-window exponentiation: IFMA_WINDOW squarings and one
// multiplication for every window, whatever is in it.
INLINE void power(const ifma_modulus *m, uint64_t *out, const uint64_t *x, const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table, const int vectors)
{
    const int size = LANES * vectors;
    uint64_t *acc = work, *factor = work + IFMA_LIMBS, *one = work + 2 * IFMA_LIMBS;
    size_t bit = (8 * d_len - 1) / IFMA_WINDOW * IFMA_WINDOW;

    memset(one, 0, (size_t)size * sizeof(*one));
    one[0] = 1;
    multiply(table, m->rr, one, m, vectors);
    multiply(table + size, m->rr, x, m, vectors);
    for (int e = 2; e < 1 << IFMA_WINDOW; e++)
        multiply(table + e * size, table + (e - 1) * size, table + size, m, vectors);
    pick(acc, table, bits_at(d, d_len, bit, IFMA_WINDOW), vectors);
    while (bit > 0) {
        bit -= IFMA_WINDOW;
        for (int i = 0; i < IFMA_WINDOW; i++)
            multiply(acc, acc, acc, m, vectors);
        pick(factor, table, bits_at(d, d_len, bit, IFMA_WINDOW), vectors);
        multiply(acc, acc, factor, m, vectors);
    }
    multiply(out, acc, one, m, vectors); // (2n − 1 + (R − 1)·n)/R < n + 1: at most n
}

TARGET static void power5(const ifma_modulus *m, uint64_t *out, const uint64_t *x, const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table)
{
    power(m, out, x, d, d_len, work, table, 5);
}

TARGET static void power8(const ifma_modulus *m, uint64_t *out, const uint64_t *x, const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table)
{
    power(m, out, x, d, d_len, work, table, 8);
}

TARGET static void power10(const ifma_modulus *m, uint64_t *out, const uint64_t *x, const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table)
{
    power(m, out, x, d, d_len, work, table, 10);
}

// forget_stack overwrites what the functions called before left there: parts
// of an intermediate power, where there were not registers enough.
static void __attribute__((noinline)) forget_stack(void)
{
    volatile uint8_t frame[STACK];

    for (size_t i = 0; i < sizeof(frame); i++)
        frame[i] = 0;
}

void ifma_exp(const ifma_modulus *m, uint8_t *out, const uint8_t *x, const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table)
{
    uint64_t base[IFMA_LIMBS], *y = work, borrow = 0, keep, buffer = 0;
    int bits = 0, at = 0;

    ifma_set(m, base, x, (size_t)m->width);
    switch (m->vectors) {
    case 5:
        power5(m, y, base, d, d_len, work, table);
        break;
    case 8:
        power8(m, y, base, d, d_len, work, table);
        break;
    default:
        power10(m, y, base, d, d_len, work, table);
    }
    forget();
    forget_stack();
    // y is n only if it is 0 mod n; n − n is written then, by mask.
    for (int i = 0; i < m->limbs; i++)
        borrow = (y[i] - m->n[i] - borrow) >> 63;
    keep = -borrow; // all ones if y < n
    for (int i = 0; i < m->limbs; i++)
        y[i] &= keep;
    for (int i = m->width; i > 0; i--) {
        if (bits < 8) {
            buffer |= (at < m->limbs ? y[at++] : 0) << bits;
            bits += 52;
        }
        out[i - 1] = (uint8_t)buffer;
        buffer >>= 8;
        bits -= 8;
    }
}

#else

int ifma_new(ifma_modulus *m, const uint8_t *n, size_t width, int bits)
{
    (void)n, (void)width, (void)bits;
    m->vectors = 0;
    return 0;
}

void ifma_exp(const ifma_modulus *m, uint8_t *out, const uint8_t *x, const uint8_t *d, size_t d_len, uint64_t *work, uint64_t *table)
{
    (void)m, (void)out, (void)x, (void)d, (void)d_len, (void)work, (void)table;
}

#endif
