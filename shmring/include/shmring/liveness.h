/* SPDX-License-Identifier: Apache-2.0
 *
 * Join, leave, reap. Holding the kernel's lock on a place's byte is owning the place, so these are
 * serialised by the kernel even if whoever does them is killed.
 */
#ifndef SHMRING_LIVENESS_H
#define SHMRING_LIVENESS_H

#include "consumer.h"

enum { SHMRING_START_OLDEST = 0, SHMRING_START_NEWEST = 1, SHMRING_START_NEXT = 2 };

/* Clears a dead owner's pins. The caller holds the place's lock. */
static inline void
shmring_clear_pins(shmring_block *block, unsigned place)
{
    const uint64_t bit = UINT64_C(1) << place;
    for (uint64_t slot = 0; slot < block->geometry.slots; slot++) {
        uint64_t *const pins = &shmring_entry_at(block, slot)->pins;
        const uint64_t held = shmring_load_relaxed(pins); /* [relaxed: nobody else writes this bit now] */
        if (held & bit)
            shmring_fetch_and_release(pins, ~bit); /* [R6 -> A6] */
    }
}

/* Makes a place gate nothing; its state becomes `kind`. The caller holds the place's lock. Killed
 * halfway, it is simply done again: the state changes last. */
static inline void
shmring_retire_place(shmring_block *block, unsigned place, uint64_t kind)
{
    uint64_t *const word = &block->table[place].state;
    shmring_fetch_and_release(&block->hot->active, ~(UINT64_C(1) << place)); /* [R10 -> A10] */
    const uint64_t state = shmring_load_relaxed(word);         /* [relaxed: the place's lock orders owners] */
    shmring_store_release(word, (state | 0xff) - 0xff + kind); /* [R5 -> A5] */
    shmring_event_announce(&block->hot->space_event);
}

/* Frees the place if its owner is dead. lock_fd belongs to none of this process's own places.
 * 1 if a dead owner was evicted. */
static inline int
shmring_reap(shmring_block *block, int lock_fd, unsigned place)
{
    const uint64_t state = shmring_load_acquire(&block->table[place].state); /* [A5 <- R5] */
    if ((state & 0xff) == SHMRING_PLACE_FREE || shmring_lock_held(lock_fd, SHMRING_LOCK_PLACE(place)) ||
        !shmring_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_WRLCK))
        return 0;
    const uint64_t found =
        shmring_load_relaxed(&block->table[place].state); /* [relaxed: the place's lock orders owners] */
    const int dead = (found & 0xff) != SHMRING_PLACE_FREE;
    if (dead) {
        shmring_clear_pins(block, place);
        shmring_retire_place(block, place, SHMRING_PLACE_FREE);
    }
    shmring_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_UNLCK);
    return dead;
}

/* Reaps every place. Returns how many dead consumers were evicted. */
static inline unsigned
shmring_reap_all(shmring_block *block, int lock_fd)
{
    unsigned evicted = 0;
    for (unsigned place = 0; place < block->geometry.consumers; place++)
        evicted += (unsigned)shmring_reap(block, lock_fd, place);
    return evicted;
}

/* Takes the lock of a free place, or of one whose owner is dead (and clears it). A few rounds: a place
 * that is being reaped is neither for an instant. */
static inline int
shmring_find_place(shmring_block *block, int lock_fd, unsigned *found)
{
    for (int round = 0; round < 8; round++) {
        const int dead_too = round % 2;
        for (unsigned place = 0; place < block->geometry.consumers; place++) {
            const uint64_t state = shmring_load_acquire(&block->table[place].state); /* [A5 <- R5] */
            if (!dead_too && (state & 0xff) != SHMRING_PLACE_FREE)
                continue;
            if (!shmring_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_WRLCK))
                continue;
            const uint64_t now = shmring_load_relaxed(
                &block->table[place].state); /* [relaxed: the place's lock orders owners] */
            if ((now & 0xff) != SHMRING_PLACE_FREE) {
                shmring_clear_pins(block, place);
                shmring_retire_place(block, place, SHMRING_PLACE_FREE);
            }
            *found = place;
            return SHMRING_OK;
        }
        if (dead_too)
            sched_yield();
    }
    return SHMRING_NO_PLACE;
}

/* Where a newcomer begins. From there to head every entry is intact: a swap may have taken one out of
 * the middle of the history. */
static inline void
shmring_choose_start(shmring_consumer *c, int start)
{
    shmring_hot *const hot = c->block->hot;
    const uint64_t slots = c->block->geometry.slots;
    for (unsigned round = 0;; round++) {
        const uint64_t claimed = shmring_load_acquire(&hot->claimed); /* [A7 <- R7] */
        const uint64_t head = shmring_load_acquire(&hot->head);       /* [A1 <- R1] */
        const uint64_t oldest = claimed > slots ? claimed - slots : 0;
        const uint64_t most = start == SHMRING_START_NEXT ? 0 : start == SHMRING_START_NEWEST ? 1 : slots;
        uint64_t position = head;
        c->expected_seq = shmring_load_relaxed(&hot->next_seq); /* [relaxed: A1 made it visible] */
        while (position > oldest && head - position < most) {
            shmring_entry *const entry = shmring_entry_at(c->block, (position - 1) % slots);
            if (shmring_load_acquire(&entry->stamp) != shmring_published_stamp(position - 1)) /* [A2 <- R2] */
                break;
            c->expected_seq = shmring_load_relaxed(&entry->seq); /* [relaxed: A2 made it visible] */
            position--;
        }
        shmring_go_to(c, position);
        c->head = head;
        if (c->lossless || position == head || round == SHMRING_MOST_LAPS)
            return;
        shmring_fence_acquire(); /* [F10 <-> F5, F6, F7] the seq before a second look at its stamp */
        const uint64_t stamp = shmring_load_relaxed(
            &shmring_entry_at(c->block, position % slots)->stamp); /* [relaxed: ordered by the fence above] */
        if (stamp == shmring_published_stamp(position))
            return;
    }
}

