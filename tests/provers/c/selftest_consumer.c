/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading: one frame, batches, windows, the latest; what is delivered, lost and skipped; private copies.
 */
#include "selftest.h"

/* What the consumer's row of the table says must be what it counted. */
static void
check_row(const shmring_consumer *c)
{
    shmring_place_status status;
    shmring_read_place_status(c->block, c->place, &status);
    CHECK_EQUAL(status.delivered, c->delivered);
    CHECK_EQUAL(status.lost, c->lost);
    CHECK_EQUAL(status.skipped, c->skipped);
    CHECK_EQUAL(status.held, c->held);
    CHECK_EQUAL(status.next, c->next);
    CHECK_EQUAL(status.cursor, c->lossless ? c->cursor : c->next);
    CHECK_EQUAL(status.pins, c->pinned_slots);
}

static void
check_counts(const shmring_consumer *c, uint64_t delivered, uint64_t lost, uint64_t skipped)
{
    CHECK_EQUAL(c->delivered, delivered);
    CHECK_EQUAL(c->lost, lost);
    CHECK_EQUAL(c->skipped, skipped);
    check_row(c);
}

/* ---- one by one ---- */

static void
every_frame_comes_once_and_in_order(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        make_ring(&r, page_slots(3));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        CHECK(is_empty(&c));
        for (uint64_t seq = 0; seq < 20; seq++) {
            put_all(&p, 1);
            read_seq(&c, seq);
            CHECK(is_empty(&c));
        }
        check_counts(&c, 20, 0, 0);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
an_open_claim_is_not_seen(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer lossless, lossy;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &lossless, 1, SHMRING_START_OLDEST);
    join(&r, &lossy, 0, SHMRING_START_OLDEST);
    CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
    CHECK(is_empty(&lossless));
    CHECK(is_empty(&lossy));
    write_frame(&p, 0);
    shmring_publish(&p, 1);
    read_seq(&lossless, 0);
    read_seq(&lossy, 0);
    CHECK(is_empty(&lossless));
    CHECK(is_empty(&lossy));
    leave(&lossy);
    leave(&lossless);
    close_producer(&p);
    end_ring(&r);
}

static void
arrays_that_are_not_wanted_may_be_missing(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    shmring_taken taken;
    uint64_t seq = 99;
    shmring_geometry g = page_slots(4);
    g.meta_bytes = META_BYTES;
    make_ring(&r, g);
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 1);
    memset(&taken, 0, sizeof taken);
    taken.seqs = &seq;
    CHECK_EQUAL(shmring_take_one(&c, &taken), SHMRING_OK);
    CHECK_EQUAL(seq, 0);
    shmring_release(&c, taken.hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* A damaged entry must not lead out of its slot, nor a damaged index out of the block. */
static void
damaged_entries_lead_nowhere(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        shmring_geometry g = page_slots(4);
        g.row_bytes = 32;
        make_ring(&r, g);
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 2);
        entry_of(&r.block, 0)->rows = UINT64_MAX;
        CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.rows[0], 256 / 32);
        shmring_release(&c, t.taken.hold);
        entry_of(&r.block, 1)->slot = 4;
        CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_CORRUPT);
        entry_of(&r.block, 1)->slot = UINT32_MAX;
        CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_CORRUPT);
        CHECK_EQUAL(shmring_copy_out(&r.block, 1, t.metas, ask(&t)), SHMRING_CORRUPT);
        CHECK_EQUAL(c.pinned_slots + c.held, 0);
        entry_of(&r.block, 1)->slot = 1;
        read_seq(&c, 1);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
a_damaged_head_leads_nowhere(void)
{
    ring r;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(4));
    join(&r, &c, 1, SHMRING_START_OLDEST);
    r.block.hot->head = UINT64_MAX;
    CHECK_EQUAL(shmring_take_batch(&c, 1, 4, ask(&t)), SHMRING_CORRUPT);
    leave(&c);
    end_ring(&r);
}

/* ---- batches ---- */

