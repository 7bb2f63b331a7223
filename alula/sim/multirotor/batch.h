/* A batch of flights: its arrays, the reset of one environment, and one policy step of one block.
 *
 * `generated.h` (written by kernels.py from equations.py, sensors.py and the task) provides rk4, sense,
 * reference, observe, privileged, cost, their vector-Jacobian products, and the row counts N_*.
 */
#ifndef ALULA_BATCH_H
#define ALULA_BATCH_H

#include "lanes.h"
#include "generated.h"

#define N_SENSED 18
#define MAX_DELAY 3

/* Mirrored field by field by `Batch` in kernels.py. Arrays are [n_blocks][rows][LANES] unless said. */
typedef struct {
    float *state;             /* N_STATE: position_w, velocity_w, quat_wb, angular_velocity_b, rotors */
    float *params;            /* N_PARAMS */
    float *constant;          /* 6: constant force_w [N] and torque_b [N m] of the episode */
    float *gust;              /* 3: gust force_w [N] */
    float *action_delay;      /* MAX_DELAY + 1: one-hot over whole steps */
    float *observation_delay; /* MAX_DELAY + 1: one-hot over whole steps */
    float *trajectory;        /* N_TRAJECTORY */
    float *clock;             /* 1: steps since the start of the episode */
    float *actions;           /* tape_length * N_ROTORS: action of every step, newest at `cursor` */
    float *sensed;            /* (MAX_DELAY + 1) * N_SENSED: the last noisy measurements, a ring over steps */
    float *observed;          /* N_OBSERVED: what the task shows the actor now */
    float *reward;            /* 1 */
    float *failed;            /* 1: the episode has left the limits */
    uint32_t *rng;            /* 4: xoshiro128++ */
    const float *nominal;     /* [N_PARAMS], not lanes */
    const float *uniform;     /* [2 N_ROTORS + 1]: rotor x, rotor y [m], physics step [s] */
    const float *noise;       /* [N_SENSED]: standard deviations */
    const float *weights;     /* [N_WEIGHTS]: cost weights */
    const float *bank;        /* [n_bank][N_TRAJECTORY] */
    int64_t n_blocks, history, tape_length, substeps, episode_steps, n_bank;
    int64_t action_delay_low, action_delay_high, observation_delay_low, observation_delay_high;
    int64_t noisy; /* whether any of `noise` is not zero */
    float control_dt, throttle_min, throttle_max, hover_action, hover_fraction;
    float force_std, torque_std, gust_std, gust_decay; /* N, N m, N, - */
    float start_position, start_tilt, start_velocity, start_rate, start_rotor, start_at_rest;
    float limit_position, limit_velocity, limit_rate;
    float random_mass, random_inertia, random_thrust, random_rotor, random_lag, random_torque, random_drag;
} Batch;

#if defined(__cplusplus) && !defined(ROWS_TOGETHER)
/* A thread's own rows are in local arrays (see simulator.cu), wherever that is; only what is looked up by the time
 * stays in the arrays of all environments, [step][rows][n_blocks], each step's rows apart. The tape is a ring too. */
#define APART 1
#define BLOCK(b, field, rows, k) ((b)->field)
#define ACTION_ROW(b, k, c, i) \
    ((b)->actions + ((((c) & ((b)->tape_length - 1)) * N_ROTORS + (i)) * (b)->n_blocks + (k)))
#define SENSED_ROW(b, k, c, i) ((b)->sensed + ((((c) & MAX_DELAY) * N_SENSED + (i)) * (b)->n_blocks + (k)))
#define HANDED_OUT(b, columns, env, i) ((void)(columns), (i) * (b)->n_blocks + (env))
#else
#define APART 0
#define BLOCK(b, field, rows, k) ((b)->field + (int64_t)(k) * (rows) * LANES)
#define ACTION(b, k, c) ((b)->actions + ((int64_t)(k) * (b)->tape_length + (c)) * N_ROTORS * LANES)
#define ACTION_ROW(b, k, c, i) (ACTION(b, k, c) + (i) * LANES)
#define SENSED_ROW(b, k, c, i) \
    ((b)->sensed + (((int64_t)(k) * (MAX_DELAY + 1) + ((c) & MAX_DELAY)) * N_SENSED + (i)) * LANES)
/* Where column `i` of an environment stands in what is handed out. */
#define HANDED_OUT(b, columns, env, i) ((env) * (columns) + (i))
#endif

