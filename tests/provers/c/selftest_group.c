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

/* A member that was away between its looks at a stamp and at the slot finds there a frame that is older, and
 * that another member holds, or held when it died: a swap gave the entry that slot. */
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

/* Killed when it had written a record, but not the stamp. */
static void
a_takeover_forgets_what_was_never_published(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    write_frame(&p, 0);
    const uint64_t slot = p.slot_of[0];
    shmring_record_at(&r.block, slot)->position = 0;
    kill_producer(&p);
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_record_at(&r.block, slot)->position, SHMRING_NO_POSITION);
    close_producer(&p);
    end_ring(&r);
}

/* Killed between a mark and the look that finds the group: the stamp is not put back, and the group has the
 * frame. */
static void
a_group_gets_a_frame_whose_stamp_was_not_put_back(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    put_all(&p, 4);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    for (uint64_t position = 0; position < 4; position += 2)
        entry_of(&r.block, position)->stamp = position == 0 ? shmring_writing_stamp(4) : 0;
    kill_producer(&p);
    read_seq(&a, 0);
    open_producer(&r, &p);
    for (uint64_t seq = 1; seq < 4; seq++)
        read_seq(&a, seq);
    put_all(&p, 1);
    read_seq(&a, 4);
    leave(&a);
    close_producer(&p);
    end_ring(&r);
}

/* A member that could wait for the next frame forever says what is wrong. */
static void
an_entry_that_names_another_slot_is_damage(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer a;
    take t;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join_group(&r, &a, "workers", SHMRING_START_OLDEST);
    put_all(&p, 2);
    entry_of(&r.block, 0)->slot = 1;
    CHECK_EQUAL(shmring_take_one(&a, ask(&t)), SHMRING_CORRUPT);
    entry_of(&r.block, 0)->slot = UINT32_MAX;
    CHECK_EQUAL(shmring_take_one(&a, ask(&t)), SHMRING_CORRUPT);
    entry_of(&r.block, 0)->slot = 0;
    read_seq(&a, 0);
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
    TEST(a_takeover_forgets_what_was_never_published),
    TEST(a_group_gets_a_frame_whose_stamp_was_not_put_back),
    TEST(an_entry_that_names_another_slot_is_damage),
    TEST(a_member_that_leaves_holding_is_news_at_the_end),
    TEST(a_member_that_leaves_trusts_no_owner_word),
    LAST_TEST,
};
