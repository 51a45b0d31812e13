/* SPDX-License-Identifier: Apache-2.0
 *
 * Holds of a lossless consumer: the cursor that lags behind two of them, and the pins of the others.
 */
#include "selftest.h"

static uint64_t
pins_of(const ring *r, uint64_t slot)
{
    return shmring_entry_at(&r->block, slot)->pins;
}

/* The cursor that the producer sees. */
static uint64_t
cursor_of(const ring *r, const shmring_consumer *c)
{
    const uint64_t cursor = r->block.table[c->place].cursor;
    CHECK_EQUAL(cursor, c->cursor);
    return cursor;
}

static uint64_t
all_pins(const ring *r)
{
    uint64_t pins = 0;
    for (uint64_t slot = 0; slot < r->block.geometry.slots; slot++)
        pins |= pins_of(r, slot);
    return pins;
}

/* A plain loop still has the last frame when it asks for the next one: no pin, ever. */
static void
a_plain_loop_sets_no_pins(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    shmring_hold *last = NULL;
    for (uint64_t seq = 0; seq < 20; seq++) {
        put_all(&p, 1);
        shmring_hold *const hold = take_seq(&c, seq);
        if (last != NULL) {
            CHECK_EQUAL(cursor_of(&r, &c), seq - 1); /* it lags by the one that is still bound */
            CHECK(holds(&c, last, 0, seq - 1));
            shmring_release(&c, last);
        }
        CHECK_EQUAL(cursor_of(&r, &c), seq);
        CHECK_EQUAL(all_pins(&r), 0);
        last = hold;
    }
    shmring_release(&c, last);
    CHECK_EQUAL(cursor_of(&r, &c), 20);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
what_lives_two_takes_later_is_pinned(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(6));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 6);
    shmring_hold *const first = take_seq(&c, 0);
    CHECK(c.newer == first && c.older == NULL);
    shmring_hold *const second = take_seq(&c, 1);
    CHECK(c.newer == second && c.older == first);
    CHECK_EQUAL(cursor_of(&r, &c), 0);
    CHECK_EQUAL(all_pins(&r), 0);
    shmring_hold *const third = take_seq(&c, 2);
    CHECK(c.newer == third && c.older == second);
    CHECK_EQUAL(pins_of(&r, 0), c.bit);
    CHECK_EQUAL(pins_of(&r, 1) | pins_of(&r, 2), 0);
    CHECK_EQUAL(cursor_of(&r, &c), 1);
    CHECK_EQUAL(put(&p), SHMRING_FULL); /* one slot pinned, two behind the cursor, three unread */
    CHECK(holds(&c, first, 0, 0));
    shmring_release(&c, first);
    CHECK_EQUAL(all_pins(&r), 0);
    put_all(&p, 1);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    shmring_release(&c, second);
    CHECK_EQUAL(cursor_of(&r, &c), 2);
    shmring_release(&c, third);
    CHECK_EQUAL(cursor_of(&r, &c), 3);
    CHECK_EQUAL(c.held, 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* B13: what is older and still alive when the newer one goes is kept for longer. */
static void
the_older_one_is_pinned_when_the_newer_one_goes(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 4);
    shmring_hold *const older = take_seq(&c, 0);
    shmring_release(&c, take_seq(&c, 1));
    CHECK(older->pinned);
    CHECK_EQUAL(pins_of(&r, 0), c.bit);
    CHECK_EQUAL(cursor_of(&r, &c), 2);
    CHECK_EQUAL(put(&p), SHMRING_OK);
    CHECK(holds(&c, older, 0, 0));
    shmring_release(&c, older);
    CHECK_EQUAL(all_pins(&r), 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Every order of releasing four holds: each frame is whole until its own release, nothing is left over. */
static void
holds_may_end_in_any_order(void)
{
    for (unsigned order = 0; order < 256; order++) {
        const unsigned turn[4] = {order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6 & 3};
        unsigned seen = 0;
        for (unsigned i = 0; i < 4; i++)
            seen |= 1u << turn[i];
        if (seen != 15)
            continue;
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(6));
        open_producer(&r, &p);
        join(&r, &c, 1, SHMRING_START_OLDEST);
        put_all(&p, 6);
        shmring_hold *hold[4];
        for (unsigned i = 0; i < 4; i++)
            hold[i] = take_seq(&c, i);
        for (unsigned i = 0; i < 4; i++) {
            shmring_release(&c, hold[turn[i]]);
            while (put(&p) == SHMRING_OK)
                continue;
            for (unsigned later = i + 1; later < 4; later++)
                CHECK(holds(&c, hold[turn[later]], 0, turn[later]));
            check_permutation(&p);
        }
        CHECK_EQUAL(cursor_of(&r, &c), 4);
        CHECK_EQUAL(p.head, 4 + 6); /* every slot is usable again */
        CHECK_EQUAL(all_pins(&r) | c.held | c.pinned_slots, 0);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
a_held_batch_is_kept_whole(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(6));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 4);
    for (uint64_t seq = 0; seq < 4; seq++)
        read_seq(&c, seq);
    put_all(&p, 6);
    CHECK_EQUAL(shmring_take_batch(&c, 4, 4, ask(&t)), SHMRING_OK); /* across the wrap */
    shmring_hold *const batch = t.taken.hold;
    CHECK_EQUAL(batch->slot, 4);
    read_seq(&c, 8); /* pins it */
    CHECK_EQUAL(c.pinned_slots, 4);
    read_seq(&c, 9);
    for (uint64_t i = 0; i < 20; i++) {
        CHECK_EQUAL(put(&p), SHMRING_OK);
        read_seq(&c, 10 + i);
        for (uint64_t j = 0; j < 4; j++)
            CHECK(holds(&c, batch, j, 4 + j));
    }
    shmring_release(&c, batch);
    CHECK_EQUAL(all_pins(&r), 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Windows overlap: a slot of two holds keeps its pin until both are gone. */
static void
a_slot_of_two_holds_is_pinned_until_both_are_gone(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 6);
        shmring_hold *hold[4];
        for (uint64_t i = 0; i < 4; i++) {
            CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
            hold[i] = t.taken.hold;
        }
        CHECK_EQUAL(c.held, 12);
        CHECK_EQUAL(c.pinned_slots, lossless ? 4 : 6); /* the last two windows only lag */
        shmring_release(&c, hold[0]);
        CHECK_EQUAL(pins_of(&r, 0), 0);
        CHECK_EQUAL(pins_of(&r, 1), c.bit);
        shmring_release(&c, hold[1]);
        shmring_release(&c, hold[3]);
        for (unsigned i = 0; i < 30; i++)
            put(&p); /* as far as it gets */
        for (uint64_t i = 0; i < 3; i++)
            CHECK(holds(&c, hold[2], i, 2 + i));
        shmring_release(&c, hold[2]);
        CHECK_EQUAL(all_pins(&r) | c.pinned_slots | c.held, 0);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* B25: the lagging cursor must not keep what a jump passed over. */
static void
a_jump_gives_back_what_it_passes_over(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 1);
    shmring_hold *const first = take_seq(&c, 0);
    put_all(&p, 7);
    CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_OK);
    put_all(&p, 6); /* two of eight slots are held */
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    CHECK(holds(&c, first, 0, 0));
    CHECK(holds(&c, t.taken.hold, 0, 7));
    shmring_release(&c, t.taken.hold);
    shmring_release(&c, first);
    put_all(&p, 2);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Windows that leave frames out: a held one costs its own slots. */
static void
a_window_held_before_a_jump_costs_its_own_slots(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 8);
    CHECK_EQUAL(shmring_take_window(&c, 2, 12, ask(&t)), SHMRING_OK);
    shmring_hold *const window = t.taken.hold;
    CHECK_EQUAL(c.next, 12);
    CHECK(is_empty(&c));
    CHECK(!shmring_holds_too_much(&c, 2));
    put_all(&p, 6); /* up to position 14, with two slots held */
    CHECK_EQUAL(shmring_take_window(&c, 2, 12, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], 12);
    for (uint64_t i = 0; i < 2; i++)
        CHECK(holds(&c, window, i, i));
    shmring_release(&c, window);
    shmring_release(&c, t.taken.hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* ---- holding too much ---- */

static void
a_consumer_knows_when_it_waits_for_itself(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        for (uint64_t slots = 2; slots < 7; slots++) {
            ring r;
            shmring_producer p;
            shmring_consumer c;
            shmring_hold *held[8];
            make_ring(&r, page_slots(slots));
            open_producer(&r, &p);
            join(&r, &c, lossless, SHMRING_START_OLDEST);
            c.max_held = lossless ? UINT64_MAX : slots;
            for (uint64_t seq = 0; seq < slots; seq++) {
                CHECK(!shmring_holds_too_much(&c, 1));
                CHECK_EQUAL(put(&p), SHMRING_OK);
                held[seq] = take_seq(&c, seq);
            }
            CHECK(shmring_holds_too_much(&c, 1));
            CHECK_EQUAL(put(&p), SHMRING_FULL);
            shmring_release(&c, held[slots - 1]); /* any one */
            CHECK(!shmring_holds_too_much(&c, 1));
            CHECK_EQUAL(shmring_holds_too_much(&c, 2), 1);
            CHECK_EQUAL(put(&p), SHMRING_OK);
            read_seq(&c, slots);
            for (uint64_t seq = 0; seq + 1 < slots; seq++) {
                CHECK(holds(&c, held[seq], 0, seq));
                shmring_release(&c, held[seq]);
            }
            CHECK(!shmring_holds_too_much(&c, slots));
            CHECK(shmring_holds_too_much(&c, slots + 1));
            leave(&c);
            close_producer(&p);
            end_ring(&r);
        }
    }
}

/* Frames that are both held and still to be read (windows overlap) need one slot, not two. */
static void
overlapping_windows_need_each_slot_once(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 4);
    shmring_hold *hold[2];
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
        hold[i] = t.taken.hold;
    }
    CHECK(shmring_holds_too_much(&c, 3)); /* 0 to 3 are held, 2 to 4 are asked for */
    shmring_release(&c, hold[0]);
    CHECK(!shmring_holds_too_much(&c, 3));
    CHECK_EQUAL(put(&p), SHMRING_OK);
    CHECK_EQUAL(shmring_take_window(&c, 3, 1, ask(&t)), SHMRING_OK);
    shmring_release(&c, t.taken.hold);
    shmring_release(&c, hold[1]);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

const test hold_tests[] = {
    TEST(a_plain_loop_sets_no_pins),
    TEST(what_lives_two_takes_later_is_pinned),
    TEST(the_older_one_is_pinned_when_the_newer_one_goes),
    TEST(holds_may_end_in_any_order),
    TEST(a_held_batch_is_kept_whole),
    TEST(a_slot_of_two_holds_is_pinned_until_both_are_gone),
    TEST(a_jump_gives_back_what_it_passes_over),
    TEST(a_window_held_before_a_jump_costs_its_own_slots),
    TEST(a_consumer_knows_when_it_waits_for_itself),
    TEST(overlapping_windows_need_each_slot_once),
    LAST_TEST,
};
