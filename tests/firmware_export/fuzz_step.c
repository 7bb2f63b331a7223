/* libFuzzer harness for an exported policy: the input bytes are a sequence of calls. A second, naive model of
 * the clock, written with 128-bit numbers, says what every call must answer.
 *
 *     clang -O2 -fsanitize=fuzzer,address,undefined -I EXPORT '-DRINGS=RING(...)' -DFIRST_FLOATS=... fuzz_step.c
 *
 * FIRST_FLOATS is the first float array of policy_t: from it on, memory may be damaged by an input. RINGS names
 * each history and the floats of one of its samples.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy.c"

#define ROBOTS 3
#define TIMED (POLICY_BETWEEN | POLICY_TIME_BACKWARDS)
#define STEP ((wide)POLICY_STEP_US)
#define RESTART ((wide)POLICY_RESTART_US)
#define EARLY ((wide)POLICY_EARLY_US)
#define CHECK(x)                                                                     \
    do {                                                                             \
        if (!(x)) {                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #x);    \
            abort();                                                                 \
        }                                                                            \
    } while (0)

/* The place of the next sample of a history is one of its own: nothing beside it was or will be written. */
#define RING(name, size)                                                                        \
    CHECK(robot->policy.oldest_##name < sizeof robot->policy.history_##name / sizeof(float)     \
          && robot->policy.oldest_##name % (size) == 0u);

typedef __int128 wide;

/* What the harness knows of a robot. */
typedef struct {
    policy_t policy;
    uint32_t guard; /* behind it, for damage that the sanitizer sees as inside */
    uint32_t stale_us[POLICY_NUM_FIELDS], lost_steps;
    policy_counters_t counters;
    float action[POLICY_NUM_ACTIONS];
    wide last, next;
    int started, damaged;
} robot_t;

typedef struct {
    const uint8_t *at, *end;
} bytes_t;

static uint64_t inputs, calls, seen[10];
static float initial[POLICY_NUM_ACTIONS];

static uint64_t take(bytes_t *bytes, uint32_t count)
{
    uint64_t value = 0;
    uint32_t i;
    for (i = 0; i < count && bytes->at != bytes->end; i++) {
        value |= (uint64_t)*bytes->at++ << 8 * i;
    }
    return value;
}

static void report(void)
{
    uint32_t bit;
    printf("inputs %llu calls %llu status", (unsigned long long)inputs, (unsigned long long)calls);
    for (bit = 0; bit < 10; bit++) {
        printf(" %llu", (unsigned long long)seen[bit]);
    }
    printf("\n");
}

static int finite_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 23 & 0xffu) != 0xffu;
}

/* The clock's part of the status, and the number of missed steps. */
static uint32_t expected_timing(robot_t *robot, wide now, uint32_t *missed)
{
    uint32_t status = 0;
    *missed = 0;
    if (robot->started && (now - robot->last > RESTART || robot->last - now > (wide)POLICY_STEP_US)) {
        robot->started = 0;
        status = POLICY_RESTARTED;
    }
    if (robot->started && now < robot->last) {
        return POLICY_TIME_BACKWARDS;
    }
    robot->last = now;
    if (!robot->started) {
        robot->started = 1;
        robot->next = now + STEP;
    } else if (now < robot->next - EARLY) {
        return POLICY_BETWEEN;
    } else {
        for (; now >= robot->next + STEP - EARLY; robot->next += STEP) {
            *missed += 1;
            status = POLICY_MISSED;
        }
        robot->next += STEP;
    }
    return status;
}

/* NaN, infinity and age, field by field of the raw memory. */
static uint32_t expected_input(const robot_t *robot, const policy_observation_t *observation, wide now)
{
    float supplied[POLICY_NUM_SUPPLIED];
    uint32_t i, status = 0;
    memcpy(supplied, observation, sizeof supplied);
    for (i = 0; i < POLICY_NUM_SUPPLIED; i++) {
        status |= finite_bits(supplied[i]) ? 0u : POLICY_NOT_FINITE;
    }
    for (i = 0; i < POLICY_NUM_FIELDS; i++) {
        const wide age = now - (wide)observation->time_us[i];
        status |= age > (wide)robot->stale_us[i] || age < -STEP ? POLICY_STALE : 0u;
    }
    return status;
}

