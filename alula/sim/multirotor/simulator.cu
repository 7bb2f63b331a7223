/* The kernels of CudaMultirotor: a thread flies one environment, with its rows in registers from the first step of a
 * call to the last. Arrays of all environments are [rows][N], so that neighbouring threads touch neighbouring numbers.
 */
#include "step.h"

#define THREADS 128
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)

/* What all environments share, handed over by value: it then stands in the constant bank. */
typedef struct {
    LOCAL(nominal, N_PARAMS);
    LOCAL(uniform, 2 * N_ROTORS + 1);
    LOCAL(noise, N_SENSED);
    LOCAL(weights, N_WEIGHTS);
} Shared;

/* What a call takes and hands out; what is null is not handed out. Mirrored by `Exchange` in cuda_kernels.py. */
typedef struct {
    const float *action;                   /* in [-1, 1]; rows `action_row` apart, environments and steps likewise */
    int64_t action_row, action_env, action_step;
    int64_t steps, auto_reset, every_step; /* whether the rows below hold every step, or one: the last */
    int32_t *cursor;                       /* [N]: place in the tape, the same for all; from tape_length to twice that */
    float *observation, *privileged;       /* [columns][N] after the last step */
    float *final_observation, *final_privileged; /* the same before a reset at the last step */
    float *observed, *reward;              /* [steps][N_OBSERVED][N], [steps][N]: after each step */
    uint8_t *terminated, *truncated;       /* [steps][N]; of one: whether at any of the steps */
} Exchange;

/* One environment's own rows. */
typedef struct {
    LOCAL(state, N_STATE);
    LOCAL(params, N_PARAMS);
    LOCAL(constant, 6);
    LOCAL(gust, 3);
    LOCAL(action_delay, MAX_DELAY + 1);
    LOCAL(observation_delay, MAX_DELAY + 1);
    LOCAL(trajectory, N_TRAJECTORY);
    LOCAL(clock, 1);
    LOCAL(observed, N_OBSERVED);
    LOCAL(reward, 1);
    LOCAL(failed, 1);
    uint32_t rng[4];
} Flight;

INLINE int64_t own_index(void) { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }

/* rows[i] = all[i][k], and back. */
#define TAKE(field, rows) \
    UNROLL for (int i = 0; i < (rows); i++) f->field[i] = all->field[i * all->n_blocks + k]
#define KEEP(field, rows) \
    UNROLL for (int i = 0; i < (rows); i++) all->field[i * all->n_blocks + k] = f->field[i]

/* The batch as one thread sees it: its own rows in place of everyone's. */
INLINE Batch board(const Batch *all, const Shared *shared, Flight *f)
{
    Batch b = *all;
    b.state = f->state;
    b.params = f->params;
    b.constant = f->constant;
    b.gust = f->gust;
    b.action_delay = f->action_delay;
    b.observation_delay = f->observation_delay;
    b.trajectory = f->trajectory;
    b.clock = f->clock;
    b.observed = f->observed;
    b.reward = f->reward;
    b.failed = f->failed;
    b.rng = f->rng;
    b.nominal = shared->nominal;
    b.uniform = shared->uniform;
    b.noise = shared->noise;
    b.weights = shared->weights;
    return b;
}

/* What a reset draws, and what every step changes. */
INLINE void take_episode(const Batch *all, Flight *f, int64_t k)
{
    TAKE(params, N_PARAMS);
    TAKE(constant, 6);
    TAKE(action_delay, MAX_DELAY + 1);
    TAKE(observation_delay, MAX_DELAY + 1);
    TAKE(trajectory, N_TRAJECTORY);
}
INLINE void keep_episode(const Batch *all, const Flight *f, int64_t k)
{
    KEEP(params, N_PARAMS);
    KEEP(constant, 6);
    KEEP(action_delay, MAX_DELAY + 1);
    KEEP(observation_delay, MAX_DELAY + 1);
    KEEP(trajectory, N_TRAJECTORY);
}
INLINE void take_flight(const Batch *all, Flight *f, int64_t k)
{
    TAKE(state, N_STATE);
    TAKE(gust, 3);
    TAKE(clock, 1);
    TAKE(failed, 1);
    TAKE(rng, 4);
}
INLINE void keep_flight(const Batch *all, const Flight *f, int64_t k)
{
    KEEP(state, N_STATE);
    KEEP(gust, 3);
    KEEP(clock, 1);
    KEEP(failed, 1);
    KEEP(rng, 4);
}

/* What actor and critic see now. */
INLINE void hand_out(const Batch *b, int64_t k, int64_t c, float *observation, float *privileged_out)
{
    if (observation) write_observation(b, k, 0, c, observation);
    if (privileged_out) {
        LOCAL(rows, N_PRIVILEGED);
        privileged_block(b, k, rows);
        write_privileged(b, k, 0, rows, privileged_out);
    }
}

/* Start all episodes. */
KERNEL alula_reset(const __grid_constant__ Batch all, const __grid_constant__ Shared shared,
                   const __grid_constant__ Exchange x)
{
    const int64_t k = own_index();
    if (k >= all.n_blocks) return;
    const int64_t c = x.cursor[k];
    Flight f;
    const Batch b = board(&all, &shared, &f);
    for (int i = 0; i < 4; i++) f.rng[i] = all.rng[i * all.n_blocks + k];
    LOCAL(every, 1) = {1.0f};
    LOCAL(age, 1) = {0.0f};
    LOCAL(late, N_SENSED);
    LOCAL(reference_rows, N_REFERENCE);
    reset_lanes(&b, k, c, every, age);
    measure_anew(&b, k, c, every);
    observe_block(&b, k, c, late, reference_rows, b.observed);
    hand_out(&b, k, c, x.observation, x.privileged);
    keep_episode(&all, &f, k);
    keep_flight(&all, &f, k);
}

