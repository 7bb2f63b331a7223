#pragma once

#include <uORB/uORB.h>

struct vehicle_control_mode_s {
    uint64_t timestamp;
    bool flag_armed;
    bool flag_control_position_enabled;
    bool flag_control_velocity_enabled;
    bool flag_control_altitude_enabled;
    bool flag_control_climb_rate_enabled;
    bool flag_control_attitude_enabled;
    bool flag_control_rates_enabled;
    bool flag_control_allocation_enabled;
    bool flag_control_termination_enabled;
    uint8_t source_id;
};

ORB_TOPIC(vehicle_control_mode)
ORB_TOPIC(config_control_setpoints)
