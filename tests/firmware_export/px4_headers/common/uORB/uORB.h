/* A topic: the last message, and how many there have been. */
#pragma once

#include <cstdint>
#include <cstring>

struct orb_metadata {
    uint32_t generation{0};
    unsigned char message[1024]{};
};

#define ORB_ID(topic) (&orb_##topic)
#define ORB_TOPIC(topic) inline orb_metadata orb_##topic;
