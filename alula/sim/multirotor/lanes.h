/* Vectors of environments: LANES of them a row, VW in one machine vector.
 *
 * Every array of the kernels is [blocks][rows][LANES], so that one row of one block is contiguous and a
 * block of 16 environments stays in the first-level cache while it is stepped. In C++, for a GPU, a thread has one
 * environment: the same functions stand on the types of thread.h.
 */
#ifndef ALULA_LANES_H
#define ALULA_LANES_H

#define EACH_VECTOR(o) for (int o = 0; o < LANES; o += VW)

#ifdef __cplusplus
#include "thread.h"
#else

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

#define LANES 16
#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX__)
#define VW 8
#else
#define VW 4
#endif

typedef float vec __attribute__((vector_size(4 * VW), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * VW), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * VW), may_alias));

#define INLINE static inline
#define UNROLL
/* Room for rows of one block. */
#define LOCAL(name, rows) float name[(rows) * LANES] __attribute__((aligned(64)))

static inline vec v_load(const float *p) { return *(const vec *)p; }
static inline void v_store(float *p, vec v) { *(vec *)p = v; }
static inline vec v_set(float x) { return x - (vec){0}; }
static inline vec v_where_gt(vec a, vec b, vec x, vec y)
{
    const ivec mask = a > b;
    return (vec)((mask & (ivec)x) | (~mask & (ivec)y));
}

