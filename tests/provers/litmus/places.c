/* SPDX-License-Identifier: Apache-2.0
 *
 * Join, leave, reap, and what a newcomer and the producer know of each other.
 */
#include "ring.h"

static void
put_three(void)
{
    put();
    put();
    put();
}

/* head goes up by two at once: the one before is far behind. */
static void
put_a_batch_and_one(void)
{
    const uint64_t most = shmring_claim(&world.p, 2) == SHMRING_OK ? world.p.count : 0;
    for (uint64_t i = 0; i < most; i++) {
        uint8_t *const slot =
            (uint8_t *)shmring_claimed_slot(&world.p) + i * world.block.geometry.slot_stride;
        for (uint64_t at = 0; at < FRAME_BYTES; at += 8)
            litmus_write(slot + at, 100 + world.p.next_seq + i);
    }
    shmring_publish(&world.p, most);
    put();
}

/* ---- newcomers ---- */

static void
empty_ring(void)
{
    make_ring(2, 0);
    open_producer();
    (void)shmring_claim(&world.p, 1); /* the producer has looked at the table once: nobody gates */
    shmring_abort(&world.p);
}

static void
full_ring(void)
{
    empty_ring();
    put_frames(2);
}

static void
come(int lossless, int start)
{
    join(0, lossless, start);
    if (take(0, 0))
        give_back(0, 0);
}

static void
come_for_all(void)
{
    come(LOSSLESS, SHMRING_START_OLDEST);
}

static void
come_for_what_comes(void)
{
    come(LOSSLESS, SHMRING_START_NEXT);
    if (take(0, 0))
        give_back(0, 0);
}

static void
come_lossy(void)
{
    join(0, LOSSY, SHMRING_START_OLDEST);
    const uint64_t first = world.c[0].next;
    const int of_an_entry =
        first < world.c[0].head; /* else expected_seq may be ahead until the first frame */
    CHECK(!of_an_entry || world.c[0].expected_seq == first);
    if (take(0, 0) && of_an_entry)
        CHECK(world.c[0].lost == world.hold[0][0]->position - first);
}

/* A lossless consumer that has read everything makes each claim look at the table. */
static void
full_ring_all_read(void)
{
    make_ring(2, 0);
    open_producer();
    join(1, LOSSLESS, SHMRING_START_OLDEST);
    put_frames(2);
    take_and_release(1, 2);
}

/* Slot 0 is held: the claim takes slot 1 from the frame at which the newcomer may start. */
static void
full_ring_first_slot_held(void)
{
    full_ring();
    join(1, LOSSY, SHMRING_START_OLDEST);
    CHECK(take(1, 0));
    shmring_rescan(&world.p);
}

/* ---- leaving and dying ---- */

static void
full_ring_one_held(void)
{
    full_ring();
    join(0, LOSSLESS, SHMRING_START_OLDEST);
    CHECK(take(0, 0));
}

