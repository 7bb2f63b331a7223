/* The kernels of MultirotorSimulator: reset, one policy step, and the rows a learner asks for. */
#include "step.h"

int64_t alula_lanes(void) { return LANES; }
int64_t alula_vector_width(void) { return VW; }

/* Start all episodes of blocks [first, last). */
void alula_reset(const Batch *b, int64_t first, int64_t last, int64_t c)
{
    LOCAL(reference_rows, N_REFERENCE);
    LOCAL(late, N_SENSED);
    LOCAL(all, 1);
    LOCAL(age, 1);
    for (int l = 0; l < LANES; l++) all[l] = 1.0f, age[l] = 0.0f;
    for (int64_t k = first; k < last; k++) {
        reset_lanes(b, k, c, all, age);
        measure_anew(b, k, c, all);
        observe_block(b, k, c, late, reference_rows, BLOCK(b, observed, N_OBSERVED, k));
    }
}

/* Rows for all environments of blocks [first, last), [N][columns] each; either may be null. */
void alula_rows(const Batch *b, int64_t first, int64_t last, int64_t c, float *observation, float *privileged_out)
{
    LOCAL(rows, N_PRIVILEGED);
    for (int64_t k = first; k < last; k++) {
        if (privileged_out) privileged_block(b, k, rows);
        for (int l = 0; l < LANES; l++) {
            if (observation) write_observation(b, k, l, c, observation);
            if (privileged_out) write_privileged(b, k, l, rows, privileged_out);
        }
    }
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
            step_block(b, k, c + s, auto_reset, terminated + k * LANES, truncated + k * LANES,
                       final_observation, final_privileged);
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
