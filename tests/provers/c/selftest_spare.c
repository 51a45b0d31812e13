/* SPDX-License-Identifier: Apache-2.0
 *
 * Spare slots: a held frame costs one of them and nothing else, as long as there is one.
 */
#include "selftest.h"

enum { SLOTS = 4, SPARES = 2, ALL = SLOTS + SPARES };

/* A pin that no consumer of the test set: of a place that the table does not have. */
static void
pin_by_hand(const ring *r, uint64_t slot, int on)
{
    shmring_record_at(&r->block, slot)->pins = on ? UINT64_C(1) << 63 : 0;
}

/* Every slot of the entries is the one of the same number. */
static int
is_at_home(const shmring_producer *p)
{
    for (uint64_t index = 0; index < p->block->geometry.slots; index++)
        if (p->slot_of[index] != index)
            return 0;
    return 1;
}

/* ---- one held frame ---- */

static void
a_held_frame_costs_no_swap_and_no_other_frame(void)
{
    for (uint64_t number = 0; number < SLOTS; number++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        open_ring(&r, &p, with_spares(SLOTS, SPARES));
        join(&r, &c, 0, SHMRING_START_OLDEST);
        put_all(&p, SLOTS);
        for (uint64_t seq = 0; seq < number; seq++)
            read_seq(&c, seq);
        shmring_hold *const hold = take_seq(&c, number);
        for (unsigned i = 0; i < 5 * SLOTS; i++) {
            put_all(&p, 1);
            CHECK_EQUAL(check_history(&r.block), SLOTS);
            CHECK(holds(&c, hold, 0, number));
            check_permutation(&p);
        }
        CHECK_EQUAL(p.swaps, 0);
        CHECK(!is_at_home(&p));
        shmring_release(&c, hold);
        put_all(&p, 2 * SLOTS); /* the next lap goes back to the slot, so that runs are one piece again */
        CHECK(is_at_home(&p));
        CHECK_EQUAL(p.swaps, 0);
        CHECK_EQUAL(check_history(&r.block), SLOTS);
        leave(&c);
        close_ring(&r, &p);
    }
}

/* A lossless consumer's frame that lives two takes later is kept by a pin, too. */
static void
a_lossless_consumer_holds_slots_and_spares(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    shmring_hold *held[ALL];
    open_ring(&r, &p, with_spares(SLOTS, SPARES));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    for (uint64_t seq = 0; seq < ALL; seq++) {
        CHECK(!shmring_holds_too_much(&c, 1));
        put_all(&p, 1);
        held[seq] = take_seq(&c, seq);
    }
    CHECK(shmring_holds_too_much(&c, 1));
    CHECK_EQUAL(shmring_outlook(&c, 1, 0), SHMRING_HELD);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    CHECK_EQUAL(p.swaps, 0);
    for (uint64_t seq = 0; seq < ALL; seq++) {
        CHECK(holds(&c, held[seq], 0, seq));
        shmring_release(&c, held[seq]);
        put_all(&p, 1);
        read_seq(&c, ALL + seq);
    }
    CHECK_EQUAL(c.lost, 0);
    leave(&c);
    close_ring(&r, &p);
}

/* ---- several ---- */

/* Every set of pinned slots, from every start: a claim succeeds if and only if a slot is free, what is pinned
 * stays as it is, and there are swaps only where no spare is free. */