static void
leave(void)
{
    give_back(0, 0);
    shmring_leave(&world.c[0]);
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

/* The place of the dead goes to a newcomer. */
static void
succeed(void)
{
    shmring_consumer *const c = &world.c[1];
    if (shmring_join(c, &world.block, CONSUMER_FD + 1, LOSSLESS, SHMRING_START_OLDEST, "") != SHMRING_OK)
        return;
    if (take(1, 0))
        give_back(1, 0);
}

/* A place changes its owner while its bit may look the same to the producer: join_count alone shows it. */
static void
full_ring_and_lossy(void)
{
    full_ring();
    join(0, LOSSY, SHMRING_START_OLDEST);
}

static void
rescan_and_put(void)
{
    shmring_rescan(&world.p);
    put();
}

static void
leave_at_once(void)
{
    shmring_leave(&world.c[0]);
}

/* ---- what the producer knows ---- */

static void
put_when_somebody_is_there(void)
{
    if (shmring_active_consumers(&world.block) == 0)
        return;
    world.seen = world.p.head + 1;
    put_three();
}

static void
come_for_all_and_stay(void)
{
    join(0, LOSSLESS, SHMRING_START_OLDEST);
}

static void
nothing_is_missed(void)
{
    CHECK(world.seen == 0 || world.c[0].next < world.seen);
}

static void
warm_ring(void)
{
    full_ring_all_read();
    world.p.exceeds_cache = 1;
}

static void
want_runs(void)
{
    shmring_want_runs(&world.c[1]);
}

static void
rescan(void)
{
    shmring_rescan(&world.p);
    CHECK(world.p.join_count == 1 || !world.p.reuse_warm);
}

/* ---- reports ---- */

static void
closed_ring(void)
{
    make_ring(2, 0);
    open_producer();
    put_frames(2);
    join(0, LOSSLESS, SHMRING_START_NEXT);
    shmring_leave(&world.c[0]);
    shmring_producer_close(&world.p);
    world.block.table[0].cursor = 7; /* as another owner left it */
    world.block.hot->producer_pid = 0;
}

static void
open_and_put(void)
{
    open_producer();
    put();
}

static void
report(void)
{
    shmring_ring_status ring;
    shmring_place_status place;
    shmring_read_ring_status(&world.block, &ring);
    CHECK(ring.next_seq >= ring.head);
    CHECK(ring.producer_state != SHMRING_PRODUCER_LIVE || ring.producer_pid != 0);
    if (ring.active == 0)
        return;
    shmring_read_place_status(&world.block, 0, &place);
    CHECK((place.state & 0xff) == SHMRING_PLACE_LOSSLESS);
}

static void
report_place(void)
{
    shmring_place_status place;
    shmring_read_place_status(&world.block, 0, &place);
    CHECK((place.state & 0xff) != SHMRING_PLACE_LOSSLESS || place.cursor != 7);
}

const litmus_test place_tests[] = {
    {"join", "mark-join, join_count, cursor", 2, full_ring, {put_one, come_for_all}, NULL, NULL},
    {"join_and_lap", "mark-join, claimed, join_count", 2, full_ring, {put_two, come_for_all}, NULL, NULL},
    {"join_from_nothing", "mark-join, claimed, head", 2, empty_ring, {put_three, come_for_all}, NULL, NULL},
    {"join_behind", "mark-join, claimed", 2, empty_ring, {put_a_batch_and_one, come_for_all}, NULL, NULL},
    {"join_rescanned", "join_count, mark-join", 2, full_ring_all_read, {put_one, come_for_all}, NULL, NULL},
    {"join_swapped", "swap-join", 2, full_ring_first_slot_held, {put_one, come_for_all}, NULL, NULL},
    {"join_next", "head", 2, empty_ring, {put_two, come_for_what_comes}, NULL, NULL},
    {"join_lossy", "mark-join, mark-recheck, stamp", 2, full_ring, {put_one, come_lossy}, NULL, NULL},
    {"join_seen",
     "active, state",
     2,
     empty_ring,
     {put_when_somebody_is_there, come_for_all_and_stay},
     nothing_is_missed,
     NULL},
    {"join_after",
     "join_count, mark-join",
     2,
     full_ring_and_lossy,
     {rescan_and_put, leave_at_once, succeed},
     NULL,
     NULL},
    {"want_runs", "join_count", 3, warm_ring, {rescan, want_runs}, NULL, NULL},
    {"leave", "cursor, state, active", 2, full_ring_one_held, {put_two, leave}, NULL, NULL},
    {"reap_gate", "state, active", 2, full_ring_one_held, {put_one, read_and_die, reap}, NULL, NULL},
    {"succeed",
     "state, active, join_count",
     2,
     full_ring_one_held,
     {put_two, read_and_die, succeed},
     NULL,
     NULL},
    {"report",
     "head, producer_state, active",
     2,
     closed_ring,
     {open_and_put, come_for_all_and_stay, report},
     NULL,
     NULL},
    {"report_place", "state", 3, closed_ring, {NULL, come_for_all_and_stay, report_place}, NULL, NULL},
    {NULL, NULL, 0, NULL, {NULL}, NULL, NULL},
};
