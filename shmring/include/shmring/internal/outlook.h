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
    if (needed <= slots)
        return needed;
    uint64_t end = c->next + least < c->head ? c->next + least : c->head;
    if (end > from && end - from > slots)
        end = from + slots; /* damaged counters may be far apart */
    for (uint64_t position = from; position < end; position++) {
        shmring_entry *const entry = shmring_entry_at(c->block, position % slots);
        /* [relaxed: a guess is good enough] */
        if (!c->lossless && shmring_load_relaxed(&entry->stamp) != shmring_published_stamp(position))
            continue; /* gone: the slot that is there now is that of another frame */
        const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: a guess is good enough] */
        if (slot < slots && c->pin_counts[slot] != 0)
            needed--;
    }
    return needed;
}

/* 1 if `least` more frames can never come because of what this consumer itself holds. */
static inline int
shmring_holds_too_much(shmring_consumer *c, uint64_t least)
{
    const uint64_t slots = c->block->geometry.slots;
    if (shmring_slots_needed(c, least) <= slots)
        return 0;
    if (c->lossless)
        shmring_stop_lagging(c); /* pins may need fewer slots than a lagging cursor */
    return shmring_slots_needed(c, least) > slots;
}

#endif /* SHMRING_INTERNAL_OUTLOOK_H */
