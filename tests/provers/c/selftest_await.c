/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole waits: what each of them depends on, and how each of them ends. Only that they end is checked against
 * the clock.
 */
#include "selftest.h"

#include <pthread.h>

#define NOW 0
#define SOON (shmring_now_ns() + SHMRING_SECOND / 100)
#define LATE (shmring_now_ns() + 30 * SHMRING_SECOND) /* it should have ended long before */

static const shmring_patience patience = {SHMRING_SECOND / 50, 1000, 2};

typedef struct scene {
    ring r;
    shmring_producer p;
    shmring_consumer c;
    pthread_t thread;
} scene;

static void
begin(scene *s, int lossless)
{
    make_ring(&s->r, page_slots(4));
    open_producer(&s->r, &s->p);
    join(&s->r, &s->c, lossless, SHMRING_START_OLDEST);
}

/* The producer has ended already. */
static void
end(scene *s)
{
    leave(&s->c);
    end_ring(&s->r);
}

/* What is told of the producer to one who takes part, and to one who looks on. */
static int
outlook(scene *s, uint64_t least)
{
    return shmring_outlook(&s->c, least, 1);
}

static int
looked_at(const scene *s)
{
    shmring_ring_status report;
    return shmring_look_at_producer(s->r.fd, &s->r.block.geometry, &report);
}

/* ---- what frames depend on ---- */

static void
frames_that_are_there_are_there_whatever_became_of_the_producer(void)
{
    static void (*const ends[])(shmring_producer *) = {close_producer, kill_producer};
    for (unsigned i = 0; i < 2; i++) {
        scene s;
        begin(&s, 1);
        put_all(&s.p, 2);
        CHECK_EQUAL(outlook(&s, 2), SHMRING_OK);
        ends[i](&s.p);
        CHECK_EQUAL(outlook(&s, 2), SHMRING_OK);
        CHECK_EQUAL(shmring_await(&s.c, 2, SHMRING_FOR_EVER, &patience), SHMRING_OK);
        end(&s);
    }
}

static void
frames_may_come_before_the_first_producer_and_from_a_living_one(void)
{
    scene s;
    make_ring(&s.r, page_slots(4));
    join(&s.r, &s.c, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_EMPTY);
    CHECK_EQUAL(looked_at(&s), SHMRING_EMPTY);
    open_producer(&s.r, &s.p);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_EMPTY);
    CHECK_EQUAL(looked_at(&s), SHMRING_OK);
    close_producer(&s.p);
    end(&s);
}

static void
a_stream_that_was_closed_has_ended(void)
{
    scene s;
    begin(&s, 1);
    put_all(&s.p, 1);
    close_producer(&s.p);
    CHECK_EQUAL(looked_at(&s), SHMRING_ENDED);
    CHECK_EQUAL(outlook(&s, 2), SHMRING_ENDED);
    CHECK_EQUAL(shmring_await(&s.c, 2, SHMRING_FOR_EVER, &patience), SHMRING_ENDED);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_OK); /* what is left can be taken */
    read_seq(&s.c, 0);
    CHECK_EQUAL(shmring_await(&s.c, 1, SHMRING_FOR_EVER, &patience), SHMRING_ENDED);
    end(&s);
}

static void
frames_dropped_at_the_end_count_as_lost(void)
{
    scene s;
    begin(&s, 1);
    shmring_drop(&s.p, 3);
    close_producer(&s.p);
    CHECK_EQUAL(shmring_await(&s.c, 1, NOW, &patience), SHMRING_ENDED);
    CHECK_EQUAL(s.c.lost, 3);
    end(&s);
}

static void
a_producer_that_failed_and_one_that_died_are_told_apart(void)
{
    scene s;
    begin(&s, 1);
    kill_producer(&s.p);
    CHECK_EQUAL(looked_at(&s), SHMRING_DIED);
    CHECK_EQUAL(shmring_outlook(&s.c, 1, 0), SHMRING_EMPTY); /* nobody asked the kernel */
    CHECK_EQUAL(outlook(&s, 1), SHMRING_DIED);
    CHECK_EQUAL(shmring_await(&s.c, 1, SHMRING_FOR_EVER, &patience), SHMRING_DIED);
    open_producer(&s.r, &s.p);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_EMPTY);
    const int fd = s.p.lock_fd;
    shmring_producer_fail(&s.p, "out of paper");
    close(fd);
    CHECK_EQUAL(looked_at(&s), SHMRING_FAILED);
    CHECK_EQUAL(shmring_await(&s.c, 1, SHMRING_FOR_EVER, &patience), SHMRING_FAILED);
    end(&s);
}

