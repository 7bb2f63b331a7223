/* Files of the host, read and written in blocks (Arm's semihosting interface, which RISC-V took over).
 * The board supplies the one instruction sequence that traps into the debugger. */
#ifndef ALULA_SEMIHOSTING_H
#define ALULA_SEMIHOSTING_H

#include <stdint.h>
#include <string.h>

static uint32_t semihosting_call(uint32_t operation, const void *argument);

enum {
    SYS_OPEN = 0x01,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    MODE_READ = 1,                   /* "rb" */
    MODE_WRITE = 5,                  /* "wb" */
    ADP_STOPPED_APPLICATION_EXIT = 0x20026
};

static void semihosting_exit(uint32_t code)
{
    const uint32_t argument[2] = {ADP_STOPPED_APPLICATION_EXIT, code};
    for (;;) {
        (void)semihosting_call(SYS_EXIT_EXTENDED, argument);
    }
}

#ifdef BOARD_SEMIHOSTING
static uint32_t from_host, to_host;

static uint32_t semihosting_file(const char *name, uint32_t mode)
{
    const uint32_t argument[3] = {(uint32_t)(uintptr_t)name, mode, (uint32_t)strlen(name)};
    return semihosting_call(SYS_OPEN, argument);
}

void board_open(void)
{
    from_host = semihosting_file("to_firmware", MODE_READ);
    to_host = semihosting_file("to_host", MODE_WRITE);
}

/* SYS_READ and SYS_WRITE return how many bytes are left; all of them at the end of the file or an error. */
static void semihosting_transfer(uint32_t operation, uint32_t file, uint32_t address, uint32_t count)
{
    while (count != 0u) {
        const uint32_t argument[3] = {file, address, count};
        const uint32_t left = semihosting_call(operation, argument);
        if (left >= count) {
            semihosting_exit(1u);
        }
        address += count - left;
        count = left;
    }
}

void board_read(uint8_t *bytes, uint32_t count)
{
    semihosting_transfer(SYS_READ, from_host, (uint32_t)(uintptr_t)bytes, count);
}

void board_write(const uint8_t *bytes, uint32_t count)
{
    semihosting_transfer(SYS_WRITE, to_host, (uint32_t)(uintptr_t)bytes, count);
}
#endif

#endif
