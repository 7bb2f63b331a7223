/* Short-horizon actor-critic on one block of flights at a time: fly a horizon with the actor, take the gradient of
 * its cost back through the physics, the sensors and the actor, bootstrap its end with the critic, and make the
 * critic's targets.
 *
 * Every block has its own gradient, summed in block order by the caller, so that the result does not depend on
 * how many threads shared the blocks. On a GPU (short_horizon.cu) a block is one flight, and a thread has it.
 */
#include "batch.h"
#include "dense.h"

/* Mirrored field by field by `Learner` in short_horizon_kernels.py. */
typedef struct {
    const float *actor;     /* W1 [inputs][h1], b1, W2 [h1][h2], b2, W3 [h2][N_ROTORS], b3 */
    const float *critic;    /* the same with one output */
    const float *scale;     /* [N_OBSERVED]: reciprocal size of each observed row */
    float *actor_gradient;  /* [n_blocks][actor size] */
    float *critic_gradient; /* [n_blocks][critic size] */
    float *features;        /* [n_blocks][max_horizon + 1][critic inputs][LANES] */
    float *targets;         /* [n_blocks][max_horizon][LANES] */
    float *statistics;      /* [n_blocks][4]: sum of cost, of critic loss, of final position error, episodes failed */
    int64_t horizon, max_horizon, h1, h2, critic_h1, critic_h2, use_critic, privileged;
    float gamma, lambda, clip, cotangent_limit, failure, critic_weight;
} Learner;

typedef struct {
    int n0, n1, h1, h2, out; /* inputs in two places, hidden widths, outputs */
    int64_t w1, b1, w2, b2, w3, b3, size;
} Shape;

static Shape shape_of(int n0, int n1, int h1, int h2, int out)
{
    Shape s = {n0, n1, h1, h2, out, 0, 0, 0, 0, 0, 0, 0};
    s.b1 = (int64_t)(n0 + n1) * h1;
    s.w2 = s.b1 + h1;
    s.b2 = s.w2 + (int64_t)h1 * h2;
    s.w3 = s.b2 + h2;
    s.b3 = s.w3 + (int64_t)h2 * out;
    s.size = s.b3 + out;
    return s;
}
static Shape actor_shape(const Batch *b, const Learner *n)
{
    return shape_of(N_OBSERVED, (int)b->history * N_ROTORS, (int)n->h1, (int)n->h2, N_ROTORS);
}
static Shape critic_shape(const Batch *b, const Learner *n)
{
    const int inputs = n->privileged ? N_PRIVILEGED : N_OBSERVED + (int)b->history * N_ROTORS;
    return shape_of(inputs, 0, (int)n->critic_h1, (int)n->critic_h2, 1);
}
int64_t alula_actor_size(const Batch *b, const Learner *n) { return actor_shape(b, n).size; }
int64_t alula_critic_size(const Batch *b, const Learner *n) { return critic_shape(b, n).size; }
int64_t alula_critic_inputs(const Batch *b, const Learner *n) { return critic_shape(b, n).n0; }

/* Within a horizon a lane may leave the limits this many times over before it is put back. */
#define SANE 2.0f

/* One row of padding keeps the steps of a tape from falling on the same cache sets. */
#define PITCH(rows) ((int64_t)((rows) | 1) * LANES)

/* Everything one block leaves behind on its way forward, and the cotangents of its way back. */
typedef struct {
    float *state, *disturbance, *throttle, *sensed, *reference, *observed; /* T + 1 steps each */
    float *inside; /* 1 while a lane is within sane limits, 0 at the step where it left them */
    float *h1, *h2, *d1, *d2, *dz;
    float *g_actions, *g_sensed; /* with `past` steps before the first */
    float *critic1, *critic2, *g_features;
    int64_t past;
} Tape;

static float *take(float **room, int64_t floats)
{
    float *p = *room;
    *room += (floats + LANES - 1) / LANES * LANES;
    return p;
}