/* The rows of an action, or of a measurement, together: in place, or in `room` where they lie apart. */
INLINE float *action_rows(const Batch *b, int64_t k, int64_t c, float *room)
{
    if (!APART) return ACTION_ROW(b, k, c, 0);
    UNROLL
    for (int i = 0; i < N_ROTORS; i++) room[i] = *ACTION_ROW(b, k, c, i);
    return room;
}
INLINE float *sensed_rows(const Batch *b, int64_t k, int64_t c, float *room)
{
    if (!APART) return SENSED_ROW(b, k, c, 0);
    UNROLL
    for (int i = 0; i < N_SENSED; i++) room[i] = *SENSED_ROW(b, k, c, i);
    return room;
}

/* Reference rows at every lane's own time. */
INLINE void reference_block(const Batch *b, int64_t k, float *rows)
{
    LOCAL(seconds, 1);
    EACH_VECTOR(o)
    {
        v_store(seconds + o, b->control_dt * v_load(BLOCK(b, clock, 1, k) + o));
        reference(seconds + o, BLOCK(b, trajectory, N_TRAJECTORY, k) + o, rows + o);
    }
}

/* row = value where `chosen`, as it was elsewhere. */
INLINE void put(float *row, ivec chosen, vec value)
{
    v_store(row, (vec)((chosen & (ivec)value) | (~chosen & (ivec)v_load(row))));
}
INLINE vec spread(Generator *g, float range) { return 1.0f + range * v_uniform11(g); }

/* Draw the vehicle of the chosen lanes around the nominal one. */
INLINE void draw_params(const Batch *b, float *p, ivec chosen, Generator *g)
{
    const float *n = b->nominal;
    const vec inertia = spread(g, b->random_inertia), thrust = spread(g, b->random_thrust);
    const vec mass = spread(g, b->random_mass), drag = spread(g, b->random_drag);
    put(p, chosen, n[0] / mass);
    for (int i = 1; i < 4; i++) put(p + i * LANES, chosen, n[i] / inertia);
    for (int i = 4; i < 7; i++) put(p + i * LANES, chosen, v_set(n[i]));
    for (int i = 7; i < 10; i++) put(p + i * LANES, chosen, n[i] * thrust);
    for (int i = 0; i < 2; i++) {
        /* rate = 1 / lag; what is left after half a step is exp(-dt / (2 lag)) */
        const vec rate = n[10 + i] / spread(g, b->random_lag);
        put(p + (10 + i) * LANES, chosen, rate);
        put(p + (12 + i) * LANES, chosen, v_exp(-0.5f * b->uniform[2 * N_ROTORS] * rate));
    }
    put(p + 14 * LANES, chosen, n[14] * spread(g, b->random_torque));
    put(p + 15 * LANES, chosen, v_set(n[15]));
    for (int i = 16; i < 19; i++) put(p + i * LANES, chosen, n[i] * drag);
    for (int i = 19; i < N_PARAMS; i++) put(p + i * LANES, chosen, n[i] * spread(g, b->random_rotor));
}

/* One-hot rows of a whole number of steps, uniform in low..high. */
INLINE void draw_delay(float *one_hot, ivec chosen, Generator *g, int64_t low, int64_t high)
{
    const vec u = v_uniform01(g) * (float)(high - low + 1);
    for (int64_t i = 0; i <= MAX_DELAY; i++) {
        const float first = (float)(i - low); /* steps == i  <=>  first <= u < first + 1 */
        const ivec hit = (u >= first) & (u < first + 1.0f);
        put(one_hot + i * LANES, chosen, (vec)(hit & (ivec)v_set(1.0f)));
    }
}

