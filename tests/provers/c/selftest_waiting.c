/* SPDX-License-Identifier: Apache-2.0
 *
 * Eventcounts, and waits that end when they should. Only that they end is checked against the clock.
 */
#include "selftest.h"

#include <pthread.h>

#define SOON (shmring_now_ns() + SHMRING_SECOND / 100)
#define LATE (shmring_now_ns() + 30 * SHMRING_SECOND) /* a wake-up was lost */

/* ---- eventcounts ---- */

static void
the_sleep_bit_falls_with_a_new_epoch(void)
{
    uint32_t event = 6;
    shmring_event_notify(&event);
    CHECK_EQUAL(event, 6); /* nobody sleeps: nothing to do */
    CHECK_EQUAL(shmring_event_prepare(&event), 7);
    CHECK_EQUAL(event, 7);
    CHECK_EQUAL(shmring_event_prepare(&event), 7); /* a second sleeper */
    shmring_event_announce(&event);
    CHECK_EQUAL(event, 8);
    event = UINT32_MAX;
    shmring_event_notify(&event);
    CHECK_EQUAL(event, 0); /* the epoch starts again */
}

static void
a_wake_up_before_the_sleep_is_not_lost(void)
{
    uint32_t event = 0;
    const uint32_t value = shmring_event_prepare(&event);
    shmring_event_notify(&event);
    shmring_futex_wait(&event, value, LATE); /* returns at once: the word is not that value any more */
    CHECK_EQUAL(event, 2);
}

static void
a_wait_ends_at_its_deadline(void)
{
    uint32_t event = 1;
    const int64_t before = shmring_now_ns();
    shmring_futex_wait(&event, 1, before + SHMRING_SECOND / 50);
    CHECK(shmring_now_ns() >= before + SHMRING_SECOND / 50);
    shmring_futex_wait(&event, 1, before); /* in the past */
    CHECK(shmring_now_ns() < before + 20 * SHMRING_SECOND);
}

static void
publishing_makes_no_call_when_nobody_sleeps(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(4));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    const uint32_t data = r.block.hot->data_event, space = r.block.hot->space_event;
    put_all(&p, 3);
    for (uint64_t seq = 0; seq < 3; seq++)
        read_seq(&c, seq);
    CHECK_EQUAL(r.block.hot->data_event, data);
    CHECK_EQUAL(r.block.hot->space_event, space);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

/* Everything that a producer may wait for wakes it, everything that a consumer may wait for wakes that. */
static void
every_step_that_matters_wakes_somebody(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer lossless, lossy;
    make_ring(&r, page_slots(4));
    uint32_t *const data = &r.block.hot->data_event, *const space = &r.block.hot->space_event;
    shmring_event_prepare(data);
    open_producer(&r, &p);
    CHECK_EQUAL(*data & 1, 0);
    shmring_event_prepare(space);
    join(&r, &lossless, 1, SHMRING_START_OLDEST);
    CHECK_EQUAL(*space & 1, 0);
    join(&r, &lossy, 0, SHMRING_START_OLDEST);
    shmring_event_prepare(data);
    put_all(&p, 1);
    CHECK_EQUAL(*data & 1, 0);
    shmring_hold *const hold = take_seq(&lossless, 0);
    shmring_event_prepare(space);
    shmring_release(&lossless, hold); /* stores the cursor */
    CHECK_EQUAL(*space & 1, 0);
    shmring_hold *const pin = take_seq(&lossy, 0);
    shmring_event_prepare(space);
    shmring_release(&lossy, pin);
    CHECK_EQUAL(*space & 1, 0);
    shmring_event_prepare(space);
    leave(&lossless);
    CHECK_EQUAL(*space & 1, 0);
    shmring_event_prepare(space);
    leave(&lossy);
    CHECK_EQUAL(*space & 1, 0);
    shmring_event_prepare(data);
    close_producer(&p);
    CHECK_EQUAL(*data & 1, 0);
    end_ring(&r);
}

/* ---- with another thread ---- */

typedef struct partner {
    ring r;
    shmring_producer p;
    shmring_consumer c;
    uint64_t frames;
    pthread_t thread;
} partner;

static void
start(partner *other, void *(*work)(void *))
{
    CHECK_EQUAL(pthread_create(&other->thread, NULL, work, other), 0);
}

