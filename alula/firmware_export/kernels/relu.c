static void relu(float *x, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        x[i] = x[i] < 0.0f ? 0.0f : x[i]; /* NaN stays */
    }
}
