/* SPDX-License-Identifier: Apache-2.0
 *
 * Claim, publish, abort, drop: what each step does to stamps, head and claimed, and when a claim is FULL.
 */
#include "selftest.h"

static uint64_t
stamp_of(const ring *r, uint64_t index)
{
    return shmring_entry_at(&r->block, index)->stamp;
}

/* ---- one frame ---- */

static void
a_claim_is_marked_and_a_publish_seen(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    CHECK_EQUAL(p.count, 1);
    CHECK_EQUAL(r.block.hot->claimed, 1);
    CHECK_EQUAL(r.block.hot->head, 0);
    CHECK_EQUAL(stamp_of(&r, 0), shmring_writing_stamp(0));
    write_frame(&p, 0);
    shmring_publish(&p, 1);
    CHECK_EQUAL(p.count, 0);
    CHECK_EQUAL(r.block.hot->claimed, 1);
    CHECK_EQUAL(r.block.hot->head, 1);
    CHECK_EQUAL(r.block.hot->next_seq, 1);
    CHECK_EQUAL(stamp_of(&r, 0), shmring_published_stamp(0));
    CHECK_EQUAL(shmring_entry_at(&r.block, 0)->seq, 0);
    CHECK_EQUAL(shmring_entry_at(&r.block, 0)->epoch, 1);
    CHECK_EQUAL(check_history(&r.block), 1);
    close_producer(&p);
    end_ring(&r);
}

static void
an_abort_gives_the_position_back_unseen(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    put_all(&p, 5);
    CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
    fill_frame(shmring_claimed_slot(&p), 256, 999);
    shmring_abort(&p);
    CHECK_EQUAL(p.count, 0);
    CHECK_EQUAL(r.block.hot->head, 5);
    CHECK_EQUAL(r.block.hot->next_seq, 5);
    CHECK_EQUAL(r.block.hot->claimed, 7);
    CHECK_EQUAL(stamp_of(&r, 1), 0); /* it may have been written to: not even the old frame is there */
    CHECK_EQUAL(stamp_of(&r, 2), 0);
    CHECK_EQUAL(check_history(&r.block), 2);
    put_all(&p, 1);
    CHECK_EQUAL(r.block.hot->head, 6);
    CHECK_EQUAL(shmring_entry_at(&r.block, 1)->seq, 5);
    close_producer(&p);
    end_ring(&r);
}

