/* QEMU's RISC-V board `virt`, 32 bits: start-up, link, counter. Everything runs in machine mode from RAM. */
#include "board.h"
#include "semihosting.h"

#define UART_BYTE(offset) (*(volatile uint8_t *)(0x10000000u + (offset)))
#define UART_DATA UART_BYTE(0u)
#define UART_FIFO UART_BYTE(2u)
#define UART_LINE_STATUS UART_BYTE(5u) /* bit 0: byte received, bit 5: transmitter empty */

extern uint32_t bss_start[], bss_end[];

void reset_handler(void);
void start(void);
void trap_handler(void);

/* Stack, global pointer, the FPU on (mstatus.FS = initial), traps to trap_handler. */
__attribute__((naked, used, section(".start"))) void start(void)
{
    __asm volatile(".option push\n\t"
                   ".option norelax\n\t"
                   "la gp, __global_pointer$\n\t"
                   ".option pop\n\t"
                   "la sp, stack_top\n\t"
                   "la t0, trap_handler\n\t"
                   "csrw mtvec, t0\n\t"
                   "li t0, 0x2000\n\t"
                   "csrs mstatus, t0\n\t"
                   "j reset_handler");
}

void reset_handler(void)
{
    uint32_t *to;
    for (to = bss_start; to != bss_end; to++) {
        *to = 0u;
    }
    board_exit((uint32_t)main());
}

/* No trap is expected. mtvec needs the alignment. */
__attribute__((aligned(4), used)) void trap_handler(void)
{
    board_exit(255u);
}

/* The three instructions must be uncompressed and in one page: a debugger knows the call by them. */
__attribute__((noinline, aligned(16))) static uint32_t semihosting_call(uint32_t operation,
                                                                        const void *argument)
{
    register uint32_t a0 __asm("a0") = operation;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".option push\n\t"
                   ".option norvc\n\t"
                   ".balign 16\n\t"
                   "slli x0, x0, 0x1f\n\t"
                   "ebreak\n\t"
                   "srai x0, x0, 7\n\t"
                   ".option pop"
                   : "+r"(a0)
                   : "r"(a1)
                   : "memory");
    return a0;
}

uint32_t board_ticks(void)
{
    uint32_t count;
    __asm volatile("rdinstret %0" : "=r"(count));
    return count;
}

void board_exit(uint32_t code)
{
    semihosting_exit(code);
}

#ifndef BOARD_SEMIHOSTING
void board_open(void)
{
    UART_FIFO = 0xC1u; /* 16 bytes deep, ready at 14: the emulator fills it that far at once */
}

void board_read(uint8_t *bytes, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        while ((UART_LINE_STATUS & 0x01u) == 0u) {
        }
        bytes[i] = UART_DATA;
    }
}

void board_write(const uint8_t *bytes, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        while ((UART_LINE_STATUS & 0x20u) == 0u) {
        }
        UART_DATA = bytes[i];
    }
}
#endif