/* The action of one step into the tape, limited; one that is not a number is for nothing and ends the episode. */
INLINE void take_action(const Batch *b, const Exchange *x, int64_t k, int64_t c, int64_t step)
{
    const float *action = x->action + k * x->action_env + step * x->action_step;
    UNROLL
    for (int i = 0; i < N_ROTORS; i++) {
        const float a = action[i * x->action_row];
        const int finite = a - a == 0.0f;
        *ACTION_ROW(b, k, c, i) = finite ? fmaxf(fminf(a, 1.0f), -1.0f) : b->hover_action;
        if (!finite) b->failed[0] = 1.0f;
    }
}

/* `steps` policy steps. */
KERNEL alula_step(const __grid_constant__ Batch all, const __grid_constant__ Shared shared,
                  const __grid_constant__ Exchange x)
{
    const int64_t k = own_index(), n = all.n_blocks;
    if (k >= n) return;
    Flight f;
    const Batch b = board(&all, &shared, &f);
    take_episode(&all, &f, k);
    take_flight(&all, &f, k);
    int64_t c = x.cursor[k];
    uint8_t terminated = 0, truncated = 0, ever_terminated = 0, ever_truncated = 0;
    for (int64_t s = 0; s < x.steps; s++, c++) {
        const int last = s + 1 == x.steps;
        take_action(&b, &x, k, c, s);
        terminated = truncated = 0;
        step_block(&b, k, c, (int)x.auto_reset, &terminated, &truncated, last ? x.final_observation : 0,
                   last ? x.final_privileged : 0);
        ever_terminated |= terminated;
        ever_truncated |= truncated;
        if (!x.every_step && !last) continue;
        const int64_t row = x.every_step ? s : 0;
        if (x.observed)
            UNROLL for (int i = 0; i < N_OBSERVED; i++) x.observed[(row * N_OBSERVED + i) * n + k] = f.observed[i];
        x.reward[row * n + k] = f.reward[0];
        x.terminated[row * n + k] = x.every_step ? terminated : ever_terminated;
        x.truncated[row * n + k] = x.every_step ? truncated : ever_truncated;
    }
    x.cursor[k] = (int32_t)((c & (all.tape_length - 1)) + all.tape_length);
    hand_out(&b, k, c, x.observation, x.privileged);
    if (!(terminated | truncated)) hand_out(&b, k, c, x.final_observation, x.final_privileged);
    if (ever_terminated | ever_truncated) keep_episode(&all, &f, k);
    keep_flight(&all, &f, k);
}

/* Physics alone: `steps` steps of `uniform[2 N_ROTORS]` seconds with throttle [N_ROTORS][N] and disturbance [6][N] held. */
KERNEL alula_physics(const __grid_constant__ Batch all, const __grid_constant__ Shared shared, int64_t steps,
                     const float *throttle, const float *disturbance)
{
    const int64_t k = own_index(), n = all.n_blocks;
    if (k >= n) return;
    Flight f;
    LOCAL(u, N_ROTORS);
    LOCAL(d, 6);
    UNROLL
    for (int i = 0; i < N_STATE; i++) f.state[i] = all.state[i * n + k];
    UNROLL
    for (int i = 0; i < N_PARAMS; i++) f.params[i] = all.params[i * n + k];
    UNROLL
    for (int i = 0; i < N_ROTORS; i++) u[i] = throttle[i * n + k];
    for (int i = 0; i < 6; i++) d[i] = disturbance[i * n + k];
    for (int64_t s = 0; s < steps; s++) rk4(f.state, u, f.params, d, shared.uniform, f.state);
    UNROLL
    for (int i = 0; i < N_STATE; i++) all.state[i * n + k] = f.state[i];
}

/* For the rate of multiplications and additions alone: 128 of each a step, in eight chains a thread. */
KERNEL alula_multiply_add(const __grid_constant__ Batch all, const __grid_constant__ Shared shared, int64_t steps,
                          float *out)
{
    const int64_t k = own_index();
    if (k >= all.n_blocks) return;
    LOCAL(x, 8);
    const float a = shared.uniform[2 * N_ROTORS]; /* a number that the compiler does not know */
    UNROLL
    for (int i = 0; i < 8; i++) x[i] = (float)(k + i);
    for (int64_t s = 0; s < steps; s++) {
        UNROLL
        for (int j = 0; j < 128; j++) x[j % 8] = x[j % 8] * a + a;
    }
    float sum = 0.0f;
    UNROLL
    for (int i = 0; i < 8; i++) sum += x[i];
    out[k] = sum;
}

/* Where the task wants each vehicle now: [N_REFERENCE][N]. */
KERNEL alula_reference(const __grid_constant__ Batch all, const __grid_constant__ Shared shared, float *out)
{
    const int64_t k = own_index(), n = all.n_blocks;
    if (k >= n) return;
    Flight f;
    const Batch b = board(&all, &shared, &f);
    LOCAL(rows, N_REFERENCE);
    f.clock[0] = all.clock[k];
    UNROLL
    for (int i = 0; i < N_TRAJECTORY; i++) f.trajectory[i] = all.trajectory[i * n + k];
    reference_block(&b, k, rows);
    UNROLL
    for (int i = 0; i < N_REFERENCE; i++) out[i * n + k] = rows[i];
}
