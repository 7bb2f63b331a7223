/* The kernels of MultirotorSimulator: reset, one policy step, and the rows a learner asks for. */
#include "batch.h"

int64_t alula_lanes(void) { return LANES; }
int64_t alula_vector_width(void) { return VW; }

/* Start all episodes of blocks [first, last). */
void alula_reset(const Batch *b, int64_t first, int64_t last, int64_t c)
{
    float reference_rows[N_REFERENCE * LANES] __attribute__((aligned(64)));
    float late[N_SENSED * LANES] __attribute__((aligned(64)));
    float all[LANES] __attribute__((aligned(64))), age[LANES] __attribute__((aligned(64)));
    for (int l = 0; l < LANES; l++) all[l] = 1.0f, age[l] = 0.0f;
    for (int64_t k = first; k < last; k++) {
        reset_lanes(b, k, c, all, age);
        measure_anew(b, k, c, all);
        observe_block(b, k, c, late, reference_rows, BLOCK(b, observed, N_OBSERVED, k));
    }
}

/* One row of the network's input for one environment: observed rows, then the action history. */
static void write_observation(const Batch *b, int64_t k, int l, int64_t c, float *out)
{
    for (int i = 0; i < N_OBSERVED; i++) *out++ = BLOCK(b, observed, N_OBSERVED, k)[i * LANES + l];
    for (int64_t t = c - b->history; t < c; t++)
        for (int i = 0; i < N_ROTORS; i++) *out++ = ACTION(b, k, t)[i * LANES + l];
}

static void privileged_block(const Batch *b, int64_t k, float *rows)
{
    float reference_rows[N_REFERENCE * LANES] __attribute__((aligned(64)));
    float disturbance[6 * LANES] __attribute__((aligned(64)));
    float delay[2 * LANES] __attribute__((aligned(64)));
    critic_inputs(b, k, disturbance, delay);
    reference_block(b, k, reference_rows);
    EACH_VECTOR(o)
        privileged(BLOCK(b, state, N_STATE, k) + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o,
                   delay + o, reference_rows + o, rows + o);
}

/* Rows for all environments of blocks [first, last), [N][columns] each; either may be null. */
void alula_rows(const Batch *b, int64_t first, int64_t last, int64_t c, float *observation, float *privileged_out)
{
    const int64_t columns = N_OBSERVED + b->history * N_ROTORS;
    float rows[N_PRIVILEGED * LANES] __attribute__((aligned(64)));
    for (int64_t k = first; k < last; k++) {
        if (privileged_out) privileged_block(b, k, rows);
        for (int l = 0; l < LANES; l++) {
            const int64_t env = k * LANES + l;
            if (observation) write_observation(b, k, l, c, observation + env * columns);
            if (privileged_out)
                for (int i = 0; i < N_PRIVILEGED; i++) privileged_out[env * N_PRIVILEGED + i] = rows[i * LANES + l];
        }
    }
}

/* ended = 1 where an episode has failed or reached its time; returns whether any has. */
static int find_ended(const Batch *b, int64_t k, float *ended)
{
    ivec any = {0};
    EACH_VECTOR(o)
    {
        const ivec over = (v_load(BLOCK(b, failed, 1, k) + o) > 0.5f) |
                          (v_load(BLOCK(b, clock, 1, k) + o) >= (float)b->episode_steps);
        v_store(ended + o, (vec)(over & (ivec)v_set(1.0f)));
        any |= over;
    }
    int found = 0;
    for (int i = 0; i < VW; i++) found |= any[i];
    return found;
}

/* End of episodes: hand out the final rows of each ended lane and, if asked, start the next episode. */
static void end_lanes(const Batch *b, int64_t k, int64_t c, const float *ended, int auto_reset,
                      float *final_observation, float *final_privileged)
{
    const int64_t columns = N_OBSERVED + b->history * N_ROTORS;
    float rows[N_PRIVILEGED * LANES] __attribute__((aligned(64)));
    if (final_privileged) privileged_block(b, k, rows);
    for (int l = 0; l < LANES; l++) {
        const int64_t env = k * LANES + l;
        if (ended[l] == 0.0f) continue;
        if (final_observation) write_observation(b, k, l, c, final_observation + env * columns);
        if (final_privileged)
            for (int i = 0; i < N_PRIVILEGED; i++) final_privileged[env * N_PRIVILEGED + i] = rows[i * LANES + l];
    }
    if (!auto_reset) return;
    float reference_rows[N_REFERENCE * LANES] __attribute__((aligned(64)));
    float late[N_SENSED * LANES] __attribute__((aligned(64)));
    float age[LANES] __attribute__((aligned(64))) = {0};
    reset_lanes(b, k, c, ended, age);
    measure_anew(b, k, c, ended);
    observe_block(b, k, c, late, reference_rows, BLOCK(b, observed, N_OBSERVED, k));
}