static void
any_slots_and_spares_may_be_pinned(void)
{
    for (unsigned set = 0; set < 1u << ALL; set++) {
        for (uint64_t start = 0; start < SLOTS; start++) {
            ring r;
            shmring_producer p;
            uint64_t kept[ALL] = {0, 0, 0, 0, 0, 0};
            open_ring(&r, &p, with_spares(SLOTS, SPARES));
            put_all(&p, SLOTS + start);
            for (uint64_t slot = 0; slot < ALL; slot++) {
                kept[slot] = shmring_record_at(&r.block, slot)->seq; /* still at home */
                pin_by_hand(&r, slot, (set >> slot & 1) != 0);
            }
            const uint64_t intact = check_history(&r.block);
            for (uint64_t i = 0; i < 2 * SLOTS; i++) {
                const int result = put(&p);
                CHECK_EQUAL(result, set == (1u << ALL) - 1 ? SHMRING_FULL : SHMRING_OK);
                check_permutation(&p);
                CHECK(result == SHMRING_OK ||
                      check_history(&r.block) == intact); /* FULL leaves every frame */
                for (uint64_t slot = 0; slot < SLOTS; slot++)
                    CHECK((set >> slot & 1) == 0 || frame_is(shmring_slot_at(&r.block, slot),
                                                             r.block.geometry.frame_bytes, kept[slot]));
            }
            if (__builtin_popcount(set) <= SPARES && (set >> SLOTS) == 0)
                CHECK_EQUAL(p.swaps, 0);
            close_ring(&r, &p);
        }
    }
}

static void
swaps_begin_where_all_spares_are_held(void)
{
    ring r;
    shmring_producer p;
    open_ring(&r, &p, with_spares(SLOTS, 1));
    put_all(&p, SLOTS);
    pin_by_hand(&r, 0, 1);
    pin_by_hand(&r, 1, 1);
    put_all(&p, 1);
    CHECK_EQUAL(p.swaps, 0);
    put_all(&p, 1);
    CHECK_EQUAL(p.swaps, 1);
    pin_by_hand(&r, 0, 0); /* a spare is free again */
    put_all(&p, SLOTS);
    const uint64_t swaps = p.swaps;
    put_all(&p, 4 * SLOTS);
    CHECK_EQUAL(p.swaps, swaps);
    CHECK_EQUAL(check_history(&r.block), SLOTS);
    close_ring(&r, &p);
}

/* A reader that comes too late pins a slot for an instant, and the slot may be a free spare by then. */
static void
a_spare_that_is_pinned_for_an_instant_is_passed_over(void)
{
    for (uint64_t spares = 1; spares <= SPARES; spares++) {
        ring r;
        shmring_producer p;
        open_ring(&r, &p, with_spares(SLOTS, spares));
        put_all(&p, SLOTS);
        pin_by_hand(&r, 0, 1);
        pin_by_hand(&r, SLOTS, 1); /* the spare that comes first */
        put_all(&p, 1);
        CHECK_EQUAL(p.swaps, spares == 1);
        CHECK(p.slot_of[0] != 0 && p.slot_of[0] != SLOTS);
        check_permutation(&p);
        pin_by_hand(&r, SLOTS, 0);
        put_all(&p, SLOTS);
        CHECK_EQUAL(check_history(&r.block), SLOTS);
        close_ring(&r, &p);
    }
}

/* ---- runs ---- */

static void
a_run_ends_at_a_spare_and_is_whole_again_afterwards(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c, keeper;
    take t;
    open_ring(&r, &p, with_spares(6, 1));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    join(&r, &keeper, 0, SHMRING_START_OLDEST);
    put_all(&p, 6);
    read_seq(&keeper, 0);
    read_seq(&keeper, 1);
    shmring_hold *const kept = take_seq(&keeper, 2);
    for (uint64_t seq = 0; seq < 6; seq++)
        read_seq(&c, seq);
    put_all(&p, 6); /* the frame of position 8 lies in the spare slot */
    const uint64_t counts[] = {2, 1, 3};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(shmring_take_batch(&c, 1, 6, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.count, counts[i]);
        CHECK_EQUAL(t.taken.interrupted, i < 2);
        for (uint64_t j = 0; j < counts[i]; j++)
            CHECK(holds(&c, t.taken.hold, j, t.seqs[j]));
        shmring_release(&c, t.taken.hold);
    }
    CHECK_EQUAL(c.lost, 0);
    CHECK_EQUAL(shmring_claim(&p, 6), SHMRING_OK);
    CHECK_EQUAL(p.count, 2); /* a claim of several is one piece of memory, too */
    shmring_abort(&p);
    shmring_release(&keeper, kept);
    put_all(&p, 6);
    for (uint64_t seq = 12; seq < 18; seq++)
        read_seq(&c, seq);
    CHECK_EQUAL(shmring_claim(&p, 6), SHMRING_OK);
    CHECK_EQUAL(p.count, 6);
    shmring_abort(&p);
    leave(&keeper);
    leave(&c);
    close_ring(&r, &p);
}