static void
a_frame_carries_what_describes_it(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    shmring_geometry g = page_slots(4);
    uint8_t meta[META_BYTES];
    memset(meta, 0xab, sizeof meta);
    g.meta_bytes = META_BYTES;
    g.row_bytes = 64;
    make_ring(&r, g);
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
    write_frame(&p, 0);
    write_frame(&p, 1);
    shmring_describe(&p, 0, -5, 3, meta);
    shmring_describe(&p, 1, INT64_MAX, 2, NULL);
    shmring_publish(&p, 2);
    CHECK_EQUAL(shmring_take_batch(&c, 2, 2, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.timestamps[0], -5);
    CHECK_EQUAL(t.timestamps[1], INT64_MAX);
    CHECK_EQUAL(t.rows[0], 3);
    CHECK_EQUAL(t.rows[1], 2);
    CHECK_EQUAL(t.taken.epoch, 1);
    CHECK(memcmp(t.metas, meta, META_BYTES) == 0);
    memset(meta, 0, sizeof meta);
    CHECK(memcmp(t.metas + META_BYTES, meta, META_BYTES) == 0); /* no meta: zeros, not the last one's */
    shmring_release(&c, t.taken.hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_frame_is_copied_in_whole_whichever_way(void)
{
    ring r;
    shmring_producer p;
    uint64_t *const source = (uint64_t *)malloc((1 << 20) + 8);
    shmring_geometry g = page_slots(2);
    g.frame_bytes = (1 << 20) + 8;
    g.slot_stride = (1 << 20) + g.page_bytes;
    make_ring(&r, g);
    open_producer(&r, &p);
    for (int exceeds = 0; exceeds < 2; exceeds++) { /* the second goes past the cache */
        p.exceeds_cache = exceeds;
        fill_frame(source, g.frame_bytes, (uint64_t)exceeds);
        CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
        shmring_copy_in(&p, 1, source, g.frame_bytes);
        CHECK(
            frame_is((uint8_t *)shmring_claimed_slot(&p) + g.slot_stride, g.frame_bytes, (uint64_t)exceeds));
        shmring_abort(&p);
    }
    free(source);
    close_producer(&p);
    end_ring(&r);
}

static void
a_drop_uses_a_seq_up(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer lossless, lossy;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &lossless, 1, SHMRING_START_NEXT);
    join(&r, &lossy, 0, SHMRING_START_NEXT);
    put_all(&p, 1);
    shmring_drop(&p, 3);
    put_all(&p, 1);
    CHECK_EQUAL(r.block.hot->dropped, 3);
    CHECK_EQUAL(r.block.hot->next_seq, 5);
    CHECK_EQUAL(r.block.hot->head, 2); /* positions have no gaps */
    read_seq(&lossless, 0);
    read_seq(&lossless, 4);
    read_seq(&lossy, 0);
    read_seq(&lossy, 4);
    CHECK_EQUAL(lossless.lost, 3);
    CHECK_EQUAL(lossy.lost, 3);
    CHECK_EQUAL(lossless.skipped, 0);
    leave(&lossy);
    leave(&lossless);
    close_producer(&p);
    end_ring(&r);
}

/* ---- several frames ---- */

static void
a_short_publish_gives_the_rest_back(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_claim(&p, 5), SHMRING_OK);
    CHECK_EQUAL(p.count, 5);
    for (uint64_t i = 0; i < 5; i++) {
        write_frame(&p, i);
        CHECK_EQUAL(stamp_of(&r, i), shmring_writing_stamp(i));
    }
    shmring_publish(&p, 2);
    CHECK_EQUAL(r.block.hot->head, 2);
    CHECK_EQUAL(r.block.hot->claimed, 5);
    CHECK_EQUAL(r.block.hot->next_seq, 2);
    CHECK_EQUAL(stamp_of(&r, 1), shmring_published_stamp(1));
    for (uint64_t i = 2; i < 5; i++)
        CHECK_EQUAL(stamp_of(&r, i), 0);
    put_all(&p, 1);
    CHECK_EQUAL(r.block.hot->claimed, 5); /* it never goes back */
    CHECK_EQUAL(check_history(&r.block), 3);
    close_producer(&p);
    end_ring(&r);
}

static void
a_batch_stops_at_a_pin_and_leaves_the_rest_alone(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    put_all(&p, 8);
    shmring_entry_at(&r.block, 3)->pins = 4;
    CHECK_EQUAL(shmring_claim(&p, 8), SHMRING_OK);
    CHECK_EQUAL(p.count, 3);
    CHECK_EQUAL(stamp_of(&r, 2), shmring_writing_stamp(10));
    for (uint64_t i = 3; i < 8; i++)
        CHECK_EQUAL(stamp_of(&r, i), shmring_published_stamp(i)); /* put back */
    CHECK_EQUAL(r.block.hot->claimed, 16);
    for (uint64_t i = 0; i < 3; i++)
        write_frame(&p, i);
    shmring_publish(&p, 3);
    CHECK_EQUAL(check_history(&r.block), 8);
    close_producer(&p);
    end_ring(&r);
}

static void
a_batch_stops_where_the_next_slot_does_not_follow(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(8));
    entry_of(&r.block, 2)->slot = 6; /* exchanged by hand */
    entry_of(&r.block, 6)->slot = 2;
    open_producer(&r, &p);
    for (unsigned turn = 0; turn < 2; turn++) {
        CHECK_EQUAL(shmring_claim(&p, 8), SHMRING_OK);
        CHECK_EQUAL(p.count, turn == 0 ? 2 : 8); /* then the run is joined again */
        for (uint64_t i = 0; i < p.count; i++)
            write_frame(&p, i);
        shmring_publish(&p, p.count);
        check_permutation(&p);
        CHECK_EQUAL(check_history(&r.block), turn == 0 ? 2 : 8);
    }
    close_producer(&p);
    end_ring(&r);
}

