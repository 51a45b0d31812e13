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
take_one(void)
{
    if (take(0, 0))
        give_back(0, 0);
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

static void
reap(void)
{
    shmring_reap_all(&world.block, OTHER_FD);
}

static void
first_waits(void)
{
    for (;;) {
        const shmring_news news = shmring_note_news(&world.c[0], 1);
        if (take(0, 0))
            return;
        shmring_wait_data(&world.block, &news, SHMRING_FOR_EVER, 0, 2);
    }
}

/* ---- sleep ---- */

static void
full_ring_with_a_spare_slot(void)
{
    make_ring_with_spares(2, 1, 0);
    open_producer();
    join_group(0);
    put_frames(2);
}

static void
put_waiting(void)
{
    while (shmring_claim_wait(&world.p, 1, SHMRING_FOR_EVER, 0, 2) != SHMRING_OK)
        continue;
    shmring_publish(&world.p, 1);
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
    {"member_leaves", "owner, pins, next", 3, member_that_holds, {put_one, leave_holding}, NULL, NULL},
    {"redo",
     "owner, events, next",
     2,
     two_members_of_an_empty_ring,
     {put_one, second_takes_and_dies, first_reaps_and_takes},
     NULL,
     NULL},
    {"redo_wakes", "owner, events, sleep-announce", 3, second_died_holding, {reap, first_waits}, NULL, NULL},
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