/* A position that the newcomer's first one cannot be below: it holds the producer back meanwhile. */
static inline uint64_t
shmring_first_guess(const shmring_hot *hot, uint64_t slots, int start)
{
    const uint64_t head = shmring_load_acquire(&hot->head);       /* [A1 <- R1] */
    const uint64_t claimed = shmring_load_acquire(&hot->claimed); /* [A7 <- R7] */
    if (start == SHMRING_START_NEXT)
        return head;
    if (start == SHMRING_START_NEWEST)
        return head > 0 ? head - 1 : 0;
    return claimed > slots ? claimed - slots : 0;
}

/* Joins the ring. lock_fd is a description of the block's file of its own; block outlives c.
 * SHMRING_NO_PLACE if the table is full of the living. */
static inline int
shmring_join(shmring_consumer *c, shmring_block *block, int lock_fd, int lossless, int start,
             const char *label)
{
    shmring_hot *const hot = block->hot;
    const uint64_t slots = block->geometry.slots;
    memset(c, 0, sizeof *c);
    c->block = block;
    c->lock_fd = lock_fd;
    c->lossless = lossless;
    c->pin_counts = (uint32_t *)calloc(slots, sizeof *c->pin_counts);
    c->run = (uint32_t *)calloc(slots, sizeof *c->run);
    int result = c->pin_counts == NULL || c->run == NULL ? SHMRING_SYSTEM
                                                         : shmring_find_place(block, lock_fd, &c->place);
    if (result != SHMRING_OK) {
        free(c->pin_counts);
        free(c->run);
        return result;
    }
    c->bit = UINT64_C(1) << c->place;
    shmring_place *const row = &block->table[c->place];
    const uint64_t owners =
        (shmring_load_relaxed(&row->state) >> 8) + 1; /* [relaxed: the place's lock orders owners] */
    shmring_store_release(&row->state, owners << 8 | SHMRING_PLACE_JOINING); /* [R5 -> A5] */
    row->joined_ns = (uint64_t)shmring_clock_ns(CLOCK_REALTIME);
    row->start_time = shmring_own_start_time();
    row->pid = (uint32_t)getpid();
    shmring_store_relaxed(&row->flags, 0u); /* [relaxed: R4 publishes it] */
    memset(row->label, 0, sizeof row->label);
    const size_t length = strlen(label);
    memcpy(row->label, label, length < sizeof row->label ? length : sizeof row->label - 1);
    shmring_tell(c);

    c->cursor = shmring_first_guess(hot, slots, start);
    shmring_store_relaxed(&row->cursor, c->cursor); /* [relaxed: R5 publishes it] */
    shmring_store_release(
        &row->state,
        owners << 8 | (uint64_t)(lossless ? SHMRING_PLACE_LOSSLESS : SHMRING_PLACE_LOSSY)); /* [R5 -> A5] */
    shmring_fetch_or_release(&hot->active, c->bit);                                         /* [R10 -> A10] */
    shmring_fetch_add_release(&hot->join_epoch, UINT64_C(1));                               /* [R4 -> A4] */
    shmring_fence_seq_cst(); /* [F9 <-> F6, F7] I am seen before I look at what is being written */
    shmring_choose_start(c, start);
    c->cursor = c->fresh = c->aim = c->next;
    shmring_tell(c);
    shmring_store_release(&row->cursor, c->cursor); /* [R3 -> A3] */
    shmring_event_announce(&hot->space_event);      /* a producer may wait for consumers */
    return SHMRING_OK;
}

/* Gives the place back and frees what the handle owns. Nothing is held any more. */
static inline void
shmring_leave(shmring_consumer *c)
{
    shmring_retire_place(c->block, c->place, SHMRING_PLACE_FREE);
    shmring_lock(c->lock_fd, SHMRING_LOCK_PLACE(c->place), F_UNLCK);
    while (c->spare != NULL) {
        shmring_hold *const hold = c->spare;
        c->spare = hold->next_spare;
        free(hold);
    }
    free(c->pin_counts);
    free(c->run);
    c->pin_counts = NULL;
    c->run = NULL;
}

/* Stops gating and reading while frames are still held: they get pins, the place is kept for them.
 * shmring_leave follows when the last one is released. */
static inline void
shmring_leave_holding(shmring_consumer *c)
{
    shmring_stop_lagging(c);
    c->left = 1;
    shmring_retire_place(c->block, c->place, SHMRING_PLACE_LEFT);
}

#endif /* SHMRING_LIVENESS_H */
