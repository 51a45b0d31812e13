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
#include "internal/member.h"

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
 * SHMRING_SYSTEM if there is no memory. */
static inline int
shmring_join(shmring_consumer *c, shmring_block *block, int lock_fd, int lossless, int start,
             const char *label)
{
    memset(c, 0, sizeof *c);
    c->max_held = lossless ? UINT64_MAX : shmring_least_share(&block->geometry);
    const int result = shmring_begin_join(
        c, block, lock_fd, lossless ? SHMRING_PLACE_LOSSLESS : SHMRING_PLACE_LOSSY, start, label);
    if (result != SHMRING_OK)
        return result;
    shmring_end_join(c, c->next);
    if (!lossless)
        shmring_reserve_default(c);
    return SHMRING_OK;
}

/* Joins the ring as a member of the group of that name: each frame goes to one member, the next one that
 * asks. A group that nobody is in begins at `start`, with these flags (SHMRING_AT_MOST_ONCE or 0). Else as
 * shmring_join; SHMRING_OTHER_GROUP if the group has other flags, SHMRING_NO_GROUP if SHMRING_MAX_GROUPS
 * others have members, SHMRING_TIMEOUT if another process keeps the lock of the groups. */
static inline int
shmring_join_group(shmring_consumer *c, shmring_block *block, int lock_fd, const char *name, uint32_t flags,
                   int start, const char *label)
{
    memset(c, 0, sizeof *c);
    c->max_held = UINT64_MAX;
    c->member = 1;
    int result = shmring_lock_groups(lock_fd);
    if (result != SHMRING_OK)
        return result;
    result = shmring_find_group(block, name, flags, &c->group);
    if (result == SHMRING_OK)
        result = shmring_begin_join(c, block, lock_fd, SHMRING_PLACE_ENTERING, SHMRING_START_OLDEST, label);
    if (result == SHMRING_OK) {
        /* What the others did before they left is seen: they changed `active`, as I did. */
        if (!shmring_has_members(block, c->group, c->place))
            shmring_begin_group(c, name, flags, shmring_group_start(c, start));
        shmring_become_member(c);
        shmring_seek(c, shmring_load_acquire(&shmring_group_of(c)->next)); /* [acquire next] */
        shmring_end_join(c, UINT64_MAX);
    }
    shmring_set_lock(lock_fd, SHMRING_LOCK_GROUPS, F_UNLCK);
    if (result == SHMRING_OK)
        shmring_reap_members(c);
    return result;
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
    return c->member ? shmring_take_shared(c, 1, 1, taken) : shmring_take_frames(c, 1, 1, 0, 0, taken);
}

/* Takes the next `least` (1 or more) to `most` frames, as many as there are, up to the first that is not
 * adjacent in memory (then taken->interrupted). SHMRING_EMPTY if there are fewer than `least`; a member
 * may get fewer, because others take them. */
static inline int
shmring_take_batch(shmring_consumer *c, uint64_t least, uint64_t most, shmring_taken *taken)
{
    if (c->member)
        return shmring_take_shared(c, least, most, taken);
    return shmring_take_frames(c, least, most, 0, 0, taken);
}

/* Takes the next `length` frames and moves on by `step` (1 or more): windows overlap if that is less. Not
 * for members of groups. Where the frames are not adjacent in memory, taken->scattered is set and there is
 * no hold: copy the slots that c->slots_taken lists, then call shmring_end_scattered. SHMRING_EMPTY if
 * there are fewer than `length`. */
static inline int
shmring_take_window(shmring_consumer *c, uint64_t length, uint64_t step, shmring_taken *taken)
{
    return shmring_take_frames(c, length, length, step, 1, taken);
}

/* Takes the newest frame not yet delivered, and counts the older ones as skipped. SHMRING_EMPTY if there is
 * none. Not for members of groups. */
static inline int
shmring_take_latest(shmring_consumer *c, shmring_taken *taken)
{
    c->head = shmring_read_head(c->block);
    if (c->head > c->next + 1) {
        shmring_seek(c, c->head - 1);
        c->jumped_to = c->next;
        shmring_publish_stats(c); /* the take may be refused, for what the consumer holds */
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
    if (hold->owned && !c->left) {
        shmring_release_shared(c, hold);
    } else if (hold->pinned || hold->owned) {
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
    if (c->member)
        shmring_pin_owned(c);
    else
        shmring_stop_lagging(c);
    c->left = 1;
    shmring_retire_place(c->block, c->place, SHMRING_PLACE_LEFT);
}

#endif /* SHMRING_CONSUMER_H */
