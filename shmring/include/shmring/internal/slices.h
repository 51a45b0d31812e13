/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps of a wait: a short spin, then slices short enough to notice a death between two of them.
 */
#ifndef SHMRING_INTERNAL_SLICES_H
#define SHMRING_INTERNAL_SLICES_H

#include "../types.h"
#include "entries.h"
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

/* Whether there are `least` frames from next on. A single one is there once its stamp says so, and head
 * follows a moment later, or with the next producer if this one dies in between. */
static inline int
shmring_has_frames(const shmring_consumer *c, uint64_t least)
{
    return (least == 1 && shmring_is_published(c->block, c->index, c->next)) ||
           shmring_read_head(c->block) >= c->next + least;
}

/* Frames from next on that are there. */
static inline uint64_t
shmring_count_ready(const shmring_consumer *c)
{
    const uint64_t head = shmring_read_head(c->block);
    return head > c->next ? head - c->next : (uint64_t)shmring_has_frames(c, 1);
}

/* What a consumer waits for: head >= needed, the stamp of a single frame, another state of the producer, news
 * for its group. */
typedef struct shmring_news {
    uint64_t needed;
    uint64_t epoch;
    uint32_t state;
    const uint64_t *events; /* of the group; NULL without one */
    uint64_t events_seen;
    const uint64_t *stamp; /* of the entry to come; NULL if more than one frame is needed */
    uint64_t published;
} shmring_news;

/* What to wait for until there are `least` frames from next on. To be noted before looking for them. */
static inline shmring_news
shmring_note_news(const shmring_consumer *c, uint64_t least)
{
    const uint64_t epoch =
        shmring_read_epoch(c->block); /* before the state: a new epoch comes with a new state */
    const shmring_news news = {c->next + least,
                               epoch,
                               shmring_read_producer_state(c->block),
                               c->member ? &c->block->groups[c->group].events : NULL,
                               c->events_seen,
                               least == 1 ? &shmring_entry_at(c->block, c->index)->stamp : NULL,
                               shmring_published_stamp(c->next)};
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

/* Looks at a stamp between two looks at everything: each look makes the producer fetch a line back. */
#define SHMRING_STAMP_LOOKS 16u

/* A look of a spin, the one of this number. */
static inline int
shmring_look_for_news(const shmring_block *block, const shmring_news *news, unsigned look)
{
    if (news->stamp == NULL || look % SHMRING_STAMP_LOOKS == 0)
        return shmring_is_news(block, news);
    return shmring_load_relaxed(news->stamp) == news->published; /* [relaxed: the take acquires it] */
}

/* 1 as soon as there are `least` frames from next on, 0 if they do not come in a moment. */
static inline int
shmring_wait_briefly(const shmring_consumer *c, uint64_t least)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        if (least == 1 ? shmring_is_published(c->block, c->index, c->next)
                       : shmring_read_head(c->block) >= c->next + least)
            return 1;
        shmring_cpu_relax();
    }
    return 0;
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
        if (shmring_look_for_news(block, news, spin.rounds))
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
