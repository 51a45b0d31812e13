/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking frames: lossless by the cursor, lossy by pins and a second look.
 */
#ifndef SHMRING_INTERNAL_READ_H
#define SHMRING_INTERNAL_READ_H

#include "hold.h"
#include "losses.h"
#include "words.h"

static inline void
shmring_seek(shmring_consumer *c, uint64_t position)
{
    c->next = position;
    c->index = position % c->block->geometry.slots;
}

/* Copies what entry i of a take says; accounts for its seq. */
static inline void
shmring_read_entry(shmring_taken *taken, uint64_t i, const shmring_geometry *g, shmring_entry *entry)
{
    if (taken->timestamps_ns != NULL)
        taken->timestamps_ns[i] =
            shmring_load_relaxed(&entry->timestamp_ns); /* [relaxed: A2 made it visible] */
    if (taken->rows != NULL) {
        const uint64_t rows = shmring_load_relaxed(&entry->rows); /* [relaxed: A2 made it visible] */
        const uint64_t most = g->row_bytes == 0 ? rows : g->frame_bytes / g->row_bytes;
        taken->rows[i] = rows < most ? rows : most; /* a damaged entry must not lead out of the slot */
    }
    if (taken->metas != NULL) {
        memcpy(taken->metas + i * g->meta_bytes, shmring_meta_at(entry), g->meta_bytes);
    }
    taken->seqs[i] = shmring_load_relaxed(&entry->seq); /* [relaxed: A2 made it visible] */
    taken->epoch = shmring_load_relaxed(&entry->epoch); /* [relaxed: A2 made it visible] */
}

/* Published frames from next on; looks at head anew if fewer than `wanted` are known of. */
static inline uint64_t
shmring_available(shmring_consumer *c, uint64_t wanted)
{
    if (c->head < c->next + wanted)
        c->head = shmring_read_head(c->block);
    return c->head > c->next ? c->head - c->next : 0;
}

/* Notes up to `most` published frames from next on in taken and their slots in c->run. Stops, unless
 * scattered ones will do, at the first that is not adjacent to the one before. A lossy consumer pins
 * them and stops at the first that is not intact. A lossless one needs no look at the stamp: the entry
 * holds the position by construction, even while a producer that met a newcomer puts a stamp back.
 * SHMRING_CORRUPT for a slot outside the block.
 *
 * `lossless` and `bare` (neither rows nor metas are asked for) are constants to the compiler: a loop for each. */
static inline __attribute__((always_inline)) int
shmring_collect_as(shmring_consumer *c, uint64_t most, int scattered_too, shmring_taken *taken, int lossless,
                   int bare)
{
    /* Copies of what the loop reads: to the compiler, each of its stores might be one to these. */
    shmring_taken out = *taken;
    const shmring_block block = *c->block;
    const uint64_t slots = block.geometry.slots;
    const uint64_t next = c->next;
    uint32_t *const run = c->run;
    uint64_t index = c->index;
    uint64_t following = slots; /* the slot after the last one; no slot at first */
    uint64_t i = 0;
    int result = SHMRING_OK;
    if (bare) {
        out.rows = NULL;
        out.metas = NULL;
    }
    taken->interrupted = 0;
    taken->scattered = 0;
    for (; i < most; i++) {
        if (i + SHMRING_PREFETCH_AHEAD < most)
            __builtin_prefetch(shmring_entry_ahead(&block, index), 0);
        shmring_entry *const entry = shmring_entry_at(&block, index);
        if (!lossless &&
            shmring_load_acquire(&entry->stamp) != shmring_published_stamp(next + i)) /* [A2 <- R2] */
            break;
        const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: A1 or A2 made it visible] */
        if (slot >= slots) {
            result = SHMRING_CORRUPT;
            break;
        }
        if (slot != following && following != slots) {
            if (!scattered_too) {
                taken->interrupted = 1;
                break;
            }
            taken->scattered = 1;
        }
        run[i] = slot;
        following = slot + 1 == slots ? 0 : slot + 1;
        if (!lossless)
            shmring_pin(c, slot);
        shmring_read_entry(&out, i, &block.geometry, entry);
        index = shmring_next_index(&block, index);
    }
    taken->epoch = out.epoch;
    taken->count = i;
    return result;
}

static inline int
shmring_collect(shmring_consumer *c, uint64_t most, int scattered_too, shmring_taken *taken)
{
    if (c->lossless && taken->rows == NULL && taken->metas == NULL)
        return shmring_collect_as(c, most, scattered_too, taken, 1, 1);
    return shmring_collect_as(c, most, scattered_too, taken, c->lossless, 0);
}

