/* SPDX-License-Identifier: Apache-2.0
 *
 * From one producer to the next: what the last one left, and the end of the stream.
 */
#ifndef SHMRING_INTERNAL_TAKEOVER_H
#define SHMRING_INTERNAL_TAKEOVER_H

#include "../types.h"
#include "entries.h"
#include "eventcount.h"

/* Reads the permutation that the last producer left and makes it whole: a producer killed inside a
 * swap leaves two invalid entries with one slot. Every stamp that is not of a published position
 * below head becomes invalid, so that nothing half-done surfaces later. */
static inline int
shmring_rebuild(shmring_producer *p)
{
    const shmring_block *const block = p->block;
    const uint64_t slots = block->geometry.slots;
    const uint32_t nobody = UINT32_MAX;
    uint64_t newest_seq = 0;
    for (uint64_t i = 0; i < slots; i++)
        p->entry_of[i] = p->slot_of[i] = nobody;
    for (int valid = 1; valid >= 0; valid--) { /* entries in use first: the others take what is left */
        for (uint64_t index = 0; index < slots; index++) {
            shmring_entry *const entry = shmring_entry_at(block, index);
            const uint64_t stamp =
                shmring_load_relaxed(&entry->stamp); /* [relaxed: the producer lock orders producers] */
            const uint64_t position = (stamp - 2) / 2;
            const uint32_t slot =
                shmring_load_relaxed(&entry->slot); /* [relaxed: the producer lock orders producers] */
            const int whole = stamp != 0 && stamp % 2 == 0 && position < p->head && position % slots == index;
            /* An entry that somebody damages between the two rounds must not be taken twice or never. */
            if (valid ? !whole : p->slot_of[index] != nobody)
                continue;
            const int usable = slot < slots && p->entry_of[slot] == nobody;
            if (valid) {
                if (!usable)
                    return SHMRING_CORRUPT;
                if (entry->seq >= newest_seq)
                    newest_seq = entry->seq + 1;
            } else {
                shmring_store_relaxed(&entry->stamp, 0u); /* [relaxed: readers look below head only] */
            }
            p->slot_of[index] = usable ? slot : nobody;
            if (usable)
                p->entry_of[slot] = (uint32_t)index;
        }
    }
    uint64_t slot = 0;
    for (uint64_t index = 0; index < slots; index++) {
        if (p->slot_of[index] != nobody)
            continue;
        while (p->entry_of[slot] != nobody)
            slot++;
        p->slot_of[index] = (uint32_t)slot;
        p->entry_of[slot] = (uint32_t)index;
        shmring_store_relaxed(&shmring_entry_at(block, index)->slot,
                              (uint32_t)slot); /* [relaxed: the entry is invalid] */
    }
    if (p->next_seq < newest_seq)
        p->next_seq = newest_seq;
    return SHMRING_OK;
}

static inline void
shmring_producer_free(shmring_producer *p)
{
    free(p->slot_of);
    free(p->entry_of);
    p->slot_of = NULL;
    p->entry_of = NULL;
}

static inline void
shmring_end_stream(shmring_producer *p, uint32_t state)
{
    shmring_hot *const hot = p->block->hot;
    shmring_store_release(&hot->producer_state, state); /* [R8 -> A8] */
    shmring_event_announce(&hot->data_event);
    shmring_producer_free(p);
    shmring_set_lock(p->lock_fd, SHMRING_LOCK_PRODUCER, F_UNLCK);
}

#endif /* SHMRING_INTERNAL_TAKEOVER_H */