static Tape lay_out(const Batch *b, const Learner *n, float *room)
{
    const int64_t t = n->max_horizon + 1;
    const Shape c = critic_shape(b, n);
    Tape tape;
    tape.past = b->history + MAX_DELAY + 1;
    tape.state = take(&room, (t * b->substeps + 1) * PITCH(N_STATE));
    tape.disturbance = take(&room, t * PITCH(6));
    tape.throttle = take(&room, t * PITCH(N_ROTORS));
    tape.sensed = take(&room, t * PITCH(N_SENSED));
    tape.reference = take(&room, t * PITCH(N_REFERENCE));
    tape.observed = take(&room, t * PITCH(N_OBSERVED));
    tape.inside = take(&room, t * LANES);
    tape.h1 = take(&room, t * PITCH(n->h1));
    tape.h2 = take(&room, t * PITCH(n->h2));
    tape.d1 = take(&room, t * PITCH(n->h1));
    tape.d2 = take(&room, t * PITCH(n->h2));
    tape.dz = take(&room, t * PITCH(N_ROTORS));
    tape.g_actions = take(&room, (t + tape.past) * N_ROTORS * LANES);
    tape.g_sensed = take(&room, (t + tape.past) * N_SENSED * LANES);
    tape.critic1 = take(&room, t * PITCH(c.h1 > c.h2 ? c.h1 : c.h2) * 2);
    tape.critic2 = take(&room, t * PITCH(c.h1 > c.h2 ? c.h1 : c.h2) * 2);
    tape.g_features = take(&room, PITCH(c.n0));
    return tape;
}

int64_t alula_room(const Batch *b, const Learner *n)
{
    const Shape c = critic_shape(b, n);
    const int64_t t = n->max_horizon + 2, widest = c.h1 > c.h2 ? c.h1 : c.h2;
    const int64_t rows = (N_STATE + 1) * b->substeps + 6 + 3 * N_ROTORS + 2 * N_SENSED + N_REFERENCE + N_OBSERVED +
                         2 * (n->h1 + n->h2) + 4 * widest + 25;
    return (t * rows + (b->history + MAX_DELAY + 2) * (N_SENSED + N_ROTORS) + c.n0 + N_STATE + 32) * LANES;
}

/* clip(x * scale) */
static void normalise(const float *rows, const float *scale, float clip, float *out)
{
    for (int i = 0; i < N_OBSERVED; i++)
        EACH_VECTOR(o)
        {
            const vec x = scale[i] * v_load(rows + i * LANES + o);
            v_store(out + i * LANES + o, v_max(v_min(x, v_set(clip)), v_set(-clip)));
        }
}

static void act(const Shape *s, const float *w, const float *observed, const float *history, float *h1, float *h2,
                float *action)
{
    dense(observed, s->n0, history, s->n1, w + s->w1, w + s->b1, s->h1, h1);
    relu(h1, s->h1);
    dense(h1, s->h1, 0, 0, w + s->w2, w + s->b2, s->h2, h2);
    relu(h2, s->h2);
    dense(h2, s->h2, 0, 0, w + s->w3, w + s->b3, s->out, action);
    squash(action, s->out);
}

/* Value times (1 - gamma), for one block of features. */
static void evaluate(const Shape *s, const float *w, const float *features, float *h1, float *h2, float *value)
{
    dense(features, s->n0, 0, 0, w + s->w1, w + s->b1, s->h1, h1);
    squash(h1, s->h1);
    dense(h1, s->h1, 0, 0, w + s->w2, w + s->b2, s->h2, h2);
    squash(h2, s->h2);
    dense(h2, s->h2, 0, 0, w + s->w3, w + s->b3, 1, value);
}

static float *features_at(const Batch *b, const Learner *n, int64_t k, int64_t t)
{
    const int64_t inputs = critic_shape(b, n).n0;
    return n->features + ((k * (n->max_horizon + 1)) + t) * inputs * LANES;
}

