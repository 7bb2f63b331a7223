/* Log variables as a table that a test can search. */
#include "param.h"
#define LOG_UINT8 PARAM_UINT8
#define LOG_UINT16 PARAM_UINT16
#define LOG_UINT32 PARAM_UINT32
#define LOG_FLOAT PARAM_FLOAT
#define LOG_GROUP_START(NAME) struct variable logs_##NAME[] = {
#define LOG_ADD(TYPE, NAME, ADDRESS) {#NAME, TYPE, (void *)(ADDRESS)},
#define LOG_GROUP_STOP(NAME) {0, 0, 0}};
