/* What the firmware needs of a board. Every board file has its own start-up code and calls main. */
#ifndef ALULA_BOARD_H
#define ALULA_BOARD_H

#include <stdint.h>

/* Open the link to the host: a serial port, or with BOARD_SEMIHOSTING the files to_firmware and to_host,
 * moved in blocks through the debugger's (here the emulator's) semihosting. */
void board_open(void);

/* Wait for `count` bytes from the host. */
void board_read(uint8_t *bytes, uint32_t count);

/* Send `count` bytes to the host. */
void board_write(const uint8_t *bytes, uint32_t count);

/* A counter that runs forward and wraps at 2^32. Under -icount it counts instructions, not cycles: 1.6 ticks
 * an instruction on mps2 with shift=6 (a tick is 40 ns, an instruction 64 ns), 1 on virt with shift=0. */
uint32_t board_ticks(void);

/* End the emulation with this exit code. */
void board_exit(uint32_t code);

int main(void);

#endif
