#pragma once

#include <cstdint>

inline uint64_t clock_us = 0;
inline uint64_t hrt_absolute_time() { return clock_us; }
