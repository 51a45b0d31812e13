/* SPDX-License-Identifier: Apache-2.0 */
#include "selftest.h"

/* Slots of a little more than the smallest large copy, an odd number of bytes. */
static shmring_geometry
large_slots(void)
{
    shmring_geometry g;
    memset(&g, 0, sizeof g);
    g.slots = 4;
    g.frame_bytes = SHMRING_LARGE_COPY + 13;
    g.consumers = 2;
    g.page_bytes = 4096;
    CHECK_EQUAL(shmring_geometry_choose(&g), SHMRING_OK);
    return g;
}

static void
both_ways_of_copying_are_tried_and_write_every_byte(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, large_slots());
    open_producer(&r, &p);
    p.exceeds_cache = 1;
    const size_t bytes = (size_t)r.block.geometry.frame_bytes;
    uint8_t *const source = (uint8_t *)malloc(bytes);
    CHECK(source != NULL);
    int ways[2] = {0, 0};
    for (unsigned turn = 0; turn < 2 * SHMRING_TRIAL + 2; turn++) {
        for (size_t i = 0; i < bytes; i++)
            source[i] = (uint8_t)(i * 7 + turn);
        ways[shmring_copy_streams(&p)]++;
        CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
        shmring_copy_in(&p, 0, source, bytes);
        CHECK(memcmp(shmring_claimed_slot(&p), source, bytes) == 0);
        shmring_publish(&p, 1);
    }
    CHECK(ways[0] >= (int)SHMRING_TRIAL);
    CHECK(ways[1] >= (int)SHMRING_TRIAL);
    CHECK_EQUAL(p.streaming_wins, p.copy_ns[1] < p.copy_ns[0]);
    CHECK_EQUAL(shmring_copy_streams(&p), p.streaming_wins);
    free(source);
    close_producer(&p);
    end_ring(&r);
}

static void
small_frames_and_small_rings_are_not_timed(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, large_slots());
    open_producer(&r, &p);
    uint8_t *const source = (uint8_t *)calloc(1, (size_t)r.block.geometry.frame_bytes);
    CHECK(source != NULL);
    p.exceeds_cache = 0;
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    shmring_copy_in(&p, 0, source, (size_t)r.block.geometry.frame_bytes);
    p.exceeds_cache = 1;
    shmring_copy_in(&p, 0, source, SHMRING_LARGE_COPY - 1);
    CHECK_EQUAL(p.copies, 0);
    free(source);
    close_producer(&p);
    end_ring(&r);
}

const test copy_tests[] = {
    TEST(both_ways_of_copying_are_tried_and_write_every_byte),
    TEST(small_frames_and_small_rings_are_not_timed),
    LAST_TEST,
};
