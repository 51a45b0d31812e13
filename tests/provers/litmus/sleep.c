/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting without lost wake-ups. The doubles of the futex know no timeout: a lost wake-up is a deadlock.
 */
#include "ring.h"

static void
wait_for_data(unsigned i)
{
    const shmring_news news = {
        world.c[i].next + 1, shmring_read_epoch(&world.block), SHMRING_PRODUCER_LIVE, NULL, 0, NULL, 0};
    shmring_wait_data(&world.block, &news, SHMRING_FOR_EVER, 0, 2);
}

/* ---- for frames ---- */

static void
empty_ring_and_two(void)
{
    make_ring(2, 0);
    open_producer();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
    join(1, LOSSLESS, SHMRING_START_OLDEST);
}

static void
put_the_frame(void)
{
    CHECK(put());
}

static void
second_waits(void)
{
    while (!take(1, 0))
        wait_for_data(1);
}

static void
close_the_ring(void)
{
    shmring_producer_close(&world.p);
}

static void
wait_for_the_end(void)
{
    while (shmring_read_producer_state(&world.block) != SHMRING_PRODUCER_CLOSED)
        wait_for_data(0);
}

static void
closed_ring(void)
{
    empty_ring_and_two();
    shmring_producer_close(&world.p);
}

static void
take_over(void)
{
    open_producer();
}

static void
wait_for_a_producer(void)
{
    const shmring_news news = {
        world.c[0].next + 1, shmring_read_epoch(&world.block), SHMRING_PRODUCER_CLOSED, NULL, 0, NULL, 0};
    while (shmring_read_producer_state(&world.block) == SHMRING_PRODUCER_CLOSED)
        shmring_wait_data(&world.block, &news, SHMRING_FOR_EVER, 0, 2);
}

/* ---- for space ---- */

static void
full_ring_one_held(void)
{
    make_ring(2, 0);
    open_producer();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
    put_frames(2);
    CHECK(take(0, 0));
}

static void
give_first_back(void)
{
    give_back(0, 0);
}

static void
all_slots_pinned(void)
{
    make_ring(2, 0);
    open_producer();
    join(0, LOSSY, SHMRING_START_OLDEST);
    put_frames(2);
    CHECK(take(0, 0) && take(0, 1));
}

static void
nothing_read(void)
{
    make_ring(2, 0);
    open_producer();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
    put_frames(2);
}

static void
leave(void)
{
    shmring_leave(&world.c[0]);
}

static void
leave_dead_behind(void)
{
    nothing_read();
    die(CONSUMER_FD);
}

static void
reap(void)
{
    shmring_reap_all(&world.block, OTHER_FD);
}

/* ---- for consumers ---- */

static void
empty_ring(void)
{
    make_ring(2, 0);
    open_producer();
}

static void
wait_for_one(void)
{
    while (shmring_active_consumers(&world.block) == 0)
        shmring_wait_consumers(&world.block, 1, SHMRING_FOR_EVER);
}

static void
come(void)
{
    join(0, LOSSLESS, SHMRING_START_OLDEST);
}

const litmus_test sleep_tests[] = {
    {"sleep_for_frames", "sleep-publish", 4, empty_ring_and_two, {put_the_frame, first_waits}, NULL, NULL},
    {"two_sleepers",
     "sleep-publish",
     2,
     empty_ring_and_two,
     {put_the_frame, first_waits, second_waits},
     NULL,
     NULL},
    {"sleep_till_close",
     "sleep-announce",
     4,
     empty_ring_and_two,
     {close_the_ring, wait_for_the_end},
     NULL,
     NULL},
    {"sleep_till_takeover", "sleep-announce", 3, closed_ring, {take_over, wait_for_a_producer}, NULL, NULL},
    {"sleep_for_cursor", "sleep-cursor", 3, full_ring_one_held, {put_waiting, give_first_back}, NULL, NULL},
    {"sleep_for_pins", "sleep-unpin", 3, all_slots_pinned, {put_waiting, give_first_back}, NULL, NULL},
    {"sleep_till_leave", "sleep-announce", 3, nothing_read, {put_waiting, leave}, NULL, NULL},
    {"sleep_till_reaped", "sleep-announce", 3, leave_dead_behind, {put_waiting, reap}, NULL, NULL},
    {"sleep_till_join", "sleep-announce", 3, empty_ring, {wait_for_one, come}, NULL, NULL},
    {NULL, NULL, 0, NULL, {NULL}, NULL, NULL},
};
