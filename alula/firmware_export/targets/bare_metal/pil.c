/* Firmware for flights with the processor in the loop: a simulator on the host sends what the sensors say,
 * this answers what the policy does. See docs/processor-in-the-loop.md for the protocol. Nothing here is
 * needed on a robot.
 *
 * A frame, both ways, little-endian: magic (2 bytes), version, kind, payload length (4 bytes), payload,
 * CRC-32 of all before it (4 bytes). The host speaks first; every request has one answer. */
#include <stddef.h>
#include <string.h>

#include "board.h"
#include "policy.h"

#ifndef PIL_VEHICLES
#define PIL_VEHICLES 1u /* policies side by side, each sizeof(policy_t) of RAM */
#endif

enum {
    MAGIC_0 = 0xA1,
    MAGIC_1 = 0x0A,
    VERSION = 1,
    HEADER = 8,
    CRC = 4,
    HELLO = 'H',     /* payload none; answer: SHA-256 as text, then the four numbers of `hello` */
    STEP = 'S',      /* time_us (8), vehicles n x flags (1), n x POLICY_NUM_SUPPLIED floats;
                      * answer: n x status (4), n x ticks (4), n x POLICY_NUM_ACTIONS floats */
    SELF_TEST = 'T', /* payload none; answer: largest difference (float), ticks (4) */
    REFUSED = 'E',   /* answer: what was wrong with the request, one of the numbers below (4) */
    WRONG_CRC = 1,
    WRONG_VERSION = 2,
    WRONG_LENGTH = 3,
    UNKNOWN_KIND = 4,
    FLAG_RESET = 1 /* forget the past of this vehicle before the step */
};

#define STEP_BYTES (1u + 4u * POLICY_NUM_SUPPLIED)     /* of one vehicle in a request */
#define ANSWER_BYTES (8u + 4u * POLICY_NUM_ACTIONS)    /* of one vehicle in an answer */
#define MAX_REQUEST (8u + PIL_VEHICLES * STEP_BYTES)
#define MAX_ANSWER (80u + PIL_VEHICLES * ANSWER_BYTES) /* hello has 80 bytes */

/* The floats of an observation stand first and without gaps, as they arrive. */
typedef char floats_stand_first[(offsetof(policy_observation_t, time_us) >= 4u * POLICY_NUM_SUPPLIED
                                 && offsetof(policy_observation_t, time_us) <= 4u * POLICY_NUM_SUPPLIED + 4u)
                                    ? 1
                                    : -1];

static policy_t policies[PIL_VEHICLES];
static uint8_t request[HEADER + MAX_REQUEST + CRC];
static uint8_t answer[HEADER + MAX_ANSWER + CRC];
static uint32_t crc_of_nibble[16], overhead;

/* CRC-32 of IEEE 802.3 (polynomial 0xEDB88320 reflected), four bits at a time. */
static void make_crc_table(void)
{
    uint32_t i, bit;
    for (i = 0; i < 16u; i++) {
        uint32_t c = i;
        for (bit = 0; bit < 4u; bit++) {
            c = (c & 1u) != 0u ? (c >> 1) ^ 0xEDB88320u : c >> 1;
        }
        crc_of_nibble[i] = c;
    }
}

static uint32_t crc32(const uint8_t *bytes, uint32_t count)
{
    uint32_t c = 0xFFFFFFFFu, i;
    for (i = 0; i < count; i++) {
        c ^= bytes[i];
        c = (c >> 4) ^ crc_of_nibble[c & 15u];
        c = (c >> 4) ^ crc_of_nibble[c & 15u];
    }
    return ~c;
}

static uint32_t get32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void send(uint8_t kind, uint32_t length)
{
    uint32_t crc;
    answer[0] = MAGIC_0;
    answer[1] = MAGIC_1;
    answer[2] = VERSION;
    answer[3] = kind;
    memcpy(answer + 4, &length, sizeof length);
    crc = crc32(answer, HEADER + length);
    memcpy(answer + HEADER + length, &crc, sizeof crc);
    board_write(answer, HEADER + length + CRC);
}