static void check_counters(robot_t *robot, uint32_t status, uint32_t missed)
{
    const policy_counters_t *now = policy_status(&robot->policy);
    policy_counters_t want = robot->counters;
    want.restarted += (status & POLICY_RESTARTED) != 0;
    if (status & POLICY_RESTARTED) {
        want.held_in_a_row = 0;
    }
    want.between += (status & POLICY_BETWEEN) != 0;
    want.time_backwards += (status & POLICY_TIME_BACKWARDS) != 0;
    want.missed += missed;
    want.clipped += (status & POLICY_CLIPPED) != 0;
    want.saturated += (status & POLICY_SATURATED) != 0;
    want.not_finite += (status & POLICY_NOT_FINITE) != 0;
    want.stale += (status & POLICY_STALE) != 0;
    want.damaged += (status & POLICY_DAMAGED) != 0;
    if (!(status & TIMED)) {
        want.steps += 1;
        want.held_in_a_row = status & POLICY_HELD ? want.held_in_a_row + 1 : 0;
    }
    CHECK(memcmp(now, &want, sizeof want) == 0);
    CHECK(!(status & POLICY_LOST) == !(want.held_in_a_row > robot->lost_steps));
    robot->counters = want;
}

static void check_action(robot_t *robot, uint32_t status, const float *action)
{
    float command[POLICY_NUM_ACTIONS];
    uint32_t i;
    policy_command(action, command);
    for (i = 0; i < POLICY_NUM_ACTIONS; i++) {
        CHECK(finite_bits(action[i]) && action[i] >= -1.0f && action[i] <= 1.0f);
        CHECK(finite_bits(command[i]) && command[i] >= ACTION_LOW[i] && command[i] <= ACTION_HIGH[i]);
    }
    if (status & TIMED) {
        CHECK(memcmp(action, robot->action, sizeof robot->action) == 0);
    } else if (status & (POLICY_LOST | (status & POLICY_HELD ? POLICY_RESTARTED : 0u))) {
        CHECK(memcmp(action, initial, sizeof initial) == 0);
    } else if (status & POLICY_HELD) {
        CHECK(memcmp(action, robot->action, sizeof robot->action) == 0);
    }
    memcpy(robot->action, action, sizeof robot->action);
}

static void step(robot_t *robot, const policy_observation_t *observation, uint64_t now)
{
    static float *action; /* on the heap, where the sanitizer watches its ends */
    const policy_observation_t before = *observation;
    uint32_t missed, bit, status, timing = expected_timing(robot, now, &missed);
    const uint32_t input = timing & TIMED ? 0u : expected_input(robot, observation, now);
    action = action != NULL ? action : malloc(sizeof initial);
    CHECK(action != NULL);
    status = policy_step(&robot->policy, observation, now, action);
    CHECK((status & (TIMED | POLICY_MISSED | POLICY_RESTARTED)) == timing);
    CHECK((status & (POLICY_NOT_FINITE | POLICY_STALE)) == input);
    CHECK((status & ~(1023u)) == 0);
    CHECK(robot->damaged || !(status & POLICY_DAMAGED));
    CHECK(!((timing & TIMED) | input) || !(status & (POLICY_CLIPPED | POLICY_SATURATED | POLICY_DAMAGED)));
    check_action(robot, status, action);
    check_counters(robot, status, missed);
    CHECK(memcmp(&before, observation, sizeof before) == 0);
    CHECK(memcmp(robot->policy.stale_us, robot->stale_us, sizeof robot->stale_us) == 0);
    CHECK(robot->policy.lost_steps == robot->lost_steps && robot->guard == 0xa1u);
    RINGS
    calls++;
    for (bit = 0; bit < 10; bit++) {
        seen[bit] += status >> bit & 1u;
    }
}

