#include <stdint.h>
#define M2T(ms) ((unsigned int)(ms))
#define T2M(ticks) ((unsigned int)(ticks))
