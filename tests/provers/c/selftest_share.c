/* SPDX-License-Identifier: Apache-2.0
 *
 * Shares of lossy consumers: how many slots each may hold, so that the producer always has one to write to.
 */
#include "selftest.h"

enum { MOST = 8 };

/* As `join`, and the consumer keeps the share that it gets. */
static void
join_sharing(ring *r, shmring_consumer *c)
{
    CHECK_EQUAL(shmring_join(c, &r->block, lock_file(r), 0, SHMRING_START_OLDEST, "test"), SHMRING_OK);
}

static shmring_geometry
for_many(uint64_t slots, uint64_t spares)
{
    shmring_geometry g = with_spares(slots, spares);
    g.consumers = MOST;
    return g;
}

static uint64_t
share_in_row(const shmring_consumer *c)
{
    return c->block->table[c->place].max_held;
}

/* ---- how much ---- */

static void
each_gets_half_of_what_is_left_and_two_at_least(void)
{
    const struct {
        uint64_t slots, spares, shares[5];
    } cases[] = {
        {2, 0, {1, 1, 1, 1, 1}}, {3, 0, {2, 2, 2, 2, 2}}, {2, 1, {2, 2, 2, 2, 2}},   {4, 0, {2, 2, 2, 2, 2}},
        {8, 0, {3, 2, 2, 2, 2}}, {8, 4, {5, 2, 2, 2, 2}}, {30, 4, {16, 8, 4, 2, 2}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ring r;
        shmring_producer p;
        shmring_consumer c[5], lossless;
        open_ring(&r, &p, for_many(cases[i].slots, cases[i].spares));
        join(&r, &lossless, 1, SHMRING_START_OLDEST); /* takes nothing: its cursor holds the producer back */
        CHECK_EQUAL(lossless.max_held, UINT64_MAX);
        CHECK_EQUAL(shmring_limit_held(&lossless, 1), SHMRING_OK); /* says nothing to it */
        CHECK_EQUAL(lossless.max_held, UINT64_MAX);
        for (unsigned j = 0; j < 5; j++) {
            join_sharing(&r, &c[j]);
            CHECK_EQUAL(c[j].max_held, cases[i].shares[j]);
            CHECK_EQUAL(share_in_row(&c[j]), c[j].max_held);
        }
        for (unsigned j = 0; j < 5; j++)
            leave(&c[j]);
        leave(&lossless);
        close_ring(&r, &p);
    }
}

static void
a_share_is_granted_or_stays_what_it_was(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a, b;
    open_ring(&r, &p, for_many(10, 0)); /* 8 to share */
    join_sharing(&r, &a);
    join_sharing(&r, &b);
    CHECK_EQUAL(a.max_held + b.max_held, 6);
    CHECK_EQUAL(shmring_limit_held(&a, 7), SHMRING_NO_SHARE);
    CHECK_EQUAL(a.max_held, 4);
    CHECK_EQUAL(share_in_row(&a), 4);
    CHECK_EQUAL(shmring_limit_held(&a, 6), SHMRING_OK);
    CHECK_EQUAL(shmring_limit_held(&b, 3), SHMRING_NO_SHARE);
    CHECK_EQUAL(shmring_limit_held(&a, 1), SHMRING_OK); /* less is always granted */
    CHECK_EQUAL(shmring_limit_held(&b, 7), SHMRING_OK);
    CHECK_EQUAL(shmring_limit_held(&b, UINT64_MAX), SHMRING_NO_SHARE);
    leave(&b);
    CHECK_EQUAL(shmring_limit_held(&a, 8), SHMRING_OK);
    CHECK_EQUAL(share_in_row(&a), 8);
    leave(&a);
    close_ring(&r, &p);
}

/* Of a consumer that left, what it still holds counts; of a dead one nothing. */
static void
what_others_hold_counts_as_long_as_they_live(void)
{
    for (int dies = 0; dies < 2; dies++) {
        ring r;
        shmring_producer p;
        shmring_consumer a, b;
        shmring_hold *held[3];
        open_ring(&r, &p, for_many(8, 0)); /* 6 to share */
        join_sharing(&r, &a);
        join_sharing(&r, &b);
        CHECK_EQUAL(shmring_limit_held(&a, 4), SHMRING_OK);
        put_all(&p, 3);
        for (uint64_t seq = 0; seq < 3; seq++)
            held[seq] = take_seq(&a, seq);
        CHECK_EQUAL(shmring_limit_held(&b, 3), SHMRING_NO_SHARE);
        if (dies) {
            kill_consumer(&a);
            for (uint64_t seq = 0; seq < 3; seq++)
                free(held[seq]);
            CHECK_EQUAL(shmring_limit_held(&b, 6), SHMRING_OK);
        } else {
            shmring_leave_holding(&a);
            CHECK_EQUAL(shmring_limit_held(&b, 4), SHMRING_NO_SHARE);
            CHECK_EQUAL(shmring_limit_held(&b, 3), SHMRING_OK);
            shmring_release(&a, held[1]);
            CHECK_EQUAL(shmring_limit_held(&b, 4), SHMRING_OK);
            shmring_release(&a, held[0]);
            shmring_release(&a, held[2]);
            leave(&a);
            CHECK_EQUAL(shmring_limit_held(&b, 6), SHMRING_OK);
        }
        leave(&b);
        close_ring(&r, &p);
    }
}

/* ---- at the limit ---- */

static void
beyond_its_share_a_consumer_gets_nothing_and_learns_why(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    open_ring(&r, &p, for_many(8, 0));
    join_sharing(&r, &c);
    put_all(&p, 8);
    shmring_hold *held[3];
    for (uint64_t seq = 0; seq < 3; seq++) {
        CHECK_EQUAL(shmring_outlook(&c, 1, 0), SHMRING_OK);
        held[seq] = take_seq(&c, seq);
    }
    const shmring_patience patience = shmring_default_patience();
    for (unsigned i = 0; i < 2; i++) { /* whether or not there are frames to take */
        CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_EMPTY);
        CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_EMPTY);
        CHECK_EQUAL(shmring_outlook(&c, 1, 0), SHMRING_HELD);
        CHECK_EQUAL(shmring_await(&c, 1, INT64_MAX, &patience), SHMRING_HELD);
        CHECK_EQUAL(c.pinned_slots, 3);
        put_all(&p, 8);
    }
    for (uint64_t seq = 0; seq < 3; seq++)
        CHECK(holds(&c, held[seq], 0, seq));
    shmring_release(&c, held[1]);
    CHECK_EQUAL(shmring_outlook(&c, 1, 0), SHMRING_OK);
    CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], p.next_seq - 1);
    shmring_release(&c, t.taken.hold);
    shmring_release(&c, held[0]);
    shmring_release(&c, held[2]);
    CHECK_EQUAL(c.delivered + c.lost + c.skipped, p.next_seq);
    leave(&c);
    close_ring(&r, &p);
}

