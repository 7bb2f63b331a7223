/* The firmware around the app, as far as the app can tell; for the tests, which load this as a library. */
#include "alula.c"

uint64_t clock_us;
uint32_t ticks;
uint8_t is_airborne = 1;
uint8_t pid_is_sound = 1;
int estimator_type = StateEstimatorTypeKalman;
uint32_t pid_inits;
uint32_t pid_calls;
uint32_t pid_steps[2];      /* of the last two calls, the newest last */
uint32_t pid_timestamps[2]; /* of their setpoints */
state_t state;
sensorData_t sensors;
setpoint_t setpoint;
control_t control;
alula_reference_t reference; /* for the conversions called on their own */

uint64_t usecTimestamp(void)
{
    return clock_us;
}

uint32_t xTaskGetTickCount(void)
{
    return ticks;
}

void vTaskDelay(uint32_t delay)
{
    ticks += delay;
}

bool supervisorIsFlying(void)
{
    return is_airborne != 0;
}

StateEstimatorType stateEstimatorGetType(void)
{
    return (StateEstimatorType)estimator_type;
}

void controllerPidInit(void)
{
    pid_inits++;
}

bool controllerPidTest(void)
{
    return pid_is_sound != 0;
}

void controllerPid(control_t *out, const setpoint_t *at, const sensorData_t *s, const state_t *x,
                   const stabilizerStep_t step_)
{
    (void)s;
    (void)x;
    out->controlMode = controlModeLegacy;
    out->roll = out->pitch = out->yaw = 7;
    out->thrust = 30000.0f;
    pid_steps[0] = pid_steps[1];
    pid_steps[1] = step_;
    pid_timestamps[0] = pid_timestamps[1];
    pid_timestamps[1] = at->timestamp;
    pid_calls++;
}

void driver_state(const float position[3], const float quat_xyzw[4], const float velocity[3],
                  const float gyro_deg_s[3])
{
    state.position.x = position[0];
    state.position.y = position[1];
    state.position.z = position[2];
    state.attitudeQuaternion.x = quat_xyzw[0];
    state.attitudeQuaternion.y = quat_xyzw[1];
    state.attitudeQuaternion.z = quat_xyzw[2];
    state.attitudeQuaternion.w = quat_xyzw[3];
    state.velocity.x = velocity[0];
    state.velocity.y = velocity[1];
    state.velocity.z = velocity[2];
    sensors.gyro.x = gyro_deg_s[0];
    sensors.gyro.y = gyro_deg_s[1];
    sensors.gyro.z = gyro_deg_s[2];
}

void driver_setpoint(int mode_xyz, const float position[3], const float velocity[3],
                     const float acceleration[3], int body)
{
    setpoint.mode.x = setpoint.mode.y = setpoint.mode.z = (stab_mode_t)mode_xyz;
    setpoint.position = (point_t){.x = position[0], .y = position[1], .z = position[2]};
    setpoint.velocity = (velocity_t){.x = velocity[0], .y = velocity[1], .z = velocity[2]};
    setpoint.acceleration = (acc_t){.x = acceleration[0], .y = acceleration[1], .z = acceleration[2]};
    setpoint.velocity_body = body != 0;
}

void driver_times(uint64_t gyro_us, uint32_t setpoint_ticks)
{
    sensors.interruptTimestamp = gyro_us;
    setpoint.timestamp = setpoint_ticks;
}

void driver_call(uint32_t step_number)
{
    controllerOutOfTree(&control, &setpoint, &sensors, &state, step_number);
}

/* Conversions on their own. */
void driver_setpoint_reference(void)
{
    alula_setpoint(&setpoint, &reference);
}

void driver_eight(float length, float width, float lap, float t)
{
    alula_eight_t figure;
    alula_eight_start(&figure, length, width, lap);
    figure.t = t;
    alula_point(1.0f, 2.0f, 3.0f, &reference);
    alula_eight(&figure, &reference);
}

float driver_eight_advance(float lap, float t, float dt)
{
    alula_eight_t figure;
    alula_eight_start(&figure, 1.0f, 1.0f, lap);
    figure.t = t;
    alula_eight_advance(&figure, dt);
    return figure.t;
}

void driver_motors(const float actions[POLICY_NUM_ACTIONS])
{
    alula_motors(actions, &control);
}

/* NaN in the policy's own memory: the record of its actions. */
void driver_damage(void)
{
    memset(policy.history_previous_action, 0xff, sizeof policy.history_previous_action);
}

/* Floats of the last observation in order, then the ages of its fields [us]; returns how many floats. */
uint32_t driver_observation(float *floats, int64_t *ages_us)
{
    uint32_t i;
    memcpy(floats, &observation, POLICY_NUM_SUPPLIED * sizeof(float));
    for (i = 0; i < POLICY_NUM_FIELDS; i++) {
        ages_us[i] = (int64_t)(clock_us - observation.time_us[i]);
    }
    return POLICY_NUM_SUPPLIED;
}

void driver_control(int *force_mode, float forces[STABILIZER_NR_OF_MOTORS])
{
    *force_mode = control.controlMode == controlModeForce;
    memcpy(forces, control.normalizedForces, sizeof control.normalizedForces);
}

void driver_command(const float actions[POLICY_NUM_ACTIONS], float throttle[POLICY_NUM_ACTIONS])
{
    policy_command(actions, throttle);
}

static struct variable *find(struct variable *table, const char *name)
{
    for (; table->name != 0; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return 0;
}

static double value(const struct variable *v)
{
    switch (v->type) {
    case PARAM_UINT8:
        return *(uint8_t *)v->address;
    case PARAM_UINT16:
        return *(uint16_t *)v->address;
    case PARAM_UINT32:
        return *(uint32_t *)v->address;
    default:
        return (double)*(float *)v->address;
    }
}

/* -1 where there is none of this name. */
double driver_log(const char *name)
{
    const struct variable *v = find(logs_alula, name);
    return v == 0 ? -1.0 : value(v);
}

int driver_param(const char *name, double x)
{
    const struct variable *v = find(params_alula, name);
    if (v == 0) {
        return 0;
    }
    if (v->type == PARAM_UINT8) {
        *(uint8_t *)v->address = (uint8_t)x;
    } else if (v->type == PARAM_UINT16) {
        *(uint16_t *)v->address = (uint16_t)x;
    } else {
        *(float *)v->address = (float)x;
    }
    return 1;
}
