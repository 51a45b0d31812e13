/* SPDX-License-Identifier: Apache-2.0
 *
 * Lossy reads against claims, swaps and batches.
 */
#include "ring.h"

static void
full_ring_and_lossy(void)
{
    make_ring(2, META_BYTES);
    open_producer();
    join(0, LOSSY, SHMRING_START_OLDEST);
    put_frames(2);
}

static void
take_both(void)
{
    const int first = take(0, 0);
    if (take(0, 1))
        give_back(0, 1);
    if (first)
        give_back(0, 0);
}

/* A second consumer holds frame 0, so that the claim swaps. */
static void
first_slot_held(void)
{
    full_ring_and_lossy();
    join(1, LOSSY, SHMRING_START_OLDEST);
    CHECK(take(1, 0));
}

static void
first_slot_held_first_read(void)
{
    first_slot_held();
    take_and_release(0, 1);
}

/* The lossy consumer comes to an entry whose slot has changed. */
static void
first_slot_held_all_read(void)
{
    first_slot_held();
    take_and_release(0, 2);
}

static void
both_held(void)
{
    full_ring_and_lossy();
    CHECK(take(0, 0) && take(0, 1));
}

static void
give_both_back(void)
{
    give_back(0, 0);
    give_back(0, 1);
}

/* ---- batches ---- */

static void
claim_two(void)
{
    if (shmring_claim(&world.p, 2) != SHMRING_OK)
        return;
    const uint64_t count = world.p.count;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *const slot =
            (uint8_t *)shmring_claimed_slot(&world.p) + i * world.block.geometry.slot_stride;
        for (uint64_t at = 0; at < FRAME_BYTES; at += 8)
            litmus_write(slot + at, 100 + world.p.next_seq + i);
    }
    shmring_publish(&world.p, count);
}

static void
full_ring_and_first_read(void)
{
    make_ring(2, 0);
    open_producer();
    join(0, LOSSY, SHMRING_START_OLDEST);
    put_frames(2);
    take_and_release(0, 1);
}

/* ---- spare slots ---- */

/* A second consumer holds frame 0. */
static void
held_beside_a_spare(void)
{
    make_ring_with_spares(2, 1, META_BYTES);
    open_producer();
    join(0, LOSSY, SHMRING_START_OLDEST);
    join(1, LOSSY, SHMRING_START_OLDEST);
    put_frames(2);
    CHECK(take(1, 0));
}

/* Its entry has the spare slot by now. */
static void
parked(void)
{
    held_beside_a_spare();
    take_and_release(0, 2);
    put_frames(1);
}

static void
give_parked_back(void)
{
    give_back(1, 0);
}

static void
put_past_a_parked_slot(void)
{
    put();
    give_back(1, 0);
    put_two();
}

static void
copy_first(void)
{
    copy_out(0);
}

/* ---- shares ---- */

static uint64_t
take_window(void)
{
    uint64_t seqs[MOST_SLOTS];
    shmring_taken taken;
    memset(&taken, 0, sizeof taken);
    taken.seqs = seqs;
    if (shmring_take_window(&world.c[0], 2, 1, &taken) != SHMRING_OK)
        return 0;
    CHECK(world.c[0].pinned_slots <= world.c[0].max_held);
    return taken.count;
}

/* It holds the first window of two, and may hold one slot more: the next window has a frame in common with
 * it. */
static void
window_held(void)
{
    make_ring_with_spares(2, 2, 0);
    open_producer();
    join(0, LOSSY, SHMRING_START_OLDEST);
    world.c[0].max_held = 3;
    put_frames(2);
    CHECK(take_window() == 2);
    put_frames(1);
}

static void
take_next_window(void)
{
    take_window();
}

/* ---- who died with a pin ---- */

static void
full_ring_one_held(void)
{
    full_ring_and_lossy();
    CHECK(take(0, 0));
}

static void
read_and_die(void)
{
    check_hold(0, 0);
    die(CONSUMER_FD);
}

static void
reap(void)
{
    shmring_reap_all(&world.block, OTHER_FD);
}

const litmus_test pin_tests[] = {
    {"pin", "mark-pin, pins, stamp", 3, full_ring_and_lossy, {put_one, take_one}, NULL, NULL},
    {"pin_swapped", "swap-pin, pins", 3, first_slot_held_first_read, {put_one, take_one}, NULL, NULL},
    {"pin_both", "mark-pin, swap-pin, pins", 2, full_ring_and_lossy, {put_two, take_both}, NULL, NULL},
    {"pin_after_swap", "stamp", 3, first_slot_held_all_read, {put_one, take_one}, NULL, NULL},
    {"unpin", "pins", 3, both_held, {put_two, give_both_back}, NULL, NULL},
    {"pin_batch", "mark-pin, pins, stamp", 3, full_ring_and_first_read, {claim_two, take_one}, NULL, NULL},
    {"spare", "mark-pin, pins, stamp", 2, held_beside_a_spare, {put_two, take_one}, NULL, NULL},
    {"spare_home", "pins", 3, parked, {put_two, give_parked_back}, NULL, NULL},
    {"spare_late", "mark-pin, pins, stamp", 2, parked, {put_two, take_one, give_parked_back}, NULL, NULL},
    {"copy_parked",
     "mark-recheck, stamp",
     2,
     held_beside_a_spare,
     {put_past_a_parked_slot, copy_first},
     NULL,
     NULL},
    {"window_lapped", "stamp", 2, window_held, {put_two, take_next_window}, NULL, NULL},
    {"reap_pins", "pins", 2, full_ring_one_held, {put_two, read_and_die, reap}, NULL, NULL},
    {NULL, NULL, 0, NULL, {NULL}, NULL, NULL},
};