static void
a_batch_crosses_the_wrap_in_one_piece(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(5));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 3);
    for (uint64_t seq = 0; seq < 3; seq++)
        read_seq(&c, seq);
    CHECK_EQUAL(shmring_claim(&p, 9), SHMRING_OK); /* as many as there are */
    CHECK_EQUAL(p.count, 5);
    CHECK_EQUAL(p.slot, 3);
    for (uint64_t i = 0; i < 5; i++)
        write_frame(&p, i);
    shmring_publish(&p, 5);
    CHECK_EQUAL(shmring_take_batch(&c, 1, 5, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.taken.count, 5);
    CHECK(!t.taken.interrupted && !t.taken.scattered);
    for (uint64_t i = 0; i < 5; i++) { /* one piece of memory, beyond the last slot too */
        const uint8_t *const frame =
            shmring_slot_at(&r.block, t.taken.hold->slot) + i * r.block.geometry.slot_stride;
        CHECK(frame_is(frame, 256, 3 + i));
        CHECK(holds(&c, t.taken.hold, i, 3 + i));
    }
    shmring_release(&c, t.taken.hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_claim_has_an_upper_limit(void)
{
    ring r;
    shmring_producer p;
    shmring_geometry g = page_slots(4096);
    g.frame_bytes = g.slot_stride = 64;
    make_ring(&r, g);
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_claim(&p, UINT64_MAX), SHMRING_OK);
    CHECK_EQUAL(p.count, SHMRING_MAX_BATCH);
    CHECK_EQUAL(r.block.hot->claimed, SHMRING_MAX_BATCH);
    shmring_abort(&p);
    CHECK_EQUAL(shmring_claim(&p, 4), SHMRING_OK);
    CHECK_EQUAL(p.count, 4);
    shmring_abort(&p);
    close_producer(&p);
    end_ring(&r);
}

/* ---- the gate ---- */

static void
the_slowest_lossless_consumer_is_the_gate(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer slow, fast, lossy;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &slow, 1, SHMRING_START_OLDEST);
    join(&r, &lossy, 0, SHMRING_START_OLDEST);
    join(&r, &fast, 1, SHMRING_START_OLDEST);
    put_all(&p, 4);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    for (uint64_t seq = 0; seq < 4; seq++)
        read_seq(&fast, seq);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    CHECK_EQUAL(check_history(&r.block), 4); /* a refused claim harms nothing */
    read_seq(&slow, 0);
    CHECK_EQUAL(put(&p), SHMRING_OK);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    leave(&slow);
    put_all(&p, 3);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    leave(&fast);
    put_all(&p, 10); /* only the lossy one is left */
    leave(&lossy);
    close_producer(&p);
    end_ring(&r);
}

static void
a_common_claim_looks_at_no_consumer(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 1); /* the first claim rescans */
    CHECK_EQUAL(p.limit, 4);
    read_seq(&c, 0);
    put_all(&p, 3);
    CHECK_EQUAL(p.limit, 4); /* as the rescan found it, though the cursor has moved */
    put_all(&p, 1);
    CHECK_EQUAL(p.limit, 5);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* B4: a limit older than the cursors must not say FULL, nor shorten a claim. */