static void
batches_are_cut_at_the_share(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    open_ring(&r, &p, for_many(12, 0));
    join_sharing(&r, &c);
    CHECK_EQUAL(c.max_held, 5);
    put_all(&p, 12);
    CHECK_EQUAL(shmring_take_batch(&c, 1, 12, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.taken.count, 5);
    shmring_release(&c, t.taken.hold);
    shmring_hold *const one = take_seq(&c, 5);
    CHECK_EQUAL(shmring_take_batch(&c, 5, 12, ask(&t)), SHMRING_EMPTY);
    CHECK_EQUAL(shmring_outlook(&c, 5, 0), SHMRING_HELD);
    CHECK_EQUAL(shmring_take_batch(&c, 4, 12, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.taken.count, 4);
    shmring_release(&c, t.taken.hold);
    shmring_release(&c, one);
    CHECK_EQUAL(shmring_outlook(&c, 6, 0), SHMRING_HELD); /* never, whatever it gives back */
    leave(&c);
    close_ring(&r, &p);
}

/* What overlapping windows have in common counts once. */
static void
windows_need_each_slot_once(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    shmring_hold *held[3];
    open_ring(&r, &p, for_many(12, 0));
    join_sharing(&r, &c); /* 5 */
    put_all(&p, 12);
    for (uint64_t first = 0; first < 3; first++) {
        CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.seqs[0], first);
        held[first] = t.taken.hold;
    }
    CHECK_EQUAL(c.pinned_slots, 5);
    CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_EMPTY);
    CHECK_EQUAL(shmring_outlook(&c, 3, 0), SHMRING_HELD);
    shmring_release(&c, held[0]);
    CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], 3);
    shmring_release(&c, t.taken.hold);
    shmring_release(&c, held[1]);
    shmring_release(&c, held[2]);
    leave(&c);
    close_ring(&r, &p);
}

