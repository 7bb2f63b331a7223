/* y = x W + b with int8 weights: y_j = b_j + s_j sum_i x_i q_ij, four outputs at a time. A word of w holds the
 * weights of one input for four outputs, the first in the lowest byte: w is [block][input]. A conversion to int8_t
 * keeps the lowest bits; compilers for machines with two's complement all do. */
static void dense_int8_float(const float *x, uint32_t inputs, const uint32_t *w, const float *scale, const float *b,
                             uint32_t blocks, float *y)
{
    const float *const end = x + inputs;
    for (; blocks != 0u; blocks--) {
        const float *input = x;
        float y0 = 0.0f, y1 = 0.0f, y2 = 0.0f, y3 = 0.0f;
        do {
            const float xi = *input++;
            const uint32_t q = *w++;
            y0 += xi * (float)(int8_t)q;
            y1 += xi * (float)(int8_t)(q >> 8);
            y2 += xi * (float)(int8_t)(q >> 16);
            y3 += xi * (float)(int8_t)(q >> 24);
        } while (input != end);
        y[0] = b[0] + scale[0] * y0;
        y[1] = b[1] + scale[1] * y1;
        y[2] = b[2] + scale[2] * y2;
        y[3] = b[3] + scale[3] * y3;
        scale += 4;
        b += 4;
        y += 4;
    }
}