/* What the critic sees at step `t`. */
static void record_features(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c, int64_t t)
{
    float *out = features_at(b, n, k, t);
    if (n->privileged) {
        LOCAL(disturbance, 6);
        LOCAL(delay, 2);
        critic_inputs(b, k, disturbance, delay);
        const float *state = tape->state + t * b->substeps * PITCH(N_STATE);
        EACH_VECTOR(o)
            privileged(state + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o, delay + o,
                       tape->reference + t * PITCH(N_REFERENCE) + o, out + o);
    } else {
        memcpy(out, tape->observed + t * PITCH(N_OBSERVED), sizeof(float) * N_OBSERVED * LANES);
        memcpy(out + N_OBSERVED * LANES, ACTION(b, k, c - b->history),
               sizeof(float) * (size_t)b->history * N_ROTORS * LANES);
    }
    const int64_t floats = critic_shape(b, n).n0 * LANES;
    for (int64_t i = 0; i < floats; i += VW)
        v_store(out + i, v_max(v_min(v_load(out + i), v_set(n->clip)), v_set(-n->clip)));
}

/* Observed rows of step `t`, with what the way back needs of them. */
static void look(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c, int64_t t)
{
    LOCAL(rows, N_OBSERVED);
    float *late = tape->sensed + t * PITCH(N_SENSED);
    const float *used = observe_block(b, k, c, late, tape->reference + t * PITCH(N_REFERENCE), rows);
    if (used != late) memcpy(late, used, sizeof(float) * N_SENSED * LANES);
    normalise(rows, n->scale, n->clip, tape->observed + t * PITCH(N_OBSERVED));
}

/* A lane far outside the limits is put back at rest on its reference, and no cotangent passes that step: one
 * tumbling vehicle must not make the numbers of all infinite. */
static void contain(const Batch *b, const float *reference_rows, float *state, float *inside)
{
    EACH_VECTOR(o)
    {
        const vec ok = (vec)(inside_limits(b, state + o, reference_rows + o, SANE) & (ivec)v_set(1.0f));
        v_store(inside + o, ok);
        for (int i = 0; i < N_STATE; i++) {
            const vec rest = i < 6    ? v_load(reference_rows + i * LANES + o)
                             : i < 13 ? v_set(i == 6 ? 1.0f : 0.0f)
                                      : v_set(b->hover_fraction);
            float *row = state + i * LANES + o;
            v_store(row, v_where_gt(ok, v_set(0.5f), v_load(row), rest));
        }
    }
}

/* Fly one horizon from tape position `c`; returns the cost summed over lanes. */
static float fly_horizon(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c)
{
    const Shape s = actor_shape(b, n);
    float *clock = BLOCK(b, clock, 1, k), total = 0.0f;
    memcpy(tape->state, BLOCK(b, state, N_STATE, k), sizeof(float) * N_STATE * LANES);
    look(b, n, tape, k, c, 0);
    for (int64_t t = 0; t < n->horizon; t++, c++) {
        record_features(b, n, tape, k, c, t);
        act(&s, n->actor, tape->observed + t * PITCH(N_OBSERVED), ACTION(b, k, c - b->history),
            tape->h1 + t * PITCH(s.h1), tape->h2 + t * PITCH(s.h2), ACTION(b, k, c));
        float *throttle = tape->throttle + t * PITCH(N_ROTORS), *disturbance = tape->disturbance + t * PITCH(6);
        throttle_block(b, k, c, throttle);
        const float *disturbed = disturb_block(b, k, disturbance);
        if (disturbed != disturbance) memcpy(disturbance, disturbed, sizeof(float) * 6 * LANES);
        float *state = tape->state + t * b->substeps * PITCH(N_STATE);
        for (int64_t i = 0; i < b->substeps; i++, state += PITCH(N_STATE))
            EACH_VECTOR(o)
                rk4(state + o, throttle + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o, b->uniform,
                    state + PITCH(N_STATE) + o);
        EACH_VECTOR(o) v_store(clock + o, v_load(clock + o) + 1.0f);
        float *reference_rows = tape->reference + (t + 1) * PITCH(N_REFERENCE);
        reference_block(b, k, reference_rows);
        contain(b, reference_rows, state, tape->inside + t * LANES);
        measure(b, k, c + 1, state);
        look(b, n, tape, k, c + 1, t + 1);
        float *value = n->targets + (k * n->max_horizon + t) * LANES;
        EACH_VECTOR(o)
        {
            cost(state + o, ACTION(b, k, c) + o, ACTION(b, k, c - 1) + o, reference_rows + o, b->weights, value + o);
            total += v_sum(v_load(value + o));
        }
    }
    record_features(b, n, tape, k, c, n->horizon);
    memcpy(BLOCK(b, state, N_STATE, k), tape->state + n->horizon * b->substeps * PITCH(N_STATE),
           sizeof(float) * N_STATE * LANES);
    return total;
}

