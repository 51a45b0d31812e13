/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of a group against claims, each other and the death of one of them; shares of lossy consumers.
 */
#include "ring.h"

static void
member_of_a_full_ring(void)
{
    make_ring(2, META_BYTES);
    open_producer();
    join_group(0);
    put_frames(2);
}

static void
two_members_of_a_full_ring(void)
{
    member_of_a_full_ring();
    join_group(1);
}

static void
first_takes(void)
{
    take(0, 0); /* it may see an old position of the group again and again, and give up */
}

static void
second_takes(void)
{
    take(1, 0);
}

static void
each_has_another(void)
{
    const shmring_hold *const first = world.hold[0][0];
    const shmring_hold *const second = world.hold[1][0];
    CHECK(first == NULL || second == NULL || first->position != second->position);
}

/* ---- the end ---- */

static void
member_of_an_empty_ring(void)
{
    make_ring(2, META_BYTES);
    open_producer();
    join_group(0);
}

static void
put_and_close(void)
{
    CHECK(put());
    shmring_producer_close(&world.p);
}

static void
member_reads_to_the_end(void)
{
    unsigned frames = 0;
    for (;;) {
        const shmring_news news = shmring_note_news(&world.c[0], 1);
        const int outlook = shmring_outlook(&world.c[0], 1, 0);
        if (outlook == SHMRING_ENDED)
            break;
        if (outlook == SHMRING_EMPTY) {
            shmring_wait_data(&world.block, &news, SHMRING_FOR_EVER, 0, 2);
            continue;
        }
        CHECK(outlook == SHMRING_OK && take(0, 0));
        give_back(0, 0);
        frames++;
    }
    CHECK(frames == 1);
}

/* ---- leave ---- */

static void
member_that_holds(void)
{
    member_of_a_full_ring();
    join(1, LOSSLESS, SHMRING_START_NEXT);
    CHECK(take(0, 0));
}

static void
leave_holding(void)
{
    shmring_leave_holding(&world.c[0]);
    check_hold(0, 0);
}

/* ---- death ---- */

static void
two_members_of_an_empty_ring(void)
{
    make_ring(2, META_BYTES);
    open_producer();
    join_group(0);
    join_group(1);
}

static void
second_takes_and_dies(void)
{
    take(1, 0);
    die(CONSUMER_FD + 1);
}

static void
first_reaps_and_takes(void)
{
    shmring_reap_members(&world.c[0]);
    take_one();
}

static void
second_died_holding(void)
{
    two_members_of_an_empty_ring();
    put_frames(1);
    CHECK(take(1, 0));
    die(CONSUMER_FD + 1);
}

/* Its frames are put up again while the other one, which was told of something else before, looks around. */
static void
told_of_something_else(void)
{
    two_members_of_an_empty_ring();
    shmring_announce_to_group(&world.block, world.c[0].group);
}

static void
second_dies_and_is_reaped(void)
{
    second_takes_and_dies();
    shmring_reap_all(&world.block, OTHER_FD);
}

static void
reap(void)
{
    shmring_reap_all(&world.block, OTHER_FD);
}

/* ---- join ---- */

/* The group had taken both frames before it ended; the next one of its number begins at the first again. */
static void
group_that_ended(void)
{
    member_of_a_full_ring();
    take_and_release(0, 2);
    shmring_leave(&world.c[0]);
}

static void
join_and_take(void)
{
    join_group(0);
    take_one();
}

static void
group_of_one(void)
{
    make_ring(2, 0);
    open_producer();
    join_group(1);
    put_frames(2);
}

/* The group passes from one to the other. */
static void
join_before_the_other_leaves(void)
{
    join_group(0);
    shmring_leave(&world.c[1]);
    CHECK(take(0, 0));
    CHECK(world.hold[0][0]->position == 0);
}

/* ---- sleep ---- */

static void
both_held(void)
{
    member_of_a_full_ring();
    CHECK(take(0, 0) && take(0, 1));
}

static void
give_one_back(void)
{
    give_back(0, 0);
}

static void
full_ring_with_a_spare_slot(void)
{
    make_ring_with_spares(2, 1, 0);
    open_producer();
    join_group(0);
    put_frames(2);
}

/* ---- shares ---- */

static void
two_without_a_share(void)
{
    make_ring(3, 0);
    open_producer();
    for (unsigned i = 0; i < 2; i++) {
        join(i, LOSSY, SHMRING_START_NEXT);
        world.c[i].max_held = 0;
        shmring_store_share(&world.c[i], 0);
    }
}

static void
first_reserves(void)
{
    shmring_reserve(&world.c[0], 2);
}

static void
second_reserves(void)
{
    shmring_reserve(&world.c[1], 2);
}

static void
no_more_than_there_is(void)
{
    CHECK(world.c[0].max_held + world.c[1].max_held <= 2);
}

const litmus_test group_tests[] = {
    {"member", "owner, next", 3, member_of_a_full_ring, {put_one, take_one}, NULL, NULL},
    {"members",
     "owner, next",
     1,
     two_members_of_a_full_ring,
     {first_takes, second_takes, put_one},
     each_has_another,
     NULL},
    {"member_ends",
     "next, owner, producer_state",
     2,
     member_of_an_empty_ring,
     {put_and_close, member_reads_to_the_end},
     NULL,
     NULL},
    {"member_leaves", "owner, pins, next", 3, member_that_holds, {put_one, leave_holding}, NULL, NULL},
    {"redo",
     "owner, events, next",
     2,
     two_members_of_an_empty_ring,
     {put_one, second_takes_and_dies, first_reaps_and_takes},
     NULL,
     NULL},
    {"redo_found",
     "owner, next",
     2,
     told_of_something_else,
     {put_one, second_dies_and_is_reaped, take_one},
     NULL,
     NULL},
    {"redo_wakes", "owner, events, sleep-announce", 3, second_died_holding, {reap, first_waits}, NULL, NULL},
    {"group_again", "cursor, next, state", 2, group_that_ended, {put_one, join_and_take}, NULL, NULL},
    {"group_handed_over",
     "join_count, next, active",
     2,
     group_of_one,
     {put_one, join_before_the_other_leaves},
     NULL,
     NULL},
    {"disown", "sleep-unpin, owner", 3, both_held, {put_waiting, give_one_back}, NULL, NULL},
    {"pass", "pass-sleep, next", 3, full_ring_with_a_spare_slot, {put_waiting, first_takes}, NULL, NULL},
    {"share",
     "share-share",
     3,
     two_without_a_share,
     {first_reserves, second_reserves},
     no_more_than_there_is,
     NULL},
    {NULL, NULL, 0, NULL, {NULL}, NULL, NULL},
};