static void
a_producer_that_abandons_the_ring_looks_dead(void)
{
    scene s;
    begin(&s, 1);
    put_all(&s.p, 1);
    CHECK_EQUAL(shmring_claim(&s.p, 2), SHMRING_OK);
    const int fd = s.p.lock_fd;
    shmring_producer_abandon(&s.p);
    CHECK_EQUAL(looked_at(&s), SHMRING_DIED); /* while its descriptor is still open */
    close(fd);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_OK);
    read_seq(&s.c, 0);
    CHECK_EQUAL(shmring_await(&s.c, 1, SHMRING_FOR_EVER, &patience), SHMRING_DIED);
    open_producer(&s.r, &s.p);
    put_all(&s.p, 1);
    read_seq(&s.c, 1);
    close_producer(&s.p);
    end(&s);
}

static void
who_awaits_a_takeover_waits_on(void)
{
    scene s;
    begin(&s, 1);
    s.c.awaits_takeover = 1;
    kill_producer(&s.p);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_EMPTY);
    CHECK_EQUAL(shmring_await(&s.c, 1, SOON, &patience), SHMRING_TIMEOUT);
    open_producer(&s.r, &s.p);
    const int fd = s.p.lock_fd;
    shmring_producer_fail(&s.p, "out of paper");
    close(fd);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_EMPTY);
    open_producer(&s.r, &s.p);
    close_producer(&s.p);
    CHECK_EQUAL(outlook(&s, 1), SHMRING_ENDED); /* the regular end is one */
    end(&s);
}

static void
slots_that_a_consumer_holds_itself_are_not_waited_for(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        scene s;
        shmring_hold *holds[4];
        begin(&s, lossless);
        s.c.max_held = lossless ? UINT64_MAX : 4;
        put_all(&s.p, 4);
        for (uint64_t seq = 0; seq < 4; seq++)
            holds[seq] = take_seq(&s.c, seq);
        CHECK_EQUAL(shmring_await(&s.c, 1, SHMRING_FOR_EVER, &patience), SHMRING_HELD);
        shmring_release(&s.c, holds[0]);
        CHECK_EQUAL(outlook(&s, 1), SHMRING_EMPTY);
        CHECK_EQUAL(outlook(&s, 2), SHMRING_HELD);
        for (unsigned i = 1; i < 4; i++)
            shmring_release(&s.c, holds[i]);
        CHECK_EQUAL(outlook(&s, 5), SHMRING_HELD); /* more than there are slots */
        close_producer(&s.p);
        end(&s);
    }
}

static void
whoever_looks_on_learns_who_lives(void)
{
    scene s;
    shmring_consumer dead;
    shmring_place_status places[SHMRING_MAX_CONSUMERS];
    begin(&s, 1);
    join(&s.r, &dead, 1, SHMRING_START_OLDEST);
    kill_consumer(&dead);
    CHECK_EQUAL(shmring_look_at_places(s.r.fd, &s.r.block.geometry, places), 1);
    CHECK_EQUAL(places[0].alive, 1);
    CHECK_EQUAL(places[1].alive, 0);
    CHECK_EQUAL(places[1].state & 0xff, SHMRING_PLACE_LOSSLESS);
    CHECK_EQUAL(shmring_reap_all(&s.r.block, s.p.lock_fd), 1);
    CHECK_EQUAL(shmring_look_at_places(s.r.fd, &s.r.block.geometry, places), 1);
    CHECK_EQUAL(places[1].state & 0xff, SHMRING_PLACE_FREE);
    close_producer(&s.p);
    end(&s);
}

/* ---- a wait ends with what happens meanwhile ---- */

