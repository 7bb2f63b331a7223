/* A word of w holds two inputs of two outputs, each input a half 256 w_i,j+1 + w_ij; a word of q holds two inputs as
 * int16, the first in the low half. sum_block adds up q_i w_ij for four outputs. */
#if defined(__ARM_FEATURE_SIMD32) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 10))
#include <arm_acle.h>

/* Cortex-M4, M7 and their like multiply and add two pairs at once: the low bytes as int16 for the first output. */
static int32_t add_low(uint32_t w, uint32_t q, int32_t sum)
{
    return __smlad(__sxtb16((int8x4_t)w), (int16x2_t)q, sum);
}

/* And the whole halves for 256 times the second plus the first: the bytes need not be taken apart. */
static int64_t add_whole(uint32_t w, uint32_t q, int64_t sum)
{
    return __smlald((int16x2_t)w, (int16x2_t)q, sum);
}

static int32_t high_sum(int64_t whole, int32_t low)
{
    const uint32_t bits = (uint32_t)((uint64_t)(whole - low) >> 8);
    int32_t sum;
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

/* A function of its own: inside its caller the loop would run out of registers. */
__attribute__((noinline)) static void sum_block(const uint32_t *q, const uint32_t *end, const uint32_t *w,
                                                int32_t sums[4])
{
    int32_t low0 = 0, low2 = 0;
    int64_t whole0 = 0, whole2 = 0;
    do {
        const uint32_t q01 = q[0], q23 = q[1], w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
        whole0 = add_whole(w0, q01, whole0);
        low0 = add_low(w0, q01, low0);
        whole2 = add_whole(w1, q01, whole2);
        low2 = add_low(w1, q01, low2);
        whole0 = add_whole(w2, q23, whole0);
        low0 = add_low(w2, q23, low0);
        whole2 = add_whole(w3, q23, whole2);
        low2 = add_low(w3, q23, low2);
        q += 2;
        w += 4;
    } while (q != end);
    sums[0] = low0;
    sums[1] = high_sum(whole0, low0);
    sums[2] = low2;
    sums[3] = high_sum(whole2, low2);
}
#else
/* A conversion to int8_t or int16_t keeps the lowest bits; compilers for machines with two's complement all do. */
static int32_t low_products(uint32_t w, int32_t first, int32_t second)
{
    return first * (int8_t)w + second * (int8_t)(w >> 16);
}

/* A low byte below zero has taken one from the high byte: adding 128 gives it back. */
static int32_t high_products(uint32_t w, int32_t first, int32_t second)
{
    return first * (int8_t)((w + 0x80u) >> 8) + second * (int8_t)((w + 0x800000u) >> 24);
}

static void sum_block(const uint32_t *q, const uint32_t *end, const uint32_t *w, int32_t sums[4])
{
    int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    do {
        const int32_t first = (int16_t)*q, second = (int16_t)(*q >> 16);
        sum0 += low_products(w[0], first, second);
        sum1 += high_products(w[0], first, second);
        sum2 += low_products(w[1], first, second);
        sum3 += high_products(w[1], first, second);
        q++;
        w += 2;
    } while (q != end);
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}
#endif

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The larger of the bits of a number above zero and those of |x|: they are ordered as the numbers are, with infinity
 * and NaN above all. */
static uint32_t larger(uint32_t bits, float x)
{
    const uint32_t other = bits_of(x) & 0x7fffffffu;
    return other > bits ? other : bits;
}

/* x and y times `up`, to the nearest whole number (ties to even), as two int16: x + 1.5 * 2^23 has that of x in its
 * lowest bits. */
static uint32_t whole_pair(float x, float y, float up)
{
    return (bits_of(x * up + 12582912.0f) & 0xffffu) | bits_of(y * up + 12582912.0f) << 16;
}

/* x_i = q_i 2^-k with every |q_i| below 2^bits and the largest at least half of that; returns 2^-k, or NaN where an x
 * is not finite. A power of two rounds nothing itself: every compiler and processor finds the same q. Zeros fill q to
 * a multiple of four. */
static float quantise(const float *x, uint32_t inputs, uint32_t bits, uint32_t *q)
{
    const uint32_t rest_count = inputs & 3u;
    const float *const end = x + (inputs - rest_count);
    const float *four;
    float rest[4] = {0.0f, 0.0f, 0.0f, 0.0f}, up;
    uint32_t largest = bits << 23; /* at least 2^(bits - 127), so that 2^k and 2^-k are normal numbers */
    memcpy(rest, end, rest_count * sizeof(float));
    largest = larger(larger(larger(largest, rest[0]), rest[1]), rest[2]);
    for (four = x; four != end; four += 4) {
        largest = larger(larger(larger(larger(largest, four[0]), four[1]), four[2]), four[3]);
    }
    /* max |x| < 2^(e - 126), e one more where it would round to 2^bits: k = bits + 126 - e. */
    largest = (largest + (0x800000u >> bits)) >> 23;
    if (largest >= 255u) {
        memset(q, 0, (inputs + 3u) / 4u * 8u);
        return float_of(0x7fc00000u);
    }
    up = float_of((253u + bits - largest) << 23);
    for (four = x; four != end; four += 4) {
        q[0] = whole_pair(four[0], four[1], up);
        q[1] = whole_pair(four[2], four[3], up);
        q += 2;
    }
    if (rest_count != 0u) {
        q[0] = whole_pair(rest[0], rest[1], up);
        q[1] = whole_pair(rest[2], rest[3], up);
    }
    return float_of((largest + 1u - bits) << 23);
}

/* y = x W + b with int8 weights and x as int16: y_j = b_j + s_j 2^-k sum_i q_i w_ij, four outputs at a time. `bits` is
 * such that no sum can overflow; q has room for the inputs as pairs of int16, rounded up to four. w is
 * [block][pair of inputs][2]. */
static void dense_int8_int16(const float *x, uint32_t inputs, uint32_t bits, const uint32_t *w, const float *scale,
                             const float *b, uint32_t blocks, uint32_t *q, float *y)
{
    const float unit = quantise(x, inputs, bits, q);
    const uint32_t *const end = q + (inputs + 3u) / 4u * 2u;
    for (; blocks != 0u; blocks--) {
        int32_t sums[4];
        sum_block(q, end, w, sums);
        y[0] = b[0] + scale[0] * (unit * (float)sums[0]);
        y[1] = b[1] + scale[1] * (unit * (float)sums[1]);
        y[2] = b[2] + scale[2] * (unit * (float)sums[2]);
        y[3] = b[3] + scale[3] * (unit * (float)sums[3]);
        w += 2 * (end - q);
        scale += 4;
        b += 4;
        y += 4;
    }
}
