#include <stdbool.h>
bool supervisorIsFlying(void);