static void
a_window_across_a_spare_is_scattered(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        open_ring(&r, &p, with_spares(SLOTS, 1));
        put_all(&p, SLOTS);
        pin_by_hand(&r, 1, 1);
        put_all(&p, SLOTS);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
        CHECK(t.taken.scattered);
        CHECK_EQUAL(t.taken.count, 3);
        for (uint64_t i = 0; i < 3; i++) {
            CHECK_EQUAL(t.seqs[i], SLOTS + i);
            CHECK(frame_is(shmring_slot_at(&r.block, c.slots_taken[i]), r.block.geometry.frame_bytes,
                           t.seqs[i]));
        }
        CHECK_EQUAL(c.slots_taken[1], SLOTS);
        shmring_end_scattered(&c, &t.taken);
        CHECK_EQUAL(c.pinned_slots, 0);
        CHECK_EQUAL(shmring_record_at(&r.block, SLOTS)->pins, 0);
        leave(&c);
        close_ring(&r, &p);
    }
}

/* ---- records ---- */

static void
put_described(shmring_producer *p, uint8_t fill)
{
    uint8_t meta[META_BYTES];
    memset(meta, fill, sizeof meta);
    CHECK_EQUAL(shmring_claim(p, 1), SHMRING_OK);
    write_frame(p, 0);
    shmring_describe(p, 0, fill, fill % 5, meta);
    shmring_publish(p, 1);
}

static void
check_described(const shmring_entry *record, uint64_t seq, uint8_t fill)
{
    uint8_t meta[META_BYTES];
    memset(meta, fill, sizeof meta);
    CHECK_EQUAL(record->seq, seq);
    CHECK_EQUAL(record->position, seq);
    CHECK_EQUAL(record->timestamp_ns, fill);
    CHECK_EQUAL(record->rows, fill % 5);
    CHECK(memcmp(record + 1, meta, sizeof meta) == 0);
}

/* A copy of the frame of a position comes with the record of its slot, too: from memory and from the file. */
static void
check_copies(const ring *r, uint64_t position)
{
    for (int from_file = 0; from_file < 2; from_file++) {
        uint8_t copy[256];
        take t;
        CHECK_EQUAL(from_file ? shmring_look_at_frame(r->fd, &r->block.geometry, position, copy, ask(&t))
                              : shmring_copy_out(&r->block, position, copy, ask(&t)),
                    SHMRING_OK);
        CHECK_EQUAL(t.seqs[0], position);
        CHECK_EQUAL(t.timestamps[0], position);
        CHECK_EQUAL(t.rows[0], position % 5);
        CHECK_EQUAL(t.metas[0], position);
        CHECK_EQUAL(t.metas[META_BYTES - 1], position);
        CHECK(frame_is(copy, sizeof copy, position));
    }
}

static void
what_describes_a_held_frame_stays_with_it(void)
{
    for (uint64_t spares = 0; spares <= SPARES; spares++) { /* without spares: by swaps */
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        shmring_geometry g = with_spares(SLOTS, spares);
        g.meta_bytes = META_BYTES;
        g.row_bytes = 16;
        make_ring(&r, g);
        open_producer(&r, &p);
        join(&r, &c, 0, SHMRING_START_OLDEST);
        put_described(&p, 100);
        CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_OK);
        shmring_hold *const hold = t.taken.hold;
        for (uint8_t i = 1; i < 4 * SLOTS; i++) {
            put_described(&p, i);
            check_described(shmring_record_at(&r.block, hold->slot), 0, 100);
            check_copies(&r, i);
        }
        shmring_release(&c, hold);
        leave(&c);
        close_ring(&r, &p);
    }
}