static void
a_batch_is_what_is_there_up_to_what_was_asked_for(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 5);
        CHECK_EQUAL(shmring_take_batch(&c, 6, 8, ask(&t)), SHMRING_EMPTY);
        CHECK_EQUAL(shmring_take_batch(&c, 2, 3, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.count, 3);
        CHECK_EQUAL(t.seqs[2], 2);
        CHECK_EQUAL(c.held, 3);
        check_row(&c);
        shmring_release(&c, t.taken.hold);
        CHECK_EQUAL(shmring_take_batch(&c, 1, 8, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.count, 2);
        for (uint64_t i = 0; i < 2; i++)
            CHECK(holds(&c, t.taken.hold, i, 3 + i));
        shmring_release(&c, t.taken.hold);
        check_counts(&c, 5, 0, 0);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* A ring whose run is broken before position 10: the slot of seq 2 is held by somebody else. */
static void
make_broken_run(ring *r, shmring_producer *p, shmring_consumer *c, int lossless)
{
    make_ring(r, page_slots(8));
    open_producer(r, p);
    put_all(p, 8);
    join(r, c, lossless, SHMRING_START_NEXT);
    shmring_entry_at(&r->block, 2)->pins = UINT64_C(1) << 63;
    put_all(p, 6); /* seqs 8 to 13, in slots 0 1 3 4 5 6 */
    CHECK_EQUAL(entry_of(&r->block, 9)->slot, 1);
    CHECK_EQUAL(entry_of(&r->block, 10)->slot, 3);
}

static void
a_batch_ends_where_the_run_does_and_says_so(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_broken_run(&r, &p, &c, lossless);
        CHECK_EQUAL(shmring_take_batch(&c, 1, 8, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.count, 2);
        CHECK(t.taken.interrupted && !t.taken.scattered);
        CHECK_EQUAL(t.seqs[1], 9);
        shmring_release(&c, t.taken.hold);
        CHECK_EQUAL(shmring_take_batch(&c, 1, 8, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.count, 4);
        CHECK(!t.taken.interrupted);
        CHECK_EQUAL(t.seqs[3], 13);
        shmring_release(&c, t.taken.hold);
        check_counts(&c, 6, 0, 0);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* ---- windows ---- */

static void
overlapping_windows_count_each_frame_once(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 2);
        shmring_drop(&p, 1);
        put_all(&p, 4); /* seqs 0 1 3 4 5 6 */
        static const uint64_t lost[] = {1, 0, 0};
        shmring_hold *before = NULL;
        for (uint64_t i = 0; i < 3; i++) {
            CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_OK);
            CHECK_EQUAL(t.taken.count, 4);
            CHECK_EQUAL(t.taken.lost, lost[i]);
            CHECK_EQUAL(t.seqs[3], 4 + i);
            CHECK(holds(&c, t.taken.hold, 3, 4 + i));
            if (before != NULL)
                shmring_release(&c, before);
            before = t.taken.hold;
        }
        CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_EMPTY);
        shmring_release(&c, before);
        check_counts(&c, 6, 1, 0);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
windows_that_leave_frames_out_skip_them(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 4);
        shmring_drop(&p, 1);
        put_all(&p, 3); /* seqs 0 1 2 3 5 6 7 */
        CHECK_EQUAL(shmring_take_window(&c, 2, 5, ask(&t)), SHMRING_OK);
        shmring_release(&c, t.taken.hold);
        CHECK_EQUAL(shmring_take_window(&c, 2, 5, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.seqs[0], 6);
        CHECK_EQUAL(t.taken.lost, 1);
        shmring_release(&c, t.taken.hold);
        check_counts(&c, 4, 1, 3);
        CHECK_EQUAL(c.next, 10); /* beyond head: nothing to read until it gets there */
        CHECK(is_empty(&c));
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
scattered_windows_are_told_slot_by_slot(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_broken_run(&r, &p, &c, lossless);
        CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.count, 4);
        CHECK(t.taken.scattered);
        CHECK(t.taken.hold == NULL);
        CHECK_EQUAL(c.held, 0);
        for (uint64_t i = 0; i < 4; i++)
            CHECK(frame_is(shmring_slot_at(&r.block, c.slots_taken[i]), 256, 8 + i));
        CHECK_EQUAL(c.pinned_slots, lossless ? 0 : 4);
        CHECK_EQUAL(c.cursor, 8); /* lossless: they stay until the copy is done */
        shmring_end_scattered(&c, &t.taken);
        CHECK_EQUAL(c.pinned_slots, 0);
        if (lossless)
            CHECK_EQUAL(c.cursor, 9);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
a_frame_held_across_a_scattered_window_keeps_its_own_slot_only(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_broken_run(&r, &p, &c, 1);
    CHECK_EQUAL(shmring_take_one(&c, ask(&t)), SHMRING_OK);
    shmring_hold *const hold = t.taken.hold;
    CHECK_EQUAL(shmring_take_window(&c, 4, 4, ask(&t)), SHMRING_OK);
    CHECK(t.taken.scattered);
    shmring_end_scattered(&c, &t.taken);
    CHECK_EQUAL(c.cursor, 13);
    CHECK_EQUAL(c.pinned_slots, 1);
    shmring_release(&c, hold);
    CHECK_EQUAL(c.pinned_slots, 0);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* ---- the latest ---- */

static void
the_latest_passes_over_older_ones_on_purpose(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_EMPTY);
        put_all(&p, 5);
        CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.seqs[0], 4);
        CHECK_EQUAL(t.taken.lost, 0);
        shmring_release(&c, t.taken.hold);
        check_counts(&c, 1, 0, 4);
        CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_EMPTY);
        put_all(&p, 1);
        read_seq(&c, 5);
        check_counts(&c, 2, 0, 4);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
what_is_skipped_is_not_lost_and_what_is_lost_not_skipped(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 2);
        read_seq(&c, 0);
        shmring_drop(&p, 3);
        put_all(&p, 3); /* seqs 1 5 6 7 are there, 2 3 4 never were */
        CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.seqs[0], 7);
        CHECK_EQUAL(t.taken.lost, 3);
        shmring_release(&c, t.taken.hold);
        check_counts(&c, 2, 3, 3);
        leave(&c);
        close_producer(&p);
        end_ring(&r);
    }
}

