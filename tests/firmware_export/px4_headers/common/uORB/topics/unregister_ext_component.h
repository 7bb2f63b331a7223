#pragma once

#include <uORB/uORB.h>

struct unregister_ext_component_s {
    uint64_t timestamp;
    char name[25];
    int8_t arming_check_id;
    int8_t mode_id;
    int8_t mode_executor_id;
};

ORB_TOPIC(unregister_ext_component)
