#pragma once

#include <uORB/uORB.h>

struct setpoint_config_s {
    uint64_t timestamp;
    static constexpr uint16_t TYPE_DIRECT_ACTUATORS = 1;
    static constexpr uint16_t TYPE_TRAJECTORY = 4;
    uint16_t type;
    uint8_t source_id;
    bool should_apply;
    uint16_t timeout_ms;
};

ORB_TOPIC(setpoint_config)
