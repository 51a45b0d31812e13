/* SPDX-License-Identifier: Apache-2.0
 *
 * Joining, at every start and beside every step of the producer, and leaving.
 */
#include "selftest.h"

enum { SLOTS = 4 };

static uint64_t
oldest_allowed(const ring *r)
{
    const uint64_t claimed = r->block.hot->claimed;
    return claimed > r->block.geometry.slots ? claimed - r->block.geometry.slots : 0;
}

/* Joins, checks where, and reads everything up to head. */
static void
check_start(ring *r, int lossless, int start, uint64_t wanted)
{
    shmring_consumer c;
    join(r, &c, lossless, start);
    CHECK_EQUAL(c.next, wanted);
    CHECK(c.next >= oldest_allowed(r));
    CHECK_EQUAL(r->block.table[c.place].cursor, wanted);
    for (uint64_t position = wanted; position < r->block.hot->head; position++)
        read_seq(&c, entry_of(&r->block, position)->seq);
    CHECK(is_empty(&c));
    CHECK_EQUAL(c.lost, 0); /* what was before it joined is not lost for it */
    CHECK_EQUAL(c.delivered, r->block.hot->head - wanted);
    leave(&c);
}

static void
a_newcomer_starts_where_it_asked_to(void)
{
    for (uint64_t head = 0; head < 3 * SLOTS; head++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, head);
        for (int lossless = 0; lossless < 2; lossless++) {
            check_start(&r, lossless, SHMRING_START_OLDEST, head > SLOTS ? head - SLOTS : 0);
            check_start(&r, lossless, SHMRING_START_NEWEST, head > 0 ? head - 1 : 0);
            check_start(&r, lossless, SHMRING_START_NEXT, head);
        }
        close_producer(&p);
        end_ring(&r);
    }
}

/* Every set of frames that may be missing from the history: it starts after the last gap. */
static void
a_newcomer_starts_after_the_last_gap(void)
{
    for (unsigned gone = 0; gone < 1u << SLOTS; gone++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, 10);
        uint64_t first = 6;
        for (uint64_t i = 0; i < SLOTS; i++) {
            if (gone >> i & 1) {
                entry_of(&r.block, 6 + i)->stamp = 0;
                first = 6 + i + 1;
            }
        }
        for (int lossless = 0; lossless < 2; lossless++) {
            check_start(&r, lossless, SHMRING_START_OLDEST, first);
            check_start(&r, lossless, SHMRING_START_NEWEST, first < 9 ? 9 : first);
            check_start(&r, lossless, SHMRING_START_NEXT, 10);
        }
        close_producer(&p);
        end_ring(&r);
    }
}

/* Marked but not published, then somebody joins: it sees the mark. */
static void
a_newcomer_starts_after_what_is_being_written(void)
{
    for (uint64_t batch = 1; batch <= SLOTS; batch++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, 9);
        CHECK_EQUAL(shmring_claim(&p, batch), SHMRING_OK);
        CHECK_EQUAL(p.count, batch);
        for (int lossless = 0; lossless < 2; lossless++)
            check_start(&r, lossless, SHMRING_START_OLDEST, 9 + batch - SLOTS);
        shmring_abort(&p);
        for (int lossless = 0; lossless < 2; lossless++) /* `claimed` stays, and so does the rule */
            check_start(&r, lossless, SHMRING_START_OLDEST, 9 + batch - SLOTS);
        close_producer(&p);
        end_ring(&r);
    }
}

/* A claim that got fewer than it asked for put the stamps back. It might be only about to. */
static void
a_newcomer_starts_after_what_was_claimed(void)
{
    for (uint64_t claimed = 9; claimed <= 9 + SLOTS; claimed++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, 9);
        r.block.hot->claimed = claimed;
        for (int lossless = 0; lossless < 2; lossless++)
            check_start(&r, lossless, SHMRING_START_OLDEST, claimed - SLOTS);
        close_producer(&p);
        end_ring(&r);
    }
}