/* Cotangent of the last state from the critic, V(s_T). */
static void bootstrap(const Batch *b, const Learner *n, const Tape *tape, int64_t k, float weight, float *g_state)
{
    const Shape s = critic_shape(b, n);
    const int64_t t = n->horizon;
    LOCAL(value, 1);
    LOCAL(g, 1);
    float *h1 = tape->critic1, *h2 = tape->critic2, *d1 = h1 + PITCH(s.h1), *d2 = h2 + PITCH(s.h2);
    const float *features = features_at(b, n, k, t), *w = n->critic;
    evaluate(&s, w, features, h1, h2, value);
    EACH_VECTOR(o) v_store(g + o, v_set(weight / (1.0f - n->gamma)));
    dense_input_gradient(w + s.w3, s.h2, 1, g, d2, 0);
    squash_gradient(h2, d2, s.h2);
    dense_input_gradient(w + s.w2, s.h1, s.h2, d2, d1, 0);
    squash_gradient(h1, d1, s.h1);
    float *gf = tape->g_features;
    dense_input_gradient(w + s.w1, s.n0, s.h1, d1, gf, 0);
    for (int i = 0; i < s.n0 * LANES; i += VW) { /* no cotangent through the clip */
        const vec x = v_load(features + i), inside = v_load(gf + i);
        v_store(gf + i, v_where_gt(v_set(n->clip), v_max(x, -x), inside, v_set(0.0f)));
    }
    if (n->privileged) {
        LOCAL(disturbance, 6);
        LOCAL(delay, 2);
        critic_inputs(b, k, disturbance, delay);
        EACH_VECTOR(o)
            privileged_vjp(tape->state + t * b->substeps * PITCH(N_STATE) + o, BLOCK(b, params, N_PARAMS, k) + o,
                           disturbance + o, delay + o, tape->reference + t * PITCH(N_REFERENCE) + o, gf + o,
                           g_state + o);
        return;
    }
    float *g_actions = tape->g_actions + (tape->past + t - b->history) * N_ROTORS * LANES;
    for (int64_t i = 0; i < b->history * N_ROTORS * LANES; i++) g_actions[i] += gf[N_OBSERVED * LANES + i];
}