static void *
produce(void *argument)
{
    partner *const other = (partner *)argument;
    for (uint64_t i = 0; i < other->frames; i++) {
        while (shmring_claim_wait(&other->p, 1, LATE, 0, 1) != SHMRING_OK)
            continue;
        write_frame(&other->p, 0);
        shmring_publish(&other->p, 1);
    }
    close_producer(&other->p);
    return NULL;
}

/* Both sides sleep for every frame that is not there: a lost wake-up would cost half a minute. */
static void
sleepers_hand_frames_over(void)
{
    for (int lossless = 0; lossless < 2; lossless++) {
        partner other;
        other.frames = 2000;
        make_ring(&other.r, page_slots(2));
        open_producer(&other.r, &other.p);
        join(&other.r, &other.c, lossless, SHMRING_START_OLDEST);
        const int64_t before = shmring_now_ns();
        start(&other, produce);
        take t;
        uint64_t seq = 0;
        for (;;) {
            const shmring_news news = {other.c.next + 1,
                                       shmring_read_epoch(&other.r.block),
                                       SHMRING_PRODUCER_LIVE,
                                       NULL,
                                       0,
                                       NULL,
                                       0};
            shmring_wait_data(&other.r.block, &news, LATE, 0, 1);
            const int closed = shmring_read_producer_state(&other.r.block) == SHMRING_PRODUCER_CLOSED;
            const int result = shmring_take_one(&other.c, ask(&t));
            if (result == SHMRING_EMPTY && closed)
                break;
            if (result != SHMRING_OK)
                continue;
            CHECK(lossless ? t.seqs[0] == seq : t.seqs[0] >= seq);
            CHECK(holds(&other.c, t.taken.hold, 0, t.seqs[0]));
            seq = t.seqs[0] + 1;
            shmring_release(&other.c, t.taken.hold);
        }
        pthread_join(other.thread, NULL);
        CHECK_EQUAL(seq, 2000);
        CHECK_EQUAL(other.c.delivered + other.c.lost, 2000);
        CHECK(shmring_now_ns() - before < 25 * SHMRING_SECOND);
        leave(&other.c);
        end_ring(&other.r);
    }
}

static void *
join_a_little_later(void *argument)
{
    partner *const other = (partner *)argument;
    usleep(20000);
    join(&other->r, &other->c, 1, SHMRING_START_OLDEST);
    return NULL;
}

static void
waiting_for_consumers_ends_when_they_come(void)
{
    partner other;
    make_ring(&other.r, page_slots(2));
    shmring_wait_consumers(&other.r.block, 1, SOON);
    CHECK_EQUAL(shmring_active_consumers(&other.r.block), 0);
    const int64_t before = shmring_now_ns();
    start(&other, join_a_little_later);
    while (shmring_active_consumers(&other.r.block) < 1)
        shmring_wait_consumers(&other.r.block, 1, LATE);
    CHECK(shmring_now_ns() - before < 25 * SHMRING_SECOND);
    pthread_join(other.thread, NULL);
    leave(&other.c);
    end_ring(&other.r);
}

static void *
announce_a_little_later(void *argument)
{
    usleep(20000);
    shmring_event_announce((uint32_t *)argument);
    return NULL;
}

static void
waiting_for_any_of_several_ends_with_the_first(void)
{
    uint32_t events[3] = {0, 0, 0};
    uint32_t *const words[3] = {&events[0], &events[1], &events[2]};
    uint32_t values[3];
    pthread_t thread;
    for (unsigned i = 0; i < 3; i++)
        values[i] = shmring_event_prepare(&events[i]);
    shmring_futex_wait_any(words, values, 3, SOON); /* nothing happens */
    const int64_t before = shmring_now_ns();
    CHECK_EQUAL(pthread_create(&thread, NULL, announce_a_little_later, &events[2]), 0);
    while (shmring_load_acquire(&events[2]) == values[2])
        shmring_futex_wait_any(words, values, 3, LATE);
    CHECK(shmring_now_ns() - before < 25 * SHMRING_SECOND);
    pthread_join(thread, NULL);
    shmring_futex_wait_any(words, values, 3, LATE); /* one is not that value any more */
    CHECK(shmring_now_ns() - before < 25 * SHMRING_SECOND);
}

/* ---- spinning ---- */

