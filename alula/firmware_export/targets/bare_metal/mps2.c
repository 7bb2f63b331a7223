/* Arm MPS2 as QEMU has it (mps2-an386: Cortex-M4F, mps2-an500: Cortex-M7): start-up, link, counter. */
#include "board.h"
#include "semihosting.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CPACR REGISTER(0xE000ED88u) /* coprocessor access: the FPU is coprocessors 10 and 11 */
#define TIMER_CTRL REGISTER(0x40000000u)
#define TIMER_VALUE REGISTER(0x40000004u)
#define TIMER_RELOAD REGISTER(0x40000008u)
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u) /* bit 0: transmitter full, bit 1: byte received */
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTERRUPT REGISTER(0x4000400Cu) /* bit 1: byte received; writing it clears it */
#define UART_BAUDDIV REGISTER(0x40004010u)

#define NVIC_ENABLE REGISTER(0xE000E100u) /* bit 0: the receiver of this port */
#define NVIC_CLEAR_PENDING REGISTER(0xE000E280u)

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];

void reset_handler(void);

/* By words, as memcpy itself may lie in .data on other boards. */
void reset_handler(void)
{
    const uint32_t *from = data_load;
    uint32_t *to;
    for (to = data_start; to != data_end; to++) {
        *to = *from++;
    }
    for (to = bss_start; to != bss_end; to++) {
        *to = 0u;
    }
    CPACR |= 0xFu << 20;
    __asm volatile("dsb\n\tisb");
    /* The timer counts down from 2^32 - 1 at 25 MHz. (SysTick has 24 bits, too few for a self-test.) */
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_CTRL = 1u;
    board_exit((uint32_t)main());
}

static void fault_handler(void)
{
    board_exit(255u);
}

/* Initial stack pointer, reset, and the system exceptions, none of which is expected. */
typedef void (*handler_t)(void);
typedef struct {
    uint32_t *stack;
    handler_t handler[15];
} vectors_t;
__attribute__((section(".vectors"), used)) static const vectors_t VECTORS = {
    stack_top,
    {reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     fault_handler, fault_handler, fault_handler},
};

static uint32_t semihosting_call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

uint32_t board_ticks(void)
{
    return ~TIMER_VALUE;
}

void board_exit(uint32_t code)
{
    semihosting_exit(code);
}

#ifndef BOARD_SEMIHOSTING
void board_open(void)
{
    UART_BAUDDIV = 16u; /* the emulator has no bit rate, only this smallest divider */
    UART_CTRL = 3u | 8u; /* transmit, receive, interrupt when a byte is received */
    NVIC_ENABLE = 1u;
    __asm volatile("cpsid i"); /* which wakes up, but is not taken */
    /* The emulator delivers what was sent before only once this register is read. At worst that drops the
     * first byte, which is why the host begins with one that no frame begins with. */
    (void)UART_DATA;
}

void board_read(uint8_t *bytes, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        /* Sleep, as polling would take the emulator's lock from the thread that brings the next byte. One that
         * comes after the second look leaves the interrupt pending, and wfi returns at once. */
        while ((UART_STATE & 2u) == 0u) {
            UART_INTERRUPT = 2u;
            NVIC_CLEAR_PENDING = 1u;
            if ((UART_STATE & 2u) == 0u) {
                __asm volatile("wfi");
            }
        }
        bytes[i] = (uint8_t)UART_DATA;
    }
}

void board_write(const uint8_t *bytes, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        while ((UART_STATE & 1u) != 0u) {
        }
        UART_DATA = bytes[i];
    }
}
#endif
