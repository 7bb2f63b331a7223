/* The short-horizon actor-critic on a GPU: short_horizon.c with one flight a block and a thread for each, and sums over all
 * flights for the weights, a thread for each. Arrays are those of the CPU with LANES 1.
 */
#define ROWS_TOGETHER
#include "short_horizon.c"

#define THREADS 32 /* few, so that some hundred flights are spread over all multiprocessors */
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)

static int64_t own_flight(void) { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }

/* Where what one flight leaves behind stands: `room` floats each. */
typedef struct {
    float *rooms;
    int64_t room, cursor, parts;
} Place;

KERNEL alula_learn_actor(const __grid_constant__ Batch b, const __grid_constant__ Learner n,
                         const __grid_constant__ Place p)
{
    const int64_t k = own_flight();
    if (k >= b.n_blocks) return;
    const Tape tape = lay_out(&b, &n, p.rooms + k * p.room);
    learn_actor(&b, &n, &tape, k, p.cursor);
}

KERNEL alula_learn_critic(const __grid_constant__ Batch b, const __grid_constant__ Learner n,
                          const __grid_constant__ Place p)
{
    const int64_t k = own_flight();
    if (k >= b.n_blocks) return;
    const Tape tape = lay_out(&b, &n, p.rooms + k * p.room);
    make_targets(&b, &n, &tape, k);
    critic_back(&b, &n, &tape, k);
}

KERNEL alula_close_horizon(const __grid_constant__ Batch b, const __grid_constant__ Learner n,
                           const __grid_constant__ Place p)
{
    const int64_t k = own_flight();
    if (k >= b.n_blocks) return;
    const Tape tape = lay_out(&b, &n, p.rooms + k * p.room);
    close_horizon(&b, &n, &tape, k, p.cursor);
}

/* Input and cotangent of one weight over the steps of a flight: pointers to the first and how far apart the next are. A
 * bias has no input: 1. */
typedef struct {
    const float *x, *d;
    int64_t xs, ds;
} Pair;

/* Of weight `w` of a layer whose weights begin at `first` and biases at `bias`, with `ny` outputs. */
static Pair pair_of(int64_t w, int64_t first, int64_t bias, int ny, const float *x, int64_t xs, const float *d, int64_t ds)
{
    const int64_t at = w < bias ? w - first : w - bias;
    const Pair p = {w < bias ? x + at / ny : 0, d + at % ny, xs, ds};
    return p;
}

static Pair actor_pair(const Batch *b, const Learner *n, const Shape *s, const Tape *tape, int64_t k, int64_t c, int64_t w)
{
    const int64_t own = (int64_t)s->n0 * s->h1;
    if (w >= own && w < s->b1)
        return pair_of(w, own, s->b1, s->h1, ACTION(b, k, c - b->history), N_ROTORS, tape->d1, PITCH(s->h1));
    if (w < s->w2)
        return pair_of(w, 0, s->b1, s->h1, tape->observed, PITCH(N_OBSERVED), tape->d1, PITCH(s->h1));
    if (w < s->w3) return pair_of(w, s->w2, s->b2, s->h2, tape->h1, PITCH(s->h1), tape->d2, PITCH(s->h2));
    return pair_of(w, s->w3, s->b3, N_ROTORS, tape->h2, PITCH(s->h2), tape->dz, PITCH(N_ROTORS));
}

static Pair critic_pair(const Batch *b, const Learner *n, const Shape *s, const Tape *tape, int64_t k, int64_t w)
{
    const CriticTape r = critic_tape(n, tape, s);
    if (w < s->w2) return pair_of(w, 0, s->b1, s->h1, features_at(b, n, k, 0), s->n0, r.d1, PITCH(s->h1));
    if (w < s->w3) return pair_of(w, s->w2, s->b2, s->h2, r.h1, PITCH(s->h1), r.d2, PITCH(s->h2));
    return pair_of(w, s->w3, s->b3, 1, r.h2, PITCH(s->h2), r.dv, PITCH(1));
}

static float over_steps(Pair p, int64_t steps)
{
    float sum = 0.0f;
    for (int64_t t = 0; t < steps; t++) sum += (p.x ? p.x[t * p.xs] : 1.0f) * p.d[t * p.ds];
    return sum;
}

/* Gradient of every weight, in `parts` parts of the flights: [parts][size]. */
KERNEL alula_actor_weights(const __grid_constant__ Batch b, const __grid_constant__ Learner n,
                           const __grid_constant__ Place p)
{
    const Shape s = actor_shape(&b, &n);
    const int64_t own = own_flight(), part = own / s.size, w = own % s.size;
    if (part >= p.parts) return;
    float sum = 0.0f;
    for (int64_t k = b.n_blocks * part / p.parts; k < b.n_blocks * (part + 1) / p.parts; k++) {
        const Tape tape = lay_out(&b, &n, p.rooms + k * p.room);
        sum += over_steps(actor_pair(&b, &n, &s, &tape, k, p.cursor, w), n.horizon);
    }
    n.actor_gradient[own] = sum;
}

KERNEL alula_critic_weights(const __grid_constant__ Batch b, const __grid_constant__ Learner n,
                            const __grid_constant__ Place p)
{
    const Shape s = critic_shape(&b, &n);
    const int64_t own = own_flight(), part = own / s.size, w = own % s.size;
    if (part >= p.parts) return;
    float sum = 0.0f;
    for (int64_t k = b.n_blocks * part / p.parts; k < b.n_blocks * (part + 1) / p.parts; k++) {
        const Tape tape = lay_out(&b, &n, p.rooms + k * p.room);
        sum += over_steps(critic_pair(&b, &n, &s, &tape, k, w), n.horizon);
    }
    n.critic_gradient[own] = sum;
}