static void
spinning_is_bounded(void)
{
    ring r;
    make_ring(&r, page_slots(2));
    shmring_spin spin = shmring_spin_start(&r.block, 0, 8);
    CHECK(!shmring_spin_once(&spin)); /* not at all */
    for (long cores = 1; cores < 9; cores += 7) {
        const int64_t before = shmring_now_ns();
        r.block.hot->active = 15;
        spin = shmring_spin_start(&r.block, 1000000, cores);
        CHECK_EQUAL(spin.crowded, cores < 5);
        while (shmring_spin_once(&spin))
            continue;
        CHECK(shmring_now_ns() - before >= 1000000);
    }
    spin = shmring_spin_start(&r.block, SHMRING_FOR_EVER, 8);
    for (unsigned i = 0; i < 1000; i++)
        CHECK(shmring_spin_once(&spin));
    end_ring(&r);
}

static void
whoever_spins_gives_way_now_and_then(void)
{
    ring r;
    make_ring(&r, page_slots(2));
    for (long cores = 1; cores < 9; cores += 7) {
        shmring_spin spin = shmring_spin_start(&r.block, SHMRING_FOR_EVER, cores);
        const int64_t due = spin.yield_ns;
        CHECK_EQUAL(due == 0, spin.crowded); /* then at every look */
        while (!spin.crowded && spin.yield_ns == due)
            CHECK(shmring_spin_once(&spin));
        CHECK(spin.crowded || shmring_now_ns() >= due);
    }
    end_ring(&r);
}

static void
the_default_spin_adapts_to_the_waits(void)
{
    int64_t spin = SHMRING_SPIN_FIRST_NS;
    spin = shmring_adapt_spin(spin, SHMRING_SPIN_MOST_NS + 1);
    CHECK_EQUAL(spin, SHMRING_SPIN_FIRST_NS / 2);
    for (unsigned i = 0; i < 10; i++)
        spin = shmring_adapt_spin(spin, SHMRING_SECOND);
    CHECK_EQUAL(spin, SHMRING_SPIN_LEAST_NS);
    CHECK_EQUAL(shmring_adapt_spin(spin, SHMRING_SPIN_MOST_NS), SHMRING_SPIN_MOST_NS);
}

static void
a_brief_wait_looks_and_gives_up(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(2));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    CHECK(!shmring_wait_briefly(&c, 1));
    put_all(&p, 2);
    CHECK(shmring_wait_briefly(&c, 1));
    CHECK(shmring_wait_briefly(&c, 2));
    CHECK_EQUAL(shmring_claim_briefly(&p, 1), SHMRING_FULL);
    read_seq(&c, 0);
    CHECK_EQUAL(shmring_claim_briefly(&p, 1), SHMRING_OK);
    shmring_abort(&p);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

static void
a_full_ring_is_waited_for_until_the_deadline(void)
{
    ring r;
    shmring_producer p;
    shmring_consumer c;
    make_ring(&r, page_slots(2));
    open_producer(&r, &p);
    join(&r, &c, 1, SHMRING_START_OLDEST);
    put_all(&p, 2);
    const int64_t before = shmring_now_ns();
    CHECK_EQUAL(shmring_claim_wait(&p, 1, before + SHMRING_SECOND / 100, 1000, 2), SHMRING_FULL);
    CHECK(shmring_now_ns() >= before + SHMRING_SECOND / 100);
    read_seq(&c, 0);
    CHECK_EQUAL(shmring_claim_wait(&p, 1, before, 0, 2), SHMRING_OK); /* no wait needed, none done */
    shmring_abort(&p);
    leave(&c);
    close_producer(&p);
    end_ring(&r);
}

const test waiting_tests[] = {
    TEST(the_sleep_bit_falls_with_a_new_epoch),
    TEST(a_wake_up_before_the_sleep_is_not_lost),
    TEST(a_wait_ends_at_its_deadline),
    TEST(publishing_makes_no_call_when_nobody_sleeps),
    TEST(every_step_that_matters_wakes_somebody),
    TEST(sleepers_hand_frames_over),
    TEST(waiting_for_consumers_ends_when_they_come),
    TEST(waiting_for_any_of_several_ends_with_the_first),
    TEST(spinning_is_bounded),
    TEST(whoever_spins_gives_way_now_and_then),
    TEST(the_default_spin_adapts_to_the_waits),
    TEST(a_brief_wait_looks_and_gives_up),
    TEST(a_full_ring_is_waited_for_until_the_deadline),
    LAST_TEST,
};
