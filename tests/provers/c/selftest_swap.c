/* SPDX-License-Identifier: Apache-2.0
 *
 * Swaps: around pinned slots, for the sake of runs, for the sake of the cache.
 */
#include "selftest.h"

enum { SLOTS = 5 };

/* A pin that no consumer of the test set: of a place that the table does not have. */
static void
pin_by_hand(const ring *r, uint64_t slot, int on)
{
    shmring_entry_at(&r->block, slot)->pins = on ? UINT64_C(1) << 63 : 0;
}

/* The frame of the slot, wherever the entries are by now. */
static int
slot_is(const ring *r, uint64_t slot, uint64_t seq)
{
    return frame_is(shmring_slot_at(&r->block, slot), r->block.geometry.frame_bytes, seq);
}

/* ---- around pins ---- */

static void
a_pinned_slot_is_passed_on_and_its_frame_kept(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, SLOTS + 2); /* slot 3 has seq 3 */
    pin_by_hand(&r, 3, 1);
    for (uint64_t i = 0; i < 4 * SLOTS; i++) {
        const uint64_t head = p.head;
        put_all(&p, 1);
        CHECK_EQUAL(p.head, head + 1); /* positions have no gaps */
        CHECK(slot_is(&r, 3, 3));
        check_permutation(&p);
        check_history(&r.block);
    }
    CHECK(p.swaps > 0);
    CHECK_EQUAL(r.block.hot->swaps, p.swaps);
    close_producer(&p);
    end_ring(&r);
}

static void
two_slots_are_enough_to_pass_a_held_one(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(2));
    open_producer(&r, &p);
    put_all(&p, 2);
    pin_by_hand(&r, 0, 1);
    for (uint64_t i = 0; i < 6; i++) {
        CHECK_EQUAL(put(&p), SHMRING_OK);
        CHECK(slot_is(&r, 0, 0));
        check_permutation(&p);
    }
    pin_by_hand(&r, 1, 1);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    pin_by_hand(&r, 0, 0);
    put_all(&p, 4);
    CHECK(slot_is(&r, 1, 7));
    close_producer(&p);
    end_ring(&r);
}

/* Every set of pinned slots, from every start: a claim succeeds if and only if a slot is free, and what
 * is pinned stays as it is. */
static void
any_slots_may_be_pinned(void)
{
    for (unsigned set = 0; set < 1u << SLOTS; set++) {
        for (uint64_t start = 0; start < SLOTS; start++) {
            ring r;
            shmring_producer p;
            uint64_t kept[SLOTS] = {0, 0, 0, 0, 0};
            make_ring(&r, page_slots(SLOTS));
            open_producer(&r, &p);
            put_all(&p, SLOTS + start);
            for (uint64_t slot = 0; slot < SLOTS; slot++) {
                kept[slot] = shmring_entry_at(&r.block, slot)->seq; /* still at home */
                pin_by_hand(&r, slot, (set >> slot & 1) != 0);
            }
            const uint64_t intact = check_history(&r.block);
            for (uint64_t i = 0; i < 2 * SLOTS; i++) {
                const int result = put(&p);
                CHECK_EQUAL(result, set == (1u << SLOTS) - 1 ? SHMRING_FULL : SHMRING_OK);
                check_permutation(&p);
                const uint64_t now = check_history(&r.block);
                CHECK(result == SHMRING_OK || now == intact); /* FULL leaves every frame */
                for (uint64_t slot = 0; slot < SLOTS; slot++)
                    CHECK((set >> slot & 1) == 0 || slot_is(&r, slot, kept[slot]));
            }
            close_producer(&p);
            end_ring(&r);
        }
    }
}

/* What a lossless consumer has not read is behind the gate: no swap may touch it. */
static void
a_swap_takes_no_unread_frame(void)
{
    for (uint64_t unread = 0; unread <= SLOTS; unread++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        join(&r, &c, 1, SHMRING_START_OLDEST);
        put_all(&p, SLOTS);
        for (uint64_t seq = 0; seq < SLOTS - unread; seq++)
            read_seq(&c, seq);
        pin_by_hand(&r, 0, 1); /* of the entry to be claimed */
        CHECK_EQUAL(put(&p), SLOTS - unread < 2 ? SHMRING_FULL : SHMRING_OK);
        check_permutation(&p);
        CHECK(slot_is(&r, 0, 0));
        for (uint64_t seq = SLOTS - unread; seq < p.head; seq++)
            read_seq(&c, seq);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* ADR 4. The newcomer joins between the fence of the claim and that of the swap. */
static void
a_swap_gives_up_for_a_newcomer(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, SLOTS);
    pin_by_hand(&r, 0, 1);
    shmring_rescan(&p);
    shmring_mark_writing(&p, 0, 1); /* position 5, on entry 0 */
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(c.next, 1);
    CHECK(!shmring_swap(&p, 1, 6)); /* would be the newcomer's first frame */
    CHECK_EQUAL(entry_of(&r.block, 1)->stamp, shmring_published_stamp(1));
    CHECK_EQUAL(p.limit, 6);
    check_permutation(&p);
    shmring_restore_stamps(&p, 0, 1);
    for (uint64_t seq = 1; seq < SLOTS; seq++)
        read_seq(&c, seq);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_swap_gives_up_for_a_pin(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, SLOTS);
    shmring_rescan(&p);
    shmring_mark_writing(&p, 0, 1);
    pin_by_hand(&r, 2, 1);
    CHECK(!shmring_swap(&p, 2, 7));
    CHECK_EQUAL(entry_of(&r.block, 2)->stamp, shmring_published_stamp(2));
    CHECK(shmring_swap(&p, 3, 8));
    CHECK_EQUAL(p.slot_of[0], 3);
    CHECK_EQUAL(p.slot_of[3], 0);
    CHECK_EQUAL(entry_of(&r.block, 3)->stamp, 0); /* its frame is gone */
    check_permutation(&p);
    shmring_restore_stamps(&p, 0, 1);
    CHECK_EQUAL(entry_of(&r.block, 0)->stamp, 0); /* and so is the one whose slot went away */
    close_producer(&p);
    end_ring(&r);
}

static void
next_positions_of_entries_follow_the_claimed_one(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, 7);
    static const uint64_t wanted[SLOTS] = {10, 11, 7, 8, 9};
    for (uint64_t index = 0; index < SLOTS; index++)
        CHECK_EQUAL(shmring_position_of(&p, index), wanted[index]);
    close_producer(&p);
    end_ring(&r);
}

