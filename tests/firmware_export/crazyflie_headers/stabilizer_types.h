/* The part of the firmware's data that the app reads and writes: order of members as there. */
#ifndef STABILIZER_TYPES_H
#define STABILIZER_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#define STABILIZER_NR_OF_MOTORS 4

typedef uint32_t stabilizerStep_t;

typedef union {
    struct {
        float x, y, z;
    };
    float axis[3];
} Axis3f;

typedef struct {
    uint32_t timestamp;
    float roll, pitch, yaw; /* deg, pitch inverted */
} attitude_t;

typedef struct {
    uint32_t timestamp;
    float x, y, z;
} stamped_vector_t;
typedef stamped_vector_t point_t, velocity_t, acc_t, jerk_t;

typedef struct {
    float x, y, z, w;
} quaternion_t;

typedef struct {
    float pressure, temperature, asl;
} baro_t;

typedef struct {
    Axis3f acc;  /* g */
    Axis3f gyro; /* deg/s */
    Axis3f mag;
    baro_t baro;
    uint64_t interruptTimestamp; /* us */
} sensorData_t;

typedef struct {
    attitude_t attitude;
    quaternion_t attitudeQuaternion;
    point_t position;    /* m */
    velocity_t velocity; /* m/s */
    acc_t acc;           /* g */
} state_t;

typedef enum {
    controlModeLegacy = 0,
    controlModeForceTorque = 1,
    controlModeForce = 2
} control_mode_t;

typedef struct {
    union {
        struct {
            int16_t roll, pitch, yaw;
            float thrust;
        };
        float normalizedForces[STABILIZER_NR_OF_MOTORS];
    };
    control_mode_t controlMode;
} control_t;

typedef enum {
    modeDisable = 0,
    modeAbs,
    modeVelocity
} stab_mode_t;

typedef struct {
    stab_mode_t x, y, z, roll, pitch, yaw, quat;
} setpoint_mode_t;

typedef struct {
    uint32_t timestamp; /* ticks */
    attitude_t attitude;
    attitude_t attitudeRate;
    quaternion_t attitudeQuaternion;
    float thrust;
    point_t position;
    velocity_t velocity;
    acc_t acceleration; /* m/s^2 */
    jerk_t jerk;
    bool velocity_body;
    setpoint_mode_t mode;
} setpoint_t;

#endif
