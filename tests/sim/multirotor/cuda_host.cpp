/* simulator.cu on the CPU, for test_cuda.py: the kernels as they are, in a loop over their threads. */
#include "simulator.cu"

#define FOR_EACH_THREAD(n) for (blockIdx.x = 0; blockIdx.x < (n); blockIdx.x++)

extern "C" void run_alula_reset(unsigned n, const Batch *b, const Shared *s, const Exchange *x)
{
    FOR_EACH_THREAD(n) alula_reset(*b, *s, *x);
}
extern "C" void run_alula_step(unsigned n, const Batch *b, const Shared *s, const Exchange *x)
{
    FOR_EACH_THREAD(n) alula_step(*b, *s, *x);
}
extern "C" void run_alula_physics(unsigned n, const Batch *b, const Shared *s, const int64_t *steps,
                                  const float *const *throttle, const float *const *disturbance)
{
    FOR_EACH_THREAD(n) alula_physics(*b, *s, *steps, *throttle, *disturbance);
}
extern "C" void run_alula_reference(unsigned n, const Batch *b, const Shared *s, float *const *out)
{
    FOR_EACH_THREAD(n) alula_reference(*b, *s, *out);
}
extern "C" void run_alula_multiply_add(unsigned n, const Batch *b, const Shared *s, const int64_t *steps,
                                       float *const *out)
{
    FOR_EACH_THREAD(n) alula_multiply_add(*b, *s, *steps, *out);
}
/* Sizes that Python mirrors. */
extern "C" void sizes(int64_t *out)
{
    out[0] = sizeof(Batch), out[1] = sizeof(Shared), out[2] = sizeof(Exchange), out[3] = THREADS;
}
