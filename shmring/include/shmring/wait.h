/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting: for frames, for space, for consumers. A wait sleeps where there is nothing to do, and ends when
 * there is nothing to wait for any more: nobody waits for the dead.
 */
#ifndef SHMRING_WAIT_H
#define SHMRING_WAIT_H

#include "consumer.h"
#include "observe.h"
#include "producer.h"
#include "internal/outlook.h"
#include "internal/slices.h"

/* How to wait. */
typedef struct shmring_patience {
    int64_t slice_ns; /* the longest sleep: between two looks at whether the others live */
    int64_t spin_ns;  /* to look again and again before the first sleep; SHMRING_FOR_EVER: no sleep at all */
    long cores;       /* that the participants share */
} shmring_patience;

/* Ten looks a second, and a spin where there are cores for it. */
static inline shmring_patience
shmring_default_patience(void)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const shmring_patience patience = {SHMRING_SECOND / 10, cores > 1 ? SHMRING_SPIN_FIRST_NS : 0, cores};
    return patience;
}

/* Claims as shmring_claim does, if there is space in a moment. */
static inline int
shmring_claim_briefly(shmring_producer *p, uint64_t want)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        shmring_cpu_relax();
        if (shmring_claim(p, want) == SHMRING_OK)
            return SHMRING_OK;
    }
    return SHMRING_FULL;
}

/* Claims as shmring_claim does; spins for spin_ns, then sleeps until there is space, the deadline
 * (CLOCK_MONOTONIC) or a wake-up. SHMRING_FULL: look around, then call again. */
static inline int
shmring_claim_wait(shmring_producer *p, uint64_t want, int64_t deadline_ns, int64_t spin_ns, long cores)
{
    uint32_t *const event = &p->block->hot->space_event;
    shmring_spin spin = shmring_spin_start(p->block, spin_ns, cores);
    do {
        if (shmring_claim(p, want) == SHMRING_OK)
            return SHMRING_OK;
    } while (shmring_spin_once(&spin));
    const uint32_t value = shmring_event_prepare(event);
    if (shmring_claim(p, want) == SHMRING_OK)
        return SHMRING_OK;
    shmring_futex_wait(event, value, deadline_ns);
    return shmring_claim(p, want);
}

/* Frees the places of the dead and claims as shmring_claim does; then waits for space until `until_ns`
 * (CLOCK_MONOTONIC) or a wake-up. SHMRING_FULL: look around, then call again. */
static inline int
shmring_claim_slice(shmring_producer *p, uint64_t want, int64_t until_ns, int64_t spin_ns, long cores)
{
    shmring_reap_all(p->block, p->lock_fd);
    if (shmring_claim(p, want) == SHMRING_OK)
        return SHMRING_OK;
    if (shmring_now_ns() >= until_ns)
        return SHMRING_FULL;
    return shmring_claim_wait(p, want, until_ns, spin_ns, cores);
}

/* What `least` more frames from next on depend on. SHMRING_OK: they are there. SHMRING_EMPTY: they may come.
 * SHMRING_ENDED, SHMRING_FAILED, SHMRING_DIED: they will not, because of the producer. SHMRING_HELD: only
 * once this consumer releases frames. The kernel is asked whether the producer lives if `ask_kernel`. */
