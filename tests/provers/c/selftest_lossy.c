/* SPDX-License-Identifier: Apache-2.0
 *
 * Lossy reads: pin, then look again; lapped, and what was lost.
 */
#include "selftest.h"

static uint64_t
pins_of(const ring *r, uint64_t slot)
{
    return shmring_entry_at(&r->block, slot)->pins;
}

static void
a_lapped_consumer_goes_on_with_the_oldest_left(void)
{
    for (uint64_t ahead = 1; ahead < 30; ahead++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(4));
        open_producer(&r, &p);
        join(&r, &c, 0, SHMRING_START_OLDEST);
        put_all(&p, ahead);
        const uint64_t oldest = ahead > 4 ? ahead - 4 : 0;
        for (uint64_t seq = oldest; seq < ahead; seq++) {
            read_seq(&c, seq);
            CHECK_EQUAL(c.lost, oldest);
        }
        CHECK(is_empty(&c));
        CHECK_EQUAL(c.delivered, ahead - oldest);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
drops_and_laps_are_both_lost(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 2);
    read_seq(&c, 0);
    shmring_drop(&p, 3);
    put_all(&p, 5); /* positions 2 to 6, seqs 5 to 9; seq 1 and 5 are overwritten */
    CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], 6);
    CHECK_EQUAL(t.taken.lost, 5);
    CHECK_EQUAL(c.lost, 5);
    shmring_release(&c, t.taken.hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
the_entry_being_written_is_passed_over(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 4);
    CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK); /* entries of positions 0 and 1 */
    read_seq(&c, 2);
    CHECK_EQUAL(c.lost, 2);
    CHECK_EQUAL(pins_of(&r, 0) | pins_of(&r, 1), 0);
    read_seq(&c, 3);
    CHECK(is_empty(&c));
    shmring_abort(&p);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Everything from next to head may be gone: after an abort, or swapped away. */
