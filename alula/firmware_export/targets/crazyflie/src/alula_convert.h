/* Between the firmware's units and those of the policy: SI, world ENU, body FLU. See alula.c. */
#ifndef ALULA_CONVERT_H
#define ALULA_CONVERT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "stabilizer_types.h"

#include "policy.h"

#define ALULA_RAD_PER_DEG 0.01745329252f
#define ALULA_PREVIEWS 4
#define ALULA_PREVIEW_S {0.1f, 0.2f, 0.4f, 0.6f} /* how far ahead a policy sees the reference */
#define ALULA_EIGHT_RAMP_S 2.0f /* the figure-eight gathers speed over this time [s] */
#define ALULA_SHORTEST_LAP_S 1.0f /* a shorter lap, zero or NaN is taken as this [s] */

/* Where the vehicle should be. */
typedef struct {
    float position_w[3];                 /* [m] */
    float velocity_w[3];                 /* [m/s] */
    float preview_w[3 * ALULA_PREVIEWS]; /* position at each of ALULA_PREVIEW_S minus the present one [m] */
} alula_reference_t;

/* All that an observation is made of. */
typedef struct {
    float position_w[3];         /* [m] */
    float rot_wb[9];             /* row-major, body to world [-] */
    float velocity_w[3];         /* [m/s] */
    float angular_velocity_b[3]; /* [rad/s] */
    alula_reference_t reference;
    uint64_t estimate_us; /* when the state estimate last changed, on the clock of usecTimestamp [us] */
    uint64_t gyro_us;     /* when the gyroscope was read [us] */
    uint64_t now_us;      /* now [us] */
} alula_inputs_t;

/* x = length/2 sin(phase), y = width/2 sin(2 phase) about the reference point. */
typedef struct {
    float length; /* [m] */
    float width;  /* [m] */
    float lap;    /* one round [s] */
    float t;      /* since it began [s] */
} alula_eight_t;

/* Rotation matrix of the quaternion q = (x, y, z, w) that maps body to world:
 * R = I + s (w [v]x + [v]x^2), v = (x, y, z), s = 2 / |q|^2. A quaternion of zeros gives NaN. */
static inline void alula_rotation(const quaternion_t *q, float rot_wb[9])
{
    const float x = q->x, y = q->y, z = q->z, w = q->w;
    const float s = 2.0f / (x * x + y * y + z * z + w * w);
    rot_wb[0] = 1.0f - s * (y * y + z * z);
    rot_wb[1] = s * (x * y - w * z);
    rot_wb[2] = s * (x * z + w * y);
    rot_wb[3] = s * (x * y + w * z);
    rot_wb[4] = 1.0f - s * (x * x + z * z);
    rot_wb[5] = s * (y * z - w * x);
    rot_wb[6] = s * (x * z - w * y);
    rot_wb[7] = s * (y * z + w * x);
    rot_wb[8] = 1.0f - s * (x * x + y * y);
}

/* State and gyroscope in SI units. The attitude comes from the quaternion: the firmware's Euler angles have
 * an inverted pitch, its quaternion has not. The gyroscope's axes are the body's: x forward, y left, z up. */
static inline void alula_sense(const state_t *state, const sensorData_t *sensors, alula_inputs_t *in)
{
    in->position_w[0] = state->position.x;
    in->position_w[1] = state->position.y;
    in->position_w[2] = state->position.z;
    alula_rotation(&state->attitudeQuaternion, in->rot_wb);
    in->velocity_w[0] = state->velocity.x;
    in->velocity_w[1] = state->velocity.y;
    in->velocity_w[2] = state->velocity.z;
    in->angular_velocity_b[0] = sensors->gyro.x * ALULA_RAD_PER_DEG;
    in->angular_velocity_b[1] = sensors->gyro.y * ALULA_RAD_PER_DEG;
    in->angular_velocity_b[2] = sensors->gyro.z * ALULA_RAD_PER_DEG;
}

/* A point at rest. */
static inline void alula_point(float x, float y, float z, alula_reference_t *reference)
{
    memset(reference, 0, sizeof *reference);
    reference->position_w[0] = x;
    reference->position_w[1] = y;
    reference->position_w[2] = z;
}

/* Whether the setpoint says where to be, in all three axes. */
static inline bool alula_has_position(const setpoint_t *setpoint)
{
    return setpoint->mode.x == modeAbs && setpoint->mode.y == modeAbs && setpoint->mode.z == modeAbs;
}

/* The setpoint as a reference. It holds one instant, so the preview goes on with its velocity and
 * acceleration: p(t + tau) - p(t) = v tau + a tau^2 / 2. A velocity in the body's axes is not used. */
static inline void alula_setpoint(const setpoint_t *setpoint, alula_reference_t *reference)
{
    static const float AHEAD[ALULA_PREVIEWS] = ALULA_PREVIEW_S;
    const float v[3] = {setpoint->velocity.x, setpoint->velocity.y, setpoint->velocity.z};
    const float a[3] = {setpoint->acceleration.x, setpoint->acceleration.y, setpoint->acceleration.z};
    int i, axis;
    alula_point(setpoint->position.x, setpoint->position.y, setpoint->position.z, reference);
    if (setpoint->velocity_body) {
        return;
    }
    for (axis = 0; axis < 3; axis++) {
        reference->velocity_w[axis] = v[axis];
        for (i = 0; i < ALULA_PREVIEWS; i++) {
            reference->preview_w[3 * i + axis] = (v[axis] + 0.5f * a[axis] * AHEAD[i]) * AHEAD[i];
        }
    }
}