/* The producer came round: the next window has nothing in common any more with the one that is held. */
static void
a_lapped_window_stays_within_the_share(void)
{
    for (uint64_t laps = 1; laps < 4; laps++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        open_ring(&r, &p, for_many(12, 0));
        join_sharing(&r, &c); /* 5 */
        put_all(&p, 12);
        CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_OK);
        shmring_hold *const held = t.taken.hold;
        CHECK_EQUAL(shmring_outlook(&c, 4, 0), SHMRING_OK);
        put_all(&p, 8 * laps); /* the frames of the window stay behind: their entries get other slots */
        CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_EMPTY);
        CHECK_EQUAL(c.pinned_slots, 4);
        CHECK_EQUAL(shmring_outlook(&c, 4, 0), SHMRING_HELD);
        shmring_release(&c, held);
        CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(c.pinned_slots, 4);
        CHECK_EQUAL(c.delivered + c.lost, t.seqs[3] + 1);
        shmring_release(&c, t.taken.hold);
        leave(&c);
        close_ring(&r, &p);
    }
}

/* ---- what it is for ---- */

/* Takes as much as the consumer may hold, one by one or in batches. */
static unsigned
hold_all(shmring_consumer *c, uint64_t most, shmring_hold **held)
{
    unsigned count = 0;
    take t;
    while (shmring_take_batch(c, 1, most, ask(&t)) == SHMRING_OK)
        held[count++] = t.taken.hold;
    CHECK(c->pinned_slots <= c->max_held);
    return count;
}

static void
whatever_lossy_consumers_hold_the_producer_has_a_slot(void)
{
    for (uint64_t slots = 2; slots < 14; slots++) {
        for (uint64_t spares = 0; spares < 4; spares++) {
            for (uint64_t most = 1; most < 4; most++) {
                ring r;
                shmring_producer p;
                shmring_consumer c[MOST];
                shmring_hold *held[MOST][32];
                unsigned holding[MOST];
                unsigned count = 0;
                open_ring(&r, &p, for_many(slots, spares));
                const shmring_geometry *const g = &r.block.geometry;
                uint64_t together = 0;
                while (count < MOST && together + shmring_least_share(g) <= shmring_shareable(g)) {
                    join_sharing(&r, &c[count]);
                    together += c[count++].max_held;
                }
                CHECK(count > 0);
                for (unsigned round = 0; round < 3; round++) {
                    put_all(&p, slots);
                    for (unsigned i = 0; i < count; i++)
                        holding[i] = hold_all(&c[i], most, held[i]);
                    put_all(&p, 3 * slots);
                    for (unsigned i = 0; i < count; i++)
                        while (holding[i] > 0)
                            shmring_release(&c[i], held[i][--holding[i]]);
                }
                for (unsigned i = 0; i < count; i++)
                    leave(&c[i]);
                check_permutation(&p);
                close_ring(&r, &p);
            }
        }
    }
}

const test share_tests[] = {
    TEST(each_gets_half_of_what_is_left_and_two_at_least),
    TEST(a_share_is_granted_or_stays_what_it_was),
    TEST(what_others_hold_counts_as_long_as_they_live),
    TEST(beyond_its_share_a_consumer_gets_nothing_and_learns_why),
    TEST(batches_are_cut_at_the_share),
    TEST(windows_need_each_slot_once),
    TEST(a_lapped_window_stays_within_the_share),
    TEST(whatever_lossy_consumers_hold_the_producer_has_a_slot),
    LAST_TEST,
};