/* From the cotangent of the network's normalised input to that of the measurements it saw. */
static void sensed_cotangent(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t t, float *g_rows)
{
    LOCAL(g_late, N_SENSED);
    const float *x = tape->observed + t * PITCH(N_OBSERVED);
    for (int i = 0; i < N_OBSERVED; i++)
        EACH_VECTOR(o)
        {
            const vec a = v_load(x + i * LANES + o);
            v_store(g_rows + i * LANES + o, v_where_gt(v_set(n->clip), v_max(a, -a),
                                                       n->scale[i] * v_load(g_rows + i * LANES + o), v_set(0.0f)));
        }
    EACH_VECTOR(o)
        observe_vjp(tape->sensed + t * PITCH(N_SENSED) + o, tape->reference + t * PITCH(N_REFERENCE) + o, g_rows + o,
                    g_late + o);
    const float *one_hot = BLOCK(b, observation_delay, MAX_DELAY + 1, k);
    for (int64_t d = 0; d <= b->observation_delay_high; d++)
        add_weighted(g_late, N_SENSED, one_hot + d * LANES, tape->g_sensed + (tape->past + t - d) * N_SENSED * LANES);
}

/* Cotangent of the action of step `t` -> of the network's input, leaving dz, d2, d1 for the weights. */
static void actor_back(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c, int64_t t)
{
    const Shape s = actor_shape(b, n);
    const float *w = n->actor;
    float *dz = tape->dz + t * PITCH(N_ROTORS), *d2 = tape->d2 + t * PITCH(s.h2), *d1 = tape->d1 + t * PITCH(s.h1);
    LOCAL(g_rows, N_OBSERVED);
    memcpy(dz, tape->g_actions + (tape->past + t) * N_ROTORS * LANES, sizeof(float) * N_ROTORS * LANES);
    squash_gradient(ACTION(b, k, c), dz, N_ROTORS);
    dense_input_gradient(w + s.w3, s.h2, N_ROTORS, dz, d2, 0);
    relu_gradient(tape->h2 + t * PITCH(s.h2), d2, s.h2);
    dense_input_gradient(w + s.w2, s.h1, s.h2, d2, d1, 0);
    relu_gradient(tape->h1 + t * PITCH(s.h1), d1, s.h1);
    dense_input_gradient(w + s.w1, s.n0, s.h1, d1, g_rows, 0);
    dense_input_gradient(w + s.w1 + (int64_t)s.n0 * s.h1, s.n1, s.h1, d1,
                         tape->g_actions + (tape->past + t - b->history) * N_ROTORS * LANES, 1);
    sensed_cotangent(b, n, tape, k, t, g_rows);
}

/* Scale the cotangent of each lane's state down to the limit: a lane near a tumble must not speak for all. */
static void limit_cotangent(float *g, float limit)
{
    EACH_VECTOR(o)
    {
        vec squares = v_set(1e-30f);
        for (int i = 0; i < N_STATE; i++) squares += v_load(g + i * LANES + o) * v_load(g + i * LANES + o);
        const vec factor = v_min(limit / v_sqrt(squares), v_set(1.0f));
        for (int i = 0; i < N_STATE; i++) v_store(g + i * LANES + o, factor * v_load(g + i * LANES + o));
    }
}