static void initialise(robot_t *robot)
{
    policy_init(&robot->policy);
    memcpy(robot->stale_us, STALE_US, sizeof STALE_US);
    robot->lost_steps = POLICY_LOST_STEPS;
    memset(&robot->counters, 0, sizeof robot->counters);
    memcpy(robot->action, initial, sizeof initial);
    robot->started = robot->damaged = 0;
}

static void damage(robot_t *robot, bytes_t *bytes)
{
    const size_t first = offsetof(policy_t, FIRST_FLOATS), end = offsetof(policy_t, action);
    const size_t place = first + take(bytes, 2) * sizeof(float) % (end - first);
    const uint32_t bits = (uint32_t)take(bytes, 4);
    memcpy((char *)&robot->policy + place, &bits, sizeof bits);
    robot->damaged = 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static robot_t robots[ROBOTS];
    bytes_t bytes = {data, data + size};
    policy_observation_t observation;
    robot_t *robot = robots;
    uint64_t now = 0, i;
    if (inputs++ == 0) {
        policy_init(&robots[0].policy);
        memcpy(initial, robots[0].policy.action, sizeof initial);
        (void)atexit(report);
    }
    memset(robots, 0, sizeof robots); /* a static policy_t that was never initialised */
    memset(&observation, 0, sizeof observation);
    for (i = 0; i < ROBOTS; i++) {
        robots[i].guard = 0xa1u;
    }
    initialise(&robots[0]);
    while (bytes.at != bytes.end) {
        const uint32_t choice = (uint32_t)take(&bytes, 1), more = choice >> 4;
        float value;
        uint32_t bits;
        switch (choice & 15u) {
        case 0: /* any bits */
            bits = (uint32_t)take(&bytes, 4);
            memcpy((char *)&observation + more % POLICY_NUM_SUPPLIED * sizeof bits, &bits, sizeof bits);
            break;
        case 1: /* a usual number */
            value = 0.05f * (float)((int32_t)take(&bytes, 1) - 128);
            memcpy((char *)&observation + more % POLICY_NUM_SUPPLIED * sizeof value, &value, sizeof value);
            break;
        case 2:
            policy_stamp(&observation, now);
            break;
        case 3:
            observation.time_us[more % POLICY_NUM_FIELDS] = now - 4u * (uint64_t)(int16_t)take(&bytes, 2);
            break;
        case 4:
            observation.time_us[more % POLICY_NUM_FIELDS] = take(&bytes, 8);
            break;
        case 5: /* to the edges of what counts as on time */
            now += POLICY_STEP_US * (more & 3u) - POLICY_EARLY_US * (more >> 3) - (more >> 2 & 1u);
            break;
        case 6:
            now += take(&bytes, 2);
            break;
        case 7:
            now += (uint64_t)(int64_t)(int32_t)take(&bytes, 4);
            break;
        case 8: /* more / 16 of all times, and some more or less */
            now = ((uint64_t)more << 60) + (uint64_t)(int64_t)(int32_t)take(&bytes, 4);
            break;
        case 9:
            policy_reset(&robot->policy);
            robot->counters.held_in_a_row = 0;
            memcpy(robot->action, initial, sizeof initial);
            robot->started = 0;
            break;
        case 10:
            initialise(robot);
            break;
        case 11:
            bits = (uint32_t)take(&bytes, 4);
            robot->policy.stale_us[more % POLICY_NUM_FIELDS] = bits;
            robot->stale_us[more % POLICY_NUM_FIELDS] = bits;
            break;
        case 12:
            robot->policy.lost_steps = robot->lost_steps = more == 15u ? UINT32_MAX : more;
            break;
        case 13:
            robot = &robots[more % ROBOTS];
            break;
        case 14:
            if (more == 15u) {
                damage(robot, &bytes);
                break;
            }
            for (i = 0; i <= more / 4u; i++) { /* a calm flight */
                now += POLICY_STEP_US;
                policy_stamp(&observation, now);
                step(robot, &observation, now);
            }
            break;
        default:
            step(robot, &observation, now);
            break;
        }
    }
    return 0;
}
