/* SPDX-License-Identifier: Apache-2.0
 *
 * What a consumer keeps from being overwritten: pins, and the cursor that lags behind its holds.
 */
#ifndef SHMRING_INTERNAL_HOLD_H
#define SHMRING_INTERNAL_HOLD_H

#include "../types.h"
#include "entries.h"
#include "eventcount.h"

/* Keeps the slot from being written to, until as many shmring_unpin. */
static inline void
shmring_pin(shmring_consumer *c, uint64_t slot)
{
    if (c->pin_counts[slot]++ != 0)
        return;
    c->pinned_slots++;
    /* [relaxed: ordered by the pin fence, or by the release of cursor after it] */
    shmring_fetch_or_relaxed(&shmring_record_at(c->block, slot)->pins, c->bit);
}

/* Undoes one shmring_pin. shmring_notify_unpinned follows after the last of several. */
static inline void
shmring_unpin(shmring_consumer *c, uint64_t slot)
{
    if (--c->pin_counts[slot] != 0)
        return;
    c->pinned_slots--;
    shmring_fetch_and_release(&shmring_record_at(c->block, slot)->pins, ~c->bit); /* [release pins] */
}

/* Wakes a producer that waits for a free slot. */
static inline void
shmring_notify_unpinned(const shmring_consumer *c)
{
    shmring_fence_seq_cst(); /* [fence unpin | sleep] the pin is gone before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

/* The slot of frame i of a hold. */
static inline uint64_t
shmring_held_slot(const shmring_consumer *c, const shmring_hold *hold, uint64_t i)
{
    const uint64_t slot = hold->slot + i;
    return i == 0 || slot < c->block->geometry.slots ? slot : slot - c->block->geometry.slots;
}

/* From now on pins keep the hold's frames, not the cursor. */
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
    shmring_store_release(&c->block->table[c->place].cursor, cursor); /* [release cursor] */
    shmring_fence_seq_cst(); /* [fence cursor | sleep] the cursor before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

/* Copies the counters into the consumer's row of the table, for people. */
static inline void
shmring_publish_stats(const shmring_consumer *c)
{
    shmring_place *const row = &c->block->table[c->place];
    shmring_store_stat(&row->delivered, c->delivered);
    shmring_store_stat(&row->lost, c->lost);
    shmring_store_stat(&row->skipped, c->skipped);
    shmring_store_stat(&row->held, c->held);
    shmring_store_stat(&row->redelivered, c->redelivered);
    shmring_store_stat(&row->next, c->next);
    /* [relaxed: a lossy cursor gates nobody] */
    if (!c->lossless)
        shmring_store_relaxed(&row->cursor, c->next);
}

/* NULL if there is no memory. Released holds are used again. */
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
    hold->owned = 0;
    hold->next_spare = NULL;
    return hold;
}

/* Pins the frames that the cursor lags behind for, so that it may move on. */
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

/* Pins what the cursor lags behind for, and moves it on. */
static inline void
shmring_stop_lagging(shmring_consumer *c)
{
    shmring_pin_lagging(c);
    shmring_store_cursor(c);
}

#endif /* SHMRING_INTERNAL_HOLD_H */