/* ---- runs ---- */

/* How often, in one lap, a frame does not lie right after the one before it. */
static unsigned
breaks_of_a_lap(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    unsigned breaks = 0;
    for (uint64_t i = 0; i < slots; i++) {
        const uint64_t before = p->slot_of[p->index == 0 ? slots - 1 : p->index - 1];
        put_all(p, 1);
        const uint64_t slot = p->slot_of[p->index == 0 ? slots - 1 : p->index - 1];
        breaks += slot != (before + 1 == slots ? 0 : before + 1);
    }
    return breaks;
}

static void
runs_rejoin_after_a_hold(void)
{
    for (uint64_t held = 0; held < 8; held++) {
        for (int lossy_too = 0; lossy_too < 2; lossy_too++) {
            ring r;
            shmring_producer p;
            shmring_consumer c;
            make_ring(&r, page_slots(8));
            open_producer(&r, &p);
            put_all(&p, 8);
            if (lossy_too)
                join(&r, &c, 0, SHMRING_START_NEXT);
            pin_by_hand(&r, held, 1);
            for (unsigned lap = 0; lap < 5; lap++) /* at the held slot, and where the next lap meets it */
                CHECK(breaks_of_a_lap(&p) <= 2);
            pin_by_hand(&r, held, 0);
            breaks_of_a_lap(&p);
            breaks_of_a_lap(&p);
            CHECK_EQUAL(breaks_of_a_lap(&p), 0);
            check_permutation(&p);
            check_history(&r.block);
            if (lossy_too)
                leave(&c);
            close_producer(&p);
            end_ring(&r);
        }
    }
}

