/* SPDX-License-Identifier: Apache-2.0
 *
 * What a consumer keeps from being overwritten: pins, and the cursor that lags behind its holds.
 */
#ifndef SHMRING_INTERNAL_HOLD_H
#define SHMRING_INTERNAL_HOLD_H

#include "../types.h"
#include "entries.h"
#include "eventcount.h"

static inline void
shmring_pin(shmring_consumer *c, uint64_t slot)
{
    if (c->pin_counts[slot]++ != 0)
        return;
    c->pinned_slots++;
    shmring_fetch_or_relaxed(&shmring_entry_at(c->block, slot)->pins,
                             c->bit); /* [relaxed: ordered by F8, or by R3 after it] */
}

static inline void
shmring_unpin(shmring_consumer *c, uint64_t slot)
{
    if (--c->pin_counts[slot] != 0)
        return;
    c->pinned_slots--;
    shmring_fetch_and_release(&shmring_entry_at(c->block, slot)->pins, ~c->bit); /* [R6 -> A6] */
}

static inline void
shmring_notify_unpinned(const shmring_consumer *c)
{
    shmring_fence_seq_cst(); /* [F4 <-> F1] the pin is gone before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

static inline uint64_t
shmring_held_slot(const shmring_consumer *c, const shmring_hold *hold, uint64_t i)
{
    const uint64_t slot = hold->slot + i;
    return slot < c->block->geometry.slots ? slot : slot - c->block->geometry.slots;
}

static inline void
shmring_pin_hold(shmring_consumer *c, shmring_hold *hold)
{
    for (uint64_t i = 0; i < hold->count; i++)
        shmring_pin(c, shmring_held_slot(c, hold, i));
    hold->pinned = 1;
}

/* Stores the lowest position that is still read without a pin: the producer's license to overwrite
 * what lies below. */
static inline void
shmring_store_cursor(shmring_consumer *c)
{
    uint64_t cursor = c->next;
    if (c->newer != NULL && c->newer->position < cursor)
        cursor = c->newer->position;
    if (c->older != NULL && c->older->position < cursor)
        cursor = c->older->position;
    if (cursor == c->cursor)
        return;
    c->cursor = cursor;
    shmring_store_release(&c->block->table[c->place].cursor, cursor); /* [R3 -> A3] */
    shmring_fence_seq_cst(); /* [F3 <-> F1] the cursor before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

static inline void
shmring_publish_stats(const shmring_consumer *c)
{
    shmring_place *const row = &c->block->table[c->place];
    shmring_store_relaxed(&row->delivered, c->delivered); /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->lost, c->lost);           /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->skipped, c->skipped);     /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->held, c->held);           /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->next, c->next);           /* [relaxed: a statistic] */
    if (!c->lossless)
        shmring_store_relaxed(&row->cursor, c->next); /* [relaxed: a lossy cursor gates nobody] */
}

static inline shmring_hold *
shmring_new_hold(shmring_consumer *c, uint64_t position, uint64_t count, uint64_t slot, int pinned)
{
    shmring_hold *hold = c->spare;
    if (hold != NULL)
        c->spare = hold->next_spare;
    else if ((hold = (shmring_hold *)malloc(sizeof *hold)) == NULL)
        return NULL;
    hold->position = position;
    hold->count = count;
    hold->slot = slot;
    hold->pinned = pinned;
    hold->next_spare = NULL;
    return hold;
}

/* Pins the frames that the cursor lags behind for, so that it may go on. */
static inline void
shmring_pin_lagging(shmring_consumer *c)
{
    if (c->older != NULL)
        shmring_pin_hold(c, c->older);
    if (c->newer != NULL)
        shmring_pin_hold(c, c->newer);
    c->older = NULL;
    c->newer = NULL;
}

static inline void
shmring_stop_lagging(shmring_consumer *c)
{
    shmring_pin_lagging(c);
    shmring_store_cursor(c);
}

#endif /* SHMRING_INTERNAL_HOLD_H */
