/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps of a claim: marks, a free slot for its first frame or for one more, the run behind it.
 */
#ifndef SHMRING_INTERNAL_CLAIM_H
#define SHMRING_INTERNAL_CLAIM_H

#include "swap.h"
#include "trials.h"

/* Makes sure that nobody holds the slot of the claimed entry, by a spare slot or a swap if need be. */
static inline int
shmring_secure_slot(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    if (p->reuse_warm && p->copies != 0 && !shmring_will_stream(p))
        shmring_swap_in_warm_slot(p);
    else
        shmring_rejoin_run(p);
    if (p->head < p->limit && (!shmring_is_held(p, p->slot_of[p->index]) || shmring_take_any_spare(p)))
        return SHMRING_OK;
    if (p->limit - p->head < slots) /* consumers may have moved on since the gate was cached */
        shmring_rescan(p);
    uint64_t other = p->index;
    const uint64_t end = p->head + slots - p->count; /* where the entries of an open claim begin again */
    for (uint64_t later = p->head + 1; later < end && later < p->limit; later++) {
        other = shmring_next_index(p->block, other);
        if (shmring_swap(p, other, later))
            return SHMRING_OK; /* later < limit still held after its rescan, so head < limit */
    }
    return SHMRING_FULL;
}

/* The entry of frame i of the open claim, or of the next one. No division: it takes as long as a fence. */
static inline uint64_t
shmring_claimed_index(const shmring_producer *p, uint64_t i)
{
    const uint64_t slots = p->block->geometry.slots;
    return p->index + i < slots ? p->index + i : p->index + i - slots;
}

/* Marks the entries of positions head + from to head + to - 1 as being written. The fence mark follows. */
static inline void
shmring_mark_entries(shmring_producer *p, uint64_t from, uint64_t to)
{
    const uint64_t end = p->head + to;
    if (end > p->claimed) { /* it never goes back */
        p->claimed = end;
        shmring_store_release(&p->block->hot->claimed, end); /* [release claimed] */
    }
    const shmring_block block =
        *p->block; /* a copy: to the compiler, stamps might be stored into the block */
    const uint64_t head = p->head;
    uint64_t index = shmring_claimed_index(p, from);
    for (uint64_t i = from; i < to; i++) {
        if (i + SHMRING_PREFETCH_AHEAD < to)
            shmring_prefetch_write(shmring_entry_ahead(&block, index));
        shmring_entry *const entry = shmring_entry_at(&block, index);
        p->saved[i] = shmring_load_relaxed(&entry->stamp); /* [relaxed: only the producer writes it] */
        /* [relaxed: ordered by the fence below] */
        shmring_store_relaxed(&entry->stamp, shmring_writing_stamp(head + i));
        index = shmring_next_index(&block, index);
    }
}

/* The same, with the fence, and a look at newcomers. */
static inline void
shmring_mark_writing(shmring_producer *p, uint64_t from, uint64_t to)
{
    shmring_mark_entries(p, from, to);
    /* [fence mark | pin, join, recheck] the marks before a look at pins and newcomers */
    shmring_fence_seq_cst();
    if (shmring_joined_since_rescan(p))
        shmring_rescan(p);
}

/* Puts back what shmring_mark_writing found: these slots were not touched. */
static inline void
shmring_restore_stamps(shmring_producer *p, uint64_t from, uint64_t to)
{
    uint64_t index = shmring_claimed_index(p, from);
    for (uint64_t i = from; i < to; i++) {
        shmring_store_release(&shmring_entry_at(p->block, index)->stamp, p->saved[i]); /* [release stamp] */
        index = shmring_next_index(p->block, index);
    }
}

/* Marks the entry of the next claim at the end of a publish, whose fence serves both. Not where that would
 * cost somebody a frame: the one that the entry has until then was read by every lossless consumer, and
 * nobody else is there. (A lossy consumer that joins at this moment may find one frame less.) */
static inline void
shmring_mark_ahead(shmring_producer *p)
{
    p->marked_ahead =
        p->gate != UINT64_MAX && !p->lossy_active && p->head < p->limit && !shmring_joined_since_rescan(p);
    if (p->marked_ahead)
        shmring_mark_entries(p, 0, 1);
}

/* Undoes shmring_mark_ahead: no claim follows. */
static inline void
shmring_unmark_ahead(shmring_producer *p)
{
    if (p->marked_ahead)
        shmring_restore_stamps(p, 0, 1);
    p->marked_ahead = 0;
}

/* Marks the entry of position head for a claim, unless it is marked since the last publish. */
static inline void
shmring_mark_first(shmring_producer *p)
{
    if (!p->marked_ahead)
        shmring_mark_writing(p, 0, 1);
    else if (shmring_joined_since_rescan(p))
        shmring_rescan(p);
    p->marked_ahead = 0;
}

/* Makes the entry of the next position the producer's: its mark, then its slot. SHMRING_FULL: it is what it
 * was. */
static inline int
shmring_claim_entry(shmring_producer *p)
{
    shmring_mark_first(p);
    if (p->head < p->limit && shmring_secure_slot(p) == SHMRING_OK)
        return SHMRING_OK;
    shmring_restore_stamps(p, 0, 1);
    return SHMRING_FULL;
}

/* How many frames from the first on are adjacent in memory and free, of `marked` marked ones. */
static inline uint64_t
shmring_count_run(const shmring_producer *p, uint64_t marked)
{
    const shmring_block block = *p->block; /* copies: after each acquire the compiler would load all again */
    const uint32_t *const slot_of = p->slot_of;
    const uint32_t groups = p->groups;
    const uint64_t left = p->limit > p->head ? p->limit - p->head : 1; /* it may have fallen since */
    const uint64_t most = left < marked ? left : marked;
    uint64_t index = p->index;
    uint64_t slot = slot_of[index];
    uint64_t run = 1;
    for (; run < most; run++) {
        index = shmring_next_index(&block, index);
        slot = shmring_slot_after(&block, slot);
        if (slot_of[index] != slot || shmring_is_held_in(&block, groups, slot))
            break;
    }
    return run;
}

#endif /* SHMRING_INTERNAL_CLAIM_H */
