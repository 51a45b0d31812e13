/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether what a consumer itself holds leaves room for more frames.
 */
#ifndef SHMRING_INTERNAL_OUTLOOK_H
#define SHMRING_INTERNAL_OUTLOOK_H

#include "hold.h"

/* Slots that this consumer's held frames and `least` frames from next on need at the same time. */
static inline uint64_t
shmring_slots_needed(const shmring_consumer *c, uint64_t least)
{
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t from = c->lossless ? c->cursor : c->next;
    uint64_t needed = c->next + least - from + c->pinned_slots;
    uint64_t end = c->next + least < c->head ? c->next + least : c->head;
    if (end > from && end - from > slots)
        end = from + slots; /* damaged counters may be far apart */
    for (uint64_t position = from; position < end; position++) {
        shmring_entry *const entry = shmring_entry_at(c->block, position % slots);
        /* [relaxed: a guess is good enough] */
        if (!c->lossless && shmring_load_relaxed(&entry->stamp) != shmring_published_stamp(position))
            continue; /* gone: the slot that is there now is that of another frame */
        const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: a guess is good enough] */
        if (slot < shmring_all_slots(&c->block->geometry) && c->pin_counts[slot] != 0)
            needed--;
    }
    return needed;
}

/* How many of `least` to `most` frames a lossy consumer may take, for what it holds already; fewer than
 * `least`: none. */
static inline uint64_t
shmring_may_take(const shmring_consumer *c, uint64_t least, uint64_t most)
{
    const uint64_t room = c->max_held > c->pinned_slots ? c->max_held - c->pinned_slots : 0;
    if (room >= least)
        return room < most ? room : most;
    return shmring_slots_needed(c, least) <= c->max_held ? least : 0;
}

/* Whether `least` more frames find no room next to what a lossless consumer holds: within reach of its
 * cursor, and among all slots. */
static inline int
shmring_finds_no_room(const shmring_consumer *c, uint64_t least)
{
    const shmring_geometry *const g = &c->block->geometry;
    const uint64_t reach = c->next + least - c->cursor;
    return reach > g->slots || (reach + c->pinned_slots > shmring_all_slots(g) &&
                                shmring_slots_needed(c, least) > shmring_all_slots(g));
}

/* 1 if `least` more frames can never come because of what this consumer itself holds. */
static inline int
shmring_holds_too_much(shmring_consumer *c, uint64_t least)
{
    if (c->member)
        return c->held + least > shmring_all_slots(&c->block->geometry);
    if (!c->lossless)
        return shmring_may_take(c, least, least) < least;
    if (!shmring_finds_no_room(c, least))
        return 0;
    shmring_stop_lagging(c); /* pins may need fewer slots than a lagging cursor */
    return shmring_finds_no_room(c, least);
}

#endif /* SHMRING_INTERNAL_OUTLOOK_H */
