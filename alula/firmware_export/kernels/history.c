/* A history is a ring of samples, *oldest the index of its oldest float; the new sample takes that place. */
static void push(float *ring, uint32_t length, uint32_t *oldest, const float *sample, uint32_t size)
{
    memcpy(ring + *oldest, sample, size * sizeof(float));
    *oldest += size;
    if (*oldest >= length) {
        *oldest = 0u;
    }
}

/* As normalise, for a history: oldest sample first. */
static uint32_t normalise_history(float *x, uint32_t first, const float *ring, uint32_t length, uint32_t oldest)
{
    const uint32_t older = length - oldest;
    return normalise(x, first, ring + oldest, older) | normalise(x, first + older, ring, oldest);
}