/* Back through the horizon that ended at tape position `c`. */
static void back_through_horizon(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c)
{
    LOCAL(g, N_STATE);
    LOCAL(g_before, N_STATE);
    LOCAL(g_throttle, N_ROTORS);
    LOCAL(g_cost, 1);
    const float each = 1.0f / ((float)(b->n_blocks * LANES) * (float)n->horizon);
    const float half = 0.5f * (b->throttle_max - b->throttle_min), *one_hot = BLOCK(b, action_delay, MAX_DELAY + 1, k);
    memset(g, 0, sizeof g);
    EACH_VECTOR(o) v_store(g_cost + o, v_set(each));
    memset(tape->g_actions, 0, sizeof(float) * (size_t)((n->horizon + 1 + tape->past) * N_ROTORS * LANES));
    memset(tape->g_sensed, 0, sizeof(float) * (size_t)((n->horizon + 1 + tape->past) * N_SENSED * LANES));
    if (n->use_critic) {
        bootstrap(b, n, tape, k, each * n->critic_weight, g);
        if (!n->privileged) {
            sensed_cotangent(b, n, tape, k, n->horizon, tape->g_features);
            EACH_VECTOR(o)
                sense_vjp(tape->state + n->horizon * b->substeps * PITCH(N_STATE) + o,
                          tape->g_sensed + (tape->past + n->horizon) * N_SENSED * LANES + o, g + o);
        }
    }
    for (int64_t t = n->horizon - 1; t >= 0; t--) {
        c--;
        float *g_actions = tape->g_actions + (tape->past + t) * N_ROTORS * LANES;
        const float *state = tape->state + (t + 1) * b->substeps * PITCH(N_STATE);
        const float *throttle = tape->throttle + t * PITCH(N_ROTORS), *disturbance = tape->disturbance + t * PITCH(6);
        EACH_VECTOR(o)
        {
            cost_vjp(state + o, ACTION(b, k, c) + o, ACTION(b, k, c - 1) + o,
                     tape->reference + (t + 1) * PITCH(N_REFERENCE) + o, b->weights, g_cost + o, g + o, g_actions + o,
                     g_actions - N_ROTORS * LANES + o);
            const vec inside = v_load(tape->inside + t * LANES + o);
            for (int i = 0; i < N_STATE; i++)
                v_store(g + i * LANES + o, inside * v_load(g + i * LANES + o));
        }
        for (int64_t i = 0; i < b->substeps; i++) {
            state -= PITCH(N_STATE);
            EACH_VECTOR(o)
                rk4_vjp(state + o, throttle + o, BLOCK(b, params, N_PARAMS, k) + o, disturbance + o, b->uniform, g + o,
                        g_before + o, g_throttle + o);
            memcpy(g, g_before, sizeof g);
            for (int r = 0; r < N_ROTORS * LANES; r += VW) v_store(g_throttle + r, half * v_load(g_throttle + r));
            for (int64_t d = 0; d <= b->action_delay_high; d++)
                add_weighted(g_throttle, N_ROTORS, one_hot + d * LANES, g_actions - d * N_ROTORS * LANES);
        }
        actor_back(b, n, tape, k, c, t);
        EACH_VECTOR(o)
            sense_vjp(state + o, tape->g_sensed + (tape->past + t) * N_SENSED * LANES + o, g + o);
        limit_cotangent(g, n->cotangent_limit * each);
    }
}

static void actor_weights(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c)
{
    const Shape s = actor_shape(b, n);
    float *g = n->actor_gradient + k * s.size;
    const int steps = (int)n->horizon;
    memset(g, 0, sizeof(float) * (size_t)s.size);
    dense_weight_gradient(tape->observed, PITCH(N_OBSERVED), s.n0, tape->d1, PITCH(s.h1), s.h1, steps, g + s.w1);
    dense_weight_gradient(ACTION(b, k, c - b->history), N_ROTORS * LANES, s.n1, tape->d1, PITCH(s.h1), s.h1, steps,
                          g + s.w1 + (int64_t)s.n0 * s.h1);
    dense_weight_gradient(tape->h1, PITCH(s.h1), s.h1, tape->d2, PITCH(s.h2), s.h2, steps, g + s.w2);
    dense_weight_gradient(tape->h2, PITCH(s.h2), s.h2, tape->dz, PITCH(N_ROTORS), N_ROTORS, steps, g + s.w3);
    dense_bias_gradient(tape->d1, PITCH(s.h1), s.h1, steps, g + s.b1);
    dense_bias_gradient(tape->d2, PITCH(s.h2), s.h2, steps, g + s.b2);
    dense_bias_gradient(tape->dz, PITCH(N_ROTORS), N_ROTORS, steps, g + s.b3);
}

/* Costs in `targets` -> lambda-returns, both times (1 - gamma); Sutton and Barto 2018, section 12.1:
 * G_t = c_t + gamma ((1 - lambda) V_{t+1} + lambda G_{t+1}), G_T = V_T; past a failure the value is `failure`. */
