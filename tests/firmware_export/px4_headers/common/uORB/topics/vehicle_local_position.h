#pragma once

#include <uORB/uORB.h>

struct vehicle_local_position_s {
    uint64_t timestamp;
    uint64_t timestamp_sample;
    bool xy_valid;
    bool z_valid;
    bool v_xy_valid;
    bool v_z_valid;
    float x;
    float y;
    float z;
    uint8_t xy_reset_counter;
    uint8_t z_reset_counter;
    float vx;
    float vy;
    float vz;
};

ORB_TOPIC(vehicle_local_position)
