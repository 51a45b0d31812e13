/* SPDX-License-Identifier: Apache-2.0
 *
 * Several buffers that a driver fills: a claim that grows at its end while its first frame is published.
 */
#include "selftest.h"

enum { SLOTS = 6, SPARES = 2, BUFFERS = 3 };

/* Claims until `count` frames are claimed, as far as there is space. */
static uint64_t
claim_buffers(shmring_producer *p, uint64_t count)
{
    while (p->count < count && shmring_claim_more(p) == SHMRING_OK)
        continue;
    return p->count;
}

static void
publish_oldest(shmring_producer *p)
{
    write_buffer(p, 0);
    shmring_publish_oldest(p);
}

/* A consumer that reads everything at once. */
static void
turn(ring *r, shmring_producer *p, shmring_consumer *c, uint64_t frames)
{
    for (uint64_t i = 0; i < frames; i++) {
        const uint64_t seq = p->next_seq;
        publish_oldest(p);
        read_seq(c, seq);
        CHECK_EQUAL(claim_buffers(p, BUFFERS), BUFFERS);
        check_permutation(p);
        check_history(&r->block);
    }
}

static uint64_t
stamp_of(const ring *r, uint64_t index)
{
    return shmring_entry_at(&r->block, index)->stamp;
}

/* ---- a claim that slides ---- */

static void
buffers_are_published_in_order_and_keep_their_addresses(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    for (uint64_t number = 0; number < 5 * SLOTS; number++) {
        const void *const second = buffer_at(&p, 1);
        const void *const third = buffer_at(&p, 2);
        CHECK(buffer_at(&p, 0) == shmring_claimed_slot(&p));
        turn(&r, &p, &c, 1);
        CHECK(buffer_at(&p, 0) == second && shmring_claimed_slot(&p) == second);
        CHECK(buffer_at(&p, 1) == third);
    }
    CHECK_EQUAL(p.swaps, 0);
    leave(&c);
    close_ring(&r, &p);
}

static void
what_is_claimed_stays_marked_while_the_oldest_is_published(void)
{
    ring r;
    shmring_producer p;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    CHECK_EQUAL(r.block.hot->claimed, BUFFERS);
    publish_oldest(&p);
    CHECK_EQUAL(p.count, BUFFERS - 1);
    CHECK_EQUAL(r.block.hot->head, 1);
    CHECK_EQUAL(r.block.hot->claimed, BUFFERS);
    CHECK_EQUAL(stamp_of(&r, 0), shmring_published_stamp(0));
    for (uint64_t i = 1; i < BUFFERS; i++)
        CHECK_EQUAL(stamp_of(&r, i), shmring_writing_stamp(i));
    CHECK_EQUAL(stamp_of(&r, BUFFERS), 0);
    CHECK_EQUAL(shmring_claim_more(&p), SHMRING_OK);
    CHECK_EQUAL(stamp_of(&r, BUFFERS), shmring_writing_stamp(BUFFERS));
    CHECK_EQUAL(r.block.hot->claimed, BUFFERS + 1);
    shmring_abort(&p);
    CHECK_EQUAL(p.count, 0);
    for (uint64_t i = 1; i <= BUFFERS; i++)
        CHECK_EQUAL(stamp_of(&r, i), 0);
    CHECK_EQUAL(check_history(&r.block), 1);
    put_all(&p, SLOTS);
    CHECK_EQUAL(check_history(&r.block), SLOTS);
    close_ring(&r, &p);
}

static void
a_full_ring_shortens_the_claim_and_harms_nothing(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    for (uint64_t number = 0; number < SLOTS; number++) {
        publish_oldest(&p);
        const uint64_t left = SLOTS - 1 - number;
        CHECK_EQUAL(claim_buffers(&p, BUFFERS), left < BUFFERS ? left : (uint64_t)BUFFERS);
        CHECK_EQUAL(check_history(&r.block), number + 1);
    }
    CHECK_EQUAL(p.count, 0);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    read_seq(&c, 0);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), 1);
    read_seq(&c, 1);
    read_seq(&c, 2);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    for (uint64_t seq = 3; seq < SLOTS; seq++)
        read_seq(&c, seq);
    turn(&r, &p, &c, 2 * SLOTS);
    leave(&c);
    close_ring(&r, &p);
}