static inline int
shmring_finish_take(shmring_consumer *c, uint64_t step, shmring_taken *taken)
{
    shmring_hold *hold = NULL;
    if (!taken->scattered) {
        hold = shmring_new_hold(c, c->next, taken->count, c->run[0], !c->lossless);
        if (hold == NULL)
            return SHMRING_SYSTEM;
        c->held += taken->count;
    }
    taken->hold = hold;
    shmring_count_taken(c, taken);
    if (step == 0 && taken->count == 1) {
        c->next++;
        c->index = shmring_next_index(c->block, c->index);
    } else {
        shmring_seek(c, c->next + (step != 0 ? step : taken->count));
        c->aim = c->next;
    }
    if (c->lossless && hold != NULL) {
        const shmring_hold *const before = c->newer;
        if (before != NULL && before->position + before->count < hold->position)
            shmring_pin_lagging(c); /* a jump: what was passed over is given back */
        if (c->older != NULL)
            shmring_pin_hold(c, c->older); /* alive two takes later: it gets pins, the cursor goes on */
        c->older = c->newer;
        c->newer = hold;
        if (hold->position + hold->count < c->next)
            shmring_pin_lagging(c); /* the next window lies further on: what comes before is given back */
        shmring_store_cursor(c);
    }
    shmring_publish_stats(c);
    return SHMRING_OK;
}

static inline int
shmring_take_lossless(shmring_consumer *c, uint64_t least, uint64_t most, uint64_t step, int scattered_too,
                      shmring_taken *taken)
{
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t room = most < slots ? most : slots;
    const uint64_t available = shmring_available(c, room);
    if (c->head > SHMRING_MAX_POSITION || available > slots)
        return SHMRING_CORRUPT;
    if (available < least)
        return SHMRING_EMPTY;
    const int result = shmring_collect(c, room < available ? room : available, scattered_too, taken);
    return result == SHMRING_OK ? shmring_finish_take(c, step, taken) : result;
}

/* Rounds after which a read that is lapped again and again lets its caller look around. */
#define SHMRING_MOST_LAPS 4096u

/* Lossy: pin, then look again whether the frames are still there; else go on with the oldest left. */
static inline int
shmring_take_lossy(shmring_consumer *c, uint64_t least, uint64_t most, uint64_t step, int scattered_too,
                   shmring_taken *taken)
{
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t needed = scattered_too ? least : 1;
    const uint64_t room = most < slots ? most : slots;
    for (unsigned round = 0; round < SHMRING_MOST_LAPS; round++) {
        const uint64_t available = shmring_available(c, room);
        if (c->head > SHMRING_MAX_POSITION)
            return SHMRING_CORRUPT;
        if (available < least) {
            if (round != 0)
                shmring_publish_stats(c); /* nothing is left of what it went past */
            return SHMRING_EMPTY;
        }
        const int result = shmring_collect(c, room < available ? room : available, scattered_too, taken);
        const uint64_t pinned = taken->count;
        uint64_t intact = 0;
        shmring_fence_seq_cst(); /* [F8 <-> F6, F7] my pins before a second look at the stamps */
        uint64_t index = c->index;
        while (intact < pinned && shmring_load_acquire(&shmring_entry_at(c->block, index)->stamp) ==
                                      shmring_published_stamp(c->next + intact)) { /* [A2 <- R2] */
            intact++;
            index = shmring_next_index(c->block, index);
        }
        taken->count = intact;
        const uint64_t kept = intact >= needed && result == SHMRING_OK ? intact : 0;
        for (uint64_t i = kept; i < pinned; i++)
            shmring_unpin(c, c->run[i]);
        if (kept < pinned)
            shmring_notify_unpinned(c);
        if (result != SHMRING_OK)
            return result;
        if (kept != 0)
            return shmring_finish_take(c, step, taken);
        const uint64_t claimed = shmring_load_acquire(&c->block->hot->claimed); /* [A7 <- R7] */
        if (claimed < c->head || claimed > SHMRING_MAX_POSITION)
            return SHMRING_CORRUPT; /* else this would go through all positions up to head one by one */
        const uint64_t oldest = claimed > slots ? claimed - slots : 0;
        const uint64_t after = c->next + intact + 1;
        shmring_seek(c, after > oldest ? after : oldest);
    }
    return SHMRING_EMPTY; /* lapped again and again: the caller looks at signals and the time */
}

#endif /* SHMRING_INTERNAL_READ_H */
