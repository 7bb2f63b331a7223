#pragma once

#include <uORB/uORB.h>

struct vehicle_command_s {
    uint64_t timestamp;
    static constexpr uint32_t VEHICLE_CMD_SET_NAV_STATE = 100001;
    double param5;
    double param6;
    float param1;
    float param2;
    float param3;
    float param4;
    float param7;
    uint32_t command;
    uint8_t target_system;
    uint8_t target_component;
    uint8_t source_system;
    uint16_t source_component;
    uint8_t confirmation;
    bool from_external;
};

ORB_TOPIC(vehicle_command)
