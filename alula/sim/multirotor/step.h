/* One policy step of one block: flight, measurement, reward, and the end of episodes. */
#ifndef ALULA_STEP_H
#define ALULA_STEP_H

#include "batch.h"

/* The network's input for one environment: observed rows, then the action history. */
INLINE void write_observation(const Batch *b, int64_t k, int l, int64_t c, float *out)
{
    const int64_t columns = N_OBSERVED + b->history * N_ROTORS, env = k * LANES + l, first = c - b->history;
    UNROLL
    for (int i = 0; i < N_OBSERVED; i++)
        out[HANDED_OUT(b, columns, env, i)] = BLOCK(b, observed, N_OBSERVED, k)[i * LANES + l];
    for (int64_t t = first; t < c; t++)
        for (int i = 0; i < N_ROTORS; i++)
            out[HANDED_OUT(b, columns, env, N_OBSERVED + (t - first) * N_ROTORS + i)] = ACTION_ROW(b, k, t, i)[l];
}

/* What the critic sees of one environment, from the block's `rows`. */
INLINE void write_privileged(const Batch *b, int64_t k, int l, const float *rows, float *out)
{
    UNROLL
    for (int i = 0; i < N_PRIVILEGED; i++)
        out[HANDED_OUT(b, N_PRIVILEGED, k * LANES + l, i)] = rows[i * LANES + l];
}

INLINE void privileged_block(const Batch *b, int64_t k, float *rows)
{
    LOCAL(reference_rows, N_REFERENCE);
    LOCAL(disturbance, 6);
    LOCAL(delay, 2);
    critic_inputs(b, k, disturbance, delay);
    reference_block(b, k, reference_rows);
    EACH_VECTOR(o)
        privileged(BLOCK(b, state, N_STATE, k) + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o,
                   delay + o, reference_rows + o, rows + o);
}

/* ended = 1 where an episode has failed or reached its time; returns whether any has. */
INLINE int find_ended(const Batch *b, int64_t k, float *ended)
{
    ivec any = {0};
    EACH_VECTOR(o)
    {
        const ivec over = (v_load(BLOCK(b, failed, 1, k) + o) > 0.5f) |
                          (v_load(BLOCK(b, clock, 1, k) + o) >= (float)b->episode_steps);
        v_store(ended + o, (vec)(over & (ivec)v_set(1.0f)));
        any |= over;
    }
    return v_any(any);
}

/* End of episodes: hand out the final rows of each ended lane and, if asked, start the next episode. */
INLINE void end_lanes(const Batch *b, int64_t k, int64_t c, const float *ended, int auto_reset,
                      float *final_observation, float *final_privileged)
{
    LOCAL(rows, N_PRIVILEGED);
    if (final_privileged) privileged_block(b, k, rows);
    for (int l = 0; l < LANES; l++) {
        if (ended[l] == 0.0f) continue;
        if (final_observation) write_observation(b, k, l, c, final_observation);
        if (final_privileged) write_privileged(b, k, l, rows, final_privileged);
    }
    if (!auto_reset) return;
    LOCAL(reference_rows, N_REFERENCE);
    LOCAL(late, N_SENSED);
    LOCAL(age, 1) = {0};
    reset_lanes(b, k, c, ended, age);
    measure_anew(b, k, c, ended);
    observe_block(b, k, c, late, reference_rows, BLOCK(b, observed, N_OBSERVED, k));
}

/* One policy step of block `k`: the action stands in the tape at `c`, the next measurement goes to `c + 1`.
 * `terminated` and `truncated` are the block's. */
INLINE void step_block(const Batch *b, int64_t k, int64_t c, int auto_reset, uint8_t *terminated, uint8_t *truncated,
                       float *final_observation, float *final_privileged)
{
    LOCAL(throttle, N_ROTORS);
    LOCAL(disturbance, 6);
    LOCAL(reference_rows, N_REFERENCE);
    LOCAL(late, N_SENSED);
    LOCAL(before_step, N_STATE);
    float *state = BLOCK(b, state, N_STATE, k), *clock = BLOCK(b, clock, 1, k);
    throttle_block(b, k, c, throttle);
    const float *disturbed = disturb_block(b, k, disturbance);
    if (!auto_reset) memcpy(before_step, state, sizeof before_step);
    fly_block(b, k, state, throttle, disturbed);
    if (!auto_reset) /* a failed vehicle stays where it failed, so that its numbers stay finite */
        UNROLL
        for (int i = 0; i < N_STATE; i++)
            EACH_VECTOR(o)
                v_store(state + i * LANES + o,
                        v_where_gt(v_load(BLOCK(b, failed, 1, k) + o), v_set(0.5f),
                                   v_load(before_step + i * LANES + o), v_load(state + i * LANES + o)));
    EACH_VECTOR(o) v_store(clock + o, v_load(clock + o) + 1.0f);
    measure(b, k, c + 1, state);
    observe_block(b, k, c + 1, late, reference_rows, BLOCK(b, observed, N_OBSERVED, k));
    LOCAL(room, N_ROTORS);
    LOCAL(room_before, N_ROTORS);
    const float *a = action_rows(b, k, c, room), *before = action_rows(b, k, c - 1, room_before);
    float *reward = BLOCK(b, reward, 1, k);
    EACH_VECTOR(o)
    {
        cost(state + o, a + o, before + o, reference_rows + o, b->weights, reward + o);
        v_store(reward + o, 1.0f - v_load(reward + o));
    }
    check_limits(b, k, state, reference_rows);
    LOCAL(ended, 1);
    if (!find_ended(b, k, ended)) return;
    for (int l = 0; l < LANES; l++) {
        const int failed = BLOCK(b, failed, 1, k)[l] > 0.0f;
        terminated[l] |= (uint8_t)failed;
        truncated[l] |= (uint8_t)(ended[l] > 0.0f && !failed);
    }
    end_lanes(b, k, c + 1, ended, auto_reset, final_observation, final_privileged);
}

#endif