static inline int
shmring_outlook(shmring_consumer *c, uint64_t least, int ask_kernel)
{
    const shmring_block *const block = c->block;
    const uint64_t next = shmring_next_position(c);
    if (next != c->next)
        shmring_seek(c, next); /* other members have taken frames */
    const uint64_t epoch = shmring_read_epoch(block);
    shmring_ring_status status;
    uint64_t word;
    /* Before head: the end comes after the last frame. */
    int producer = shmring_producer_outlook(shmring_read_producer_state(block));
    if (producer == SHMRING_OK && ask_kernel && !c->awaits_takeover && !shmring_has_frames(c, least))
        producer = shmring_look_at_producer(c->lock_fd, &block->geometry, &status);
    if (c->member && shmring_find_redo(c, &word) != SHMRING_NO_SLOT)
        return SHMRING_OK;
    if (shmring_has_frames(c, least))
        return !c->lossless && shmring_holds_too_much(c, least) ? SHMRING_HELD : SHMRING_OK;
    if (producer == SHMRING_ENDED ||
        (!c->awaits_takeover && (producer == SHMRING_FAILED || producer == SHMRING_DIED))) {
        if (c->member)
            return shmring_member_outlook(c, producer);
        shmring_count_lost_at_end(c, epoch); /* frames that were dropped after the last published one */
        return producer;
    }
    if (c->member && ask_kernel)
        shmring_reap_members(c);
    return shmring_holds_too_much(c, least) ? SHMRING_HELD : SHMRING_EMPTY;
}

/* Waits until `least` more frames are there (SHMRING_OK), or the deadline (CLOCK_MONOTONIC; SHMRING_TIMEOUT).
 * SHMRING_ENDED, SHMRING_FAILED, SHMRING_DIED, SHMRING_HELD: as shmring_outlook; at the end of a stream fewer
 * than `least` frames may be left to take. */
static inline int
shmring_await(shmring_consumer *c, uint64_t least, int64_t deadline_ns, const shmring_patience *patience)
{
    if (shmring_outlook(c, least, 0) == SHMRING_OK)
        return SHMRING_OK;
    const int64_t started = shmring_now_ns();
    int64_t ask_at = started;
    for (;;) {
        const shmring_news news = shmring_note_news(c, least);
        const uint64_t head = shmring_read_head(c->block);
        const int64_t now = shmring_now_ns();
        const int ask_kernel = now >= ask_at || now >= deadline_ns;
        const int outlook = shmring_outlook(c, least, ask_kernel);
        if (outlook != SHMRING_EMPTY)
            return outlook;
        if (now >= deadline_ns)
            return SHMRING_TIMEOUT;
        if (ask_kernel)
            ask_at = now + patience->slice_ns;
        shmring_wait_data(c->block, &news, shmring_slice_end(now, deadline_ns, patience->slice_ns),
                          shmring_spin_left(now, started, patience->spin_ns, patience->slice_ns),
                          patience->cores);
        if (shmring_read_head(c->block) == head && shmring_read_producer_state(c->block) == news.state)
            ask_at = now; /* woken by a producer that abandoned the ring, or the slice is over */
    }
}

/* Claims as shmring_claim does; waits for space until the deadline (CLOCK_MONOTONIC; SHMRING_TIMEOUT), and
 * for no consumer that is dead. */
static inline int
shmring_claim_until(shmring_producer *p, uint64_t want, int64_t deadline_ns, const shmring_patience *patience)
{
    if (shmring_claim(p, want) == SHMRING_OK)
        return SHMRING_OK;
    const int64_t started = shmring_now_ns();
    for (;;) {
        const int64_t now = shmring_now_ns();
        if (shmring_claim_slice(p, want, shmring_slice_end(now, deadline_ns, patience->slice_ns),
                                shmring_spin_left(now, started, patience->spin_ns, patience->slice_ns),
                                patience->cores) == SHMRING_OK)
            return SHMRING_OK;
        if (now >= deadline_ns)
            return SHMRING_TIMEOUT;
    }
}

/* Waits until `least` living consumers have joined, or the deadline (CLOCK_MONOTONIC; SHMRING_TIMEOUT). */
static inline int
shmring_await_consumers(shmring_producer *p, unsigned least, int64_t deadline_ns,
                        const shmring_patience *patience)
{
    for (;;) {
        const int64_t now = shmring_now_ns();
        shmring_reap_all(p->block, p->lock_fd);
        if (shmring_active_consumers(p->block) >= least)
            return SHMRING_OK;
        if (now >= deadline_ns)
            return SHMRING_TIMEOUT;
        shmring_wait_consumers(p->block, least, shmring_slice_end(now, deadline_ns, patience->slice_ns));
    }
}

#endif /* SHMRING_WAIT_H */