/* The other way round: it joins before the mark, and the producer looks after its fence. */
static void
a_producer_that_marks_after_a_join_holds_back(void)
{
    for (uint64_t batch = 1; batch <= SLOTS; batch++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, 9);
        CHECK_EQUAL(p.limit, UINT64_MAX);
        join(&r, &c, 1, SHMRING_START_OLDEST);
        read_seq(&c, 5);
        CHECK_EQUAL(shmring_claim(&p, batch), SHMRING_OK);
        CHECK_EQUAL(p.count, 1); /* 6 to 8 are unread */
        shmring_abort(&p);
        for (uint64_t seq = 6; seq < 9; seq++)
            read_seq(&c, seq);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* Between the marks of a batch: the first entry is marked and checked, then somebody joins, then the
 * others are marked. The claim shrinks to what the newcomer does not need. */
static void
a_newcomer_between_two_marks_shortens_the_claim(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, 9);
    shmring_rescan(&p);
    shmring_mark_writing(&p, 0, 1);
    CHECK_EQUAL(shmring_secure_slot(&p), SHMRING_OK);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(c.next, 6);
    shmring_mark_writing(&p, 1, 4);
    CHECK_EQUAL(shmring_count_run(&p, 4), 1);
    shmring_restore_stamps(&p, 1, 4);
    p.count = 1;
    p.slot = p.slot_of[p.index];
    write_frame(&p, 0);
    shmring_publish(&p, 1);
    for (uint64_t seq = 6; seq < 10; seq++)
        read_seq(&c, seq);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_provisional_cursor_holds_the_producer_back(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, 9);
    shmring_place *const row = &r.block.table[2]; /* as join leaves it before its fence */
    row->cursor = shmring_guess_start(r.block.hot, SLOTS, SHMRING_START_OLDEST);
    row->state = SHMRING_PLACE_LOSSLESS;
    r.block.hot->active = 4;
    r.block.hot->join_count++;
    CHECK_EQUAL(row->cursor, 5);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    row->cursor = shmring_guess_start(r.block.hot, SLOTS, SHMRING_START_NEXT);
    CHECK_EQUAL(row->cursor, 9);
    put_all(&p, 4);
    CHECK_EQUAL(shmring_guess_start(r.block.hot, SLOTS, SHMRING_START_NEWEST), 12);
    row->state = SHMRING_PLACE_JOINING; /* not yet: it gates nothing */
    put_all(&p, 1);
    close_producer(&p);
    end_ring(&r);
}

/* D2: next_seq is stored before head, so a newcomer may see it ahead of the frame that it starts with. */
static void
a_newcomer_inside_a_publish_loses_nothing(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, 5);
        r.block.hot->next_seq = 7; /* two publishes ahead of the head that it sees */
        join(&r, &c, lossless, SHMRING_START_NEXT);
        put_all(&p, 1);
        shmring_drop(&p, 1);
        put_all(&p, 1);
        read_seq(&c, 5);
        read_seq(&c, 7);
        CHECK_EQUAL(c.delivered, 2);
        CHECK_EQUAL(c.lost, 1);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
a_drop_before_the_first_frame_counts_from_the_join_on(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer before, after;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, 2);
    join(&r, &before, 1, SHMRING_START_NEXT);
    shmring_drop(&p, 3);
    join(&r, &after, 1, SHMRING_START_NEXT);
    put_all(&p, 1);
    read_seq(&before, 5);
    read_seq(&after, 5);
    CHECK_EQUAL(before.lost, 3);
    CHECK_EQUAL(after.lost, 0);
    leave(&after);
    leave(&before);
    close_producer(&p);
    end_ring(&r);
}

/* ---- places ---- */

static void
a_place_tells_who_has_it(void)
{
    static const char label[] = "a label that is longer than the sixty-three bytes which there is room for";
    ring r;
    shmring_consumer c;
    make_ring(&r, page_slots(SLOTS));
    const int fd = lock_file(&r), other = lock_file(&r);
    for (uint64_t owners = 1; owners < 4; owners++) {
        const uint64_t epoch = r.block.hot->join_count;
        CHECK_EQUAL(shmring_join(&c, &r.block, fd, owners % 2, SHMRING_START_OLDEST, label), SHMRING_OK);
        const shmring_place *const row = &r.block.table[0];
        CHECK_EQUAL(c.place, 0);
        CHECK_EQUAL(row->state, owners << 8 | (owners % 2 ? SHMRING_PLACE_LOSSLESS : SHMRING_PLACE_LOSSY));
        CHECK_EQUAL(row->pid, getpid());
        CHECK_EQUAL(row->start_time, shmring_own_start_time());
        CHECK(row->joined_ns > 0);
        CHECK_EQUAL(strlen(row->label), 63);
        CHECK(memcmp(row->label, label, 63) == 0);
        CHECK_EQUAL(r.block.hot->active, 1);
        CHECK_EQUAL(r.block.hot->join_count, epoch + 1);
        CHECK(shmring_lock_held(other, SHMRING_LOCK_PLACE(0)));
        shmring_leave(&c);
        CHECK_EQUAL(row->state, owners << 8 | SHMRING_PLACE_FREE);
        CHECK_EQUAL(r.block.hot->active, 0);
        CHECK(!shmring_lock_held(other, SHMRING_LOCK_PLACE(0)));
    }
    close(fd);
    close(other);
    end_ring(&r);
}