static void
a_claim_has_at_most_all_entries(void)
{
    ring r;
    shmring_producer p;
    open_ring(&r, &p, with_spares(SLOTS, SPARES));
    CHECK_EQUAL(claim_buffers(&p, UINT64_MAX), SLOTS);
    for (uint64_t i = 0; i < SLOTS; i++) {
        CHECK_EQUAL(stamp_of(&r, i), shmring_writing_stamp(i));
        for (uint64_t j = 0; j < i; j++)
            CHECK(buffer_at(&p, i) != buffer_at(&p, j));
    }
    shmring_abort(&p);
    close_ring(&r, &p);
}

/* ---- held frames ---- */

/* Every frame held in turn, while the claim slides on: its bytes stay, and nothing that is claimed moves. */
static void
a_held_frame_is_passed_round(uint64_t spares)
{
    for (uint64_t number = 0; number < SLOTS; number++) {
        ring r;
        shmring_producer p;
        shmring_consumer c, holder;
        open_ring(&r, &p, with_spares(SLOTS, spares));
        join(&r, &c, 1, SHMRING_START_OLDEST);
        join(&r, &holder, 0, SHMRING_START_OLDEST);
        CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
        turn(&r, &p, &c, number);
        holder.next = number;
        shmring_seek(&holder, number);
        publish_oldest(&p);
        read_seq(&c, number);
        shmring_hold *const hold = take_seq(&holder, number);
        CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
        for (unsigned i = 0; i < 4 * SLOTS; i++) {
            const void *const second = buffer_at(&p, 1);
            turn(&r, &p, &c, 1);
            CHECK(shmring_claimed_slot(&p) == second);
            CHECK(holds(&holder, hold, 0, number));
        }
        CHECK_EQUAL(p.swaps == 0, spares != 0);
        shmring_release(&holder, hold);
        turn(&r, &p, &c, 2 * SLOTS);
        leave(&holder);
        leave(&c);
        close_ring(&r, &p);
    }
}

static void
a_held_frame_costs_the_buffers_a_swap(void)
{
    a_held_frame_is_passed_round(0);
}

static void
a_held_frame_costs_the_buffers_a_spare(void)
{
    a_held_frame_is_passed_round(SPARES);
}

static void
the_end_of_a_claim_takes_no_slot_of_the_claim(void)
{
    ring r;
    shmring_producer p;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    put_all(&p, SLOTS);
    for (uint64_t slot = BUFFERS; slot < SLOTS; slot++) /* free slots are those of the claim alone */
        shmring_record_at(&r.block, slot)->pins = UINT64_C(1) << 63;
    CHECK_EQUAL(claim_buffers(&p, UINT64_MAX), BUFFERS);
    CHECK_EQUAL(check_history(&r.block), SLOTS - BUFFERS);
    for (uint64_t i = 0; i < BUFFERS; i++)
        CHECK_EQUAL(p.slot_of[i], i);
    check_permutation(&p);
    publish_oldest(&p); /* the frame may be overwritten at once, but no buffer */
    CHECK_EQUAL(claim_buffers(&p, UINT64_MAX), BUFFERS);
    check_permutation(&p);
    CHECK_EQUAL(p.slot_of[p.index], 1);
    close_ring(&r, &p);
}

static void
a_run_is_joined_again_without_a_slot_of_the_claim(void)
{
    for (uint64_t buffers = 1; buffers < SLOTS; buffers++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        entry_of(&r.block, 1)->slot = 4; /* exchanged by hand */
        entry_of(&r.block, 4)->slot = 1;
        open_producer(&r, &p);
        for (uint64_t number = 0; number < 5 * SLOTS; number++) {
            CHECK_EQUAL(claim_buffers(&p, buffers), buffers);
            for (uint64_t i = 0; i < buffers; i++)
                write_buffer(&p, i);
            const void *const last = buffer_at(&p, buffers - 1);
            shmring_publish_oldest(&p);
            if (buffers > 1)
                CHECK(buffer_at(&p, buffers - 2) == last);
            check_permutation(&p);
            check_history(&r.block);
        }
        close_ring(&r, &p);
    }
}

static void
a_newcomer_starts_behind_what_is_claimed(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    put_all(&p, SLOTS + 1);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(c.next, 1 + BUFFERS);
    publish_oldest(&p);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS - 1); /* it gates */
    for (uint64_t seq = 1 + BUFFERS; seq < SLOTS + 2; seq++)
        read_seq(&c, seq);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    CHECK_EQUAL(c.lost, 0);
    leave(&c);
    close_ring(&r, &p);
}

