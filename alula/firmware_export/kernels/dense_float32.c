/* y = x W + b for @WIDTH@ outputs at a time, weights [block][input][@WIDTH@]. The sums stay in registers and share
 * each load of x: a weight costs little more than its own load and its multiply-accumulate. */
static void dense_@WIDTH@(const float *x, uint32_t inputs, const float *w, const float *b, uint32_t blocks, float *y)
{
    const float *const end = x + inputs;
    for (; blocks != 0u; blocks--) {
        const float *input = x;
@START@
        do {
            const float xi = *input++;
@ACCUMULATE@
            w += @WIDTH@;
        } while (input != end);
@STORE@
        b += @WIDTH@;
        y += @WIDTH@;
    }
}