/* The latest after overlapping windows: frames that were delivered already are not skipped. */
static void
the_latest_after_windows_skips_only_what_was_never_delivered(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    make_ring(&r, page_slots(8));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 4);
    CHECK_EQUAL(shmring_take_window(&c, 4, 1, ask(&t)), SHMRING_OK); /* seqs 0 to 3 */
    shmring_release(&c, t.taken.hold);
    shmring_drop(&p, 1); /* seq 4 */
    put_all(&p, 2);      /* seqs 5 and 6 */
    CHECK_EQUAL(shmring_take_latest(&c, ask(&t)), SHMRING_OK);
    CHECK_EQUAL(t.seqs[0], 6);
    shmring_release(&c, t.taken.hold);
    check_counts(&c, 5, 1, 1);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* ---- the end ---- */

static void
frames_dropped_at_the_end_are_lost(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 2);
    shmring_drop(&p, 4);
    close_producer(&p);
    read_seq(&c, 0);
    read_seq(&c, 1);
    CHECK_EQUAL(c.lost, 0);
    shmring_count_lost_at_end(&c, shmring_read_epoch(&r.block));
    shmring_count_lost_at_end(&c, shmring_read_epoch(&r.block)); /* once */
    check_counts(&c, 2, 4, 0);
    leave(&c);
    end_ring(&r);
}

static void
frames_of_the_next_producer_are_not_lost(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 1);
    read_seq(&c, 0);
    const uint64_t epoch = shmring_read_epoch(&r.block);
    close_producer(&p);
    CHECK(is_empty(&c)); /* the consumer sees the end; before it counts, another producer begins */
    open_producer(&r, &p);
    put_all(&p, 1);
    shmring_count_lost_at_end(&c, epoch);
    check_counts(&c, 1, 0, 0);
    read_seq(&c, 1);
    check_counts(&c, 2, 0, 0);
    close_producer(&p);
    leave(&c);
    end_ring(&r);
}

