#pragma once

#define PX4_OK 0
#define PX4_ERROR (-1)
#define __EXPORT
#ifndef MODULE_NAME
#define MODULE_NAME "alula"
#endif
