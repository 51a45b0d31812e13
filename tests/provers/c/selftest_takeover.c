/* SPDX-License-Identifier: Apache-2.0
 *
 * What a producer leaves behind when it dies between two steps, and what the next one makes of it.
 * (steps.c kills it at every step; here each case is made by hand.)
 */
#include "selftest.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { SLOTS = 4 };

/* The next producer takes over, and the ring is whole. */
static void
take_over(ring *r, shmring_producer *p)
{
    open_producer(r, p);
    check_permutation(p);
    check_history(&r->block);
    for (uint64_t index = 0; index < SLOTS; index++) {
        const uint64_t stamp = shmring_entry_at(&r->block, index)->stamp;
        CHECK(stamp % 2 == 0 && stamp < shmring_published_stamp(p->head));
    }
}

static void
a_marked_entry_is_freed(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    put_all(&p, 6);
    CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
    fill_frame(shmring_claimed_slot(&p), 100, 999); /* half written */
    kill_producer(&p);
    take_over(&r, &p);
    CHECK_EQUAL(p.head, 6);
    CHECK_EQUAL(p.next_seq, 6);
    CHECK_EQUAL(p.epoch, 2);
    CHECK_EQUAL(r.block.hot->claimed, 8); /* kept: a newcomer must not start below 4 */
    CHECK_EQUAL(check_history(&r.block), 2);
    put_all(&p, 5);
    CHECK_EQUAL(check_history(&r.block), 4);
    close_producer(&p);
    end_ring(&r);
}

/* Killed between the stamps and head: the frames are published, and a consumer may have them already. */
static void
a_published_stamp_above_head_counts(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer lossless, lossy;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    join(&r, &lossless, 1, SHMRING_START_OLDEST);
    join(&r, &lossy, 0, SHMRING_START_OLDEST);
    put_all(&p, 2);
    CHECK_EQUAL(shmring_claim(&p, 2), SHMRING_OK);
    write_frame(&p, 0);
    write_frame(&p, 1);
    shmring_publish(&p, 2);
    r.block.hot->head = 2; /* killed before it could store head and next_seq */
    r.block.hot->next_seq = 2;
    kill_producer(&p);
    CHECK_EQUAL(shmring_count_ready(&lossless), 2);
    for (uint64_t seq = 0; seq < 3; seq++)
        read_seq(&lossless, seq);
    CHECK_EQUAL(shmring_count_ready(&lossless), 1);
    CHECK_EQUAL(shmring_outlook(&lossless, 1, 1), SHMRING_OK);
    CHECK_EQUAL(shmring_outlook(&lossless, 2, 1), SHMRING_DIED);
    r.block.hot->next_seq = 4; /* killed a moment later */
    CHECK_EQUAL(shmring_outlook(&lossless, 2, 1), SHMRING_DIED);
    CHECK_EQUAL(lossless.lost, 0); /* it can still be read */
    r.block.hot->next_seq = 2;
    take_over(&r, &p);
    CHECK_EQUAL(p.head, 4);
    CHECK_EQUAL(r.block.hot->head, 4);
    CHECK_EQUAL(p.next_seq, 4);
    shmring_drop(&p, 10);
    put_all(&p, 1);
    read_seq(&lossless, 3);
    read_seq(&lossless, 14);
    CHECK(is_empty(&lossless));
    for (uint64_t seq = 1; seq < 4; seq++) /* the next producer's frame took the slot of the first */
        read_seq(&lossy, seq);
    read_seq(&lossy, 14);
    CHECK(is_empty(&lossy));
    CHECK_EQUAL(lossless.lost, 10);
    CHECK_EQUAL(lossy.lost, 11);
    leave(&lossy);
    leave(&lossless);
    close_producer(&p);
    end_ring(&r);
}

/* next_seq is stored before head: what the dead producer did not finish to publish counts as lost. */
static void
seqs_go_on_where_the_dead_one_stopped(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 2);
    r.block.hot->next_seq = 3;
    kill_producer(&p);
    take_over(&r, &p);
    put_all(&p, 1);
    read_seq(&c, 0);
    read_seq(&c, 1);
    read_seq(&c, 3);
    CHECK_EQUAL(c.lost, 1);
    kill_producer(&p);
    r.block.hot->next_seq = 1; /* damaged: behind what was published */
    take_over(&r, &p);
    CHECK_EQUAL(p.next_seq, 4);
    put_all(&p, 1);
    read_seq(&c, 4);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Killed in a swap: both entries invalid, both with the slot that one of them gives away. */
static void
a_half_done_swap_is_made_whole(void)
{
    for (uint64_t mine = 0; mine < SLOTS; mine++) {
        for (uint64_t away = 1; away < SLOTS; away++) {
            ring r;
            shmring_producer p;
            make_ring(&r, page_slots(SLOTS));
            open_producer(&r, &p);
            put_all(&p, SLOTS + mine);
            shmring_entry *const claimed = entry_of(&r.block, p.head);
            shmring_entry *const other = entry_of(&r.block, p.head + away);
            claimed->stamp = shmring_writing_stamp(p.head);
            r.block.hot->claimed = p.head + 1;
            other->stamp = 0;
            other->slot = claimed->slot;
            kill_producer(&p);
            take_over(&r, &p);
            CHECK_EQUAL(check_history(&r.block), SLOTS - 2);
            CHECK_EQUAL(r.block.hot->claimed, SLOTS + mine + 1);
            put_all(&p, 2 * SLOTS);
            check_permutation(&p);
            CHECK_EQUAL(check_history(&r.block), SLOTS);
            close_producer(&p);
            end_ring(&r);
        }
    }
}