static void
frames_passed_over_at_the_end_are_skipped(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        ring r;
        shmring_producer p;
        shmring_consumer c;
        take t;
        make_ring(&r, page_slots(8));
        open_producer(&r, &p);
        join(&r, &c, lossless, SHMRING_START_OLDEST);
        put_all(&p, 4);
        CHECK_EQUAL(shmring_take_window(&c, 1, 6, ask(&t)), SHMRING_OK);
        shmring_release(&c, t.taken.hold);
        close_producer(&p);
        CHECK(is_empty(&c));
        shmring_count_lost_at_end(&c, shmring_read_epoch(&r.block));
        check_counts(&c, 1, 0, 3);
        leave(&c);
        end_ring(&r);
    }
}

/* ---- private copies ---- */

static void
an_observer_copies_what_is_intact(void)
{
    ring r;
    shmring_block observed;
    shmring_producer p;
    take t;
    uint64_t copy[256 / 8];
    shmring_geometry g = page_slots(4);
    g.meta_bytes = META_BYTES;
    make_ring(&r, g);
    open_producer(&r, &p);
    CHECK_EQUAL(shmring_map(&observed, r.fd, SHMRING_OBSERVE), SHMRING_OK);
    put_all(&p, 6);
    for (uint64_t position = 0; position < 9; position++) {
        const int there = position >= 2 && position < 6;
        CHECK_EQUAL(shmring_copy_out(&observed, position, copy, ask(&t)), there ? SHMRING_OK : SHMRING_EMPTY);
        if (!there)
            continue;
        CHECK_EQUAL(t.seqs[0], position);
        CHECK_EQUAL(t.timestamps[0], position);
        CHECK(frame_is(copy, sizeof copy, position));
    }
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_OK); /* on the entry of position 2 */
    CHECK_EQUAL(shmring_copy_out(&observed, 2, copy, ask(&t)), SHMRING_EMPTY);
    CHECK_EQUAL(shmring_copy_out(&observed, 6, copy, ask(&t)), SHMRING_EMPTY);
    shmring_abort(&p);
    CHECK_EQUAL(r.block.hot->active, 0); /* it left no trace */
    shmring_unmap(&observed);
    close_producer(&p);
    end_ring(&r);
}

