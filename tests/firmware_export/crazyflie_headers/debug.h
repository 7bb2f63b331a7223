#include <stdio.h>
#define DEBUG_PRINT(format, ...) printf(format, ##__VA_ARGS__)
