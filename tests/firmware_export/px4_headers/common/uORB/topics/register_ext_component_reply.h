#pragma once

#include <uORB/uORB.h>

struct register_ext_component_reply_s {
    uint64_t timestamp;
    uint64_t request_id;
    char name[25];
    uint16_t px4_ros2_api_version;
    bool success;
    int8_t arming_check_id;
    int8_t mode_id;
    int8_t mode_executor_id;
};

ORB_TOPIC(register_ext_component_reply)
