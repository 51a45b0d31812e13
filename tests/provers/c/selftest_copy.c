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
    p.times_copies = 1;
    const size_t bytes = (size_t)r.block.geometry.frame_bytes;
    uint8_t *const source = (uint8_t *)malloc(bytes);
    CHECK(source != NULL);
    int ways[2] = {0, 0};
    for (unsigned turn = 0; turn < SHMRING_TRIAL + 2; turn++) {
        for (size_t i = 0; i < bytes; i++)
            source[i] = (uint8_t)(i * 7 + turn);
        ways[shmring_will_stream(&p)]++;
        CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
        shmring_copy_in(&p, 0, source, bytes);
        CHECK(memcmp(shmring_claimed_slot(&p), source, bytes) == 0);
        shmring_publish(&p, 1);
    }
    CHECK(ways[0] >= (int)SHMRING_TRIAL_WARM);
    CHECK(ways[1] >= (int)(SHMRING_TRIAL - SHMRING_TRIAL_WARM));
    CHECK_EQUAL(p.streaming_wins, p.copy_ns[1] + p.copy_ns[1] / 4 < p.copy_ns[0]);
    CHECK_EQUAL(shmring_will_stream(&p), p.streaming_wins);
    free(source);
    close_producer(&p);
    end_ring(&r);
}

/* One trial with these best times; when the next one begins. */
static uint64_t
judge(shmring_producer *p, int64_t through_ns, int64_t past_ns)
{
    for (uint64_t turn = 0; turn < SHMRING_TRIAL; turn++) {
        const int streaming = turn >= SHMRING_TRIAL_WARM;
        const int64_t best = streaming ? past_ns : through_ns;
        shmring_record_trial(p, turn, streaming, turn % SHMRING_TRIAL_WARM == 1 ? best : best + 1000);
    }
    return p->trial_every;
}

static void
trials_grow_rare_until_one_changes_the_way(void)
{
    shmring_producer p;
    memset(&p, 0, sizeof p);
    p.trial_every = SHMRING_TRIAL_SOON;
    CHECK_EQUAL(judge(&p, 100, 90), 2 * SHMRING_TRIAL_SOON); /* not by a quarter */
    CHECK(!p.streaming_wins);
    CHECK_EQUAL(judge(&p, 100, 79), SHMRING_TRIAL_SOON);
    CHECK(p.streaming_wins);
    for (uint64_t every = 2 * SHMRING_TRIAL_SOON; every <= SHMRING_TRIAL_LATE; every *= 2)
        CHECK_EQUAL(judge(&p, 100, 50), every);
    CHECK_EQUAL(judge(&p, 100, 50), SHMRING_TRIAL_LATE);
    CHECK_EQUAL(judge(&p, 50, 100), SHMRING_TRIAL_SOON);
    CHECK(!p.streaming_wins);
}

static void
the_next_trial_begins_when_it_is_due(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, large_slots());
    open_producer(&r, &p);
    p.times_copies = 1;
    uint8_t *const source = (uint8_t *)calloc(1, (size_t)r.block.geometry.frame_bytes);
    CHECK(source != NULL);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    p.trial_every = SHMRING_TRIAL_SOON;
    for (unsigned copy = 0; copy < SHMRING_TRIAL; copy++)
        shmring_copy_in(&p, 0, source, SHMRING_LARGE_COPY);
    const uint64_t every = p.trial_every;
    for (uint64_t copy = SHMRING_TRIAL; copy < every; copy++) {
        CHECK_EQUAL(p.trial_began, 0);
        CHECK_EQUAL(shmring_will_stream(&p), p.streaming_wins);
        shmring_copy_in(&p, 0, source, SHMRING_LARGE_COPY);
    }
    CHECK_EQUAL(p.trial_began, every);
    CHECK(!shmring_will_stream(&p)); /* its first turn goes through the cache */
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
    const uint64_t all = r.block.geometry.slots * r.block.geometry.slot_stride;
    CHECK_EQUAL(p.times_copies, all >= shmring_cache_bytes() / 2);
    p.times_copies = 0;
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    shmring_copy_in(&p, 0, source, (size_t)r.block.geometry.frame_bytes);
    p.times_copies = 1;
    shmring_copy_in(&p, 0, source, SHMRING_LARGE_COPY - 1);
    CHECK_EQUAL(p.copies, 0);
    free(source);
    close_producer(&p);
    end_ring(&r);
}

const test copy_tests[] = {
    TEST(both_ways_of_copying_are_tried_and_write_every_byte),
    TEST(trials_grow_rare_until_one_changes_the_way),
    TEST(the_next_trial_begins_when_it_is_due),
    TEST(small_frames_and_small_rings_are_not_timed),
    LAST_TEST,
};
