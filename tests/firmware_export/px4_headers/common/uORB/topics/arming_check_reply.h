#pragma once

#include <uORB/uORB.h>

struct arming_check_reply_s {
    uint64_t timestamp;
    uint8_t request_id;
    uint8_t registration_id;
    static constexpr uint8_t HEALTH_COMPONENT_INDEX_NONE = 0;
    uint8_t health_component_index;
    bool can_arm_and_run;
    uint8_t num_events;
    bool mode_req_angular_velocity;
    bool mode_req_attitude;
    bool mode_req_local_alt;
    bool mode_req_local_position;
    bool mode_req_global_position;
    bool mode_req_mission;
    bool mode_req_home_position;
    bool mode_req_prevent_arming;
    bool mode_req_manual_control;
};

ORB_TOPIC(arming_check_reply)
