#pragma once

inline void PRINT_MODULE_DESCRIPTION(const char *) {}
inline void PRINT_MODULE_USAGE_NAME(const char *, const char *) {}
#define PRINT_MODULE_USAGE_COMMAND(name)
#define PRINT_MODULE_USAGE_DEFAULT_COMMANDS()
