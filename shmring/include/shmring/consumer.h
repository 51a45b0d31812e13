/* SPDX-License-Identifier: Apache-2.0
 *
 * The consumer's side: join, take, release, leave. A handle belongs to one thread at a time. Nothing here
 * waits: wait.h has what does.
 *
 * A take returns SHMRING_OK, and fills in what *taken points to; SHMRING_EMPTY, SHMRING_CORRUPT, or
 * SHMRING_SYSTEM if there is no memory for a hold. Its frames stay as they are until
 * shmring_release(taken->hold).
 */
#ifndef SHMRING_CONSUMER_H
#define SHMRING_CONSUMER_H

#include "block.h"
#include "internal/join.h"
#include "internal/read.h"

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
    free(c->slots_taken);
    c->pin_counts = NULL;
    c->slots_taken = NULL;
}

/* Joins the ring, at one of SHMRING_START_OLDEST, SHMRING_START_NEWEST and SHMRING_START_NEXT. block is
 * mapped with SHMRING_CONSUME or SHMRING_PRODUCE and outlives c; lock_fd is a description of the block's
 * file of its own (shmring_reopen). label is for people. SHMRING_NO_PLACE if every place has a living owner,
 * SHMRING_NO_SHARE if the other lossy consumers leave no slots to hold, SHMRING_SYSTEM if there is no memory. */
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
    row->joined_ns = (uint64_t)shmring_clock_ns(CLOCK_REALTIME);
    row->start_time = shmring_own_start_time();
    row->pid = (uint32_t)getpid();
    shmring_store_relaxed(&row->flags, 0u); /* [relaxed: published with join_count] */
    memset(row->label, 0, sizeof row->label);
    const size_t length = strlen(label);
    memcpy(row->label, label, length < sizeof row->label ? length : sizeof row->label - 1);
    shmring_publish_stats(c);
    shmring_store_share(c, lossless ? UINT64_MAX : shmring_least_share(&block->geometry));

    c->cursor = shmring_guess_start(hot, slots, start);
    shmring_store_relaxed(&row->cursor, c->cursor); /* [relaxed: published with state] */
    /* [release state] */
    shmring_store_release(&row->state,
                          owners << 8 | (uint64_t)(lossless ? SHMRING_PLACE_LOSSLESS : SHMRING_PLACE_LOSSY));
    shmring_fetch_or_release(&hot->active, c->bit);           /* [release active] */
    shmring_fetch_add_release(&hot->join_count, UINT64_C(1)); /* [release join_count] */
    shmring_fence_seq_cst(); /* [fence join | mark, swap] I am seen before I look at what is being written */
    shmring_choose_start(c, start);
    c->cursor = c->first_uncounted = c->jumped_to = c->next;
    shmring_publish_stats(c);
    shmring_store_release(&row->cursor, c->cursor); /* [release cursor] */
    if (!lossless && !shmring_reserve_default(c)) {
        shmring_leave(c);
        return SHMRING_NO_SHARE;
    }
    shmring_event_announce(&hot->space_event); /* a producer may wait for consumers */
    return SHMRING_OK;
}

/* Lets a lossy consumer hold up to `slots` slots (1 or more), others than by default. SHMRING_NO_SHARE if the
 * other lossy consumers leave less. */
static inline int
shmring_limit_held(shmring_consumer *c, uint64_t slots)
{
    return c->lossless || shmring_reserve(c, slots) ? SHMRING_OK : SHMRING_NO_SHARE;
}

/* Takes the next frame. SHMRING_EMPTY if there is none yet. */
static inline int
shmring_take_one(shmring_consumer *c, shmring_taken *taken)
{
    return shmring_take_frames(c, 1, 1, 0, 0, taken);
}

/* Takes the next `least` (1 or more) to `most` frames, as many as there are, up to the first that is not
 * adjacent in memory (then taken->interrupted). SHMRING_EMPTY if there are fewer than `least`. */
static inline int
shmring_take_batch(shmring_consumer *c, uint64_t least, uint64_t most, shmring_taken *taken)
{
    return shmring_take_frames(c, least, most, 0, 0, taken);
}

/* Takes the next `length` frames and moves on by `step` (1 or more): windows overlap if that is less. Where
 * the frames are not adjacent in memory, taken->scattered is set and there is no hold: copy the slots that
 * c->slots_taken lists, then call shmring_end_scattered. SHMRING_EMPTY if there are fewer than `length`. */
static inline int
shmring_take_window(shmring_consumer *c, uint64_t length, uint64_t step, shmring_taken *taken)
{
    return shmring_take_frames(c, length, length, step, 1, taken);
}

/* Takes the newest frame not yet delivered, and counts the older ones as skipped. SHMRING_EMPTY if there is
 * none. */
static inline int
shmring_take_latest(shmring_consumer *c, shmring_taken *taken)
{
    c->head = shmring_read_head(c->block);
    if (c->head > c->next + 1) {
        shmring_seek(c, c->head - 1);
        c->jumped_to = c->next;
    }
    return shmring_take_one(c, taken);
}

/* Ends a take of scattered frames, once they are copied: no hold can name their slots. Frames that are held
 * get pins, or the cursor would stay behind for them and for everything that is copied until then. */
static inline void
shmring_end_scattered(shmring_consumer *c, const shmring_taken *taken)
{
    if (c->lossless) {
        shmring_stop_lagging(c);
        return;
    }
    for (uint64_t i = 0; i < taken->count; i++)
        shmring_unpin(c, c->slots_taken[i]);
    shmring_notify_unpinned(c);
}

/* Ends a hold: unpins its slots, or lets the cursor move on. */
static inline void
shmring_release(shmring_consumer *c, shmring_hold *hold)
{
    c->held -= hold->count;
    shmring_store_stat(&c->block->table[c->place].held, c->held);
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

/* Asks the producer to keep consecutive frames adjacent in memory, for batches and windows. */
static inline void
shmring_want_runs(shmring_consumer *c)
{
    shmring_place *const row = &c->block->table[c->place];
    const uint32_t flags = shmring_load_relaxed(&row->flags); /* [relaxed: this consumer's own word] */
    if (flags & SHMRING_WANTS_RUNS)
        return;
    shmring_store_relaxed(&row->flags, flags | SHMRING_WANTS_RUNS); /* [relaxed: published with join_count] */
    shmring_fetch_add_release(&c->block->hot->join_count, UINT64_C(1)); /* [release join_count] */
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

#endif /* SHMRING_CONSUMER_H */
