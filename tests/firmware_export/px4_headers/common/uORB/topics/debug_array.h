#pragma once

#include <uORB/uORB.h>

struct debug_array_s {
    uint64_t timestamp;
    uint16_t id;
    char name[10];
    float data[58];
};

ORB_TOPIC(debug_array)
