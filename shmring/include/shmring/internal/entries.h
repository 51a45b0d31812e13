/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries: their stamps, and their addresses in the mapped block. Every index is reduced by the geometry that
 * was copied at attach.
 */
#ifndef SHMRING_INTERNAL_ENTRIES_H
#define SHMRING_INTERNAL_ENTRIES_H

#include "../types.h"
#include "atomic.h"
#include "geometry.h"

static inline uint64_t
shmring_published_stamp(uint64_t position)
{
    return 2 * position + 2;
}

static inline uint64_t
shmring_writing_stamp(uint64_t position)
{
    return 2 * position + 1;
}

static inline shmring_entry *
shmring_entry_at(const shmring_block *block, uint64_t index)
{
    return (shmring_entry *)(void *)(block->entries + index * block->geometry.entry_stride);
}

/* Whether the entry at `index` has the frame of this position, and it is published. */
static inline int
shmring_is_published(const shmring_block *block, uint64_t index, uint64_t position)
{
    /* [acquire stamp] */
    return shmring_load_acquire(&shmring_entry_at(block, index)->stamp) == shmring_published_stamp(position);
}

/* The record of the frame in a slot: the line of the same number. */
static inline shmring_entry *
shmring_record_at(const shmring_block *block, uint64_t slot)
{
    return shmring_entry_at(block, slot);
}

/* Which member of the group has the frame in a slot. */
static inline uint64_t *
shmring_owner_at(const shmring_block *block, uint64_t slot, unsigned group)
{
    return block->owners + slot * SHMRING_MAX_GROUPS + group;
}

/* How many entries ahead a loop asks for the lines of entries that another core wrote last. */
#define SHMRING_PREFETCH_AHEAD 16u

static inline const void *
shmring_entry_ahead(const shmring_block *block, uint64_t index)
{
    const uint64_t ahead = index + SHMRING_PREFETCH_AHEAD;
    return block->entries + (ahead < block->geometry.slots ? ahead : index) * block->geometry.entry_stride;
}

static inline uint8_t *
shmring_meta_at(shmring_entry *record)
{
    return (uint8_t *)(record + 1);
}

static inline uint64_t
shmring_next_index(const shmring_block *block, uint64_t index)
{
    return index + 1 == block->geometry.slots ? 0 : index + 1;
}

/* The slot that follows in memory; SHMRING_NO_SLOT after a spare one: runs are made of slots only. */
#define SHMRING_NO_SLOT UINT64_MAX

static inline uint64_t
shmring_slot_after(const shmring_block *block, uint64_t slot)
{
    const uint64_t slots = block->geometry.slots;
    return slot + 1 < slots ? slot + 1 : slot + 1 == slots ? 0 : SHMRING_NO_SLOT;
}

#endif /* SHMRING_INTERNAL_ENTRIES_H */
