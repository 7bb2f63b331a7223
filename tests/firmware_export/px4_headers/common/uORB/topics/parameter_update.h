#pragma once

#include <uORB/uORB.h>

struct parameter_update_s {
    uint64_t timestamp;
};

ORB_TOPIC(parameter_update)
