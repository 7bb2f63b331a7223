/* A policy of alula as a controller of the Crazyflie. Generated: do not edit, export again.
 *
 * The firmware's PID controller flies until the parameter alula.on is set and everything is within the limits
 * below; then the policy flies. Whatever goes wrong, the PID controller takes over and keeps control until
 * alula.on has been 0. This app never arms and never stops the motors: that remains the supervisor's.
 *
 * The stabilizer task's stack is small, so everything of size is static. There is one Crazyflie.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "FreeRTOS.h"
#include "task.h"

#include "app.h"
#include "autoconf.h"
#include "controller.h"
#include "controller_pid.h"
#include "estimator.h"
#include "log.h"
#include "param.h"
#include "stabilizer_types.h"
#include "supervisor.h"
#include "usec_time.h"

#define DEBUG_MODULE "ALULA"
#include "debug.h"

#include "alula_convert.h"
#include "policy.h"

#ifdef CONFIG_ENABLE_THRUST_BAT_COMPENSATED
#error "battery compensation is on, so motors take thrust, but the policy commands PWM: see app-config"
#endif

typedef enum {
    ALULA_OFF,     /* alula.on is 0; PID flies */
    ALULA_WAITING, /* alula.on is 1, but a reason speaks against; PID flies */
    ALULA_FLYING,  /* the policy flies */
    ALULA_TRIPPED  /* the policy was taken off, for a reason; PID flies until alula.on has been 0 */
} alula_mode_t;

/* Why the policy does not fly. The numbers are logged: docs and README list them. */
typedef enum {
    ALULA_NONE = 0,
    ALULA_SELF_TEST = 1,    /* the golden sequences were not reproduced */
    ALULA_ESTIMATOR = 2,    /* the complementary estimator knows no position */
    ALULA_NOT_AIRBORNE = 3, /* the supervisor does not see a flight */
    ALULA_SETPOINT = 4,     /* too old, or without a position */
    ALULA_NOT_FINITE = 5,   /* estimate, gyroscope or reference is NaN or infinite; in flight it is HELD */
    ALULA_TILT = 6,
    ALULA_HEADING = 7,
    ALULA_DISTANCE = 8,
    ALULA_FENCE = 9,
    ALULA_SPEED = 10,
    ALULA_BODY_RATE = 11,
    ALULA_HELD = 12,    /* no valid observation for too long: NaN or stale */
    ALULA_DAMAGED = 13, /* the policy's own memory holds impossible numbers */
    ALULA_REASONS = 14
} alula_reason_t;

static const char *const REASON_TEXT[ALULA_REASONS] = {
    [ALULA_NONE] = "switched off",
    [ALULA_SELF_TEST] = "self-test failed",
    [ALULA_ESTIMATOR] = "needs the Kalman estimator",
    [ALULA_NOT_AIRBORNE] = "not airborne",
    [ALULA_SETPOINT] = "setpoint",
    [ALULA_NOT_FINITE] = "not finite",
    [ALULA_TILT] = "tilt",
    [ALULA_HEADING] = "heading",
    [ALULA_DISTANCE] = "distance",
    [ALULA_FENCE] = "fence",
    [ALULA_SPEED] = "speed",
    [ALULA_BODY_RATE] = "body rate",
    [ALULA_HELD] = "held",
    [ALULA_DAMAGED] = "damaged",
};

static policy_t policy;
static policy_observation_t observation;
static alula_inputs_t inputs;
static alula_eight_t eight_figure;
static float action[POLICY_NUM_ACTIONS];
static policy_status_t status;

static bool is_tested; /* the self-test has run */
static bool is_ready;  /* and passed */
static float self_test;
static uint8_t mode;
static uint8_t reason;
static uint16_t trips;
static uint16_t trips_by_reason[ALULA_REASONS];
static uint16_t time_us;
static uint16_t longest_us;
static bool eight_runs;
static float last_estimate[10];
static uint64_t last_us;

/* Parameters. A limit that is NaN trips: every test below is "not within". */
static uint8_t on;
static uint8_t source; /* of the reference point: 0 setpoint, 1 the fixed point */
static float fixed_x, fixed_y, fixed_z;
static uint8_t eight;
static float eight_length = 1.0f, eight_width = 0.5f, eight_lap = 6.0f;
static float max_tilt = 60.0f;
static float max_heading = 60.0f;
static float max_distance = 1.0f;
static float fence_xy = 2.0f, fence_low = 0.15f, fence_high = 2.0f;
static float max_speed = 3.0f;
static float max_rate = 1000.0f;
static uint16_t max_held = 100;
static uint16_t max_setpoint_age = 300;

