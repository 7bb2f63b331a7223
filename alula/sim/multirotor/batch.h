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

#define BLOCK(b, field, rows, k) ((b)->field + (int64_t)(k) * (rows) * LANES)
#define ACTION(b, k, c) ((b)->actions + ((int64_t)(k) * (b)->tape_length + (c)) * N_ROTORS * LANES)
#define SENSED(b, k, c) \
    ((b)->sensed + ((int64_t)(k) * (MAX_DELAY + 1) + ((c) & MAX_DELAY)) * N_SENSED * LANES)

static inline float spread(uint32_t *rng, float range) { return 1.0f + range * uniform11(rng); }

/* Draw the vehicle of lane `l` around the nominal one. */
static void draw_params(const Batch *b, int64_t k, int l)
{
    uint32_t *rng = b->rng + k * 4 * LANES + l;
    float *p = BLOCK(b, params, N_PARAMS, k) + l;
    const float *n = b->nominal;
    const float inertia = spread(rng, b->random_inertia), thrust = spread(rng, b->random_thrust);
    const float mass = spread(rng, b->random_mass), drag = spread(rng, b->random_drag);
    p[0] = n[0] / mass;
    for (int i = 1; i < 4; i++) p[i * LANES] = n[i] / inertia;
    for (int i = 4; i < 7; i++) p[i * LANES] = n[i];
    for (int i = 7; i < 10; i++) p[i * LANES] = n[i] * thrust;
    for (int i = 0; i < 2; i++) {
        /* rate = 1 / lag; what is left after half a step is exp(-dt / (2 lag)) */
        const float rate = n[10 + i] / spread(rng, b->random_lag);
        p[(10 + i) * LANES] = rate;
        p[(12 + i) * LANES] = expf(-0.5f * b->uniform[2 * N_ROTORS] * rate);
    }
    p[14 * LANES] = n[14] * spread(rng, b->random_torque);
    p[15 * LANES] = n[15];
    for (int i = 16; i < 19; i++) p[i * LANES] = n[i] * drag;
    for (int i = 19; i < N_PARAMS; i++) p[i * LANES] = n[i] * spread(rng, b->random_rotor);
}

static void draw_delay(float *one_hot, uint32_t *rng, int64_t low, int64_t high)
{
    const int64_t steps = low + (int64_t)(uniform01(rng) * (float)(high - low + 1));
    for (int i = 0; i <= MAX_DELAY; i++) one_hot[i * LANES] = i == steps ? 1.0f : 0.0f;
}

/* Rotation by an angle uniform in [0, tilt] about an axis uniform on the sphere. */
static void draw_attitude(float *quat, uint32_t *rng, float tilt)
{
    const float z = uniform11(rng), turn = 3.14159265f * uniform11(rng);
    const float ring = sqrtf(1.0f - z * z), half = 0.5f * tilt * uniform01(rng), s = sinf(half);
    quat[0] = cosf(half);
    quat[LANES] = s * ring * cosf(turn);
    quat[2 * LANES] = s * ring * sinf(turn);
    quat[3 * LANES] = s * z;
}

/* Reference rows at every lane's own time. */
static inline void reference_block(const Batch *b, int64_t k, float *rows)
{
    float seconds[LANES] __attribute__((aligned(64)));
    EACH_VECTOR(o)
    {
        v_store(seconds + o, b->control_dt * v_load(BLOCK(b, clock, 1, k) + o));
        reference(seconds + o, BLOCK(b, trajectory, N_TRAJECTORY, k) + o, rows + o);
    }
}

/* Start a new episode in lane `l`, already `age` steps old; `c` is the tape position of its first measurement. */
static void reset_lane(const Batch *b, int64_t k, int l, int64_t c, float age)
{
    uint32_t *rng = b->rng + k * 4 * LANES + l;
    float *x = BLOCK(b, state, N_STATE, k) + l;
    draw_params(b, k, l);
    draw_delay(BLOCK(b, action_delay, MAX_DELAY + 1, k) + l, rng, b->action_delay_low, b->action_delay_high);
    draw_delay(BLOCK(b, observation_delay, MAX_DELAY + 1, k) + l, rng, b->observation_delay_low,
               b->observation_delay_high);
    for (int i = 0; i < 6; i++)
        BLOCK(b, constant, 6, k)[i * LANES + l] = (i < 3 ? b->force_std : b->torque_std) * normal(rng);
    for (int i = 0; i < 3; i++) BLOCK(b, gust, 3, k)[i * LANES + l] = b->gust_std * normal(rng);
    if (N_TRAJECTORY > 0) {
        const int64_t row = (int64_t)(uniform01(rng) * (float)b->n_bank);
        for (int i = 0; i < N_TRAJECTORY; i++)
            BLOCK(b, trajectory, N_TRAJECTORY, k)[i * LANES + l] = b->bank[row * N_TRAJECTORY + i];
    }
    BLOCK(b, clock, 1, k)[l] = age;
    BLOCK(b, failed, 1, k)[l] = 0.0f;

    float reference_rows[N_REFERENCE * LANES] __attribute__((aligned(64)));
    reference_block(b, k, reference_rows);
    const float moving = uniform01(rng) < b->start_at_rest ? 0.0f : 1.0f;
    for (int i = 0; i < 3; i++) {
        x[i * LANES] = reference_rows[i * LANES + l] + moving * b->start_position * uniform11(rng);
        x[(3 + i) * LANES] = reference_rows[(3 + i) * LANES + l] + moving * b->start_velocity * uniform11(rng);
        x[(10 + i) * LANES] = moving * b->start_rate * uniform11(rng);
    }
    draw_attitude(x + 6 * LANES, rng, moving * b->start_tilt);
    const float rotor = moving == 0.0f || b->start_rotor < 0.0f ? b->hover_fraction : b->start_rotor;
    for (int i = 0; i < N_ROTORS; i++) x[(13 + i) * LANES] = rotor;

    for (int64_t t = c - b->history - MAX_DELAY; t < c; t++)
        for (int i = 0; i < N_ROTORS; i++)
            if (t >= 0) ACTION(b, k, t)[i * LANES + l] = b->hover_action;
}

