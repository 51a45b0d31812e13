/* SPDX-License-Identifier: Apache-2.0
 *
 * From the producer to a consumer and back: head, cursor, stamps, private copies, the end of the stream.
 */
#include "ring.h"

/* ---- published frames ---- */

static void
empty_ring_and_lossless(void)
{
    make_ring(2, META_BYTES);
    open_producer();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
}

static void
take_two(void)
{
    if (take(0, 0))
        give_back(0, 0);
    if (take(0, 0))
        give_back(0, 0);
}

static void
full_ring_and_lossless(void)
{
    empty_ring_and_lossless();
    put_frames(2);
}

/* ---- a hold gets a pin, the cursor moves on ---- */

static void
two_of_three_held(void)
{
    make_ring(3, 0);
    open_producer();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
    put_frames(3);
    CHECK(take(0, 0) && take(0, 1));
}

static void
take_the_third(void)
{
    shmring_hold *const oldest = world.hold[0][0];
    CHECK(take(0, 1));
    world.hold[0][0] = oldest;
    give_back(0, 0);
}

/* Keeps both frames by pins as it leaves. */
static void
leave_holding(void)
{
    shmring_leave_holding(&world.c[0]);
    check_hold(0, 1);
    give_back(0, 0);
}

/* ---- the end ---- */

static void
put_drop_close(void)
{
    put();
    shmring_drop(&world.p, 1);
    shmring_producer_close(&world.p);
}

static void
read_to_the_end(void)
{
    const uint64_t epoch = shmring_read_epoch(&world.block);
    if (shmring_read_producer_state(&world.block) != SHMRING_PRODUCER_CLOSED)
        return;
    CHECK(take(0, 0));
    CHECK(!take(0, 1));
    shmring_count_lost_at_end(&world.c[0], epoch);
    CHECK(world.c[0].delivered == 1 && world.c[0].lost == 1);
}

/* The next producer begins while a consumer counts what the last one dropped at its end. */
static void
closed_and_read(void)
{
    empty_ring_and_lossless();
    put_frames(1);
    take_two();
    shmring_producer_close(&world.p);
}

static void
take_over_and_put(void)
{
    open_producer();
    put();
}

static void
count_and_go_on(void)
{
    const uint64_t epoch = shmring_read_epoch(&world.block);
    if (shmring_read_producer_state(&world.block) != SHMRING_PRODUCER_CLOSED ||
        shmring_read_head(&world.block) != 1)
        return;
    shmring_count_lost_at_end(&world.c[0], epoch);
    CHECK(world.c[0].delivered == 1 && world.c[0].lost == 0);
}

/* ---- private copies ---- */

static void
empty_ring(void)
{
    make_ring(2, META_BYTES);
    open_producer();
}

static void
full_ring(void)
{
    empty_ring();
    put_frames(2);
}

static void
copy_the_first(void)
{
    copy_out(0);
}

static void
copy_the_second(void)
{
    copy_out(1);
}

static void
copy_the_third(void)
{
    copy_out(2);
}

/* Slot 0 is pinned, so that the next claim takes the slot of entry 1. */
static void
full_ring_first_slot_held(void)
{
    full_ring();
    join(1, LOSSY, SHMRING_START_OLDEST);
    CHECK(take(1, 0));
}

/* Who finds the slot by a stamp finds the new one, though the entry had another before. */
static void
copy_after_swap(void)
{
    copy_out(1);
    copy_out(2);
}

/* A claim that fails puts the stamp back: the frame can be copied again. */
static void
full_ring_nobody_moves(void)
{
    full_ring();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
    world.p.limit = UINT64_MAX; /* as if it had joined since the last claim */
    world.p.join_count--;
}

static void
claim_in_vain(void)
{
    CHECK(!put());
}

const litmus_test frame_tests[] = {
    {"publish", "head", 3, empty_ring_and_lossless, {put_two, take_two}, NULL, NULL},
    {"release", "cursor, mark-pin", 3, full_ring_and_lossless, {put_one, take_two}, NULL, NULL},
    {"keep", "cursor, pins", 3, two_of_three_held, {put_one, take_the_third}, NULL, NULL},
    {"leave_holding",
     "cursor, state, pins, active",
     2,
     two_of_three_held,
     {put_two, leave_holding},
     NULL,
     NULL},
    {"close", "producer_state", 4, empty_ring_and_lossless, {put_drop_close, read_to_the_end}, NULL, NULL},
    {"count_end",
     "announce-recheck, producer_state, epoch",
     3,
     closed_and_read,
     {take_over_and_put, count_and_go_on},
     NULL,
     NULL},
    {"publish_one", "stamp", 3, empty_ring_and_lossless, {put_one, take_two}, NULL, NULL},
    {"copy_new", "stamp", 4, empty_ring, {put_one, copy_the_first}, NULL, NULL},
    {"copy_overwritten", "mark-recheck", 4, full_ring, {put_one, copy_the_first}, NULL, NULL},
    {"copy_swapped", "swap-recheck", 4, full_ring_first_slot_held, {put_one, copy_the_second}, NULL, NULL},
    {"copy_after_swap",
     "stamp, swap-recheck",
     3,
     full_ring_first_slot_held,
     {put_one, copy_after_swap, NULL},
     NULL,
     NULL},
    {"copy_put_back",
     "stamp",
     4,
     full_ring_nobody_moves,
     {claim_in_vain, copy_the_first, copy_the_third},
     NULL,
     NULL},
    {NULL, NULL, 0, NULL, {NULL}, NULL, NULL},
};
