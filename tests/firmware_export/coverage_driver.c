/* Takes an exported policy through every line and branch: flights, all bad inputs, all clocks, damaged memory.
 * RECURRENT is defined for policies with a GRU, HISTORIES is the number of their histories. Prints the sum of all
 * status bits that came.
 */
#include <stdio.h>
#include <string.h>

#include "policy.h"

static policy_t policy;
static policy_observation_t observation;
static uint64_t now;
static uint32_t seen, state = 1u;

static float number(float size)
{
    state = state * 1664525u + 1013904223u;
    return size * ((float)(state >> 8) / 8388608.0f - 1.0f);
}

static void set(uint32_t place, float value)
{
    memcpy((char *)&observation + place * sizeof value, &value, sizeof value);
}

static void fill(float size)
{
    uint32_t i;
    for (i = 0; i < POLICY_NUM_SUPPLIED; i++) {
        set(i, number(size));
    }
    policy_stamp(&observation, now);
}

static void call(void)
{
    float action[POLICY_NUM_ACTIONS], command[POLICY_NUM_ACTIONS];
    seen |= policy_step(&policy, &observation, now, action);
    policy_command(action, command);
}

static void fly(uint32_t steps, float size)
{
    for (; steps != 0u; steps--) {
        now += POLICY_STEP_US;
        fill(size);
        call();
    }
}

/* NaN or infinity at each place, until the policy is lost, and back. */
static void bad_numbers(void)
{
    const uint32_t bits[2] = {0x7fc00000u, 0xff800000u};
    uint32_t i;
    for (i = 0; i < POLICY_NUM_SUPPLIED; i++) {
        float value;
        memcpy(&value, &bits[i & 1u], sizeof value);
        now += POLICY_STEP_US;
        fill(1.0f);
        set(i, value);
        call();
    }
    fly(3u, 1.0f);
}

static void ages(void)
{
    uint32_t i;
    for (i = 0; i < POLICY_NUM_FIELDS; i++) {
        now += POLICY_STEP_US;
        fill(1.0f);
        observation.time_us[i] = now - policy.stale_us[i] - 1u;
        call();
        now += POLICY_STEP_US;
        fill(1.0f);
        observation.time_us[i] = now + POLICY_STEP_US;
        call();
        observation.time_us[i] = now + 2u * POLICY_STEP_US + 1u;
        now += POLICY_STEP_US;
        policy_stamp(&observation, now);
        observation.time_us[i] = now + POLICY_STEP_US + 1u;
        call();
    }
}

static void clocks(void)
{
    fly(3u, 1.0f);
    call(); /* between */
    now -= 1u;
    call(); /* back a little */
    now += 4u * POLICY_STEP_US;
    fill(1.0f);
    call(); /* missed */
    now += POLICY_RESTART_US + 1u;
    fill(1.0f);
    call(); /* a pause */
    fly(2u, 1.0f);
    now -= POLICY_RESTART_US + 1u;
    fill(1.0f);
    call(); /* back a lot */
    fly(2u, 1.0f);
}

static void damage(void)
{
    char *const histories = (char *)(&policy.fresh + 1 + HISTORIES); /* behind the places of the oldest */
    char *const buffers = (char *)policy.scratch_a, *const end = (char *)policy.action;
    fly(2u, 1.0f);
    memset(histories, 0xff, (size_t)(buffers - histories));
    fly(POLICY_RESTART_US / POLICY_STEP_US, 1.0f);
    memset(buffers, 0xff, (size_t)(end - buffers));
    fly(3u, 1.0f);
#ifdef RECURRENT
    {
        uint32_t i;
        for (i = 0; i < sizeof policy.recurrent / sizeof(float); i++) {
            policy.recurrent[i] = 1e4f;
        }
        fly(3u, 1.0f);
    }
#endif
}

int main(void)
{
    const float worst = policy_self_test(&policy);
    uint32_t round;
    policy_init(&policy);
    for (round = 0; round < 3u; round++) {
        now = round * 12345678901u;
        fly(200u, 1.0f);
        fly(50u, 1e6f);
        bad_numbers();
        ages();
        clocks();
        damage();
        if (round == 1u) {
            memset(&policy.counters, 0xff, sizeof policy.counters); /* they stop there */
        } else {
            policy_reset(&policy);
        }
    }
    printf("%u %u %g\n", seen, policy_status(&policy)->steps, (double)worst);
    return worst <= POLICY_GOLDEN_TOLERANCE ? 0 : 1;
}
