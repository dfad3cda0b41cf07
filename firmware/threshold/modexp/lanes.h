// Vectors of eight lanes of 64 bits, and the operations on them that ifma.c is
// written in.
//
// PRIVYSEAL_LANES says what they are made of:
//
//   0  nothing: libcrypto does everything (build tag modexp_portable, and every
//      processor but x86-64)
//   1  AVX-512 IFMA
//   2  a loop over the lanes in plain C (build tag modexp_model): far too slow for
//      use, but ifma.c can so be tested on any machine. It stops the process when a
//      lane overflows, which the real lanes would do silently.

#ifndef PRIVYSEAL_LANES_H
#define PRIVYSEAL_LANES_H

#include <stdint.h>

#define LANES 8 // in a vector

#ifndef PRIVYSEAL_LANES
#if defined(__x86_64__) && defined(__GNUC__)
#define PRIVYSEAL_LANES 1
#else
#define PRIVYSEAL_LANES 0
#endif
#endif

#if PRIVYSEAL_LANES == 1

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512ifma")))
#define INLINE static inline __attribute__((always_inline, target("avx512f,avx512ifma")))

typedef __m512i vector;

// lanes_usable asks the processor for the instructions and (XGETBV, in the
// compiler's library) the operating system for the registers.
static inline int lanes_usable(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma");
}

INLINE vector all(uint64_t x) { return _mm512_set1_epi64((long long)x); }
INLINE vector load(const uint64_t *x) { return _mm512_loadu_si512(x); }
INLINE void store(uint64_t *out, vector v) { _mm512_storeu_si512(out, v); }
INLINE vector sum(vector a, vector b) { return _mm512_add_epi64(a, b); }

// lowest returns lane 0, and only a vector with x there and 0 elsewhere.
INLINE uint64_t lowest(vector v) { return (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(v)); }
INLINE vector only(uint64_t x) { return _mm512_zextsi128_si512(_mm_cvtsi64_si128((long long)x)); }

// add_low and add_high add the lower and the upper 52 bits of a·b to sum, of the lower
// 52 bits of a and b each.
INLINE vector add_low(vector sum, vector a, vector b) { return _mm512_madd52lo_epu64(sum, a, b); }
INLINE vector add_high(vector sum, vector a, vector b) { return _mm512_madd52hi_epu64(sum, a, b); }

// down moves all lanes of v one down, and lane 0 of next to the top.
INLINE vector down(vector v, vector next) { return _mm512_alignr_epi64(next, v, 1); }

// ones_if_equal has all bits set in the lanes in which x = y, else none. The compiler
// must not see that: from a choice by mask registers it makes loads that the
// processor leaves out where the mask is 0.
INLINE vector ones_if_equal(vector x, vector y)
{
    vector mask = _mm512_maskz_set1_epi64(_mm512_cmpeq_epi64_mask(x, y), -1);

    __asm__("" : "+v"(mask));
    return mask;
}

// or_masked returns a | (mask & b).
INLINE vector or_masked(vector a, vector mask, vector b) { return _mm512_ternarylogic_epi64(a, mask, b, 0xf8); }

// forget erases the vector registers.
TARGET static void forget(void)
{
#define CLEAR(r) __asm__ volatile("vpxorq %%zmm" #r ", %%zmm" #r ", %%zmm" #r ::: "xmm" #r)
    CLEAR(0); CLEAR(1); CLEAR(2); CLEAR(3); CLEAR(4); CLEAR(5); CLEAR(6); CLEAR(7);
    CLEAR(8); CLEAR(9); CLEAR(10); CLEAR(11); CLEAR(12); CLEAR(13); CLEAR(14); CLEAR(15);
    CLEAR(16); CLEAR(17); CLEAR(18); CLEAR(19); CLEAR(20); CLEAR(21); CLEAR(22); CLEAR(23);
    CLEAR(24); CLEAR(25); CLEAR(26); CLEAR(27); CLEAR(28); CLEAR(29); CLEAR(30); CLEAR(31);
#undef CLEAR
}

#elif PRIVYSEAL_LANES == 2

#include <stdlib.h>

#define TARGET
#define INLINE static __attribute__((noinline)) // or it takes long to compile

typedef struct { uint64_t lane[LANES]; } vector;

static inline int lanes_usable(void) { return 1; }

#define EACH(value)                   \
    vector out;                       \
    for (int i = 0; i < LANES; i++)   \
        out.lane[i] = (value);        \
    return out

static inline uint64_t plus(uint64_t a, uint64_t b)
{
    if (a + b < a)
        abort();
    return a + b;
}

static inline unsigned __int128 product(uint64_t a, uint64_t b)
{
    const uint64_t mask = (UINT64_C(1) << 52) - 1;

    return (unsigned __int128)(a & mask) * (b & mask);
}

static inline vector all(uint64_t x) { EACH(x); }
static inline vector load(const uint64_t *x) { EACH(x[i]); }
static inline void store(uint64_t *out, vector v) { for (int i = 0; i < LANES; i++) out[i] = v.lane[i]; }
static inline vector sum(vector a, vector b) { EACH(plus(a.lane[i], b.lane[i])); }
static inline uint64_t lowest(vector v) { return v.lane[0]; }
static inline vector only(uint64_t x) { EACH(i == 0 ? x : 0); }
static inline vector add_low(vector sum, vector a, vector b) { EACH(plus(sum.lane[i], (uint64_t)product(a.lane[i], b.lane[i]) & ((UINT64_C(1) << 52) - 1))); }
static inline vector add_high(vector sum, vector a, vector b) { EACH(plus(sum.lane[i], (uint64_t)(product(a.lane[i], b.lane[i]) >> 52))); }
static inline vector down(vector v, vector next) { EACH(i + 1 < LANES ? v.lane[i + 1] : next.lane[0]); }
static inline vector ones_if_equal(vector x, vector y) { EACH(x.lane[i] == y.lane[i] ? ~UINT64_C(0) : 0); }
static inline vector or_masked(vector a, vector mask, vector b) { EACH(a.lane[i] | (mask.lane[i] & b.lane[i])); }
static inline void forget(void) {}

#undef EACH

#endif

#endif