static void
gaps_in_the_history_are_passed_over(void)
{
    for (unsigned gone = 0; gone < 16; gone++) { /* every set of frames */
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(4));
        open_producer(&r, &p);
        join(&r, &c, 0, SHMRING_START_OLDEST);
        put_all(&p, 4);
        uint64_t left = 0;
        for (uint64_t seq = 0; seq < 4; seq++) {
            if (gone >> seq & 1)
                entry_of(&r.block, seq)->stamp = 0;
            else
                left++;
        }
        for (uint64_t seq = 0; seq < 4; seq++)
            if ((gone >> seq & 1) == 0)
                read_seq(&c, seq);
        CHECK(is_empty(&c));
        CHECK_EQUAL(c.delivered, left);
        CHECK_EQUAL(c.next, 4);
        put_all(&p, 1);
        read_seq(&c, 4);
        CHECK_EQUAL(c.lost, 4 - left);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* The consumer's steps by hand. The producer comes after the pin: it must leave the slot alone. */
static void
a_pin_before_the_mark_keeps_the_frame(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 4);
    c.head = 4;
    CHECK_EQUAL(shmring_collect(&c, 1, 0, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(pins_of(&r, 0), c.bit);
    put_all(&p, 3);
    CHECK(frame_is(shmring_slot_at(&r.block, 0), 256, 0));
    CHECK(entry_of(&r.block, 0)->slot != 0);
    check_permutation(&p);
    shmring_unpin(&c, 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* The producer comes between the first look at the stamp and the pin: the second look finds out. */
static void
a_mark_before_the_pin_is_noticed(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 4);
    c.head = 4;
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    shmring_pin(&c, 0); /* too late: the slot is the producer's */
    CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], 1);
    write_frame(&p, 0);
    shmring_publish(&p, 1);
    shmring_unpin(&c, 0);
    shmring_release(&c, t.taken.hold);
    CHECK_EQUAL(check_history(&r.block), 4);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* What a late pin costs a producer that passes by: at most a swap. */
static void
a_pin_on_nothing_stalls_nobody(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    put_all(&p, 4);
    for (uint64_t i = 0; i < 12; i++) {
        CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
        shmring_entry_at(&r.block, p.slot)->pins = 2; /* after the producer looked */
        write_frame(&p, 0);
        shmring_publish(&p, 1);
        shmring_entry_at(&r.block, p.slot)->pins = 0;
        check_permutation(&p);
        check_history(&r.block);
    }
    close_producer(&p);
    end_ring(&r);
}

static void
a_batch_is_cut_where_the_frames_are_gone(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 8);
    entry_of(&r.block, 3)->stamp = 0;
    CHECK_EQUAL(shmring_take_batch(&c, 1, 8, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.taken.count, 3);
    shmring_release(&c, t.taken.hold);
    CHECK_EQUAL(shmring_take_batch(&c, 1, 8, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.taken.count, 4);
    CHECK_EQUAL(t.seqs[0], 4);
    CHECK_EQUAL(t.taken.lost, 1);
    CHECK_EQUAL(c.pinned_slots, 4);
    shmring_release(&c, t.taken.hold);
    CHECK_EQUAL(c.pinned_slots, 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* A window is whole or not at all: it starts again after the gap. */
static void
a_window_starts_anew_after_a_gap(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 7);
    entry_of(&r.block, 2)->stamp = 0;
    CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], 3);
    CHECK_EQUAL(t.taken.lost, 3); /* 0 and 1 were there, but in no whole window */
    CHECK_EQUAL(c.pinned_slots, 3);
    shmring_release(&c, t.taken.hold);
    CHECK_EQUAL(pins_of(&r, 0) | pins_of(&r, 1), 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_held_frame_survives_any_number_of_laps(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    shmring_hold *held[3];
    uint64_t seqs[3];
    for (unsigned i = 0; i < 3; i++) {
        put_all(&p, 7);
        seqs[i] = p.next_seq - 1;
        shmring_seek(&c, p.head - 1);
        held[i] = take_seq(&c, seqs[i]);
    }
    put_all(&p, 50); /* on the one slot that is left */
    for (unsigned i = 0; i < 3; i++) {
        CHECK(holds(&c, held[i], 0, seqs[i]));
        CHECK_EQUAL(pins_of(&r, held[i]->slot), c.bit);
    }
    read_seq(&c, p.next_seq - 1);
    for (unsigned i = 0; i < 3; i++)
        shmring_release(&c, held[i]);
    put_all(&p, 8);
    CHECK_EQUAL(check_history(&r.block), 4);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
pins_of_several_consumers_add_up(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a, b;
    make_ring(&r, page_slots(3));
    open_producer(&r, &p);
    join(&r, &a, 0, SHMRING_START_OLDEST);
    join(&r, &b, 0, SHMRING_START_OLDEST);
    put_all(&p, 3);
    shmring_hold *const first = take_seq(&a, 0);
    shmring_hold *const second = take_seq(&b, 0);
    CHECK_EQUAL(pins_of(&r, 0), a.bit | b.bit);
    put_all(&p, 5);
    shmring_release(&a, first);
    CHECK_EQUAL(pins_of(&r, 0), b.bit);
    put_all(&p, 5);
    CHECK(holds(&b, second, 0, 0));
    shmring_release(&b, second);
    CHECK_EQUAL(pins_of(&r, 0), 0);
    leave(&b);
    leave(&a);
    close_producer(&p);
    end_ring(&r);
}

const test lossy_tests[] = {
    TEST(a_lapped_consumer_goes_on_with_the_oldest_left),
    TEST(drops_and_laps_are_both_lost),
    TEST(the_entry_being_written_is_passed_over),
    TEST(gaps_in_the_history_are_passed_over),
    TEST(a_pin_before_the_mark_keeps_the_frame),
    TEST(a_mark_before_the_pin_is_noticed),
    TEST(a_pin_on_nothing_stalls_nobody),
    TEST(a_batch_is_cut_where_the_frames_are_gone),
    TEST(a_window_starts_anew_after_a_gap),
    TEST(a_held_frame_survives_any_number_of_laps),
    TEST(pins_of_several_consumers_add_up),
    LAST_TEST,
};
