/* What the module says, in one text that a test reads. */
#pragma once

#include <cstdio>
#include <string>

inline std::string said;

template <typename... Arguments>
void say(const char *format, Arguments... arguments)
{
    char line[512];
    snprintf(line, sizeof line, format, arguments...);
    said += line;
    said += '\n';
}

inline void say(const char *text) { said += std::string(text) + '\n'; }

#define PX4_INFO(...) say(__VA_ARGS__)
#define PX4_WARN(...) say(__VA_ARGS__)
#define PX4_ERR(...) say(__VA_ARGS__)
