/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups: who gets a frame, what a dead member leaves to the others, and what a takeover forgets.
 */
#include "selftest.h"

static void
join_group(ring *r, shmring_consumer *c, const char *name, int start)
{
    CHECK_EQUAL(shmring_join_group(c, &r->block, lock_file(r), name, 0, start, "test"), SHMRING_OK);
}

static uint64_t *
owner_of(ring *r, uint64_t slot, const shmring_consumer *c)
{
    return shmring_owner_at(&r->block, slot, c->group);
}

static void
each_frame_goes_to_one_member(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a, b;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    join_group(&r, &b, "workers", SHMRING_START_OLDEST);
    CHECK_EQUAL(a.group, b.group);
    for (uint64_t seq = 0; seq < 20; seq += 2) {
        put_all(&p, 2);
        read_seq(&b, seq);
        read_seq(&a, seq + 1);
    }
    take t;
    CHECK_EQUAL(shmring_take_one(&a, ask(&t)), SHMRING_EMPTY);
    leave(&a);
    leave(&b);
    close_producer(&p);
    end_ring(&r);
}

static void
what_a_dead_member_had_comes_again_once(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a, b;
    take t;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    join_group(&r, &b, "workers", SHMRING_START_OLDEST);
    put_all(&p, 3);
    free(take_seq(&a, 0));
    free(take_seq(&a, 1));
    kill_consumer(&a);
    CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 1);
    for (uint64_t seq = 0; seq < 2; seq++) {
        CHECK_EQUAL(shmring_take_one(&b, ask(&t)), SHMRING_OK);
        CHECK(t.taken.redelivered);
        CHECK_EQUAL(t.seqs[0], seq);
        CHECK(holds(&b, t.taken.hold, 0, seq));
        shmring_release(&b, t.taken.hold);
    }
    read_seq(&b, 2);
    CHECK_EQUAL(shmring_take_one(&b, ask(&t)), SHMRING_EMPTY);
    leave(&b);
    close_producer(&p);
    end_ring(&r);
}

/* A member that was away between its looks at a stamp and at the slot finds there a frame that is older, and that
 * another member holds, or held when it died: a swap gave the entry that slot. */
static void
a_late_look_takes_away_no_older_frame(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer late, holder, other;
    take t;
    make_ring(&r, page_slots(2));
    open_producer(&r, &p);
    join_group(&r, &late, "workers", SHMRING_START_OLDEST);
    join_group(&r, &holder, "workers", SHMRING_START_OLDEST);
    join_group(&r, &other, "workers", SHMRING_START_OLDEST);
    put_all(&p, 2);
    shmring_hold *const hold = take_seq(&holder, 0);
    read_seq(&other, 1);
    put_all(&p, 1);
    CHECK_EQUAL(entry_of(&r.block, 1)->slot, hold->slot);
    CHECK_EQUAL(shmring_own(&late, hold->slot, 1), 0);
    CHECK_EQUAL(*owner_of(&r, hold->slot, &holder),
                shmring_owner_word(0, SHMRING_OWNER_PLACE + holder.place));
    for (uint64_t seq = 2; seq < 6; seq++) {
        read_seq(&other, seq);
        put_all(&p, 1);
    }
    CHECK(holds(&holder, hold, 0, 0));
    kill_consumer(&holder);
    CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 1);
    CHECK_EQUAL(shmring_own(&late, hold->slot, 1), 0);
    free(hold);
    CHECK_EQUAL(shmring_take_one(&late, ask(&t)), SHMRING_OK);
    CHECK(t.taken.redelivered);
    CHECK_EQUAL(t.seqs[0], 0);
    shmring_release(&late, t.taken.hold);
    leave(&late);
    leave(&other);
    close_producer(&p);
    end_ring(&r);
}