static void
a_look_at_the_file_sees_what_a_mapping_does(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    take t;
    uint64_t copy[256 / 8];
    shmring_ring_status mapped, read;
    shmring_place_status row, rows[SHMRING_MAX_CONSUMERS];
    shmring_geometry g = page_slots(4);
    g.meta_bytes = META_BYTES;
    make_ring(&r, g);
    const shmring_geometry *const geometry = &r.block.geometry;
    open_producer(&r, &p);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 6);
    shmring_hold *const hold = take_seq(&c, 2);
    shmring_read_ring_status(&r.block, &mapped);
    CHECK(shmring_look_at_ring(r.fd, geometry, &read));
    CHECK(memcmp(&mapped, &read, sizeof read) == 0);
    CHECK(shmring_look_at_places(r.fd, geometry, rows));
    for (unsigned place = 0; place < geometry->consumers; place++) {
        shmring_read_place_status(&r.block, place, &row);
        CHECK_EQUAL(rows[place].state, row.state);
        CHECK_EQUAL(rows[place].next, row.next);
        CHECK_EQUAL(rows[place].start_time, row.start_time);
        CHECK_EQUAL(rows[place].pins, row.pins);
    }
    for (uint64_t position = 0; position < 9; position++) {
        const int there = position >= 2 && position < 6;
        CHECK_EQUAL(shmring_look_at_frame(r.fd, geometry, position, copy, ask(&t)),
                    there ? SHMRING_OK : SHMRING_EMPTY);
        CHECK(!there || (t.seqs[0] == position && frame_is(copy, sizeof copy, position)));
    }
    shmring_entry_at(&r.block, 1)->slot = 4;
    CHECK_EQUAL(shmring_look_at_frame(r.fd, geometry, 5, copy, ask(&t)), SHMRING_CORRUPT);
    shmring_entry_at(&r.block, 1)->slot = 1;
    shmring_release(&c, hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_look_at_a_file_that_is_cut_comes_back(void)
{
    take t;
    uint64_t copy[256 / 8];
    shmring_identity identity;
    shmring_ring_status ring_status;
    shmring_place_status rows[SHMRING_MAX_CONSUMERS];
    shmring_geometry g = page_slots(4);
    const int fd = make_block(&g, NULL);
    CHECK_EQUAL(shmring_look_at_identity(fd, &identity), SHMRING_OK);
    CHECK_EQUAL(ftruncate(fd, (off_t)g.block_bytes - 1), 0);
    CHECK_EQUAL(shmring_look_at_identity(fd, &identity), SHMRING_TRUNCATED);
    CHECK_EQUAL(ftruncate(fd, 0), 0);
    CHECK_EQUAL(shmring_look_at_identity(fd, &identity), SHMRING_NOT_READY);
    CHECK(!shmring_look_at_ring(fd, &g, &ring_status));
    CHECK(!shmring_look_at_places(fd, &g, rows));
    CHECK_EQUAL(shmring_look_at_frame(fd, &g, 0, copy, ask(&t)), SHMRING_TRUNCATED);
    CHECK_EQUAL(ftruncate(fd, (off_t)g.block_bytes), 0); /* zeros, and no memory for them */
    CHECK_EQUAL(shmring_look_at_identity(fd, &identity), SHMRING_FOREIGN);
    CHECK(shmring_look_at_places(fd, &g, rows));
    struct stat status;
    CHECK(fstat(fd, &status) == 0 && status.st_blocks == 0);
    close(fd);
}

static void
statuses_say_what_the_block_knows(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    shmring_ring_status ring_status;
    shmring_place_status status;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    shmring_read_place_status(&r.block, 0, &status);
    CHECK_EQUAL(status.state & 0xff, SHMRING_PLACE_FREE);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    put_all(&p, 2);
    shmring_drop(&p, 3);
    shmring_hold *const hold = take_seq(&c, 0);
    shmring_read_ring_status(&r.block, &ring_status);
    CHECK_EQUAL(ring_status.head, 2);
    CHECK_EQUAL(ring_status.next_seq, 5);
    CHECK_EQUAL(ring_status.dropped, 3);
    CHECK_EQUAL(ring_status.epoch, 1);
    CHECK_EQUAL(ring_status.active, 1);
    CHECK_EQUAL(ring_status.producer_pid, getpid());
    CHECK_EQUAL(ring_status.producer_state, SHMRING_PRODUCER_LIVE);
    shmring_read_place_status(&r.block, 0, &status);
    CHECK_EQUAL(status.state & 0xff, SHMRING_PLACE_LOSSY);
    CHECK_EQUAL(status.pid, getpid());
    CHECK_EQUAL(status.held, 1);
    CHECK_EQUAL(status.pins, 1);
    CHECK(strcmp(status.label, "test") == 0);
    shmring_release(&c, hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

const test consumer_tests[] = {
    TEST(every_frame_comes_once_and_in_order),
    TEST(an_open_claim_is_not_seen),
    TEST(arrays_that_are_not_wanted_may_be_missing),
    TEST(damaged_entries_lead_nowhere),
    TEST(a_damaged_head_leads_nowhere),
    TEST(a_batch_is_what_is_there_up_to_what_was_asked_for),
    TEST(a_batch_ends_where_the_run_does_and_says_so),
    TEST(overlapping_windows_count_each_frame_once),
    TEST(windows_that_leave_frames_out_skip_them),
    TEST(scattered_windows_are_told_slot_by_slot),
    TEST(a_frame_held_across_a_scattered_window_keeps_its_own_slot_only),
    TEST(the_latest_passes_over_older_ones_on_purpose),
    TEST(what_is_skipped_is_not_lost_and_what_is_lost_not_skipped),
    TEST(the_latest_after_windows_skips_only_what_was_never_delivered),
    TEST(frames_dropped_at_the_end_are_lost),
    TEST(frames_of_the_next_producer_are_not_lost),
    TEST(frames_passed_over_at_the_end_are_skipped),
    TEST(an_observer_copies_what_is_intact),
    TEST(statuses_say_what_the_block_knows),
    TEST(a_look_at_the_file_sees_what_a_mapping_does),
    TEST(a_look_at_a_file_that_is_cut_comes_back),
    LAST_TEST,
};