/* Phase of the figure [rad] at time t: its rate rises evenly from 0 to w = 2 pi / lap, then stays. */
static inline float alula_eight_phase(const alula_eight_t *eight, float t)
{
    const float w = 6.283185307f / eight->lap;
    const float ramp = ALULA_EIGHT_RAMP_S;
    return t < ramp ? 0.5f * w * t * t / ramp : w * (t - 0.5f * ramp);
}

static inline void alula_eight_offset(const alula_eight_t *eight, float t, float offset[2])
{
    const float phase = alula_eight_phase(eight, t);
    offset[0] = 0.5f * eight->length * sinf(phase);
    offset[1] = 0.5f * eight->width * sinf(2.0f * phase);
}

/* A figure that starts now; bad numbers are made good here, once. */
static inline void alula_eight_start(alula_eight_t *eight, float length, float width, float lap)
{
    eight->length = length;
    eight->width = width;
    eight->lap = lap >= ALULA_SHORTEST_LAP_S ? lap : ALULA_SHORTEST_LAP_S;
    eight->t = 0.0f;
}

/* Go on by dt [s]; whole rounds are dropped, so that t stays small and exact. */
static inline void alula_eight_advance(alula_eight_t *eight, float dt)
{
    eight->t += dt;
    if (eight->t >= ALULA_EIGHT_RAMP_S + eight->lap) {
        eight->t -= eight->lap;
    }
}

/* Put the figure around the reference's position, which is taken to be at rest. */
static inline void alula_eight(const alula_eight_t *eight, alula_reference_t *reference)
{
    static const float AHEAD[ALULA_PREVIEWS] = ALULA_PREVIEW_S;
    const float phase = alula_eight_phase(eight, eight->t);
    const float ramp = eight->t < ALULA_EIGHT_RAMP_S ? eight->t / ALULA_EIGHT_RAMP_S : 1.0f;
    const float rate = ramp * 6.283185307f / eight->lap; /* of the phase [rad/s] */
    float here[2], ahead[2];
    int i;
    alula_point(reference->position_w[0], reference->position_w[1], reference->position_w[2], reference);
    alula_eight_offset(eight, eight->t, here);
    reference->position_w[0] += here[0];
    reference->position_w[1] += here[1];
    reference->velocity_w[0] = 0.5f * eight->length * rate * cosf(phase);
    reference->velocity_w[1] = eight->width * rate * cosf(2.0f * phase);
    for (i = 0; i < ALULA_PREVIEWS; i++) {
        alula_eight_offset(eight, eight->t + AHEAD[i], ahead);
        reference->preview_w[3 * i] = ahead[0] - here[0];
        reference->preview_w[3 * i + 1] = ahead[1] - here[1];
    }
}

static inline void alula_difference(const float a[3], const float b[3], float difference[3])
{
    int axis;
    for (axis = 0; axis < 3; axis++) {
        difference[axis] = a[axis] - b[axis];
    }
}

static inline float alula_norm(const float v[3])
{
    return sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

/* One function for each entry that a policy may ask for. A hover policy holds the origin, so it is shown the
 * position relative to the reference; its velocity is the true one. */
static inline void alula_position_w(const alula_inputs_t *in, float out[3])
{
    alula_difference(in->position_w, in->reference.position_w, out);
}

static inline void alula_position_error_w(const alula_inputs_t *in, float out[3])
{
    alula_difference(in->position_w, in->reference.position_w, out);
}

static inline void alula_rot_wb(const alula_inputs_t *in, float out[9])
{
    memcpy(out, in->rot_wb, sizeof in->rot_wb);
}

static inline void alula_velocity_w(const alula_inputs_t *in, float out[3])
{
    memcpy(out, in->velocity_w, sizeof in->velocity_w);
}

static inline void alula_velocity_error_w(const alula_inputs_t *in, float out[3])
{
    alula_difference(in->velocity_w, in->reference.velocity_w, out);
}

static inline void alula_angular_velocity_b(const alula_inputs_t *in, float out[3])
{
    memcpy(out, in->angular_velocity_b, sizeof in->angular_velocity_b);
}

static inline void alula_reference_preview_w(const alula_inputs_t *in, float out[3 * ALULA_PREVIEWS])
{
    memcpy(out, in->reference.preview_w, sizeof in->reference.preview_w);
}

/* Actions in [-1, 1] to the motors, each rotor by its name: the PWM ratio in [0, 1]. */
static inline void alula_motors(const float action[POLICY_NUM_ACTIONS], control_t *control)
{
    float throttle[POLICY_NUM_ACTIONS];
    int motor;
    policy_command(action, throttle);
    control->controlMode = controlModeForce;
    control->normalizedForces[0] = throttle[POLICY_ACTION_M1];
    control->normalizedForces[1] = throttle[POLICY_ACTION_M2];
    control->normalizedForces[2] = throttle[POLICY_ACTION_M3];
    control->normalizedForces[3] = throttle[POLICY_ACTION_M4];
    for (motor = 0; motor < STABILIZER_NR_OF_MOTORS; motor++) {
        control->normalizedForces[motor] = fminf(1.0f, fmaxf(0.0f, control->normalizedForces[motor]));
    }
}

#endif
