/* SPDX-License-Identifier: Apache-2.0
 *
 * A block that is being formatted, and somebody who attaches to it.
 */
#include "ring.h"

static const uint8_t generation[16] = {1};

/* Identity and schema are plain bytes: their words are followed one by one. */
static void
unformatted(void)
{
    shmring_identity *const identity = (shmring_identity *)(void *)litmus_memory;
    litmus_word(&identity->ready, 4, LITMUS_ATOMIC);
    litmus_word(&identity->magic, 8, LITMUS_PLAIN);
    litmus_word(identity->generation, 8, LITMUS_PLAIN);
    litmus_word(&identity->geometry.slots, 8, LITMUS_PLAIN);
    litmus_word(&identity->geometry.block_bytes, 8, LITMUS_PLAIN);
    litmus_word(&identity->geometry.slots_offset, 8, LITMUS_PLAIN);
    identity->magic = SHMRING_MAGIC; /* what was there before is of the same kind, but not ready */
}

static void
format(void)
{
    shmring_geometry g = {
        .slots = 2, .frame_bytes = 64, .slot_stride = 2048, .page_bytes = 4096, .consumers = 1};
    CHECK(shmring_compute_offsets(&g) == SHMRING_OK);
    CHECK(shmring_format(0, &g, generation, NULL) == SHMRING_OK);
}

static void
attach(void)
{
    shmring_identity found;
    /* Orders nothing, and spares us the bytes that would be rejected: copying them is a race by design. */
    if (litmus_load(&((shmring_identity *)(void *)litmus_memory)->ready, LITMUS_RELAXED, LITMUS_HERE) == 0)
        return;
    CHECK(shmring_read_identity(0, &found) != SHMRING_NOT_READY);
    CHECK(found.geometry.slots == 2 && found.generation[0] == 1);
}

const litmus_test block_tests[] = {
    {"attach", "ready", LITMUS_FULL, unformatted, {format, attach}, NULL, NULL},
    {NULL, NULL, 0, NULL, {NULL}, NULL, NULL},
};