static void
wait_a_moment(void)
{
    usleep(20000);
}

static void *
publish_later(void *argument)
{
    wait_a_moment();
    put_all(&((scene *)argument)->p, 1);
    wait_a_moment();
    put_all(&((scene *)argument)->p, 1);
    return NULL;
}

static void *
close_later(void *argument)
{
    wait_a_moment();
    close_producer(&((scene *)argument)->p);
    return NULL;
}

static void *
die_later(void *argument)
{
    wait_a_moment();
    kill_producer(&((scene *)argument)->p);
    return NULL;
}

static void
a_wait_for_frames_ends_with_what_the_producer_does(void)
{
    static const struct {
        void *(*work)(void *);
        int outcome;
    } cases[] = {{publish_later, SHMRING_OK}, {close_later, SHMRING_ENDED}, {die_later, SHMRING_DIED}};
    for (unsigned i = 0; i < 3; i++) {
        scene s;
        begin(&s, 1);
        const int64_t before = shmring_now_ns();
        CHECK_EQUAL(pthread_create(&s.thread, NULL, cases[i].work, &s), 0);
        CHECK_EQUAL(shmring_await(&s.c, 2, LATE, &patience), cases[i].outcome);
        pthread_join(s.thread, NULL);
        CHECK(shmring_now_ns() - before < 25 * SHMRING_SECOND);
        if (i == 0)
            close_producer(&s.p);
        end(&s);
    }
}

/* As soon as the consumer is about to sleep. */
static void *
abandon_beside_a_sleeper(void *argument)
{
    scene *const s = (scene *)argument;
    while ((__atomic_load_n(&s->r.block.hot->data_event, __ATOMIC_SEQ_CST) & 1) == 0)
        sched_yield();
    const int fd = s->p.lock_fd;
    shmring_producer_abandon(&s->p);
    close(fd);
    return NULL;
}

static void
a_sleeper_is_woken_by_a_producer_that_abandons_the_ring(void)
{
    static const shmring_patience endless = {3600 * SHMRING_SECOND, 0, 2}; /* no look of its own accord */
    for (int lossless = 0; lossless < 2; lossless++) {
        scene s;
        begin(&s, lossless);
        CHECK_EQUAL(pthread_create(&s.thread, NULL, abandon_beside_a_sleeper, &s), 0);
        CHECK_EQUAL(shmring_await(&s.c, 1, SHMRING_FOR_EVER, &endless), SHMRING_DIED);
        pthread_join(s.thread, NULL);
        end(&s);
    }
}

static void
a_wait_for_frames_ends_in_time(void)
{
    scene s;
    begin(&s, 1);
    const int64_t deadline = SOON;
    CHECK_EQUAL(shmring_await(&s.c, 1, deadline, &patience), SHMRING_TIMEOUT);
    CHECK(shmring_now_ns() >= deadline);
    CHECK_EQUAL(shmring_await(&s.c, 1, NOW, &patience), SHMRING_TIMEOUT);
    kill_producer(&s.p);
    CHECK_EQUAL(shmring_await(&s.c, 1, NOW, &patience),
                SHMRING_DIED); /* the last look asks the kernel, too */
    end(&s);
}

static void *
release_later(void *argument)
{
    wait_a_moment();
    read_seq(&((scene *)argument)->c, 0);
    return NULL;
}

static void
a_wait_for_space_ends_when_there_is_some(void)
{
    scene s;
    begin(&s, 1);
    put_all(&s.p, 4);
    const int64_t deadline = SOON;
    CHECK_EQUAL(shmring_claim_until(&s.p, 1, deadline, &patience), SHMRING_TIMEOUT);
    CHECK(shmring_now_ns() >= deadline);
    CHECK_EQUAL(shmring_claim_until(&s.p, 1, NOW, &patience), SHMRING_TIMEOUT);
    CHECK_EQUAL(pthread_create(&s.thread, NULL, release_later, &s), 0);
    CHECK_EQUAL(shmring_claim_until(&s.p, 1, LATE, &patience), SHMRING_OK);
    pthread_join(s.thread, NULL);
    shmring_abort(&s.p);
    CHECK_EQUAL(shmring_claim_until(&s.p, 1, NOW, &patience), SHMRING_OK);
    shmring_abort(&s.p);
    close_producer(&s.p);
    end(&s);
}