static void
an_old_limit_never_says_full(void)
{
    for (uint64_t ahead = 1; ahead <= 4; ahead++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(4));
        open_producer(&r, &p);
        join(&r, &c, 1, SHMRING_START_OLDEST);
        put_all(&p, 4);
        for (uint64_t seq = 0; seq < 4; seq++)
            read_seq(&c, seq);
        p.limit = 4 + ahead; /* as if it had looked when the cursor was at `ahead` */
        p.gate = ahead;
        p.join_count = r.block.hot->join_count;
        shmring_entry_at(&r.block, 0)->pins = 8;
        CHECK_EQUAL(put(&p), SHMRING_OK);
        check_permutation(&p);
        p.limit = p.head + 1;
        CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
        CHECK(p.count == 2 || p.count == 1); /* the pinned slot may lie between */
        shmring_abort(&p);
        shmring_entry_at(&r.block, 0)->pins = 0;
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
an_old_limit_never_shortens_a_claim(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 3);
    for (uint64_t seq = 0; seq < 3; seq++)
        read_seq(&c, seq);
    CHECK_EQUAL(p.limit, 4);
    CHECK_EQUAL(shmring_claim(&p, 3), SHMRING_OK);
    CHECK_EQUAL(p.count, 3);
    shmring_abort(&p);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_lossless_newcomer_is_seen_by_the_open_claim(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    put_all(&p, 6);
    CHECK_EQUAL(p.limit, UINT64_MAX);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(c.next, 2);
    CHECK_EQUAL(put(&p), SHMRING_FULL); /* the cached limit said nobody is in the way */
    CHECK_EQUAL(p.limit, 6);
    CHECK_EQUAL(stamp_of(&r, 2), shmring_published_stamp(2)); /* its first frame, put back */
    CHECK_EQUAL(check_history(&r.block), 4);
    for (uint64_t seq = 2; seq < 6; seq++)
        read_seq(&c, seq);
    put_all(&p, 4);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* With lossless consumers alone, a publish marks the entry of the next claim: one fence for both. */
static void
a_publish_marks_ahead_what_nobody_needs(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer first, second, viewer;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    put_all(&p, 5);
    CHECK_EQUAL(check_history(&r.block), 4); /* nobody is there: all of it for newcomers */
    join(&r, &first, 1, SHMRING_START_OLDEST);
    for (uint64_t seq = 1; seq < 5; seq++)
        read_seq(&first, seq);
    put_all(&p, 1);
    CHECK_EQUAL(stamp_of(&r, 2), shmring_writing_stamp(6));
    CHECK_EQUAL(r.block.hot->claimed, 7);
    CHECK_EQUAL(check_history(&r.block), 3);
    join(&r, &second, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(second.next, 3);
    put_all(&p, 1);
    CHECK_EQUAL(check_history(&r.block), 4); /* the next entry is the newcomer's first frame */
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    CHECK_EQUAL(stamp_of(&r, 3), shmring_published_stamp(3));
    read_seq(&second, 3);
    read_seq(&second, 4);
    read_seq(&second, 5);
    read_seq(&first, 5);
    read_seq(&first, 6);
    put_all(&p, 1);
    CHECK_EQUAL(check_history(&r.block), 3);
    join(&r, &viewer, 0, SHMRING_START_OLDEST);
    read_seq(&first, 7);
    put_all(&p, 1);
    CHECK_EQUAL(check_history(&r.block), 4); /* a viewer keeps what there is */
    leave(&viewer);
    leave(&second);
    read_seq(&first, 8);
    put_all(&p, 2);
    CHECK_EQUAL(check_history(&r.block), 3);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK);
    shmring_abort(&p);
    put_all(&p, 1);
    close_producer(&p);
    CHECK_EQUAL(check_history(&r.block), 4); /* and a late consumer finds all of it */
    leave(&first);
    end_ring(&r);
}

/* A newcomer that was away between its guess and its bit: its cursor is that of long ago. */
static void
a_run_ends_where_the_limit_has_fallen_below_head(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    put_all(&p, 20);
    shmring_mark_first(&p);
    shmring_mark_writing(&p, 1, 6);
    p.limit = p.head - 5;
    CHECK_EQUAL(shmring_count_run(&p, 6), 1);
    shmring_restore_stamps(&p, 0, 6);
    CHECK_EQUAL(check_history(&r.block), 8);
    close_producer(&p);
    end_ring(&r);
}

/* Marked, and then the oldest frame gets a reader: the mark goes. A claim of many scans first, one of a
 * single frame only once it looks for newcomers. */
static void
a_newcomer_is_seen_by_a_claim_that_was_marked_ahead(void)
{
    for (uint64_t want = 1; want <= 4; want += 3) {
        ring r;
        shmring_producer p;
        shmring_consumer first, second;
        make_ring(&r, page_slots(4));
        open_producer(&r, &p);
        join(&r, &first, 1, SHMRING_START_OLDEST);
        for (uint64_t seq = 0; seq < 6; seq++) {
            put_all(&p, 1);
            read_seq(&first, seq);
        }
        CHECK(p.marked_ahead);
        CHECK(p.limit > p.head && p.limit < p.head + 4);
        join(&r, &second, 1, SHMRING_START_OLDEST);
        CHECK_EQUAL(second.next, 3);
        second.next = second.index = second.cursor = 2; /* as if it had looked just before the mark */
        r.block.table[second.place].cursor = 2;
        CHECK_EQUAL(shmring_claim(&p, want), SHMRING_FULL);
        CHECK_EQUAL(p.marked_ahead, 0);
        CHECK_EQUAL(stamp_of(&r, 2), shmring_published_stamp(2));
        for (uint64_t seq = 2; seq < 6; seq++)
            read_seq(&second, seq);
        put_all(&p, 4);
        CHECK_EQUAL(put(&p), SHMRING_FULL);
        leave(&second);
        leave(&first);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
damaged_words_of_the_table_lead_nowhere(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    r.block.hot->active = UINT64_MAX; /* places that the table does not have */
    r.block.table[1].state = SHMRING_PLACE_LOSSLESS;
    r.block.table[1].cursor = UINT64_MAX - 1; /* plus slots: wraps */
    put_all(&p, 9);
    CHECK_EQUAL(check_history(&r.block), 3); /* and the entry of the next frame, marked ahead */
    r.block.table[1].cursor = 3;
    r.block.hot->join_count++;
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    close_producer(&p);
    end_ring(&r);
}

/* ---- who is the producer ---- */

static void
a_ring_has_one_producer(void)
{
    ring r;
    shmring_producer p, other;
    make_ring(&r, page_slots(4));
    CHECK_EQUAL(shmring_read_producer_state(&r.block), SHMRING_PRODUCER_NONE);
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_read_producer_state(&r.block), SHMRING_PRODUCER_LIVE);
    CHECK_EQUAL(r.block.hot->producer_pid, getpid());
    CHECK_EQUAL(r.block.hot->start_time, shmring_own_start_time());
    const int fd = lock_file(&r);
    CHECK_EQUAL(shmring_producer_open(&other, &r.block, fd), SHMRING_PRODUCER_EXISTS);
    CHECK_EQUAL(r.block.hot->epoch, 1);
    put_all(&p, 2);
    close_producer(&p);
    CHECK_EQUAL(shmring_read_producer_state(&r.block), SHMRING_PRODUCER_CLOSED);
    CHECK_EQUAL(shmring_producer_open(&other, &r.block, fd), SHMRING_OK);
    CHECK_EQUAL(shmring_read_producer_state(&r.block), SHMRING_PRODUCER_LIVE);
    CHECK_EQUAL(r.block.hot->epoch, 2);
    put_all(&other, 1);
    CHECK_EQUAL(shmring_entry_at(&r.block, 2)->epoch, 2);
    close_producer(&other);
    end_ring(&r);
}

/* Fails with the message; what others read of it. */
static const char *
failure_of(ring *r, const char *message, shmring_ring_status *status)
{
    shmring_producer p;
    open_producer(r, &p);
    shmring_read_ring_status(&r->block, status);
    CHECK_EQUAL(status->producer_state, SHMRING_PRODUCER_LIVE);
    CHECK_EQUAL(status->failure[0], 0);
    shmring_producer_fail(&p, message);
    close(p.lock_fd);
    CHECK_EQUAL(shmring_read_producer_state(&r->block), SHMRING_PRODUCER_FAILED);
    shmring_read_ring_status(&r->block, status);
    return status->failure;
}

static void
a_failure_says_what_failed(void)
{
    ring r;
    shmring_producer p;
    shmring_ring_status status;
    char longest[200] = {0};
    make_ring(&r, page_slots(4));
    CHECK(strcmp(failure_of(&r, "camera unplugged", &status), "camera unplugged") == 0);
    CHECK(strcmp(failure_of(&r, "lens", &status), "lens") == 0);
    CHECK(strcmp(failure_of(&r, "", &status), "") == 0);
    memset(longest, 'x', 79);
    CHECK(strcmp(failure_of(&r, longest, &status), longest) == 0);
    memcpy(longest + 77, "\xe2\x82\xac", 3); /* a character that does not fit as a whole */
    CHECK_EQUAL(strlen(failure_of(&r, longest, &status)), 77);
    memset(longest, 0x80, sizeof longest - 1); /* no character at all */
    CHECK_EQUAL(strlen(failure_of(&r, longest, &status)), 0);
    open_producer(&r, &p);
    close_producer(&p);
    shmring_read_ring_status(&r.block, &status);
    CHECK_EQUAL(status.producer_state, SHMRING_PRODUCER_CLOSED);
    CHECK_EQUAL(status.failure[0], 0);
    end_ring(&r);
}

static void
a_lock_that_cannot_be_had_is_not_another_producer(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    CHECK_EQUAL(shmring_producer_open(&p, &r.block, -1), SHMRING_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    end_ring(&r);
}

const test producer_tests[] = {
    TEST(a_claim_is_marked_and_a_publish_seen),
    TEST(an_abort_gives_the_position_back_unseen),
    TEST(a_frame_carries_what_describes_it),
    TEST(a_frame_is_copied_in_whole_whichever_way),
    TEST(a_drop_uses_a_seq_up),
    TEST(a_short_publish_gives_the_rest_back),
    TEST(a_batch_stops_at_a_pin_and_leaves_the_rest_alone),
    TEST(a_batch_stops_where_the_next_slot_does_not_follow),
    TEST(a_batch_crosses_the_wrap_in_one_piece),
    TEST(a_claim_has_an_upper_limit),
    TEST(the_slowest_lossless_consumer_is_the_gate),
    TEST(a_common_claim_looks_at_no_consumer),
    TEST(an_old_limit_never_says_full),
    TEST(an_old_limit_never_shortens_a_claim),
    TEST(a_lossless_newcomer_is_seen_by_the_open_claim),
    TEST(a_run_ends_where_the_limit_has_fallen_below_head),
    TEST(a_publish_marks_ahead_what_nobody_needs),
    TEST(a_newcomer_is_seen_by_a_claim_that_was_marked_ahead),
    TEST(damaged_words_of_the_table_lead_nowhere),
    TEST(a_ring_has_one_producer),
    TEST(a_failure_says_what_failed),
    TEST(a_lock_that_cannot_be_had_is_not_another_producer),
    LAST_TEST,
};