static void make_targets(const Batch *b, const Learner *n, const Tape *tape, int64_t k)
{
    const Shape s = critic_shape(b, n);
    LOCAL(value, 1);
    LOCAL(following, 1);
    for (int64_t t = n->horizon - 1; t >= 0; t--) {
        float *target = n->targets + (k * n->max_horizon + t) * LANES;
        evaluate(&s, n->critic, features_at(b, n, k, t + 1), tape->critic1, tape->critic2, value);
        EACH_VECTOR(o)
        {
            const vec v = v_load(value + o), next = t == n->horizon - 1 ? v : v_load(following + o);
            const vec inside = v_load(tape->inside + t * LANES + o);
            const vec mixed = inside * ((1.0f - n->lambda) * v + n->lambda * next) + (1.0f - inside) * n->failure;
            v_store(target + o, (1.0f - n->gamma) * v_load(target + o) + n->gamma * mixed);
            v_store(following + o, v_load(target + o));
        }
    }
}

/* Hidden layers of the critic over the horizon, and their cotangents. */
typedef struct {
    float *h1, *h2, *d1, *d2, *dv;
} CriticTape;
static CriticTape critic_tape(const Learner *n, const Tape *tape, const Shape *s)
{
    const int64_t t = n->max_horizon + 1;
    const CriticTape c = {tape->critic1, tape->critic2, tape->critic1 + t * PITCH(s->h1),
                          tape->critic2 + t * PITCH(s->h2), tape->dz};
    return c;
}

/* Cotangents of the critic's layers from its mean squared error over the horizon. */
static void critic_back(const Batch *b, const Learner *n, const Tape *tape, int64_t k)
{
    const Shape s = critic_shape(b, n);
    const CriticTape r = critic_tape(n, tape, &s);
    const float *w = n->critic;
    LOCAL(value, 1);
    const float each = 2.0f / ((float)(b->n_blocks * LANES) * (float)n->horizon);
    for (int64_t t = 0; t < n->horizon; t++) {
        float *a1 = r.h1 + t * PITCH(s.h1), *a2 = r.h2 + t * PITCH(s.h2);
        float *g1 = r.d1 + t * PITCH(s.h1), *g2 = r.d2 + t * PITCH(s.h2), *g3 = r.dv + t * PITCH(1);
        evaluate(&s, w, features_at(b, n, k, t), a1, a2, value);
        EACH_VECTOR(o)
        {
            const vec e = v_load(value + o) - v_load(n->targets + (k * n->max_horizon + t) * LANES + o);
            v_store(g3 + o, each * e);
            n->statistics[4 * k + 1] += v_sum(e * e);
        }
        dense_input_gradient(w + s.w3, s.h2, 1, g3, g2, 0);
        squash_gradient(a2, g2, s.h2);
        dense_input_gradient(w + s.w2, s.h1, s.h2, g2, g1, 0);
        squash_gradient(a1, g1, s.h1);
    }
}

static void critic_weights(const Batch *b, const Learner *n, const Tape *tape, int64_t k)
{
    const Shape s = critic_shape(b, n);
    const CriticTape r = critic_tape(n, tape, &s);
    float *g = n->critic_gradient + k * s.size;
    const int steps = (int)n->horizon;
    memset(g, 0, sizeof(float) * (size_t)s.size);
    dense_weight_gradient(features_at(b, n, k, 0), s.n0 * LANES, s.n0, r.d1, PITCH(s.h1), s.h1, steps, g + s.w1);
    dense_weight_gradient(r.h1, PITCH(s.h1), s.h1, r.d2, PITCH(s.h2), s.h2, steps, g + s.w2);
    dense_weight_gradient(r.h2, PITCH(s.h2), s.h2, r.dv, PITCH(1), 1, steps, g + s.w3);
    dense_bias_gradient(r.d1, PITCH(s.h1), s.h1, steps, g + s.b1);
    dense_bias_gradient(r.d2, PITCH(s.h2), s.h2, steps, g + s.b2);
    dense_bias_gradient(r.dv, PITCH(1), 1, steps, g + s.b3);
}

