/* SPDX-License-Identifier: Apache-2.0
 *
 * From one producer to the next: what the last one left, and the end of the stream.
 */
#ifndef SHMRING_INTERNAL_TAKEOVER_H
#define SHMRING_INTERNAL_TAKEOVER_H

#include "../types.h"
#include "entries.h"
#include "eventcount.h"

#define SHMRING_NOBODY UINT32_MAX /* in slot_of and entry_of: not assigned yet */

/* Gives an entry its slot, if the slot exists and no other entry has it. */
static inline int
shmring_assign_slot(shmring_producer *p, uint64_t index, uint32_t slot)
{
    if (slot >= shmring_all_slots(&p->block->geometry) || p->entry_of[slot] != SHMRING_NOBODY)
        return 0;
    p->slot_of[index] = slot;
    p->entry_of[slot] = (uint32_t)index;
    return 1;
}

/* A producer that was killed between a stamp and head published that frame: a consumer may have taken it. */
static inline void
shmring_find_head(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    while (p->head < p->claimed && shmring_is_published(p->block, p->head % slots, p->head))
        p->head++;
}

/* Entries of published frames keep their slots. SHMRING_CORRUPT if two of them name the same one. */
static inline int
shmring_keep_published(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    for (uint64_t index = 0; index < slots; index++) {
        shmring_entry *const entry = shmring_entry_at(p->block, index);
        /* [relaxed: the producer lock orders producers] */
        const uint64_t stamp = shmring_load_relaxed(&entry->stamp);
        const uint64_t position = (stamp - 2) / 2;
        if (stamp == 0 || stamp % 2 != 0 || position >= p->head || position % slots != index)
            continue;
        const uint32_t slot =
            shmring_load_relaxed(&entry->slot); /* [relaxed: the producer lock orders producers] */
        if (!shmring_assign_slot(p, index, slot))
            return SHMRING_CORRUPT;
        /* [relaxed: the producer lock orders producers] */
        const uint64_t seq = shmring_load_relaxed(&shmring_record_at(p->block, slot)->seq);
        if (seq >= p->next_seq)
            p->next_seq = seq + 1;
    }
    return SHMRING_OK;
}

/* Every other entry becomes invalid, so that nothing half-done surfaces later. A producer killed inside a
 * swap leaves two of them with one slot: the first keeps it, and what is left over takes free slots. The
 * slots that remain are the spares. Looks at slot_of and not at the stamps, so that nothing is assigned
 * twice or never, even if an entry is damaged in between. */
static inline void
shmring_repair_unpublished(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    for (uint64_t index = 0; index < slots; index++) {
        shmring_entry *const entry = shmring_entry_at(p->block, index);
        if (p->slot_of[index] != SHMRING_NOBODY)
            continue;
        shmring_store_relaxed(&entry->stamp, 0u); /* [relaxed: readers look below head only] */
        /* [relaxed: the producer lock orders producers] */
        shmring_assign_slot(p, index, shmring_load_relaxed(&entry->slot));
    }
    uint32_t slot = 0;
    for (uint64_t index = 0; index < shmring_all_slots(&p->block->geometry); index++) {
        if (p->slot_of[index] != SHMRING_NOBODY)
            continue;
        while (!shmring_assign_slot(p, index, slot))
            slot++;
        /* [relaxed: the entry is invalid] */
        if (index < slots)
            shmring_store_relaxed(&shmring_entry_at(p->block, index)->slot, slot);
    }
}

/* A frame that was written but never published must not pass for one that a member of a group may take. */
static inline void
shmring_forget_unpublished(shmring_producer *p)
{
    for (uint64_t slot = 0; slot < shmring_all_slots(&p->block->geometry); slot++) {
        uint64_t *const position = &shmring_record_at(p->block, slot)->position;
        /* [relaxed: the producer lock orders producers] */
        if (shmring_load_relaxed(position) >= p->head)
            /* [relaxed: published with head] */
            shmring_store_relaxed(position, SHMRING_NO_POSITION);
    }
}

/* Reads the permutation that the last producer left, and makes it whole. */
static inline int
shmring_rebuild(shmring_producer *p)
{
    shmring_find_head(p);
    for (uint64_t i = 0; i < shmring_all_slots(&p->block->geometry); i++)
        p->entry_of[i] = p->slot_of[i] = SHMRING_NOBODY;
    const int result = shmring_keep_published(p);
    if (result != SHMRING_OK)
        return result;
    shmring_repair_unpublished(p);
    shmring_forget_unpublished(p);
    return SHMRING_OK;
}

/* Frees what the handle owns. */
static inline void
shmring_producer_free(shmring_producer *p)
{
    free(p->slot_of);
    free(p->entry_of);
    p->slot_of = NULL;
    p->entry_of = NULL;
}

/* Says how the stream ended, frees what the handle owns, and lets the next producer in. */
static inline void
shmring_end_stream(shmring_producer *p, uint32_t state)
{
    shmring_hot *const hot = p->block->hot;
    shmring_store_release(&hot->producer_state, state); /* [release producer_state] */
    shmring_event_announce(&hot->data_event);
    shmring_producer_free(p);
    shmring_set_lock(p->lock_fd, SHMRING_LOCK_PRODUCER, F_UNLCK);
}

#endif /* SHMRING_INTERNAL_TAKEOVER_H */