/* Runs in the system task at start-up, before the watchdog and the control loop: there the self-test has
 * time. The firmware calls it again, from the stabilizer task, where stabilizer.controller is changed: then
 * the self-test is not repeated. */
void controllerOutOfTreeInit(void)
{
    controllerPidInit();
    if (!is_tested) {
        policy_init(&policy);
        self_test = policy_self_test(&policy);
        is_ready = self_test <= POLICY_GOLDEN_TOLERANCE; /* false for NaN */
        is_tested = true;
    }
    on = 0;
    mode = ALULA_OFF;
    reason = ALULA_NONE;
}

bool controllerOutOfTreeTest(void)
{
    return controllerPidTest() && is_ready;
}

/* The firmware's Kalman filter leaves the time stamps of its state at zero, so an estimate counts as new when
 * any of its bits changed. */
static uint64_t estimate_time(const state_t *state, uint64_t now_us)
{
    const float estimate[10] = {
        state->position.x,           state->position.y,           state->position.z,
        state->velocity.x,           state->velocity.y,           state->velocity.z,
        state->attitudeQuaternion.x, state->attitudeQuaternion.y, state->attitudeQuaternion.z,
        state->attitudeQuaternion.w,
    };
    if (memcmp(estimate, last_estimate, sizeof estimate) == 0) {
        return inputs.estimate_us;
    }
    memcpy(last_estimate, estimate, sizeof estimate);
    return now_us;
}

static void refer(const setpoint_t *setpoint, float dt)
{
    if (source == 0) {
        alula_setpoint(setpoint, &inputs.reference);
    } else {
        alula_point(fixed_x, fixed_y, fixed_z, &inputs.reference);
    }
    if (eight == 0 || mode != ALULA_FLYING) {
        eight_runs = false;
        return;
    }
    if (!eight_runs) {
        alula_eight_start(&eight_figure, eight_length, eight_width, eight_lap);
        eight_runs = true;
    } else {
        alula_eight_advance(&eight_figure, dt);
    }
    alula_eight(&eight_figure, &inputs.reference);
}

static void sense(const setpoint_t *setpoint, const sensorData_t *sensors, const state_t *state,
                  uint64_t now_us)
{
    /* The firmware's clock can be set back to zero by a parameter: then no time passes. */
    const uint64_t passed_us = now_us > last_us ? now_us - last_us : 0u;
    last_us = now_us;
    inputs.now_us = now_us;
    inputs.estimate_us = estimate_time(state, now_us);
    inputs.gyro_us = sensors->interruptTimestamp;
    alula_sense(state, sensors, &inputs);
    refer(setpoint, passed_us < 100000u ? 1e-6f * (float)passed_us : 0.0f);
}

/* What the policy sees, entry by entry of its contract. */
static void observe(void)
{
@OBSERVE@
}

static bool all_finite(const float *x, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
    }
    return true;
}

static alula_reason_t check_limits(void)
{
    const float *const p = inputs.position_w;
    float distance[3];
    alula_difference(p, inputs.reference.position_w, distance);
    if (!(inputs.rot_wb[8] >= cosf(max_tilt * ALULA_RAD_PER_DEG))) {
        return ALULA_TILT;
    }
    if (!(fabsf(atan2f(inputs.rot_wb[3], inputs.rot_wb[0])) <= max_heading * ALULA_RAD_PER_DEG)) {
        return ALULA_HEADING;
    }
    if (!(alula_norm(distance) <= max_distance)) {
        return ALULA_DISTANCE;
    }
    if (!(fabsf(p[0]) <= fence_xy && fabsf(p[1]) <= fence_xy && p[2] >= fence_low
          && p[2] <= fence_high)) {
        return ALULA_FENCE;
    }
    if (!(alula_norm(inputs.velocity_w) <= max_speed)) {
        return ALULA_SPEED;
    }
    if (!(alula_norm(inputs.angular_velocity_b) <= max_rate * ALULA_RAD_PER_DEG)) {
        return ALULA_BODY_RATE;
    }
    return ALULA_NONE;
}

/* The first thing that speaks against the policy. The setpoint's age counts whatever the reference is:
 * without setpoints the supervisor stops the motors, and PID levels out before. */