/* One policy step of block `k`: the action stands in the tape at `c`, the next measurement goes to `c + 1`. */
static void step_block(const Batch *b, int64_t k, int64_t c, int auto_reset, uint8_t *terminated, uint8_t *truncated,
                       float *final_observation, float *final_privileged)
{
    float throttle[N_ROTORS * LANES] __attribute__((aligned(64)));
    float disturbance[6 * LANES] __attribute__((aligned(64)));
    float reference_rows[N_REFERENCE * LANES] __attribute__((aligned(64)));
    float late[N_SENSED * LANES] __attribute__((aligned(64)));
    float before_step[N_STATE * LANES] __attribute__((aligned(64)));
    float *state = BLOCK(b, state, N_STATE, k), *clock = BLOCK(b, clock, 1, k);
    throttle_block(b, k, c, throttle);
    const float *disturbed = disturb_block(b, k, disturbance);
    if (!auto_reset) memcpy(before_step, state, sizeof before_step);
    fly_block(b, k, state, throttle, disturbed);
    if (!auto_reset) /* a failed vehicle stays where it failed, so that its numbers stay finite */
        for (int i = 0; i < N_STATE; i++)
            EACH_VECTOR(o)
                v_store(state + i * LANES + o,
                        v_where_gt(v_load(BLOCK(b, failed, 1, k) + o), v_set(0.5f),
                                   v_load(before_step + i * LANES + o), v_load(state + i * LANES + o)));
    EACH_VECTOR(o) v_store(clock + o, v_load(clock + o) + 1.0f);
    measure(b, k, c + 1, state);
    observe_block(b, k, c + 1, late, reference_rows, BLOCK(b, observed, N_OBSERVED, k));
    const float *a = ACTION(b, k, c), *before = ACTION(b, k, c - 1);
    float *reward = BLOCK(b, reward, 1, k);
    EACH_VECTOR(o)
    {
        cost(state + o, a + o, before + o, reference_rows + o, b->weights, reward + o);
        v_store(reward + o, 1.0f - v_load(reward + o));
    }
    check_limits(b, k, state, reference_rows);
    float ended[LANES] __attribute__((aligned(64)));
    if (!find_ended(b, k, ended)) return;
    for (int l = 0; l < LANES; l++) {
        const int failed = BLOCK(b, failed, 1, k)[l] > 0.0f;
        terminated[k * LANES + l] |= (uint8_t)failed;
        truncated[k * LANES + l] |= (uint8_t)(ended[l] > 0.0f && !failed);
    }
    end_lanes(b, k, c + 1, ended, auto_reset, final_observation, final_privileged);
}

/* `steps` policy steps of blocks [first, last), each block on its own, with `action` [n_blocks][N_ROTORS][LANES] held;
 * it goes into the tape from `c` on. terminated and truncated are [N] bytes: what happened at any of the steps. The
 * final rows [N][columns] are written only where an episode ended and may be null. */
void alula_step(const Batch *b, int64_t first, int64_t last, int64_t c, int64_t steps, const float *action,
                int auto_reset, uint8_t *terminated, uint8_t *truncated, float *final_observation,
                float *final_privileged)
{
    const size_t size = N_ROTORS * LANES;
    memset(terminated + first * LANES, 0, (size_t)((last - first) * LANES));
    memset(truncated + first * LANES, 0, (size_t)((last - first) * LANES));
    for (int64_t k = first; k < last; k++)
        for (int64_t s = 0; s < steps; s++) {
            memcpy(ACTION(b, k, c + s), action + (size_t)k * size, size * sizeof(float));
            step_block(b, k, c + s, auto_reset, terminated, truncated, final_observation, final_privileged);
        }
}

/* Physics alone: `steps` steps of `uniform[2 N_ROTORS]` seconds with throttle and disturbance held. */
void alula_physics(const Batch *b, int64_t first, int64_t last, int64_t steps, const float *throttle,
                   const float *disturbance)
{
    for (int64_t k = first; k < last; k++)
        for (int64_t s = 0; s < steps; s++)
            fly_block(b, k, BLOCK(b, state, N_STATE, k), throttle + k * N_ROTORS * LANES,
                      disturbance + k * 6 * LANES);
}

/* Vector-Jacobian product of one physics step: cotangent of the next state -> of the state and throttle. */
void alula_physics_vjp(const Batch *b, const float *throttle, const float *disturbance, const float *cotangent,
                       float *cotangent_state, float *cotangent_throttle)
{
    for (int64_t k = 0; k < b->n_blocks; k++)
        EACH_VECTOR(o)
            rk4_vjp(BLOCK(b, state, N_STATE, k) + o, throttle + k * N_ROTORS * LANES + o,
                    BLOCK(b, params, N_PARAMS, k) + o, disturbance + k * 6 * LANES + o, b->uniform,
                    cotangent + k * N_STATE * LANES + o, cotangent_state + k * N_STATE * LANES + o,
                    cotangent_throttle + k * N_ROTORS * LANES + o);
}