/* ---- a damaged buffer ---- */

static void
a_damaged_buffer_comes_last_again(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
    turn(&r, &p, &c, 4);
    for (uint64_t number = 4; number < 4 + 3 * SLOTS; number++) {
        const void *const damaged = shmring_claimed_slot(&p);
        const void *const second = buffer_at(&p, 1);
        const uint64_t head = p.head;
        fill_frame(shmring_claimed_slot(&p), 256, UINT64_MAX);
        shmring_requeue_oldest(&p);
        CHECK(shmring_claimed_slot(&p) == second && buffer_at(&p, 0) == second);
        CHECK(buffer_at(&p, BUFFERS - 1) == damaged);
        CHECK_EQUAL(p.count, BUFFERS);
        CHECK_EQUAL(p.head, head);
        CHECK_EQUAL(p.next_seq, number); /* unseen */
        check_permutation(&p);
        CHECK(is_empty(&c));
        turn(&r, &p, &c, 1);
    }
    CHECK_EQUAL(c.lost, 0);
    shmring_requeue_oldest(&p);
    shmring_drop(&p, 1); /* counted */
    turn(&r, &p, &c, 1);
    CHECK_EQUAL(c.lost, 1);
    leave(&c);
    close_ring(&r, &p);
}

static void
one_buffer_alone_is_requeued_where_it_is(void)
{
    ring r;
    shmring_producer p;
    open_ring(&r, &p, with_spares(SLOTS, 0));
    CHECK_EQUAL(shmring_claim_more(&p), SHMRING_OK);
    const void *const alone = shmring_claimed_slot(&p);
    shmring_requeue_oldest(&p);
    CHECK(shmring_claimed_slot(&p) == alone);
    check_permutation(&p);
    publish_oldest(&p);
    CHECK_EQUAL(p.count, 0);
    close_ring(&r, &p);
}

/* ---- death ---- */

static void
a_takeover_forgets_the_buffers_of_a_dead_producer(void)
{
    for (uint64_t requeued = 0; requeued <= BUFFERS; requeued++)
        for (uint64_t published = 0; published <= BUFFERS; published++) {
            ring r;
            shmring_producer p;
            shmring_consumer c;
            open_ring(&r, &p, with_spares(SLOTS, SPARES));
            put_all(&p, 4);
            join(&r, &c, 1, SHMRING_START_NEXT);
            CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
            for (uint64_t i = 0; i < requeued; i++)
                shmring_requeue_oldest(&p);
            for (uint64_t i = 0; i < published; i++)
                publish_oldest(&p);
            for (uint64_t i = 0; i < p.count; i++)
                fill_frame(buffer_at(&p, i), 256, UINT64_MAX);
            kill_producer(&p);
            for (uint64_t seq = 4; seq < 4 + published; seq++)
                read_seq(&c, seq);
            CHECK(is_empty(&c));
            open_producer(&r, &p);
            CHECK_EQUAL(p.next_seq, 4 + published);
            check_permutation(&p);
            check_history(&r.block);
            CHECK_EQUAL(claim_buffers(&p, BUFFERS), BUFFERS);
            turn(&r, &p, &c, 2 * SLOTS);
            CHECK_EQUAL(c.lost, 0);
            leave(&c);
            close_ring(&r, &p);
        }
}

const test buffer_tests[] = {
    TEST(buffers_are_published_in_order_and_keep_their_addresses),
    TEST(what_is_claimed_stays_marked_while_the_oldest_is_published),
    TEST(a_full_ring_shortens_the_claim_and_harms_nothing),
    TEST(a_claim_has_at_most_all_entries),
    TEST(a_held_frame_costs_the_buffers_a_swap),
    TEST(a_held_frame_costs_the_buffers_a_spare),
    TEST(the_end_of_a_claim_takes_no_slot_of_the_claim),
    TEST(a_run_is_joined_again_without_a_slot_of_the_claim),
    TEST(a_newcomer_starts_behind_what_is_claimed),
    TEST(a_damaged_buffer_comes_last_again),
    TEST(one_buffer_alone_is_requeued_where_it_is),
    TEST(a_takeover_forgets_the_buffers_of_a_dead_producer),
    LAST_TEST,
};
