#define TWO_BITS 0x40000000u /* 2 as bits: a sound state is at most 1 */

/* exp(x) within 3e-7 of itself for |x| <= 87, where every argument is clamped to; NaN stays.
 * x = n ln 2 + r with |r| <= ln 2 / 2: exp(x) = 2^n exp(r), exp(r) by its Taylor polynomial of degree 6. */
static inline float exponential(float x)
{
    float n, r, power;
    uint32_t bits;
    x = clamp(x, -87.0f, 87.0f);
    n = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 rounds it to a whole number, in the lowest bits */
    memcpy(&bits, &n, sizeof bits);
    bits -= 0x4b400000u - 127u; /* n + 127 */
    n = (float)bits - 127.0f;
    bits <<= 23;
    memcpy(&power, &bits, sizeof power); /* 2^n */
    r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first of few bits */
    r = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * (0.00833333333f
        + r * 0.00138888889f)))));
    return power * r;
}

/* The gated recurrent unit, from `input` = x W + b and `recurrent` = h U + c (overwritten), gates in the order
 * reset, update, new:
 *     r = sigmoid(xr + hr),  z = sigmoid(xz + hz),  n = tanh(xn + r hn),  h' = (1 - z) n + z h
 * with sigmoid(a) = 1 / (1 + exp(-a)) and tanh(a) = 1 - 2 / (exp(2 a) + 1). h' takes the place of h in `state`. */
static void gru(const float *input, float *recurrent, float *state, uint32_t size)
{
    uint32_t j;
    for (j = 0; j < 2u * size; j++) {
        recurrent[j] = 1.0f / (1.0f + exponential(-(input[j] + recurrent[j])));
    }
    for (j = 0; j < size; j++) {
        const float r = recurrent[j], z = recurrent[size + j];
        const float a = input[2u * size + j] + r * recurrent[2u * size + j];
        const float n = 1.0f - 2.0f / (exponential(2.0f * a) + 1.0f);
        state[j] = n + z * (state[j] - n);
    }
}
