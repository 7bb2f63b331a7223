#pragma once

#include <uORB/uORB.h>

struct register_ext_component_request_s {
    uint64_t timestamp;
    uint64_t request_id;
    char name[25];
    static constexpr uint16_t LATEST_PX4_ROS2_API_VERSION = 1;
    uint16_t px4_ros2_api_version;
    bool register_arming_check;
    bool register_mode;
    bool register_mode_executor;
    bool enable_replace_internal_mode;
    uint8_t replace_internal_mode;
    bool activate_mode_immediately;
};

ORB_TOPIC(register_ext_component_request)