/* The entries in use keep their slots, whatever an unused one claims to have. */
static void
entries_in_use_keep_their_slots(void)
{
    for (uint32_t slot = 0; slot < 7; slot++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, SLOTS);
        kill_producer(&p);
        entry_of(&r.block, 0)->stamp = 0;
        entry_of(&r.block, 0)->slot = slot < 5 ? slot : slot == 5 ? UINT32_MAX : 1u << 31;
        take_over(&r, &p);
        CHECK_EQUAL(p.slot_of[0], 0); /* nobody else has it */
        CHECK_EQUAL(check_history(&r.block), SLOTS - 1);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
what_no_crash_can_leave_is_corrupt(void)
{
    for (int damage = 0; damage < 2; damage++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, SLOTS);
        kill_producer(&p);
        entry_of(&r.block, 2)->slot = damage ? SLOTS : 1; /* no slot, or that of another in use */
        const int fd = lock_file(&r);
        CHECK_EQUAL(shmring_producer_open(&p, &r.block, fd), SHMRING_CORRUPT);
        CHECK(p.slot_of == NULL && p.entry_of == NULL);
        CHECK_EQUAL(r.block.hot->epoch, 1);
        const int other = lock_file(&r);
        CHECK(!shmring_lock_held(other, SHMRING_LOCK_PRODUCER)); /* given back */
        close(other);
        close(fd);
        end_ring(&r);
    }
}

static void
stamps_of_no_position_of_their_entry_are_freed(void)
{
    static const uint64_t stamps[] = {1, 3, UINT64_MAX, UINT64_MAX - 1, 4, 2 * SLOTS + 2, 2 * 100 + 2};
    for (size_t i = 0; i < sizeof stamps / sizeof *stamps; i++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(SLOTS));
        open_producer(&r, &p);
        put_all(&p, 3);
        kill_producer(&p);
        entry_of(&r.block, 0)->stamp = stamps[i];
        take_over(&r, &p);
        CHECK_EQUAL(entry_of(&r.block, 0)->stamp, 0);
        CHECK_EQUAL(check_history(&r.block), 2);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
consumers_keep_what_they_hold_over_a_takeover(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer lossless, lossy;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    join(&r, &lossless, 1, SHMRING_START_OLDEST);
    join(&r, &lossy, 0, SHMRING_START_OLDEST);
    put_all(&p, SLOTS);
    shmring_hold *const pinned = take_seq(&lossy, 0);
    shmring_hold *const lagging = take_seq(&lossless, 0);
    shmring_hold *const second = take_seq(&lossless, 1);
    CHECK_EQUAL(shmring_claim(&p, 1), SHMRING_FULL);
    kill_producer(&p);
    take_over(&r, &p);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    shmring_release(&lossless, lagging);
    CHECK_EQUAL(put(&p), SHMRING_FULL); /* seq 0 is pinned still, the rest unread */
    shmring_release(&lossless, second);
    put_all(&p, 1);
    CHECK_EQUAL(put(&p), SHMRING_FULL);
    CHECK(holds(&lossy, pinned, 0, 0));
    for (uint64_t seq = 2; seq < 5; seq++)
        read_seq(&lossless, seq);
    shmring_release(&lossy, pinned);
    leave(&lossy);
    leave(&lossless);
    close_producer(&p);
    end_ring(&r);
}

static void
a_takeover_wakes_who_waits(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(SLOTS));
    open_producer(&r, &p);
    shmring_event_prepare(&r.block.hot->data_event);
    kill_producer(&p); /* it owed a wake-up */
    take_over(&r, &p);
    CHECK_EQUAL(r.block.hot->data_event, 2); /* next epoch, nobody sleeps */
    close_producer(&p);
    end_ring(&r);
}

static void
a_killed_process_lets_the_next_one_in(void)
{
    ring r;
    shmring_producer p;
    int ready[2];
    make_ring(&r, page_slots(SLOTS));
    CHECK_EQUAL(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) { /* it is killed with an open claim */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        open_producer(&r, &p);
        put_all(&p, 3);
        if (shmring_claim(&p, 1) != SHMRING_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte;
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    const int fd = lock_file(&r);
    CHECK_EQUAL(shmring_producer_open(&p, &r.block, fd), SHMRING_PRODUCER_EXISTS);
    CHECK_EQUAL(r.block.hot->producer_pid, child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK_EQUAL(shmring_read_producer_state(&r.block), SHMRING_PRODUCER_LIVE); /* it could not say good-bye */
    CHECK_EQUAL(shmring_producer_open(&p, &r.block, fd), SHMRING_OK);
    CHECK_EQUAL(p.head, 3);
    CHECK_EQUAL(p.next_seq, 3);
    CHECK_EQUAL(r.block.hot->producer_pid, getpid());
    put_all(&p, SLOTS);
    close_producer(&p);
    close(ready[0]);
    close(ready[1]);
    end_ring(&r);
}

const test takeover_tests[] = {
    TEST(a_marked_entry_is_freed),
    TEST(a_published_stamp_above_head_counts),
    TEST(seqs_go_on_where_the_dead_one_stopped),
    TEST(a_half_done_swap_is_made_whole),
    TEST(entries_in_use_keep_their_slots),
    TEST(what_no_crash_can_leave_is_corrupt),
    TEST(stamps_of_no_position_of_their_entry_are_freed),
    TEST(consumers_keep_what_they_hold_over_a_takeover),
    TEST(a_takeover_wakes_who_waits),
    TEST(a_killed_process_lets_the_next_one_in),
    LAST_TEST,
};