static void *
be_killed_later(void *argument)
{
    wait_a_moment();
    kill_consumer(&((scene *)argument)->c);
    return NULL;
}

static void
a_wait_for_space_is_not_held_up_by_the_dead(void)
{
    scene s;
    begin(&s, 1);
    put_all(&s.p, 4);
    CHECK_EQUAL(pthread_create(&s.thread, NULL, be_killed_later, &s), 0);
    CHECK_EQUAL(shmring_claim_until(&s.p, 1, LATE, &patience), SHMRING_OK);
    pthread_join(s.thread, NULL);
    shmring_abort(&s.p);
    put_all(&s.p, 9);
    close_producer(&s.p);
    end_ring(&s.r);
}

static void *
join_later(void *argument)
{
    scene *const s = (scene *)argument;
    wait_a_moment();
    join(&s->r, &s->c, 1, SHMRING_START_OLDEST);
    return NULL;
}

static void
a_wait_for_consumers_counts_the_living(void)
{
    scene s;
    begin(&s, 1);
    CHECK_EQUAL(shmring_await_consumers(&s.p, 1, NOW, &patience), SHMRING_OK);
    CHECK_EQUAL(shmring_await_consumers(&s.p, 2, SOON, &patience), SHMRING_TIMEOUT);
    kill_consumer(&s.c);
    CHECK_EQUAL(shmring_await_consumers(&s.p, 1, NOW, &patience), SHMRING_TIMEOUT);
    CHECK_EQUAL(pthread_create(&s.thread, NULL, join_later, &s), 0);
    CHECK_EQUAL(shmring_await_consumers(&s.p, 1, LATE, &patience), SHMRING_OK);
    pthread_join(s.thread, NULL);
    close_producer(&s.p);
    end(&s);
}

static void
a_spin_has_one_budget_for_all_slices(void)
{
    const shmring_patience usual = shmring_default_patience();
    CHECK(usual.slice_ns > 0 && usual.cores > 0 && usual.spin_ns >= 0);
    CHECK_EQUAL(shmring_spin_left(500, 500, 1000, SHMRING_SECOND), 1000);
    CHECK_EQUAL(shmring_spin_left(900, 500, 1000, SHMRING_SECOND), 600);
    CHECK_EQUAL(shmring_spin_left(9000, 500, 1000, SHMRING_SECOND), 0);
    CHECK_EQUAL(shmring_spin_left(9000, 500, SHMRING_FOR_EVER, SHMRING_SECOND), SHMRING_SECOND);
    CHECK_EQUAL(shmring_slice_end(500, SHMRING_FOR_EVER, 100), 600);
    CHECK_EQUAL(shmring_slice_end(500, 550, 100), 550);
    CHECK_EQUAL(shmring_slice_end(500, NOW, 100), NOW);
}

const test await_tests[] = {
    TEST(frames_that_are_there_are_there_whatever_became_of_the_producer),
    TEST(frames_may_come_before_the_first_producer_and_from_a_living_one),
    TEST(a_stream_that_was_closed_has_ended),
    TEST(frames_dropped_at_the_end_count_as_lost),
    TEST(a_producer_that_failed_and_one_that_died_are_told_apart),
    TEST(a_producer_that_abandons_the_ring_looks_dead),
    TEST(who_awaits_a_takeover_waits_on),
    TEST(slots_that_a_consumer_holds_itself_are_not_waited_for),
    TEST(whoever_looks_on_learns_who_lives),
    TEST(a_wait_for_frames_ends_with_what_the_producer_does),
    TEST(a_sleeper_is_woken_by_a_producer_that_abandons_the_ring),
    TEST(a_wait_for_frames_ends_in_time),
    TEST(a_wait_for_space_ends_when_there_is_some),
    TEST(a_wait_for_space_is_not_held_up_by_the_dead),
    TEST(a_wait_for_consumers_counts_the_living),
    TEST(a_spin_has_one_budget_for_all_slices),
    LAST_TEST,
};