#if defined(__AVX512F__)
static inline vec v_max(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vec v_min(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
static inline vec v_sqrt(vec a) { return (vec)_mm512_sqrt_ps((__m512)a); }
#elif defined(__AVX__)
static inline vec v_max(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
static inline vec v_min(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
static inline vec v_sqrt(vec a) { return (vec)_mm256_sqrt_ps((__m256)a); }
#else
static inline vec v_max(vec a, vec b) { return v_where_gt(a, b, a, b); }
static inline vec v_min(vec a, vec b) { return v_where_gt(b, a, a, b); }
static inline vec v_sqrt(vec a)
{
    vec r;
    for (int i = 0; i < VW; i++) r[i] = sqrtf(a[i]);
    return r;
}
#endif

static inline float v_sum(vec a)
{
    float s = 0.0f;
    for (int i = 0; i < VW; i++) s += a[i];
    return s;
}

static inline vec v_float(ivec x) { return __builtin_convertvector(x, vec); }
static inline ivec v_int(vec x) { return __builtin_convertvector(x, ivec); }
/* Whether any lane of a mask is set, and a mask of all. */
static inline int v_any(ivec mask)
{
    int found = 0;
    for (int i = 0; i < VW; i++) found |= mask[i];
    return found;
}
static inline ivec v_all(void) { return ~(ivec){0}; }

#endif

/* Nearest integer, |x| < 2^22: adding 1.5 * 2^23 leaves no bits for the fraction. */
INLINE vec v_round(vec x)
{
    const vec magic = v_set(12582912.0f);
    return (x + magic) - magic;
}

/* sin(2 pi x): fold to a quarter turn, then the odd Taylor polynomial; error below 4e-6. */
INLINE vec v_sin_turns(vec x)
{
    const vec r = x - v_round(x);              /* [-1/2, 1/2] */
    const vec folded = v_where_gt(r, v_set(0.25f), 0.5f - r, v_where_gt(v_set(-0.25f), r, -0.5f - r, r));
    const vec a = folded * 6.28318531f, s = a * a;
    return a * (1.0f + s * (-1.0f / 6 + s * (1.0f / 120 + s * (-1.0f / 5040 + s * (1.0f / 362880)))));
}
INLINE vec v_sin(vec x) { return v_sin_turns(x * 0.159154943f); }

/* ln(x) for normal x > 0: exponent and mantissa, then ln m = 2 artanh((m - 1) / (m + 1)); error below 1e-6. */
INLINE vec v_log(vec x)
{
    const ivec bits = (ivec)x;
    const ivec exponent = (bits - 0x3f3504f3) >> 23; /* mantissa in [sqrt(1/2), sqrt(2)) */
    const vec m = (vec)(bits - (exponent << 23));
    const vec z = (m - 1.0f) / (m + 1.0f), s = z * z;
    const vec ln_m = 2.0f * z * (1.0f + s * (1.0f / 3 + s * (1.0f / 5 + s * (1.0f / 7))));
    return ln_m + v_float(exponent) * 0.693147181f;
}

/* exp(x) for x < 80, below -80 as there: powers of two, and the Taylor polynomial of the rest; relative error below
 * 1e-6 for |x| < 1. */
INLINE vec v_exp(vec x)
{
    const vec y = v_max(x, v_set(-80.0f)) * 1.44269504f, n = v_round(y), f = (y - n) * 0.693147181f;
    const vec p = 1.0f + f * (1.0f + f * (1.0f / 2 + f * (1.0f / 6 + f * (1.0f / 24 + f * (1.0f / 120 + f * (1.0f / 720))))));
    return (vec)((ivec)p + (v_int(n) << 23));
}

/* xoshiro128++ (Blackman and Vigna 2021), one generator a lane: rows [4][LANES]. */
typedef struct {
    uvec s0, s1, s2, s3;
} Generator;
INLINE Generator v_generator(const uint32_t *rng)
{
    const Generator g = {*(const uvec *)rng, *(const uvec *)(rng + LANES), *(const uvec *)(rng + 2 * LANES),
                         *(const uvec *)(rng + 3 * LANES)};
    return g;
}
INLINE void v_keep_generator(uint32_t *rng, Generator g)
{
    *(uvec *)rng = g.s0;
    *(uvec *)(rng + LANES) = g.s1;
    *(uvec *)(rng + 2 * LANES) = g.s2;
    *(uvec *)(rng + 3 * LANES) = g.s3;
}
/* As it was before in the lanes that are not chosen. */
INLINE Generator v_chosen_generator(ivec chosen, Generator g, Generator before)
{
    const uvec keep = (uvec)chosen;
    g.s0 = (keep & g.s0) | (~keep & before.s0);
    g.s1 = (keep & g.s1) | (~keep & before.s1);
    g.s2 = (keep & g.s2) | (~keep & before.s2);
    g.s3 = (keep & g.s3) | (~keep & before.s3);
    return g;
}
INLINE uvec v_rotl(uvec x, int k) { return (x << k) | (x >> (32 - k)); }
INLINE uvec v_random(Generator *g)
{
    const uvec result = v_rotl(g->s0 + g->s3, 7) + g->s0, t = g->s1 << 9;
    g->s2 ^= g->s0;
    g->s3 ^= g->s1;
    g->s1 ^= g->s2;
    g->s0 ^= g->s3;
    g->s2 ^= t;
    g->s3 = v_rotl(g->s3, 11);
    return result;
}
/* Two independent standard normals a lane from one 32-bit draw (Box and Muller 1958): 16 bits for the radius, so
 * that the tails end at 4.9 standard deviations, 15 for a half circle of angle and one for its sign. */
INLINE void v_normal(Generator *g, vec *a, vec *b)
{
    const uvec bits = v_random(g);
    const vec u = (v_float((ivec)(bits >> 16)) + 0.5f) * (1.0f / 65536);
    const vec radius = v_sqrt(-2.0f * v_log(u));
    const vec signed_radius = (vec)((uvec)radius ^ (bits << 31));
    /* angle in (-pi/2, pi/2): Taylor polynomials, error below 4e-6 (sin) and 3e-5 (cos) */
    const vec x = (v_float((ivec)((bits >> 1) & 0x7fff)) - 16383.5f) * (3.14159265f / 32768);
    const vec s = x * x;
    *a = signed_radius * x * (1.0f + s * (-1.0f / 6 + s * (1.0f / 120 + s * (-1.0f / 5040 + s * (1.0f / 362880)))));
    *b = signed_radius * (1.0f + s * (-1.0f / 2 + s * (1.0f / 24 + s * (-1.0f / 720 + s * (1.0f / 40320)))));
}

/* Uniform in [0, 1) and in [-1, 1), 24 bits. */
INLINE vec v_uniform01(Generator *g)
{
    return v_float((ivec)(v_random(g) >> 8)) * 0x1p-24f;
}
INLINE vec v_uniform11(Generator *g) { return 2.0f * v_uniform01(g) - 1.0f; }

#endif
