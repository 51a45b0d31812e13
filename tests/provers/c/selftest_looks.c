/* SPDX-License-Identifier: Apache-2.0
 *
 * An onlooker sees a block at several moments. Here others go through their lives between any two of
 * these, in good order: nobody may be said to have died.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <fcntl.h>
#include <unistd.h>

static void live_on(void);

/* The moments of a look: the headers included below read the file and ask for locks through these. */
#define pread(...) (live_on(), pread(__VA_ARGS__))
#define fcntl(...) (live_on(), fcntl(__VA_ARGS__))

#include "selftest.h"

enum { STAGES = 5, MOMENTS = 5, PACES = STAGES + 2 };

/* Somebody who takes a lock, shows it, and ends in good order; again and again. */
typedef struct life {
    void (*step)(ring *r, int fd, unsigned stage);
    ring *r;
    int fd;
    unsigned stage;
    unsigned paces[MOMENTS]; /* steps before each moment of the look */
    unsigned moment;
    int looked_at;
} life;

static life other;

static void
live_on(void)
{
    if (!other.looked_at || other.moment == MOMENTS)
        return;
    other.looked_at = 0;
    for (unsigned i = other.paces[other.moment]; i > 0; i--)
        other.step(other.r, other.fd, other.stage++ % STAGES);
    other.looked_at = 1;
    other.moment++;
}

static void
produce_a_step(ring *r, int fd, unsigned stage)
{
    shmring_hot *const hot = r->block.hot;
    switch (stage) {
    case 0:
        CHECK(shmring_set_lock(fd, SHMRING_LOCK_PRODUCER, F_WRLCK));
        break;
    case 1:
        hot->producer_state = SHMRING_PRODUCER_LIVE;
        break;
    case 2:
        hot->epoch++;
        break;
    case 3:
        hot->producer_state = SHMRING_PRODUCER_CLOSED;
        break;
    default:
        CHECK(shmring_set_lock(fd, SHMRING_LOCK_PRODUCER, F_UNLCK));
    }
}

static void
consume_a_step(ring *r, int fd, unsigned stage)
{
    uint64_t *const state = &r->block.table[0].state;
    switch (stage) {
    case 0:
        CHECK(shmring_set_lock(fd, SHMRING_LOCK_PLACE(0), F_WRLCK));
        break;
    case 1:
        *state = ((*state >> 8) + 1) << 8 | SHMRING_PLACE_JOINING;
        break;
    case 2:
        *state = (*state | 0xff) - 0xff + SHMRING_PLACE_LOSSLESS;
        break;
    case 3:
        *state = (*state | 0xff) - 0xff + SHMRING_PLACE_FREE;
        break;
    default:
        CHECK(shmring_set_lock(fd, SHMRING_LOCK_PLACE(0), F_UNLCK));
    }
}

static void
check_the_producer(const ring *r)
{
    shmring_ring_status report;
    const int outlook = shmring_look_at_producer(r->fd, &r->block.geometry, &report);
    CHECK(outlook == SHMRING_OK || outlook == SHMRING_EMPTY || outlook == SHMRING_ENDED);
}

static void
check_the_consumer(const ring *r)
{
    shmring_place_status places[SHMRING_MAX_CONSUMERS];
    CHECK_EQUAL(shmring_look_at_places(r->fd, &r->block.geometry, places), 1);
    const uint64_t kind = places[0].state & 0xff;
    CHECK(kind == SHMRING_PLACE_FREE || kind == SHMRING_PLACE_JOINING || places[0].alive);
}

/* One look for each way to go through up to PACES - 1 stages before each moment, from each stage on. */
static void
look_at_every_course(void (*step)(ring *r, int fd, unsigned stage), void (*check)(const ring *r))
{
    ring r;
    make_ring(&r, page_slots(2));
    const int fd = lock_file(&r);
    for (unsigned first = 0; first < STAGES; first++) {
        unsigned courses = 1;
        for (unsigned i = 0; i < MOMENTS; i++)
            courses *= PACES;
        for (unsigned course = 0; course < courses; course++) {
            const life fresh = {step, &r, fd, other.stage, {0}, 0, 0};
            other = fresh;
            while (other.stage % STAGES != first)
                step(&r, fd, other.stage++ % STAGES);
            for (unsigned i = 0, rest = course; i < MOMENTS; i++, rest /= PACES)
                other.paces[i] = rest % PACES;
            other.looked_at = 1;
            check(&r);
            other.looked_at = 0;
        }
    }
    other.stage = 0;
    close(fd);
    end_ring(&r);
}

static void
a_producer_that_comes_and_goes_never_died(void)
{
    look_at_every_course(produce_a_step, check_the_producer);
}

static void
a_consumer_that_comes_and_goes_never_died(void)
{
    look_at_every_course(consume_a_step, check_the_consumer);
}

const test look_tests[] = {
    TEST(a_producer_that_comes_and_goes_never_died),
    TEST(a_consumer_that_comes_and_goes_never_died),
    LAST_TEST,
};