/* Noisy measurement of a state into the ring at `c`. */
static inline void measure(const Batch *b, int64_t k, int64_t c, const float *state)
{
    float *out = SENSED(b, k, c);
    EACH_VECTOR(o) sense(state + o, out + o);
    if (b->noisy) EACH_VECTOR(o)
    {
        uint32_t *rng = b->rng + k * 4 * LANES + o;
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

/* Right after a reset of lane `l` the delayed measurements are the first one. */
static inline void fill_measurements(const Batch *b, int64_t k, int l, int64_t c)
{
    for (int d = 1; d <= MAX_DELAY; d++)
        for (int i = 0; i < N_SENSED; i++) SENSED(b, k, c - d)[i * LANES + l] = SENSED(b, k, c)[i * LANES + l];
}

/* out += weight * rows, lane by lane. */
static inline void add_weighted(const float *rows, int width, const float *weight, float *out)
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
static inline const float *observe_block(const Batch *b, int64_t k, int64_t c, float *late, float *reference_rows,
                                         float *out)
{
    const float *now = SENSED(b, k, c);
    if (b->observation_delay_high > 0) { /* late = sum_d one_hot_d sensed[c - d] */
        memset(late, 0, sizeof(float) * N_SENSED * LANES);
        for (int64_t d = 0; d <= b->observation_delay_high; d++)
            add_weighted(SENSED(b, k, c - d), N_SENSED,
                         BLOCK(b, observation_delay, MAX_DELAY + 1, k) + d * LANES, late);
        now = late;
    }
    reference_block(b, k, reference_rows);
    EACH_VECTOR(o) observe(now + o, reference_rows + o, out + o);
    return now;
}

/* Disturbance and delays [steps] as the critic sees them, from the present constant, gust and one-hot rows. */
static inline void critic_inputs(const Batch *b, int64_t k, float *disturbance, float *delay)
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
static inline void throttle_block(const Batch *b, int64_t k, int64_t c, float *throttle)
{
    if (b->action_delay_high > 0) { /* sum_d one_hot_d action[c - d] */
        memset(throttle, 0, sizeof(float) * N_ROTORS * LANES);
        for (int64_t d = 0; d <= b->action_delay_high; d++)
            add_weighted(ACTION(b, k, c - d), N_ROTORS, BLOCK(b, action_delay, MAX_DELAY + 1, k) + d * LANES,
                         throttle);
    } else
        memcpy(throttle, ACTION(b, k, c), sizeof(float) * N_ROTORS * LANES);
    /* u = u_min + (a + 1) / 2 (u_max - u_min) */
    const float half = 0.5f * (b->throttle_max - b->throttle_min), middle = b->throttle_min + half;
    for (int i = 0; i < N_ROTORS * LANES; i += VW) {
        const vec a = v_max(v_min(v_load(throttle + i), v_set(1.0f)), v_set(-1.0f));
        v_store(throttle + i, middle + half * a);
    }
}

/* Force and torque from outside: the episode's constant plus the gust, which moves on by one step:
 * g' = g e + sigma sqrt(1 - e^2) n, e = exp(-dt / time). `room` is for 6 rows; returns the rows to use. */
static inline const float *disturb_block(const Batch *b, int64_t k, float *room)
{
    if (b->gust_std == 0.0f) return BLOCK(b, constant, 6, k);
    memcpy(room, BLOCK(b, constant, 6, k), sizeof(float) * 6 * LANES);
    const float e = b->gust_decay, kick = b->gust_std * sqrtf(1.0f - e * e);
    float *gust = BLOCK(b, gust, 3, k);
    EACH_VECTOR(o)
    {
        vec n[4];
        uint32_t *rng = b->rng + k * 4 * LANES + o;
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
static inline void fly_block(const Batch *b, int64_t k, float *state, const float *throttle, const float *disturbance)
{
    for (int64_t s = 0; s < b->substeps; s++)
        EACH_VECTOR(o)
            rk4(state + o, throttle + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o, b->uniform, state + o);
}

/* All ones where a lane is inside `margin` times the limits around the reference; a NaN is outside. */
static inline ivec inside_limits(const Batch *b, const float *state, const float *reference_rows, float margin)
{
    const float p = margin * b->limit_position, q = margin * b->limit_velocity, r = margin * b->limit_rate;
    ivec inside = ~(ivec){0};
    for (int i = 0; i < 3; i++) {
        const vec e = v_load(state + i * LANES) - v_load(reference_rows + i * LANES);
        const vec v = v_load(state + (3 + i) * LANES), w = v_load(state + (10 + i) * LANES);
        inside &= (e < p) & (e > -p) & (v < q) & (v > -q) & (w < r) & (w > -r);
    }
    return inside;
}

/* failed = 1 where a lane is outside the limits or has been; returns whether any lane is. */
static inline int check_limits(const Batch *b, int64_t k, const float *state, const float *reference_rows)
{
    float *failed = BLOCK(b, failed, 1, k);
    ivec any = {0};
    EACH_VECTOR(o)
    {
        const ivec inside = inside_limits(b, state + o, reference_rows + o, 1.0f);
        const ivec out = ~inside | (v_load(failed + o) > 0.0f);
        v_store(failed + o, (vec)(out & (ivec)v_set(1.0f)));
        any |= out;
    }
    int found = 0;
    for (int i = 0; i < VW; i++) found |= any[i];
    return found;
}

#endif
