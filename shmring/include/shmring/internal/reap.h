/* SPDX-License-Identifier: Apache-2.0
 *
 * Places of the consumer table given back, by their owner or because it is dead. Holding the kernel's lock
 * on a place's byte is owning the place, so the kernel serialises this even if the process that does it is
 * killed.
 */
#ifndef SHMRING_INTERNAL_REAP_H
#define SHMRING_INTERNAL_REAP_H

#include "../types.h"
#include "entries.h"
#include "eventcount.h"
#include "owner.h"

/* Clears a dead owner's pins. The caller holds the place's lock. */
static inline void
shmring_clear_pins(shmring_block *block, unsigned place)
{
    const uint64_t bit = UINT64_C(1) << place;
    for (uint64_t slot = 0; slot < shmring_all_slots(&block->geometry); slot++) {
        uint64_t *const pins = &shmring_record_at(block, slot)->pins;
        const uint64_t held = shmring_load_relaxed(pins); /* [relaxed: nobody else writes this bit now] */
        if (held & bit)
            shmring_fetch_and_release(pins, ~bit); /* [release pins] */
    }
}

/* Gives up what a dead owner of a place holds, in the way that the place's kind of consumer holds it. The
 * caller holds the place's lock. */
static inline void
shmring_clear_holds(shmring_block *block, unsigned place, uint64_t kind)
{
    if (kind == SHMRING_PLACE_MEMBER)
        shmring_give_up_owned(block, place);
    shmring_clear_pins(block, place);
}

/* Makes a place gate nothing; its state becomes `kind`. The caller holds the place's lock. Killed
 * halfway, it is simply done again: the state changes last. */
static inline void
shmring_retire_place(shmring_block *block, unsigned place, uint64_t kind)
{
    uint64_t *const state = &block->table[place].state;
    shmring_fetch_and_release(&block->hot->active, ~(UINT64_C(1) << place)); /* [release active] */
    const uint64_t before = shmring_load_relaxed(state); /* [relaxed: the place's lock orders owners] */
    shmring_store_release(state, (before | 0xff) - 0xff + kind); /* [release state] */
    shmring_event_announce(&block->hot->space_event);
}

/* Frees the place if its owner is dead. lock_fd belongs to none of this process's own places.
 * 1 if a dead owner was evicted. */
static inline int
shmring_reap(shmring_block *block, int lock_fd, unsigned place)
{
    const uint64_t state = shmring_load_acquire(&block->table[place].state); /* [acquire state] */
    if ((state & 0xff) == SHMRING_PLACE_FREE || shmring_lock_held(lock_fd, SHMRING_LOCK_PLACE(place)) ||
        !shmring_set_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_WRLCK))
        return 0;
    /* [relaxed: the place's lock orders owners] */
    const uint64_t found = shmring_load_relaxed(&block->table[place].state);
    const int dead = (found & 0xff) != SHMRING_PLACE_FREE;
    if (dead) {
        shmring_clear_holds(block, place, found & 0xff);
        shmring_retire_place(block, place, SHMRING_PLACE_FREE);
    }
    shmring_set_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_UNLCK);
    return dead;
}

#endif /* SHMRING_INTERNAL_REAP_H */