static void refuse(uint32_t reason)
{
    memcpy(answer + HEADER, &reason, sizeof reason);
    send(REFUSED, sizeof reason);
}

static void say_hello(void)
{
    const uint32_t hello[4] = {POLICY_NUM_SUPPLIED, POLICY_NUM_ACTIONS, PIL_VEHICLES, sizeof(policy_t)};
    memcpy(answer + HEADER, POLICY_SHA256, 64u);
    memcpy(answer + HEADER + 64u, hello, sizeof hello);
    send(HELLO, 64u + sizeof hello);
}

static void step(const uint8_t *payload, uint32_t vehicles)
{
    const uint8_t *flags = payload + 8, *floats = flags + vehicles;
    uint8_t *out = answer + HEADER;
    uint64_t time_us;
    uint32_t i;
    memcpy(&time_us, payload, sizeof time_us);
    for (i = 0; i < vehicles; i++) {
        policy_observation_t observation;
        float action[POLICY_NUM_ACTIONS];
        policy_status_t status;
        uint32_t ticks;
        memcpy(&observation, floats + i * 4u * POLICY_NUM_SUPPLIED, 4u * POLICY_NUM_SUPPLIED);
        policy_stamp(&observation, time_us);
        if ((flags[i] & FLAG_RESET) != 0u) {
            policy_init(&policies[i]);
        }
        ticks = board_ticks();
        status = policy_step(&policies[i], &observation, time_us, action);
        ticks = board_ticks() - ticks - overhead;
        memcpy(out + 4u * i, &status, 4u);
        memcpy(out + 4u * (vehicles + i), &ticks, 4u);
        memcpy(out + 8u * vehicles + i * sizeof action, action, sizeof action);
    }
    send(STEP, vehicles * ANSWER_BYTES);
}

static void self_test(void)
{
    static policy_t policy;
    float difference;
    uint32_t ticks = board_ticks();
    difference = policy_self_test(&policy);
    ticks = board_ticks() - ticks - overhead;
    memcpy(answer + HEADER, &difference, 4u);
    memcpy(answer + HEADER + 4u, &ticks, 4u);
    send(SELF_TEST, 8u);
}

/* Read until a frame begins; returns the length of its payload. */
static uint32_t read_header(void)
{
    uint32_t have = 0;
    for (;;) {
        board_read(request + have, 1u);
        if (have == 0u) {
            have = request[0] == MAGIC_0 ? 1u : 0u;
        } else if (request[1] == MAGIC_1) {
            break;
        } else {
            have = request[1] == MAGIC_0 ? 1u : 0u;
        }
    }
    board_read(request + 2, HEADER - 2u);
    return get32(request + 4);
}

static void serve(void)
{
    const uint32_t length = read_header();
    const uint8_t *payload = request + HEADER;
    if (length > MAX_REQUEST) {
        refuse(WRONG_LENGTH);
        return;
    }
    board_read(request + HEADER, length + CRC);
    if (get32(payload + length) != crc32(request, HEADER + length)) {
        refuse(WRONG_CRC);
    } else if (request[2] != VERSION) {
        refuse(WRONG_VERSION);
    } else if (request[3] == STEP) {
        const uint32_t vehicles = (length - 8u) / STEP_BYTES;
        if (length < 8u || length != 8u + vehicles * STEP_BYTES) {
            refuse(WRONG_LENGTH);
        } else {
            step(payload, vehicles);
        }
    } else if (length != 0u) {
        refuse(WRONG_LENGTH);
    } else if (request[3] == HELLO) {
        say_hello();
    } else if (request[3] == SELF_TEST) {
        self_test();
    } else {
        refuse(UNKNOWN_KIND);
    }
}

int main(void)
{
    uint32_t i;
    make_crc_table();
    for (i = 0; i < PIL_VEHICLES; i++) {
        policy_init(&policies[i]);
    }
    overhead = board_ticks();
    overhead = board_ticks() - overhead;
    board_open();
    for (;;) {
        serve();
    }
}
