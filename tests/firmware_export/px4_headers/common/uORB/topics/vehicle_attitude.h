#pragma once

#include <uORB/uORB.h>

struct vehicle_attitude_s {
    uint64_t timestamp;
    uint64_t timestamp_sample;
    float q[4];
    float delta_q_reset[4];
    uint8_t quat_reset_counter;
};

ORB_TOPIC(vehicle_attitude)
