/* short_horizon.cu on the CPU, for test_short_horizon_cuda.py: the kernels as they are, in a loop over their threads. */
#include "short_horizon.cu"

#define RUN(kernel)                                                                                           \
    extern "C" void run_##kernel(unsigned n, const Batch *b, const Learner *l, const Place *p)                \
    {                                                                                                         \
        for (blockIdx.x = 0; blockIdx.x < n; blockIdx.x++) kernel(*b, *l, *p);                                \
    }
RUN(alula_learn_actor)
RUN(alula_actor_weights)
RUN(alula_learn_critic)
RUN(alula_critic_weights)
RUN(alula_close_horizon)

/* Sizes that Python mirrors. */
extern "C" void sizes(int64_t *out)
{
    out[0] = sizeof(Batch), out[1] = sizeof(Learner), out[2] = sizeof(Place), out[3] = THREADS;
}
