#pragma once

#include <uORB/uORB.h>

struct vehicle_status_s {
    uint64_t timestamp;
    uint8_t arming_state;
    static constexpr uint8_t ARMING_STATE_DISARMED = 1;
    static constexpr uint8_t ARMING_STATE_ARMED = 2;
    uint8_t nav_state;
    uint8_t system_id;
    uint8_t component_id;
};

ORB_TOPIC(vehicle_status)
