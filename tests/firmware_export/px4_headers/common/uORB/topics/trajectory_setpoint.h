#pragma once

#include <uORB/uORB.h>

struct trajectory_setpoint_s {
    uint64_t timestamp;
    float position[3];
    float velocity[3];
    float acceleration[3];
    float jerk[3];
    float yaw;
    float yawspeed;
};

ORB_TOPIC(trajectory_setpoint)