static void
sixty_four_consumers_have_room_and_no_more(void)
{
    enum { MOST = SHMRING_MAX_CONSUMERS };
    static shmring_consumer all[MOST];
    shmring_consumer late;
    ring r;
    shmring_producer p;
    shmring_geometry g = page_slots(6);
    g.consumers = MOST;
    make_ring(&r, g);
    open_producer(&r, &p);
    for (unsigned i = 0; i < MOST; i++) {
        join(&r, &all[i], i % 3 != 0, SHMRING_START_OLDEST);
        CHECK_EQUAL(all[i].place, i);
    }
    CHECK_EQUAL(r.block.hot->active, UINT64_MAX);
    CHECK_EQUAL(shmring_active_consumers(&r.block), MOST);
    const int fd = lock_file(&r);
    CHECK_EQUAL(shmring_join(&late, &r.block, fd, 1, SHMRING_START_OLDEST, ""), SHMRING_NO_PLACE);
    put_all(&p, 6);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    shmring_hold *held[MOST];
    for (unsigned i = 0; i < MOST; i++)
        held[i] = take_seq(&all[i], 0);
    for (unsigned i = 0; i < MOST; i++) {
        CHECK_EQUAL(put(&p), SHMRING_FULL); /* the last one is the gate */
        if (all[i].lossless)
            shmring_stop_lagging(&all[i]);
    }
    CHECK_EQUAL(shmring_entry_at(&r.block, 0)->pins, UINT64_MAX);
    for (unsigned i = 0; i < MOST; i++) {
        CHECK(holds(&all[i], held[i], 0, 0));
        shmring_release(&all[i], held[i]);
    }
    CHECK_EQUAL(put(&p), SHMRING_OK);
    leave(&all[40]);
    CHECK_EQUAL(shmring_join(&late, &r.block, fd, 1, SHMRING_START_OLDEST, ""), SHMRING_OK);
    CHECK_EQUAL(late.place, 40);
    leave(&late);
    for (unsigned i = 0; i < MOST; i++)
        if (i != 40)
            leave(&all[i]);
    CHECK_EQUAL(r.block.hot->active, 0);
    put_all(&p, 10);
    close_producer(&p);
    end_ring(&r);
}

/* ---- leaving ---- */

static void
who_left_gates_nothing(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, SLOTS);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    leave(&c);
    put_all(&p, 1);
    CHECK_EQUAL(p.limit, UINT64_MAX);
    close_producer(&p);
    end_ring(&r);
}

static void
who_leaves_with_frames_keeps_place_and_frames(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c, other;
        make_ring(&r, page_slots(6));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 6);
        shmring_hold *hold[4];
        for (unsigned i = 0; i < 4; i++)
            hold[i] = take_seq(&c, i);
        shmring_release(&c, hold[2]);
        shmring_leave_holding(&c);
        CHECK(c.left);
        CHECK_EQUAL(r.block.table[0].state & 0xff, SHMRING_PLACE_LEFT);
        CHECK_EQUAL(r.block.hot->active, 0);
        put_all(&p, 40); /* on the three slots that are left */
        const int fd = lock_file(&r);
        CHECK_EQUAL(shmring_reap_all(&r.block, fd), 0); /* it lives */
        close(fd);
        join(&r, &other, 1, SHMRING_START_NEXT);
        CHECK_EQUAL(other.place, 1); /* the place is not free yet */
        leave(&other);
        for (unsigned i = 0; i < 4; i++) {
            if (i == 2)
                continue;
            CHECK(holds(&c, hold[i], 0, i));
            shmring_release(&c, hold[i]);
        }
        leave(&c);
        CHECK_EQUAL(r.block.table[0].state & 0xff, SHMRING_PLACE_FREE);
        put_all(&p, 12);
        CHECK_EQUAL(check_history(&r.block), 6);
        close_producer(&p);
        end_ring(&r);
    }
}

const test join_tests[] = {
    TEST(a_newcomer_starts_where_it_asked_to),
    TEST(a_newcomer_starts_after_the_last_gap),
    TEST(a_newcomer_starts_after_what_is_being_written),
    TEST(a_newcomer_starts_after_what_was_claimed),
    TEST(a_producer_that_marks_after_a_join_holds_back),
    TEST(a_newcomer_between_two_marks_shortens_the_claim),
    TEST(a_provisional_cursor_holds_the_producer_back),
    TEST(a_newcomer_inside_a_publish_loses_nothing),
    TEST(a_drop_before_the_first_frame_counts_from_the_join_on),
    TEST(a_place_tells_who_has_it),
    TEST(sixty_four_consumers_have_room_and_no_more),
    TEST(who_left_gates_nothing),
    TEST(who_leaves_with_frames_keeps_place_and_frames),
    LAST_TEST,
};
