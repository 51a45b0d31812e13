/* SPDX-License-Identifier: Apache-2.0
 *
 * A held frame costs one slot, and nothing waits for it: its entry takes a spare slot, or exchanges slots
 * with another entry.
 */
#ifndef SHMRING_INTERNAL_SWAP_H
#define SHMRING_INTERNAL_SWAP_H

#include "gate.h"

/* Names the slot of an entry, in the block and in the producer's own memory. */
static inline void
shmring_name_slot(shmring_producer *p, uint64_t index, uint32_t slot)
{
    /* [relaxed: the entry is invalid; published with stamp] */
    shmring_store_relaxed(&shmring_entry_at(p->block, index)->slot, slot);
    p->slot_of[index] = slot;
    p->entry_of[slot] = (uint32_t)index;
}

/* Exchanges the slots of the claimed entry and of `other`, in the producer's own memory. The claimed entry's
 * old frame goes with its slot. */
static inline void
shmring_exchange(shmring_producer *p, uint64_t other)
{
    const uint32_t given = p->slot_of[p->index];
    const uint32_t taken = p->slot_of[other];
    p->slot_of[other] = given;
    p->entry_of[given] = (uint32_t)other;
    shmring_name_slot(p, p->index, taken);
    p->saved[0] = 0;
}

/* Gives the entry of the claimed position the spare slot at `spare` of the permutation, unless that is
 * held. No other entry is touched, so no other frame is lost, and nobody can find the slot by an entry. */
static inline int
shmring_take_spare(shmring_producer *p, uint64_t spare)
{
    if (shmring_is_held(p, p->slot_of[spare]))
        return 0;
    shmring_exchange(p, spare);
    return 1;
}

/* The first spare slot that nobody holds, the one parked longest ago before the others. */
static inline int
shmring_take_any_spare(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t spares = p->block->geometry.spares;
    for (uint64_t i = 0; i < spares; i++) {
        const uint64_t spare = p->next_spare;
        p->next_spare = spare + 1 == spares ? 0 : spare + 1;
        if (shmring_take_spare(p, slots + spare))
            return 1;
    }
    return 0;
}

/* Gives the entry of the claimed position the slot of the entry `other`, whose next position is
 * `later`. 1 done, 0 that slot is pinned or may not be taken; the limit may have fallen since. */
static inline int
shmring_swap(shmring_producer *p, uint64_t other, uint64_t later)
{
    shmring_entry *const theirs = shmring_entry_at(p->block, other);
    const uint32_t given = p->slot_of[p->index];
    const uint32_t taken = p->slot_of[other];
    if (shmring_is_held(p, taken)) /* spares the frame there */
        return 0;
    const uint64_t stamp = shmring_load_relaxed(&theirs->stamp); /* [relaxed: only the producer writes it] */
    shmring_store_relaxed(&theirs->stamp, 0u);                   /* [relaxed: ordered by the fence below] */
    /* [fence swap | pin, join, recheck] invalid before a look at pins and newcomers */
    shmring_fence_seq_cst();
    if (shmring_joined_since_rescan(p))
        shmring_rescan(p);
    if (later >= p->limit || shmring_is_held(p, taken)) {
        shmring_store_release(&theirs->stamp, stamp); /* [release stamp] */
        return 0;
    }
    shmring_store_relaxed(&theirs->slot, given); /* [relaxed: the entry is invalid; published with stamp] */
    shmring_exchange(p, other);
    p->swaps++;
    shmring_store_stat(&p->block->hot->swaps, p->swaps);
    return 1;
}

/* The next position of the entry `index` at or after the claimed one. */
static inline uint64_t
shmring_position_of(const shmring_producer *p, uint64_t index)
{
    return p->head + (index >= p->index ? index - p->index : index + p->block->geometry.slots - p->index);
}

/* Prefers a slot freed last, which is still in the cache. Costs history: the frame there goes. The
 * consumers' cursors are read again each time: next to a large copy that costs nothing, and every further
 * slot in use takes its share of the cache. */
static inline void
shmring_swap_in_warm_slot(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    shmring_rescan(p);
    const uint64_t most = p->reuse_warm ? p->warm_slots : 0;
    for (uint64_t back = 1; back <= most && back <= p->gate; back++) {
        const uint64_t freed = p->gate - back;
        if (freed + slots <= p->head || freed >= p->head) /* overwritten by now, or not published */
            return;
        const uint64_t other = freed % slots;
        /* [relaxed: only the producer writes it] */
        const uint64_t stamp = shmring_load_relaxed(&shmring_entry_at(p->block, other)->stamp);
        if (stamp == shmring_published_stamp(freed) && shmring_swap(p, other, freed + slots))
            return;
    }
}

/* The slot that follows the slot of the frame before; SHMRING_NO_SLOT if that is a spare one. */
static inline uint64_t
shmring_following_slot(const shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    return shmring_slot_after(p->block, p->slot_of[p->index == 0 ? slots - 1 : p->index - 1]);
}

/* Prefers the slot that follows the slot of the frame before, so that runs are one piece of memory.
 * Spares recent history while a lossy consumer reads it. */
static inline void
shmring_rejoin_run(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t wanted = shmring_following_slot(p);
    if (wanted == p->slot_of[p->index] || wanted == SHMRING_NO_SLOT)
        return;
    const uint64_t other = p->entry_of[wanted];
    if (other >= slots) {
        shmring_take_spare(p, other);
        return;
    }
    const uint64_t later = shmring_position_of(p, other);
    if (later >= p->head + slots - p->count) /* an entry of the open claim, at whose end this one comes */
        return;
    if (later < p->limit && (!p->lossy_active || later - p->head <= slots / 2))
        shmring_swap(p, other, later);
}

#endif /* SHMRING_INTERNAL_SWAP_H */