/* ---- takeover ---- */

static void
a_takeover_finds_the_spares_again(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    open_ring(&r, &p, with_spares(SLOTS, SPARES));
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 2);
    shmring_hold *const first = take_seq(&c, 0), *const second = take_seq(&c, 1);
    put_all(&p, SLOTS);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
        kill_producer(&p);
        open_producer(&r, &p);
        check_permutation(&p);
        CHECK_EQUAL(check_history(&r.block), SLOTS - 1);
        put_all(&p, 3);
        CHECK(holds(&c, first, 0, 0) && holds(&c, second, 0, 1));
        CHECK_EQUAL(check_history(&r.block), SLOTS);
    }
    CHECK_EQUAL(p.swaps, 0);
    shmring_release(&c, first);
    shmring_release(&c, second);
    put_all(&p, 2 * SLOTS);
    CHECK(is_at_home(&p));
    leave(&c);
    close_ring(&r, &p);
}

/* Killed when the entry had its spare slot but no frame: the entry keeps that slot, and the parked one is
 * a spare. */
static void
an_entry_that_had_just_got_a_spare_keeps_it(void)
{
    ring r;
    shmring_producer p;
    open_ring(&r, &p, with_spares(SLOTS, SPARES));
    put_all(&p, SLOTS);
    pin_by_hand(&r, 0, 1);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    CHECK_EQUAL(entry_of(&r.block, SLOTS)->slot, SLOTS);
    kill_producer(&p);
    open_producer(&r, &p);
    check_permutation(&p);
    CHECK_EQUAL(p.slot_of[0], SLOTS);
    CHECK_EQUAL(p.entry_of[0], SLOTS);                        /* the first of the spares */
    CHECK_EQUAL(shmring_record_at(&r.block, 0)->position, 0); /* its frame is still there */
    put_all(&p, 2 * SLOTS);
    CHECK(frame_is(shmring_slot_at(&r.block, 0), 256, 0));
    CHECK_EQUAL(p.swaps, 0);
    close_ring(&r, &p);
}

/* ---- damage ---- */

static void
an_entry_may_name_a_spare_and_nothing_beyond(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    uint8_t copy[256];
    open_ring(&r, &p, with_spares(SLOTS, SPARES));
    put_all(&p, 2);
    fill_frame(shmring_slot_at(&r.block, ALL - 1), 256, 0);
    shmring_record_at(&r.block, ALL - 1)->position = 0;
    entry_of(&r.block, 0)->slot = ALL - 1;
    join(&r, &c, 0, SHMRING_START_OLDEST);
    shmring_release(&c, take_seq(&c, 0));
    entry_of(&r.block, 1)->slot = ALL;
    CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_CORRUPT);
    CHECK_EQUAL(shmring_copy_out(&r.block, 1, copy, ask(&t)), SHMRING_CORRUPT);
    CHECK_EQUAL(c.pinned_slots, 0);
    leave(&c);
    kill_producer(&p);
    const int fd = lock_file(&r);
    CHECK_EQUAL(shmring_producer_open(&p, &r.block, fd), SHMRING_CORRUPT);
    close(fd);
    end_ring(&r);
}

const test spare_tests[] = {
    TEST(a_held_frame_costs_no_swap_and_no_other_frame),
    TEST(a_lossless_consumer_holds_slots_and_spares),
    TEST(any_slots_and_spares_may_be_pinned),
    TEST(swaps_begin_where_all_spares_are_held),
    TEST(a_spare_that_is_pinned_for_an_instant_is_passed_over),
    TEST(a_run_ends_at_a_spare_and_is_whole_again_afterwards),
    TEST(a_window_across_a_spare_is_scattered),
    TEST(what_describes_a_held_frame_stays_with_it),
    TEST(a_takeover_finds_the_spares_again),
    TEST(an_entry_that_had_just_got_a_spare_keeps_it),
    TEST(an_entry_may_name_a_spare_and_nothing_beyond),
    LAST_TEST,
};
