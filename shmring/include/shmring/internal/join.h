/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps of a join: a place of the table, a position to begin at.
 */
#ifndef SHMRING_INTERNAL_JOIN_H
#define SHMRING_INTERNAL_JOIN_H

#include "reap.h"
#include "read.h"
#include "share.h"

/* Takes the lock of a free place, or of one whose owner is dead (and clears it). A few rounds: a place
 * that is being reaped is neither for an instant. */
static inline int
shmring_occupy_place(shmring_block *block, int lock_fd, unsigned *found)
{
    for (int round = 0; round < 8; round++) {
        const int dead_too = round % 2;
        for (unsigned place = 0; place < block->geometry.consumers; place++) {
            const uint64_t state = shmring_load_acquire(&block->table[place].state); /* [acquire state] */
            if (!dead_too && (state & 0xff) != SHMRING_PLACE_FREE)
                continue;
            if (!shmring_set_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_WRLCK))
                continue;
            /* [relaxed: the place's lock orders owners] */
            const uint64_t now = shmring_load_relaxed(&block->table[place].state);
            if ((now & 0xff) != SHMRING_PLACE_FREE) {
                shmring_clear_holds(block, place, now & 0xff);
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

/* Says in the place's row who the consumer is; published with state. */
static inline void
shmring_introduce(const shmring_consumer *c, const char *label)
{
    shmring_place *const row = &c->block->table[c->place];
    row->joined_ns = (uint64_t)shmring_clock_ns(CLOCK_REALTIME);
    row->start_time = shmring_own_start_time();
    row->pid = (uint32_t)getpid();
    shmring_store_relaxed(&row->flags, 0u);                 /* [relaxed: published with join_count] */
    shmring_store_relaxed(&row->group, (uint32_t)c->group); /* [relaxed: published with state] */
    memset(row->label, 0, sizeof row->label);
    const size_t length = strlen(label);
    memcpy(row->label, label, length < sizeof row->label ? length : sizeof row->label - 1);
    shmring_store_share(c, c->max_held);
    shmring_publish_stats(c);
}

/* The seq in the record of an entry's frame; `otherwise` if the entry names no slot. */
static inline uint64_t
shmring_seq_of(const shmring_block *block, const shmring_entry *entry, uint64_t otherwise)
{
    const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: acquired with stamp] */
    if (slot >= shmring_all_slots(&block->geometry))
        return otherwise;
    return shmring_load_relaxed(&shmring_record_at(block, slot)->seq); /* [relaxed: acquired with stamp] */
}

/* Where a newcomer begins. From there to head every entry is intact: a swap may have taken one out of
 * the middle of the history. */
static inline void
shmring_choose_start(shmring_consumer *c, int start)
{
    shmring_hot *const hot = c->block->hot;
    const uint64_t slots = c->block->geometry.slots;
    for (unsigned round = 0;; round++) {
        const uint64_t claimed = shmring_load_acquire(&hot->claimed); /* [acquire claimed] */
        const uint64_t head = shmring_load_acquire(&hot->head);       /* [acquire head] */
        const uint64_t oldest = claimed > slots ? claimed - slots : 0;
        const uint64_t most = start == SHMRING_START_NEXT ? 0 : start == SHMRING_START_NEWEST ? 1 : slots;
        uint64_t position = head;
        c->expected_seq = shmring_load_relaxed(&hot->next_seq); /* [relaxed: acquired with head] */
        while (position > oldest && head - position < most) {
            shmring_entry *const entry = shmring_entry_at(c->block, (position - 1) % slots);
            /* [acquire stamp] */
            if (shmring_load_acquire(&entry->stamp) != shmring_published_stamp(position - 1))
                break;
            c->expected_seq = shmring_seq_of(c->block, entry, c->expected_seq);
            position--;
        }
        shmring_seek(c, position);
        c->head = head;
        if (c->lossless || position == head || round == SHMRING_MOST_LAPS)
            return;
        /* [fence recheck | announce, mark, swap] the seq before a second look at its stamp */
        shmring_fence_acquire();
        /* [relaxed: ordered by the fence above] */
        const uint64_t stamp = shmring_load_relaxed(&shmring_entry_at(c->block, position % slots)->stamp);
        if (stamp == shmring_published_stamp(position))
            return;
    }
}

/* A position that the newcomer's first one cannot be below. Until that is known it holds the producer
 * back. */
static inline uint64_t
shmring_guess_start(const shmring_hot *hot, uint64_t slots, int start)
{
    const uint64_t head = shmring_load_acquire(&hot->head);       /* [acquire head] */
    const uint64_t claimed = shmring_load_acquire(&hot->claimed); /* [acquire claimed] */
    if (start == SHMRING_START_NEXT)
        return head;
    if (start == SHMRING_START_NEWEST)
        return head > 0 ? head - 1 : 0;
    return claimed > slots ? claimed - slots : 0;
}

/* Takes a place of this kind for the consumer, at one of SHMRING_START_...; from now on its cursor holds the
 * producer back. SHMRING_NO_PLACE, SHMRING_SYSTEM. */
static inline int
shmring_begin_join(shmring_consumer *c, shmring_block *block, int lock_fd, uint64_t kind, int start,
                   const char *label)
{
    shmring_hot *const hot = block->hot;
    const uint64_t slots = block->geometry.slots;
    c->block = block;
    c->lock_fd = lock_fd;
    c->lossless = kind != SHMRING_PLACE_LOSSY;
    c->pin_counts = (uint32_t *)calloc(shmring_all_slots(&block->geometry), sizeof *c->pin_counts);
    c->slots_taken = (uint32_t *)calloc(slots, sizeof *c->slots_taken);
    int result = c->pin_counts == NULL || c->slots_taken == NULL
                     ? SHMRING_SYSTEM
                     : shmring_occupy_place(block, lock_fd, &c->place);
    if (result != SHMRING_OK) {
        free(c->pin_counts);
        free(c->slots_taken);
        return result;
    }
    c->bit = UINT64_C(1) << c->place;
    shmring_place *const row = &block->table[c->place];
    /* [relaxed: the place's lock orders owners] */
    const uint64_t owners = (shmring_load_relaxed(&row->state) >> 8) + 1;
    shmring_store_release(&row->state, owners << 8 | SHMRING_PLACE_JOINING); /* [release state] */
    shmring_introduce(c, label);
    c->cursor = shmring_guess_start(hot, slots, start);
    shmring_store_relaxed(&row->cursor, c->cursor);           /* [relaxed: published with state] */
    shmring_store_release(&row->state, owners << 8 | kind);   /* [release state] */
    shmring_fetch_or_release(&hot->active, c->bit);           /* [release active] */
    shmring_fetch_add_release(&hot->join_count, UINT64_C(1)); /* [release join_count] */
    shmring_fence_seq_cst(); /* [fence join | mark, swap] I am seen before I look at what is being written */
    shmring_choose_start(c, start);
    return SHMRING_OK;
}

/* The newcomer knows where it begins, and how far its cursor gates. */
static inline void
shmring_end_join(shmring_consumer *c, uint64_t cursor)
{
    c->cursor = c->first_uncounted = c->jumped_to = c->next;
    shmring_publish_stats(c);
    shmring_store_release(&c->block->table[c->place].cursor, cursor); /* [release cursor] */
    shmring_event_announce(&c->block->hot->space_event);              /* a producer may wait for consumers */
}

#endif /* SHMRING_INTERNAL_JOIN_H */
