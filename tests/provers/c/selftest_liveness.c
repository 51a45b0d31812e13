/* SPDX-License-Identifier: Apache-2.0
 *
 * The dead and the living: which of them are evicted, which are not, and by whom.
 */
#include "selftest.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Forks a child that does `work`, says so, and then lives until it is killed. */
static pid_t
child_that(void (*work)(ring *), ring *r)
{
    int ready[2];
    char byte;
    CHECK_EQUAL(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* if a check fails first */
        work(r);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    CHECK(child > 0);
    close(ready[1]);
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static void
end_child(pid_t child)
{
    kill(child, SIGKILL);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
}

/* Lossless: holds one frame by a pin, two by the cursor. */
static void
join_and_hold(ring *r)
{
    shmring_consumer *const c = (shmring_consumer *)malloc(sizeof *c);
    join(r, c, 1, SHMRING_START_OLDEST);
    for (uint64_t seq = 0; seq < 3; seq++)
        take_seq(c, seq);
}

static void
join_lossy_and_pin(ring *r)
{
    shmring_consumer *const c = (shmring_consumer *)malloc(sizeof *c);
    join(r, c, 0, SHMRING_START_OLDEST);
    for (uint64_t seq = 0; seq < 4; seq++)
        take_seq(c, seq);
}

static void
join_and_leave_holding(ring *r)
{
    shmring_consumer *const c = (shmring_consumer *)malloc(sizeof *c);
    join(r, c, 1, SHMRING_START_OLDEST);
    for (uint64_t seq = 0; seq < 4; seq++)
        take_seq(c, seq);
    shmring_leave_holding(c);
}

static void
only_the_dead_are_evicted(void)
{
    static void (*const works[])(ring *) = {join_and_hold, join_lossy_and_pin, join_and_leave_holding};
    for (unsigned i = 0; i < 3; i++) {
        ring r;
        shmring_producer p;
        make_ring(&r, page_slots(4));
        open_producer(&r, &p);
        put_all(&p, 4);
        const pid_t child = child_that(works[i], &r);
        CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 0); /* a live one is never robbed */
        CHECK_EQUAL(put(&p), SHMRING_FULL);
        end_child(child);
        CHECK_EQUAL(put(&p), SHMRING_FULL); /* nobody noticed yet */
        CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 1);
        CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 0);
        CHECK_EQUAL(r.block.hot->active, 0);
        CHECK_EQUAL(r.block.table[0].state & 0xff, SHMRING_PLACE_FREE);
        for (uint64_t slot = 0; slot < 4; slot++)
            CHECK_EQUAL(shmring_entry_at(&r.block, slot)->pins, 0);
        CHECK(!shmring_lock_held(p.lock_fd, SHMRING_LOCK_PLACE(0)));
        put_all(&p, 9);
        CHECK_EQUAL(check_history(&r.block), 4);
        close_producer(&p);
        end_ring(&r);
    }
}

static void
a_dead_ones_pins_fall_and_others_stay(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(5));
    open_producer(&r, &p);
    put_all(&p, 5);
    join(&r, &c, 0, SHMRING_START_OLDEST);
    shmring_hold *const hold = take_seq(&c, 0);
    end_child(child_that(join_lossy_and_pin, &r));
    CHECK_EQUAL(shmring_entry_at(&r.block, 0)->pins, 3);
    CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 1);
    CHECK_EQUAL(shmring_entry_at(&r.block, 0)->pins, c.bit);
    put_all(&p, 20);
    CHECK(holds(&c, hold, 0, 0));
    shmring_release(&c, hold);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* A newcomer needs nobody to reap for it. */
static void
a_newcomer_takes_a_dead_ones_place(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    shmring_geometry g = page_slots(5);
    g.consumers = 1;
    make_ring(&r, g);
    open_producer(&r, &p);
    put_all(&p, 5);
    const pid_t child = child_that(join_and_hold, &r);
    const int fd = lock_file(&r);
    CHECK_EQUAL(shmring_join(&c, &r.block, fd, 1, SHMRING_START_OLDEST, ""), SHMRING_NO_PLACE);
    end_child(child);
    CHECK_EQUAL(shmring_join(&c, &r.block, fd, 1, SHMRING_START_OLDEST, ""), SHMRING_OK);
    CHECK_EQUAL(r.block.table[0].state, 2u << 8 | SHMRING_PLACE_LOSSLESS);
    for (uint64_t slot = 0; slot < 5; slot++)
        CHECK_EQUAL(shmring_entry_at(&r.block, slot)->pins, 0);
    for (uint64_t seq = 0; seq < 5; seq++)
        read_seq(&c, seq);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Killed anywhere in joining, leaving or reaping: what is left is a place that is simply reaped. */
static void
a_place_left_halfway_is_reaped(void)
{
    static const uint64_t kinds[] = {SHMRING_PLACE_JOINING, SHMRING_PLACE_LOSSLESS, SHMRING_PLACE_LOSSY,
                                     SHMRING_PLACE_LEFT};
    for (unsigned i = 0; i < 4; i++) {
        for (uint64_t active = 0; active < 2; active++) {
            ring r;
            shmring_producer p;
            make_ring(&r, page_slots(4));
            open_producer(&r, &p);
            put_all(&p, 4);
            r.block.table[0].state = 7u << 8 | kinds[i];
            r.block.hot->active = active;
            r.block.hot->join_count++;
            shmring_entry_at(&r.block, 1)->pins = 1;
            CHECK_EQUAL(shmring_reap(&r.block, p.lock_fd, 0), 1);
            CHECK_EQUAL(r.block.table[0].state, 7u << 8 | SHMRING_PLACE_FREE);
            CHECK_EQUAL(r.block.hot->active, 0);
            CHECK_EQUAL(shmring_entry_at(&r.block, 1)->pins, 0);
            put_all(&p, 4);
            close_producer(&p);
            end_ring(&r);
        }
    }
}

static void
a_free_place_that_is_locked_is_somebodys_already(void)
{
    ring r;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    const int joining = lock_file(&r), reaper = lock_file(&r);
    CHECK(shmring_set_lock(joining, SHMRING_LOCK_PLACE(0), F_WRLCK)); /* somebody is about to join */
    CHECK_EQUAL(shmring_reap(&r.block, reaper, 0), 0);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(c.place, 1);
    leave(&c);
    close(joining);
    close(reaper);
    end_ring(&r);
}

static void
reaping_wakes_a_waiting_producer(void)
{
    ring r;
    shmring_producer p;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    put_all(&p, 4);
    end_child(child_that(join_and_hold, &r));
    const uint32_t value = shmring_event_prepare(&r.block.hot->space_event);
    CHECK_EQUAL(shmring_reap_all(&r.block, p.lock_fd), 1);
    CHECK_EQUAL(r.block.hot->space_event, value + 1);
    close_producer(&p);
    end_ring(&r);
}

const test liveness_tests[] = {
    TEST(only_the_dead_are_evicted),
    TEST(a_dead_ones_pins_fall_and_others_stay),
    TEST(a_newcomer_takes_a_dead_ones_place),
    TEST(a_place_left_halfway_is_reaped),
    TEST(a_free_place_that_is_locked_is_somebodys_already),
    TEST(reaping_wakes_a_waiting_producer),
    LAST_TEST,
};