static alula_reason_t check(const setpoint_t *setpoint)
{
    const uint32_t age_ms = T2M((uint32_t)xTaskGetTickCount() - setpoint->timestamp);
    const uint32_t held = policy_status(&policy)->held_in_a_row;
    alula_reason_t found;
    bool is_finite;
    if (!is_ready) {
        return ALULA_SELF_TEST;
    }
    if (stateEstimatorGetType() == StateEstimatorTypeComplementary) {
        return ALULA_ESTIMATOR;
    }
    if (!supervisorIsFlying()) {
        return ALULA_NOT_AIRBORNE;
    }
    if (age_ms > max_setpoint_age || (source == 0 && !alula_has_position(setpoint))) {
        return ALULA_SETPOINT;
    }
    /* NaN is held by the library for a while; meanwhile the limits cannot be judged. */
    is_finite = all_finite(inputs.position_w, 3) && all_finite(inputs.rot_wb, 9)
                && all_finite(inputs.velocity_w, 3) && all_finite(inputs.angular_velocity_b, 3)
                && all_finite(inputs.reference.position_w, 3) && all_finite(inputs.reference.velocity_w, 3)
                && all_finite(inputs.reference.preview_w, 3 * ALULA_PREVIEWS);
    if (!is_finite && mode != ALULA_FLYING) {
        return ALULA_NOT_FINITE;
    }
    found = is_finite ? check_limits() : ALULA_NONE;
    if (found != ALULA_NONE) {
        return found;
    }
    if ((status & POLICY_DAMAGED) != 0u) {
        return ALULA_DAMAGED;
    }
    if ((status & POLICY_LOST) != 0u || held > max_held * 1000u / POLICY_STEP_US) {
        return ALULA_HELD;
    }
    return ALULA_NONE;
}

/* Hand over to PID, which has not run since the policy took over. A setpoint without thrust makes it forget
 * its integrals, filters and heading; then it computes all its loops once, because a step of 0 is a multiple
 * of every rate, so that no motor command of the policy is left in the union of control_t. */
static void resume_pid(control_t *control, const setpoint_t *setpoint, const sensorData_t *sensors,
                       const state_t *state)
{
    static const setpoint_t IDLE;
    controllerPid(control, &IDLE, sensors, state, 0);
    controllerPid(control, setpoint, sensors, state, 0);
}

/* Sense, ask the policy, and judge. Returns whether the policy's action is to be flown. */
static bool step(const setpoint_t *setpoint, const sensorData_t *sensors, const state_t *state,
                 uint64_t now_us)
{
    alula_reason_t found;
    sense(setpoint, sensors, state, now_us);
    observe();
    status = policy_step(&policy, &observation, now_us, action);
    found = check(setpoint);
    if (mode == ALULA_FLYING && found == ALULA_NONE) {
        return true;
    }
    reason = (uint8_t)found;
    if (found == ALULA_NONE) {
        /* All is well: the policy takes over at the next call, without the past in which it did not fly. */
        policy_reset(&policy);
        mode = ALULA_FLYING;
    } else if (mode == ALULA_FLYING) {
        mode = ALULA_TRIPPED;
        trips++;
        trips_by_reason[found]++;
    }
    return false;
}

/* Called at 1000 Hz. The library evaluates the network at its own rate; every call is checked. */
void controllerOutOfTree(control_t *control, const setpoint_t *setpoint, const sensorData_t *sensors,
                         const state_t *state, const stabilizerStep_t stabilizerStep)
{
    const bool was_flying = mode == ALULA_FLYING;
    bool flies = false;
    if (on == 0) {
        mode = ALULA_OFF;
        reason = ALULA_NONE;
    } else if (mode == ALULA_OFF) {
        longest_us = 0;
        policy_reset(&policy);
        mode = ALULA_WAITING;
    }
    if (mode == ALULA_WAITING || mode == ALULA_FLYING) {
        const uint64_t begin_us = usecTimestamp();
        uint64_t spent_us;
        flies = step(setpoint, sensors, state, begin_us);
        spent_us = usecTimestamp() - begin_us;
        time_us = spent_us < UINT16_MAX ? (uint16_t)spent_us : UINT16_MAX;
        longest_us = time_us > longest_us ? time_us : longest_us;
    }
    if (flies) {
        alula_motors(action, control);
    } else if (was_flying) {
        resume_pid(control, setpoint, sensors, state);
    } else {
        controllerPid(control, setpoint, sensors, state, stabilizerStep);
    }
}

/* A task of its own: it says on the console what happens. */
void appMain()
{
    uint8_t told_mode = ALULA_OFF, told_reason = ALULA_NONE;
    DEBUG_PRINT("policy for %s: self-test %s\n", POLICY_ROBOT, is_ready ? "passed" : "FAILED");
    while (1) {
        const uint8_t mode_now = mode, reason_now = reason;
        vTaskDelay(M2T(100));
        if (mode_now == told_mode && reason_now == told_reason) {
            continue;
        }
        if (mode_now == ALULA_FLYING) {
            DEBUG_PRINT("policy flies\n");
        } else {
            DEBUG_PRINT("PID flies (%s)\n", REASON_TEXT[reason_now]);
        }
        told_mode = mode_now;
        told_reason = reason_now;
    }
}