/* Rotation by an angle uniform in [0, tilt] about an axis uniform on the sphere. */
INLINE void draw_attitude(float *quat, ivec chosen, Generator *g, vec tilt)
{
    const vec z = v_uniform11(g), turn = 0.5f * v_uniform11(g), ring = v_sqrt(1.0f - z * z);
    const vec half = tilt * v_uniform01(g) * (0.5f * 0.159154943f); /* turns */
    const vec s = v_sin_turns(half);
    vec q[4] = {v_sin_turns(half + 0.25f), s * ring * v_sin_turns(turn + 0.25f), s * ring * v_sin_turns(turn), s * z};
    /* The polynomials leave the norm within 1e-5 of one; q (3 - |q|^2) / 2 brings it to round-off. */
    const vec pull = 1.5f - 0.5f * (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    for (int i = 0; i < 4; i++) put(quat + i * LANES, chosen, pull * q[i]);
}

INLINE void draw_disturbance(const Batch *b, int64_t k, int o, ivec chosen, Generator *g)
{
    vec n[10];
    for (int i = 0; i < 10; i += 2) v_normal(g, &n[i], &n[i + 1]);
    for (int i = 0; i < 6; i++)
        put(BLOCK(b, constant, 6, k) + i * LANES + o, chosen, (i < 3 ? b->force_std : b->torque_std) * n[i]);
    for (int i = 0; i < 3; i++) put(BLOCK(b, gust, 3, k) + i * LANES + o, chosen, b->gust_std * n[6 + i]);
}

INLINE void draw_trajectory(const Batch *b, int64_t k, int o, ivec chosen, Generator *g)
{
    const vec u = v_uniform01(g) * (float)b->n_bank;
    for (int l = 0; l < VW; l++)
        for (int i = 0; chosen[l] && i < N_TRAJECTORY; i++)
            BLOCK(b, trajectory, N_TRAJECTORY, k)[i * LANES + o + l] = b->bank[(int64_t)u[l] * N_TRAJECTORY + i];
}

/* Where the chosen lanes start: around the reference of their own time. */
INLINE void draw_state(const Batch *b, int64_t k, int o, ivec chosen, Generator *g)
{
    LOCAL(rows, N_REFERENCE);
    float *x = BLOCK(b, state, N_STATE, k) + o;
    reference_block(b, k, rows);
    const vec moving = v_where_gt(v_set(b->start_at_rest), v_uniform01(g), v_set(0.0f), v_set(1.0f));
    for (int i = 0; i < 3; i++) {
        const vec p = v_load(rows + i * LANES + o), v = v_load(rows + (3 + i) * LANES + o);
        put(x + i * LANES, chosen, p + moving * b->start_position * v_uniform11(g));
        put(x + (3 + i) * LANES, chosen, v + moving * b->start_velocity * v_uniform11(g));
        put(x + (10 + i) * LANES, chosen, moving * b->start_rate * v_uniform11(g));
    }
    draw_attitude(x + 6 * LANES, chosen, g, moving * b->start_tilt);
    const float start = b->start_rotor < 0.0f ? b->hover_fraction : b->start_rotor;
    UNROLL
    for (int i = 0; i < N_ROTORS; i++)
        put(x + (13 + i) * LANES, chosen, moving * start + (1.0f - moving) * b->hover_fraction);
}

/* Start a new episode in the lanes where `ended` is 1, already `age` steps old; `c` is the tape position of its first
 * measurement. A lane's numbers depend on its own generator alone, which only a reset of its own moves on. */
INLINE void reset_lanes(const Batch *b, int64_t k, int64_t c, const float *ended, const float *age)
{
    const int64_t past = b->history + MAX_DELAY < c ? b->history + MAX_DELAY : c;
    EACH_VECTOR(o)
    {
        const ivec chosen = v_load(ended + o) > 0.5f;
        uint32_t *rng = BLOCK(b, rng, 4, k) + o;
        Generator g = v_generator(rng), before = g;
        put(BLOCK(b, clock, 1, k) + o, chosen, v_load(age + o));
        put(BLOCK(b, failed, 1, k) + o, chosen, v_set(0.0f));
        draw_params(b, BLOCK(b, params, N_PARAMS, k) + o, chosen, &g);
        draw_delay(BLOCK(b, action_delay, MAX_DELAY + 1, k) + o, chosen, &g, b->action_delay_low,
                   b->action_delay_high);
        draw_delay(BLOCK(b, observation_delay, MAX_DELAY + 1, k) + o, chosen, &g, b->observation_delay_low,
                   b->observation_delay_high);
        draw_disturbance(b, k, o, chosen, &g);
        if (N_TRAJECTORY > 0) draw_trajectory(b, k, o, chosen, &g);
        draw_state(b, k, o, chosen, &g);
        for (int64_t t = c - past; t < c; t++)
            for (int i = 0; i < N_ROTORS; i++) put(ACTION_ROW(b, k, t, i) + o, chosen, v_set(b->hover_action));
        v_keep_generator(rng, v_chosen_generator(chosen, g, before));
    }
}

/* Noisy measurement of a state. */
INLINE void measure_into(const Batch *b, int64_t k, const float *state, float *out)
{
    EACH_VECTOR(o) sense(state + o, out + o);
    if (b->noisy) EACH_VECTOR(o)
    {
        uint32_t *rng = BLOCK(b, rng, 4, k) + o;
        Generator g = v_generator(rng);
        for (int i = 0; i < N_SENSED; i += 2) {
            vec first, second;
            v_normal(&g, &first, &second);
            float *row = out + i * LANES + o;
            v_store(row, v_load(row) + b->noise[i] * first);
            v_store(row + LANES, v_load(row + LANES) + b->noise[i + 1] * second);
        }
        v_keep_generator(rng, g);
    }
}

/* Noisy measurement of a state into the ring at `c`. */
INLINE void measure(const Batch *b, int64_t k, int64_t c, const float *state)
{
    if (!APART) {
        measure_into(b, k, state, SENSED_ROW(b, k, c, 0));
        return;
    }
    LOCAL(room, N_SENSED);
    measure_into(b, k, state, room);
    UNROLL
    for (int i = 0; i < N_SENSED; i++) *SENSED_ROW(b, k, c, i) = room[i];
}

/* First measurement of the lanes where `ended` is 1, after their reset; the delayed ones before it are the same.
 * The other lanes keep the measurement they had. */
INLINE void measure_anew(const Batch *b, int64_t k, int64_t c, const float *ended)
{
    LOCAL(now, N_SENSED);
    Generator before[LANES / VW];
    uint32_t *rng = BLOCK(b, rng, 4, k);
    EACH_VECTOR(o) before[o / VW] = v_generator(rng + o);
    measure_into(b, k, BLOCK(b, state, N_STATE, k), now);
    EACH_VECTOR(o)
    {
        const ivec chosen = v_load(ended + o) > 0.5f;
        for (int i = 0; i < N_SENSED; i++)
            for (int64_t d = 0; d <= b->observation_delay_high; d++)
                put(SENSED_ROW(b, k, c - d, i) + o, chosen, v_load(now + i * LANES + o));
        v_keep_generator(rng + o, v_chosen_generator(chosen, v_generator(rng + o), before[o / VW]));
    }
}

/* out += weight * rows, lane by lane. */
INLINE void add_weighted(const float *rows, int width, const float *weight, float *out)
{
    EACH_VECTOR(o)
    {
        const vec w = v_load(weight + o);
        for (int i = 0; i < width; i++)
            v_store(out + i * LANES + o, v_load(out + i * LANES + o) + w * v_load(rows + i * LANES + o));
    }
}

/* What the task shows the actor, from the delayed measurement and the present reference. `late` is room for
 * N_SENSED rows; returns the measurement used, `late` or the ring's own. */
INLINE const float *observe_block(const Batch *b, int64_t k, int64_t c, float *late, float *reference_rows,
                                         float *out)
{
    LOCAL(room, N_SENSED);
    const float *now = sensed_rows(b, k, c, late);
    if (b->observation_delay_high > 0) { /* late = sum_d one_hot_d sensed[c - d] */
        memset(late, 0, sizeof(float) * N_SENSED * LANES);
        UNROLL
        for (int64_t d = 0; d <= MAX_DELAY; d++)
            if (d <= b->observation_delay_high)
                add_weighted(sensed_rows(b, k, c - d, room), N_SENSED,
                             BLOCK(b, observation_delay, MAX_DELAY + 1, k) + d * LANES, late);
        now = late;
    }
    reference_block(b, k, reference_rows);
    EACH_VECTOR(o) observe(now + o, reference_rows + o, out + o);
    return now;
}

/* Disturbance and delays [steps] as the critic sees them, from the present constant, gust and one-hot rows. */
INLINE void critic_inputs(const Batch *b, int64_t k, float *disturbance, float *delay)
{
    const float *constant = BLOCK(b, constant, 6, k), *gust = BLOCK(b, gust, 3, k);
    const float *action = BLOCK(b, action_delay, MAX_DELAY + 1, k);
    const float *observation = BLOCK(b, observation_delay, MAX_DELAY + 1, k);
    for (int i = 0; i < 6 * LANES; i++) disturbance[i] = constant[i] + (i < 3 * LANES ? gust[i] : 0.0f);
    for (int l = 0; l < LANES; l++) {
        delay[l] = delay[LANES + l] = 0.0f;
        for (int d = 1; d <= MAX_DELAY; d++) {
            delay[l] += (float)d * action[d * LANES + l];
            delay[LANES + l] += (float)d * observation[d * LANES + l];
        }
    }
}

/* Throttle of the delayed action, clipped to the robot's range. */
INLINE void throttle_block(const Batch *b, int64_t k, int64_t c, float *throttle)
{
    LOCAL(room, N_ROTORS);
    if (b->action_delay_high > 0) { /* sum_d one_hot_d action[c - d] */
        memset(throttle, 0, sizeof(float) * N_ROTORS * LANES);
        UNROLL
        for (int64_t d = 0; d <= MAX_DELAY; d++)
            if (d <= b->action_delay_high)
                add_weighted(action_rows(b, k, c - d, room), N_ROTORS,
                             BLOCK(b, action_delay, MAX_DELAY + 1, k) + d * LANES, throttle);
    } else
        memcpy(throttle, action_rows(b, k, c, room), sizeof(float) * N_ROTORS * LANES);
    /* u = u_min + (a + 1) / 2 (u_max - u_min) */
    const float half = 0.5f * (b->throttle_max - b->throttle_min), middle = b->throttle_min + half;
    for (int i = 0; i < N_ROTORS * LANES; i += VW) {
        const vec a = v_max(v_min(v_load(throttle + i), v_set(1.0f)), v_set(-1.0f));
        v_store(throttle + i, middle + half * a);
    }
}

/* Force and torque from outside: the episode's constant plus the gust, which moves on by one step:
 * g' = g e + sigma sqrt(1 - e^2) n, e = exp(-dt / time). `room` is for 6 rows; returns the rows to use. */
INLINE const float *disturb_block(const Batch *b, int64_t k, float *room)
{
    if (!APART && b->gust_std == 0.0f) return BLOCK(b, constant, 6, k);
    memcpy(room, BLOCK(b, constant, 6, k), sizeof(float) * 6 * LANES);
    if (b->gust_std == 0.0f) return room;
    const float e = b->gust_decay, kick = b->gust_std * sqrtf(1.0f - e * e);
    float *gust = BLOCK(b, gust, 3, k);
    EACH_VECTOR(o)
    {
        vec n[4];
        uint32_t *rng = BLOCK(b, rng, 4, k) + o;
        Generator g = v_generator(rng);
        v_normal(&g, &n[0], &n[1]);
        v_normal(&g, &n[2], &n[3]);
        v_keep_generator(rng, g);
        for (int i = 0; i < 3; i++) {
            const vec now = e * v_load(gust + i * LANES + o) + kick * n[i];
            v_store(gust + i * LANES + o, now);
            v_store(room + i * LANES + o, v_load(room + i * LANES + o) + now);
        }
    }
    return room;
}

/* Fly one control step: `substeps` physics steps from `state`, in place. */
INLINE void fly_block(const Batch *b, int64_t k, float *state, const float *throttle, const float *disturbance)
{
    for (int64_t s = 0; s < b->substeps; s++)
        EACH_VECTOR(o)
            rk4(state + o, throttle + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o, b->uniform, state + o);
}

/* All ones where a lane is inside `margin` times the limits around the reference; a NaN is outside. */
INLINE ivec inside_limits(const Batch *b, const float *state, const float *reference_rows, float margin)
{
    const float p = margin * b->limit_position, q = margin * b->limit_velocity, r = margin * b->limit_rate;
    ivec inside = v_all();
    for (int i = 0; i < 3; i++) {
        const vec e = v_load(state + i * LANES) - v_load(reference_rows + i * LANES);
        const vec v = v_load(state + (3 + i) * LANES), w = v_load(state + (10 + i) * LANES);
        inside &= (e < p) & (e > -p) & (v < q) & (v > -q) & (w < r) & (w > -r);
    }
    return inside;
}

/* failed = 1 where a lane is outside the limits or has been. */
INLINE void check_limits(const Batch *b, int64_t k, const float *state, const float *reference_rows)
{
    float *failed = BLOCK(b, failed, 1, k);
    EACH_VECTOR(o)
    {
        const ivec inside = inside_limits(b, state + o, reference_rows + o, 1.0f);
        const ivec out = ~inside | (v_load(failed + o) > 0.5f);
        v_store(failed + o, (vec)(out & (ivec)v_set(1.0f)));
    }
}

#endif
