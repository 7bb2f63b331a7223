/* A policy on a bare microcontroller: copy this file, and write the six functions of your board.
 *
 * One loop does everything, at any rate not below the policy's own: policy_step evaluates the network when
 * a step is due and repeats its action in between. Compile it together with policy.c, for instance for a
 * Cortex-M4F, beside your start-up code and linker script:
 *
 *   arm-none-eabi-gcc -std=c99 -O2 -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 ...
 *
 * The FPU must be on before main. Give the motors' timer a time-out of its own, if it has one. */
#include "policy.h"

/* Time since start-up [us]; 64 bits, as 32 wrap after 71 minutes. A 1 MHz timer whose overflows are counted,
 * or a cycle counter divided by its MHz. */
uint64_t board_time_us(void);

/* Write the newest sample of every field in the units and frames that policy.h names, and into time_us when
 * each was measured, on the clock of board_time_us; policy_stamp sets all of them at once. A field without a
 * new sample keeps its values and its time: the policy sees by its age that a sensor has stopped. */
void board_read_sensors(policy_observation_t *observation);

/* Command the motors, in the order and unit of POLICY_ACTION_NAMES in policy.h. */
void board_write_motors(const float command[POLICY_NUM_ACTIONS]);

/* Stop all motors. */
void board_stop_motors(void);

/* Whether the pilot wants the motors to run. The kill switch ends here. */
int board_armed(void);

/* Restart the watchdog's time, which should be a few times POLICY_STEP_US. Called only in a sound loop, so a
 * loop that hangs and a self-test that fails both end in a reset with the motors stopped. */
void board_feed_watchdog(void);

int main(void)
{
    static policy_t policy;
    static policy_observation_t observation;
    float action[POLICY_NUM_ACTIONS], command[POLICY_NUM_ACTIONS];
    int lost = 0;

    board_stop_motors();
    /* The golden sequences of the policy file, replayed on this very processor. It takes as long as
     * POLICY_GOLDEN_SEQUENCES * POLICY_GOLDEN_STEPS steps: start the watchdog after it. Written so that a
     * result that is NaN fails as well. */
    if (!(policy_self_test(&policy) <= POLICY_GOLDEN_TOLERANCE)) {
        return 1;
    }
    policy_init(&policy);
    for (;;) {
        uint64_t now;
        policy_status_t status;
        board_feed_watchdog();
        board_read_sensors(&observation);
        if (!board_armed()) {
            board_stop_motors();
            policy_reset(&policy); /* what happened on the ground is no history of a flight */
            lost = 0;
            continue;
        }
        now = board_time_us();
        status = policy_step(&policy, &observation, now, action);
        /* No valid observation for lost_steps steps: nothing better is known here than to stop, and to stay
         * so until the pilot disarms. Where there is another controller or a parachute, hand over to it. */
        lost = lost || (status & POLICY_LOST) != 0u;
        if (lost) {
            board_stop_motors();
            continue;
        }
        policy_command(action, command);
        board_write_motors(command);
    }
}