PARAM_GROUP_START(alula)
PARAM_ADD(PARAM_UINT8, on, &on)
PARAM_ADD(PARAM_UINT8, source, &source)
PARAM_ADD(PARAM_FLOAT, x, &fixed_x)
PARAM_ADD(PARAM_FLOAT, y, &fixed_y)
PARAM_ADD(PARAM_FLOAT, z, &fixed_z)
PARAM_ADD(PARAM_UINT8, eight, &eight)
PARAM_ADD(PARAM_FLOAT, eightLength, &eight_length)
PARAM_ADD(PARAM_FLOAT, eightWidth, &eight_width)
PARAM_ADD(PARAM_FLOAT, eightLap, &eight_lap)
PARAM_ADD(PARAM_FLOAT, maxTilt, &max_tilt)
PARAM_ADD(PARAM_FLOAT, maxHeading, &max_heading)
PARAM_ADD(PARAM_FLOAT, maxDistance, &max_distance)
PARAM_ADD(PARAM_FLOAT, fenceXY, &fence_xy)
PARAM_ADD(PARAM_FLOAT, fenceLow, &fence_low)
PARAM_ADD(PARAM_FLOAT, fenceHigh, &fence_high)
PARAM_ADD(PARAM_FLOAT, maxSpeed, &max_speed)
PARAM_ADD(PARAM_FLOAT, maxRate, &max_rate)
PARAM_ADD(PARAM_UINT16, maxHeld, &max_held)
PARAM_ADD(PARAM_UINT16, maxSetAge, &max_setpoint_age)
PARAM_GROUP_STOP(alula)

LOG_GROUP_START(alula)
LOG_ADD(LOG_UINT8, mode, &mode)
LOG_ADD(LOG_UINT8, reason, &reason)
LOG_ADD(LOG_UINT8, ready, &is_ready)
LOG_ADD(LOG_FLOAT, selfTest, &self_test)
LOG_ADD(LOG_UINT32, status, &status)
LOG_ADD(LOG_FLOAT, action1, &action[POLICY_ACTION_M1])
LOG_ADD(LOG_FLOAT, action2, &action[POLICY_ACTION_M2])
LOG_ADD(LOG_FLOAT, action3, &action[POLICY_ACTION_M3])
LOG_ADD(LOG_FLOAT, action4, &action[POLICY_ACTION_M4])
LOG_ADD(LOG_UINT16, us, &time_us)
LOG_ADD(LOG_UINT16, usMax, &longest_us)
LOG_ADD(LOG_UINT32, steps, &policy.counters.steps)
LOG_ADD(LOG_UINT32, missed, &policy.counters.missed)
LOG_ADD(LOG_UINT32, restarted, &policy.counters.restarted)
LOG_ADD(LOG_UINT32, clipped, &policy.counters.clipped)
LOG_ADD(LOG_UINT32, saturated, &policy.counters.saturated)
LOG_ADD(LOG_UINT32, notFinite, &policy.counters.not_finite)
LOG_ADD(LOG_UINT32, stale, &policy.counters.stale)
LOG_ADD(LOG_UINT32, backwards, &policy.counters.time_backwards)
LOG_ADD(LOG_UINT32, damaged, &policy.counters.damaged)
LOG_ADD(LOG_UINT32, heldInARow, &policy.counters.held_in_a_row)
LOG_ADD(LOG_UINT16, trips, &trips)
LOG_ADD(LOG_UINT16, tripEstimator, &trips_by_reason[ALULA_ESTIMATOR])
LOG_ADD(LOG_UINT16, tripAirborne, &trips_by_reason[ALULA_NOT_AIRBORNE])
LOG_ADD(LOG_UINT16, tripSetpoint, &trips_by_reason[ALULA_SETPOINT])
LOG_ADD(LOG_UINT16, tripTilt, &trips_by_reason[ALULA_TILT])
LOG_ADD(LOG_UINT16, tripHeading, &trips_by_reason[ALULA_HEADING])
LOG_ADD(LOG_UINT16, tripDistance, &trips_by_reason[ALULA_DISTANCE])
LOG_ADD(LOG_UINT16, tripFence, &trips_by_reason[ALULA_FENCE])
LOG_ADD(LOG_UINT16, tripSpeed, &trips_by_reason[ALULA_SPEED])
LOG_ADD(LOG_UINT16, tripRate, &trips_by_reason[ALULA_BODY_RATE])
LOG_ADD(LOG_UINT16, tripHeld, &trips_by_reason[ALULA_HELD])
LOG_ADD(LOG_UINT16, tripDamaged, &trips_by_reason[ALULA_DAMAGED])
LOG_GROUP_STOP(alula)
