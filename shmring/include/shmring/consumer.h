/* SPDX-License-Identifier: Apache-2.0
 *
 * The consumer's side: join, lossless and lossy reads, release, leave. A handle belongs to one thread at a time.
 */
#ifndef SHMRING_CONSUMER_H
#define SHMRING_CONSUMER_H

#include "block.h"
#include "internal/join.h"
#include "internal/outlook.h"

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
                                                         : shmring_occupy_place(block, lock_fd, &c->place);
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
    shmring_publish_stats(c);

    c->cursor = shmring_guess_start(hot, slots, start);
    shmring_store_relaxed(&row->cursor, c->cursor); /* [relaxed: R5 publishes it] */
    shmring_store_release(
        &row->state,
        owners << 8 | (uint64_t)(lossless ? SHMRING_PLACE_LOSSLESS : SHMRING_PLACE_LOSSY)); /* [R5 -> A5] */
    shmring_fetch_or_release(&hot->active, c->bit);                                         /* [R10 -> A10] */
    shmring_fetch_add_release(&hot->join_count, UINT64_C(1));                               /* [R4 -> A4] */
    shmring_fence_seq_cst(); /* [F9 <-> F6, F7] I am seen before I look at what is being written */
    shmring_choose_start(c, start);
    c->cursor = c->fresh = c->aim = c->next;
    shmring_publish_stats(c);
    shmring_store_release(&row->cursor, c->cursor); /* [R3 -> A3] */
    shmring_event_announce(&hot->space_event);      /* a producer may wait for consumers */
    return SHMRING_OK;
}

/* Takes least (1 or more) to most frames from next on; SHMRING_EMPTY if there are fewer. `step` (0: as many as
 * taken) says how far to go on: windows overlap. scattered_too: exactly `least` frames even where
 * they are not adjacent (then taken->scattered). */
static inline int
shmring_take_frames(shmring_consumer *c, uint64_t least, uint64_t most, uint64_t step, int scattered_too,
                    shmring_taken *taken)
{
    if (c->lossless)
        return shmring_take_lossless(c, least, most, step, scattered_too, taken);
    return shmring_take_lossy(c, least, most, step, scattered_too, taken);
}

/* Takes the newest frame not yet delivered, passing over the older ones. */
static inline int
shmring_take_latest(shmring_consumer *c, shmring_taken *taken)
{
    c->head = shmring_read_head(c->block);
    if (c->head > c->next + 1) {
        shmring_seek(c, c->head - 1);
        c->aim = c->next;
    }
    return shmring_take_frames(c, 1, 1, 0, 0, taken);
}

/* Ends a take of scattered frames, once they are copied: no hold can name their slots. Frames that are held
 * get pins, or else the cursor would stay behind for them and for all that is copied meanwhile. */
static inline void
shmring_end_scattered(shmring_consumer *c, const shmring_taken *taken)
{
    if (c->lossless) {
        shmring_stop_lagging(c);
        return;
    }
    for (uint64_t i = 0; i < taken->count; i++)
        shmring_unpin(c, c->run[i]);
    shmring_notify_unpinned(c);
}

/* Ends a hold: unpins its slots, or lets the cursor go on. Never waits. */
static inline void
shmring_release(shmring_consumer *c, shmring_hold *hold)
{
    c->held -= hold->count;
    shmring_store_relaxed(&c->block->table[c->place].held, c->held); /* [relaxed: a statistic] */
    if (hold->pinned) {
        for (uint64_t i = 0; i < hold->count; i++)
            shmring_unpin(c, shmring_held_slot(c, hold, i));
        shmring_notify_unpinned(c);
    } else {
        if (c->older == hold) {
            c->older = NULL;
            shmring_store_cursor(c);
        } else {
            c->newer = NULL;
            shmring_stop_lagging(c); /* what is older and still alive is kept for longer */
        }
    }
    hold->next_spare = c->spare;
    c->spare = hold;
}

/* 1 if `least` more frames can never come because of what this consumer itself holds. */
static inline int
shmring_holds_too_much(shmring_consumer *c, uint64_t least)
{
    const uint64_t slots = c->block->geometry.slots;
    if (shmring_slots_needed(c, least) <= slots)
        return 0;
    if (c->lossless)
        shmring_stop_lagging(c); /* pins may need fewer slots than a lagging cursor */
    return shmring_slots_needed(c, least) > slots;
}

/* Asks the producer to keep consecutive frames adjacent in memory, for batches and windows. */
static inline void
shmring_want_runs(shmring_consumer *c)
{
    shmring_place *const row = &c->block->table[c->place];
    const uint32_t flags = shmring_load_relaxed(&row->flags); /* [relaxed: this consumer's own word] */
    if (flags & SHMRING_WANTS_RUNS)
        return;
    shmring_store_relaxed(&row->flags, flags | SHMRING_WANTS_RUNS);     /* [relaxed: R4 publishes it] */
    shmring_fetch_add_release(&c->block->hot->join_count, UINT64_C(1)); /* [R4 -> A4] */
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

/* Gives the place back and frees what the handle owns. Nothing is held any more. */
static inline void
shmring_leave(shmring_consumer *c)
{
    shmring_retire_place(c->block, c->place, SHMRING_PLACE_FREE);
    shmring_set_lock(c->lock_fd, SHMRING_LOCK_PLACE(c->place), F_UNLCK);
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

#endif /* SHMRING_CONSUMER_H */