/* Four groups of different names fit, a fifth does not; one that has ended makes room. */
static void
four_groups_and_no_fifth(void)
{
    ring r;
    shmring_consumer c[SHMRING_MAX_GROUPS], more;
    shmring_geometry g = page_slots(4);
    g.consumers = SHMRING_MAX_GROUPS + 1;
    make_ring(&r, g);
    const char *const names[] = {"a", "b", "c", "d"};
    for (unsigned i = 0; i < SHMRING_MAX_GROUPS; i++)
        join_group(&r, &c[i], names[i], SHMRING_START_NEXT);
    const int fd = lock_file(&r);
    CHECK_EQUAL(shmring_join_group(&more, &r.block, fd, "e", 0, SHMRING_START_NEXT, "test"),
                SHMRING_NO_GROUP);
    close(fd);
    leave(&c[1]);
    join_group(&r, &more, "e", SHMRING_START_NEXT);
    CHECK_EQUAL(more.group, c[1].group);
    leave(&more);
    leave(&c[0]);
    leave(&c[2]);
    leave(&c[3]);
    end_ring(&r);
}

/* A word that an ended group left on the slot must not keep the record of a frame that was never published. */
static void
a_takeover_forgets_records_under_words_left_over(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    write_frame(&p, 0);
    const uint64_t slot = p.slot_of[0];
    shmring_record_at(&r.block, slot)->position = 0; /* as a producer killed before the stamp leaves it */
    kill_producer(&p);
    *owner_of(&r, slot, &a) = shmring_owner_word(7, SHMRING_OWNER_PLACE);
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_record_at(&r.block, slot)->position, SHMRING_NO_POSITION);
    *owner_of(&r, slot, &a) = 0;
    leave(&a);
    close_producer(&p);
    end_ring(&r);
}

/* Members at the end of the stream look again when one leaves and keeps its frame by a pin. */
static void
a_member_that_leaves_holding_is_news_at_the_end(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    put_all(&p, 1);
    shmring_hold *const hold = take_seq(&a, 0);
    close_producer(&p);
    const uint64_t events = r.block.groups[a.group].events;
    shmring_leave_holding(&a);
    CHECK(r.block.groups[a.group].events != events);
    CHECK(holds(&a, hold, 0, 0));
    CHECK_EQUAL(shmring_record_at(&r.block, hold->slot)->pins, a.bit);
    shmring_release(&a, hold);
    leave(&a);
    end_ring(&r);
}

/* Owner words may say what they like: a member that leaves pins what it holds, and gives just that back. */
static void
a_member_that_leaves_trusts_no_owner_word(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    put_all(&p, 4);
    shmring_hold *const first = take_seq(&a, 0), *const second = take_seq(&a, 1);
    *owner_of(&r, first->slot, &a) = shmring_owner_word(0, SHMRING_OWNER_DONE);
    *owner_of(&r, 3, &a) = shmring_owner_word(3, SHMRING_OWNER_PLACE + a.place);
    shmring_leave_holding(&a);
    CHECK_EQUAL(shmring_record_at(&r.block, first->slot)->pins, a.bit);
    CHECK_EQUAL(shmring_record_at(&r.block, 3)->pins, 0);
    shmring_release(&a, second);
    shmring_release(&a, first);
    CHECK_EQUAL(a.held + a.pinned_slots, 0);
    for (uint64_t slot = 0; slot < 4; slot++)
        CHECK_EQUAL(shmring_record_at(&r.block, slot)->pins, 0);
    leave(&a);
    close_producer(&p);
    end_ring(&r);
}

const test group_tests[] = {
    TEST(each_frame_goes_to_one_member),
    TEST(what_a_dead_member_had_comes_again_once),
    TEST(a_late_look_takes_away_no_older_frame),
    TEST(four_groups_and_no_fifth),
    TEST(a_takeover_forgets_records_under_words_left_over),
    TEST(a_member_that_leaves_holding_is_news_at_the_end),
    TEST(a_member_that_leaves_trusts_no_owner_word),
    LAST_TEST,
};