/* While a lossy consumer is there, a run is not worth a frame of the newer half of the history. */
static void
rejoining_a_run_spares_what_a_lossy_consumer_may_want(void)
{
    for (int lossy = 0; lossy < 2; lossy++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        put_all(&p, 8);
        kill_producer(&p);
        entry_of(&r.block, 5)->slot = 7; /* exchanged by hand */
        entry_of(&r.block, 7)->slot = 5;
        fill_frame(shmring_slot_at(&r.block, 7), 256, 5);
        fill_frame(shmring_slot_at(&r.block, 5), 256, 7);
        shmring_record_at(&r.block, 7)->seq = shmring_record_at(&r.block, 7)->position = 5;
        shmring_record_at(&r.block, 5)->seq = shmring_record_at(&r.block, 5)->position = 7;
        open_producer(&r, &p);
        if (lossy)
            join(&r, &c, 0, SHMRING_START_NEXT);
        put_all(&p, 1);
        CHECK_EQUAL(p.slot_of[0], lossy ? 0 : 6); /* slot 6 follows slot 5, and has the second newest */
        CHECK_EQUAL(check_history(&r.block), lossy ? 8 : 7);
        check_permutation(&p);
        if (lossy)
            leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* ---- warm slots ---- */

static void
the_slot_freed_last_is_reused_while_it_is_warm(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    p.exceeds_cache = 1;
    p.copies = 1; /* it has copied large frames before, through the cache */
    join(&r, &c, 1, SHMRING_START_OLDEST);
    uint64_t used = 0; /* slots, one bit each */
    for (uint64_t seq = 0; seq < 40; seq++) {
        const uint32_t freed = seq == 0 ? 0 : entry_of(&r.block, seq - 1)->slot;
        CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
        CHECK_EQUAL(p.slot, freed);
        used |= UINT64_C(1) << p.slot;
        write_frame(&p, 0);
        shmring_publish(&p, 1);
        read_seq(&c, seq);
        check_permutation(&p);
        check_history(&r.block);
    }
    CHECK_EQUAL(used, 1); /* the working set is one slot */
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_warm_slot_that_is_held_is_left_alone(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    p.exceeds_cache = 1;
    p.copies = 1; /* it has copied large frames before, through the cache */
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 3);
    shmring_hold *const held = take_seq(&c, 0);
    read_seq(&c, 1);
    read_seq(&c, 2); /* now `held` is pinned, the cursor has moved */
    CHECK_EQUAL(c.cursor, 3);
    for (uint64_t seq = 3; seq < 30; seq++) {
        CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
        CHECK(p.slot != held->slot);
        write_frame(&p, 0);
        shmring_publish(&p, 1);
        read_seq(&c, seq);
        CHECK(holds(&c, held, 0, 0));
    }
    CHECK_EQUAL(r.block.hot->swaps, p.swaps);
    CHECK(p.swaps > 0);
    shmring_release(&c, held);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Whether the producer, asked now, goes for warm slots. */
static int
reuses(shmring_producer *p)
{
    shmring_rescan(p);
    return p->reuse_warm;
}

static void
warm_slots_are_reused_only_where_nobody_wants_history(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer lossless, other;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    p.exceeds_cache = 1;
    p.copies = 1;       /* it has copied large frames before, through the cache */
    CHECK(!reuses(&p)); /* nobody frees anything */
    join(&r, &lossless, 1, SHMRING_START_OLDEST);
    CHECK(reuses(&p));
    join(&r, &other, 0, SHMRING_START_OLDEST);
    CHECK(!reuses(&p)); /* a lossy one wants the history */
    leave(&other);
    CHECK(reuses(&p));
    join(&r, &other, 1, SHMRING_START_OLDEST);
    CHECK(reuses(&p));
    shmring_want_runs(&other);
    CHECK(!reuses(&p)); /* one wants runs */
    leave(&other);
    CHECK(reuses(&p));
    p.exceeds_cache = 0;
    CHECK(!reuses(&p));
    leave(&lossless);
    close_producer(&p);
    end_ring(&r);
}

static void
whoever_wants_runs_says_so_once(void)
{
    ring r;
    shmring_consumer c;
    make_ring(&r, page_slots(8));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    const uint64_t before = r.block.hot->join_count;
    shmring_want_runs(&c);
    shmring_want_runs(&c);
    CHECK_EQUAL(r.block.hot->join_count, before + 1);
    CHECK_EQUAL(r.block.table[c.place].flags, SHMRING_WANTS_RUNS);
    leave(&c);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(r.block.table[c.place].flags, 0); /* the next owner of the place has not said it */
    leave(&c);
    end_ring(&r);
}

/* Reading in every pattern of lags: whatever is unread survives the reuse. */
static void
warm_reuse_never_takes_an_unread_frame(void)
{
    for (uint64_t seed = 1; seed < 40; seed++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        shmring_hold *kept = NULL;
        uint64_t kept_seq = 0, choice = seed;
        make_ring(&r, page_slots(2 + seed % 6));
        open_producer(&r, &p);
        p.exceeds_cache = 1;
        p.copies = 1; /* it has copied large frames before, through the cache */
        join(&r, &c, 1, SHMRING_START_OLDEST);
        for (unsigned i = 0; i < 200; i++) {
            choice = mix(choice + i);
            if (choice % 5 < 2) {
                const int result = put(&p);
                CHECK(result == SHMRING_OK || p.head - c.next + (kept != NULL) + 2 >= r.block.geometry.slots);
            } else if (choice % 5 < 4 && c.next < r.block.hot->head) {
                const uint64_t seq = c.next;
                shmring_hold *const hold = take_seq(&c, seq);
                if (kept == NULL && choice % 7 == 0) {
                    kept = hold;
                    kept_seq = seq;
                } else {
                    shmring_release(&c, hold);
                }
            } else if (kept != NULL) {
                shmring_release(&c, kept);
                kept = NULL;
            }
            CHECK(kept == NULL || holds(&c, kept, 0, kept_seq));
            check_permutation(&p);
            check_history(&r.block);
        }
        if (kept != NULL)
            shmring_release(&c, kept);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

const test swap_tests[] = {
    TEST(a_pinned_slot_is_passed_on_and_its_frame_kept),
    TEST(two_slots_are_enough_to_pass_a_held_one),
    TEST(any_slots_may_be_pinned),
    TEST(a_swap_takes_no_unread_frame),
    TEST(a_swap_gives_up_for_a_newcomer),
    TEST(a_swap_gives_up_for_a_pin),
    TEST(next_positions_of_entries_follow_the_claimed_one),
    TEST(runs_rejoin_after_a_hold),
    TEST(rejoining_a_run_spares_what_a_lossy_consumer_may_want),
    TEST(the_slot_freed_last_is_reused_while_it_is_warm),
    TEST(a_warm_slot_that_is_held_is_left_alone),
    TEST(warm_slots_are_reused_only_where_nobody_wants_history),
    TEST(whoever_wants_runs_says_so_once),
    TEST(warm_reuse_never_takes_an_unread_frame),
    LAST_TEST,
};
