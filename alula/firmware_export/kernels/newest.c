/* The newest sample of a ring. */
static const float *newest(const float *ring, uint32_t length, uint32_t oldest, uint32_t size)
{
    return ring + (oldest == 0u ? length : oldest) - size;
}