/* Start anew the lanes whose episode is over, so that no horizon contains an end. */
static void end_horizon(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c)
{
    const float *state = BLOCK(b, state, N_STATE, k);
    const float *reference_rows = tape->reference + n->horizon * PITCH(N_REFERENCE);
    float *statistics = n->statistics + 4 * k;
    LOCAL(ended, 1);
    LOCAL(age, 1) = {0};
    check_limits(b, k, state, reference_rows);
    int any = 0;
    for (int l = 0; l < LANES; l++) {
        const float failed = BLOCK(b, failed, 1, k)[l];
        float e2 = 0.0f;
        for (int i = 0; i < 3; i++) {
            const float e = state[i * LANES + l] - reference_rows[i * LANES + l];
            e2 += e * e;
        }
        if (failed == 0.0f) statistics[2] += sqrtf(e2);
        statistics[3] += failed;
        ended[l] = failed > 0.0f || BLOCK(b, clock, 1, k)[l] >= (float)b->episode_steps ? 1.0f : 0.0f;
        any |= ended[l] > 0.0f;
    }
    if (!any) return;
    reset_lanes(b, k, c, ended, age);
    measure_anew(b, k, c, ended);
}

/* Fly a horizon from tape position `c`, and back to the cotangents of the actor's layers. */
static void learn_actor(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c)
{
    float *statistics = n->statistics + 4 * k;
    memset(statistics, 0, 4 * sizeof(float));
    statistics[0] = fly_horizon(b, n, tape, k, c);
    back_through_horizon(b, n, tape, k, c + n->horizon);
}

/* End the horizon; then the tape's last `c` actions move to its front, so that the next one starts at `c` again. */
static void close_horizon(const Batch *b, const Learner *n, const Tape *tape, int64_t k, int64_t c)
{
    end_horizon(b, n, tape, k, c + n->horizon);
    /* To lower places, where a GPU's compiler knows no memmove: from the first on. */
    const float *from = ACTION(b, k, n->horizon);
    float *to = ACTION(b, k, 0);
    for (int64_t i = 0; i < c * N_ROTORS * LANES; i++) to[i] = from[i];
}

#ifndef __cplusplus
/* One horizon for blocks [first, last), from tape position `c`: gradients of actor and critic. `room` holds alula_room
 * floats. */
void alula_horizon(const Batch *b, const Learner *n, int64_t first, int64_t last, int64_t c, float *room)
{
    const Tape tape = lay_out(b, n, room);
    for (int64_t k = first; k < last; k++) {
        learn_actor(b, n, &tape, k, c);
        actor_weights(b, n, &tape, k, c);
        if (n->use_critic) {
            make_targets(b, n, &tape, k);
            critic_back(b, n, &tape, k);
            critic_weights(b, n, &tape, k);
        }
        close_horizon(b, n, &tape, k, c);
    }
}

/* Start all episodes of blocks [first, last) at different ages, so that their ends are spread over the updates. */
void alula_start(const Batch *b, int64_t first, int64_t last, int64_t c)
{
    LOCAL(all, 1);
    LOCAL(age, 1);
    for (int64_t k = first; k < last; k++) {
        for (int l = 0; l < LANES; l++) {
            /* bits of environment i in reversed order: evenly spread for any number of environments */
            uint32_t i = (uint32_t)(k * LANES + l), reversed = 0;
            for (int bit = 0; bit < 32; bit++) reversed |= ((i >> bit) & 1u) << (31 - bit);
            all[l] = 1.0f;
            age[l] = floorf((float)reversed * 0x1p-32f * (float)b->episode_steps);
        }
        reset_lanes(b, k, c, all, age);
        measure_anew(b, k, c, all);
    }
}
#endif
