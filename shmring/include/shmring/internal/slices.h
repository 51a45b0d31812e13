/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps of a wait: a short spin, then slices short enough to notice a death between two of them.
 */
#ifndef SHMRING_INTERNAL_SLICES_H
#define SHMRING_INTERNAL_SLICES_H

#include "../types.h"
#include "eventcount.h"
#include "spin.h"
#include "words.h"

/* How many consumers have joined, dead ones among them. */
static inline unsigned
shmring_active_consumers(const shmring_block *block)
{
    return (unsigned)__builtin_popcountll(shmring_load_acquire(&block->hot->active)); /* [acquire active] */
}

/* When the next slice ends. */
static inline int64_t
shmring_slice_end(int64_t now, int64_t deadline_ns, int64_t slice_ns)
{
    return deadline_ns - now < slice_ns ? deadline_ns : now + slice_ns;
}

/* What is left of a spin of spin_ns that began with the wait; one slice at most. */
static inline int64_t
shmring_spin_left(int64_t now, int64_t started_ns, int64_t spin_ns, int64_t slice_ns)
{
    const int64_t left = spin_ns - (now - started_ns);
    if (spin_ns == SHMRING_FOR_EVER || left > slice_ns)
        return slice_ns;
    return left < 0 ? 0 : left;
}

/* 1 as soon as head >= needed, 0 if it does not come in a moment. */
static inline int
shmring_wait_briefly(const shmring_block *block, uint64_t needed)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        if (shmring_read_head(block) >= needed)
            return 1;
        shmring_cpu_relax();
    }
    return 0;
}

/* What a consumer waits for: head >= needed, another state of the producer, news for its group. */
typedef struct shmring_news {
    uint64_t needed;
    uint64_t epoch;
    uint32_t state;
    const uint64_t *events; /* of the group; NULL without one */
    uint64_t events_seen;
} shmring_news;

/* What to wait for until there are `least` frames from next on. To be noted before looking for them. */
static inline shmring_news
shmring_note_news(const shmring_consumer *c, uint64_t least)
{
    const uint64_t epoch =
        shmring_read_epoch(c->block); /* before the state: a new epoch comes with a new state */
    const shmring_news news = {c->next + least, epoch, shmring_read_producer_state(c->block),
                               c->member ? &c->block->groups[c->group].events : NULL, c->events_seen};
    return news;
}

static inline int
shmring_is_news(const shmring_block *block, const shmring_news *news)
{
    return shmring_read_head(block) >= news->needed || shmring_read_producer_state(block) != news->state ||
           shmring_read_epoch(block) != news->epoch ||
           /* [acquire events] */
           (news->events != NULL && shmring_load_acquire(news->events) != news->events_seen);
}

/* Spins for spin_ns, then sleeps until there is news, the deadline (CLOCK_MONOTONIC) or a wake-up: look
 * around, then call again. Touches nothing of the handle, so that another thread may release frames at the
 * same time. */
static inline void
shmring_wait_data(const shmring_block *block, const shmring_news *news, int64_t deadline_ns, int64_t spin_ns,
                  long cores)
{
    shmring_hot *const hot = block->hot;
    shmring_spin spin = shmring_spin_start(block, spin_ns, cores);
    do {
        if (shmring_is_news(block, news))
            return;
    } while (shmring_spin_once(&spin));
    const uint32_t value = shmring_event_prepare(&hot->data_event);
    if (shmring_is_news(block, news))
        return;
    shmring_futex_wait(&hot->data_event, value, deadline_ns);
}

/* Sleeps until `least` consumers have joined, the deadline or a wake-up. */
static inline void
shmring_wait_consumers(const shmring_block *block, unsigned least, int64_t deadline_ns)
{
    uint32_t *const event = &block->hot->space_event;
    const uint32_t value = shmring_event_prepare(event);
    if (shmring_active_consumers(block) < least)
        shmring_futex_wait(event, value, deadline_ns);
}

#endif /* SHMRING_INTERNAL_SLICES_H */
