/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking frames: lossless by the cursor, lossy by pins and a second look.
 */
#ifndef SHMRING_INTERNAL_READ_H
#define SHMRING_INTERNAL_READ_H

#include "hold.h"
#include "losses.h"
#include "outlook.h"
#include "words.h"

/* Moves to another position; the caller counts what lies between. */
static inline void
shmring_seek(shmring_consumer *c, uint64_t position)
{
    c->next = position;
    c->index = position % c->block->geometry.slots;
}

/* Copies what the record of frame i of a take says. */
static inline void
shmring_read_record(shmring_taken *taken, uint64_t i, const shmring_geometry *g, shmring_entry *record)
{
    /* [relaxed: acquired with stamp] */
    if (taken->timestamps_ns != NULL)
        taken->timestamps_ns[i] = shmring_load_relaxed(&record->timestamp_ns);
    if (taken->rows != NULL) {
        const uint64_t rows = shmring_load_relaxed(&record->rows); /* [relaxed: acquired with stamp] */
        const uint64_t most = g->row_bytes == 0 ? rows : g->frame_bytes / g->row_bytes;
        taken->rows[i] = rows < most ? rows : most; /* a damaged record must not lead out of the slot */
    }
    if (taken->metas != NULL) {
        memcpy(taken->metas + i * g->meta_bytes, shmring_meta_at(record), g->meta_bytes);
    }
    taken->seqs[i] = shmring_load_relaxed(&record->seq); /* [relaxed: acquired with stamp] */
    taken->epoch = shmring_load_relaxed(&record->epoch); /* [relaxed: acquired with stamp] */
}

/* Published frames from next on; looks again if fewer than `wanted` are known of. The next one is there once
 * its stamp says so, which is in a line that is needed in any case: head, in another, follows a moment later.
 */
static inline uint64_t
shmring_available(shmring_consumer *c, uint64_t wanted)
{
    if (c->head <= c->next && shmring_is_published(c->block, c->index, c->next))
        c->head = c->next + 1;
    if (c->head < c->next + wanted) {
        const uint64_t head = shmring_read_head(c->block);
        c->head = head > c->head ? head : c->head;
    }
    return c->head > c->next ? c->head - c->next : 0;
}

/* Reads the entries of up to `most` published frames from next on into taken, and their slots into
 * c->slots_taken. Stops, unless scattered ones will do, at the first that is not adjacent to the one before.
 * A lossy consumer pins them and stops at the first that is not intact. A lossless one needs no look at the
 * stamp: the entry holds the position by construction, even while a producer that met a newcomer puts a
 * stamp back. SHMRING_CORRUPT for a slot outside the block.
 *
 * `lossless` and `seqs_only` (neither rows nor metas are asked for) are constants to the compiler, which
 * makes a loop for each. */
static inline __attribute__((always_inline)) int
shmring_collect_as(shmring_consumer *c, uint64_t most, int scattered_too, shmring_taken *taken, int lossless,
                   int seqs_only)
{
    /* Copies of what the loop reads: to the compiler, each of its stores might be one to these. */
    shmring_taken out = *taken;
    const shmring_block block = *c->block;
    const uint64_t all_slots = shmring_all_slots(&block.geometry);
    const uint64_t next = c->next;
    uint32_t *const slots_taken = c->slots_taken;
    uint64_t index = c->index;
    uint64_t following = SHMRING_NO_SLOT; /* the slot after the last one */
    uint64_t i = 0;
    int result = SHMRING_OK;
    if (seqs_only) {
        out.rows = NULL;
        out.metas = NULL;
    }
    taken->interrupted = 0;
    taken->redelivered = 0;
    taken->scattered = 0;
    for (; i < most; i++) {
        if (i + SHMRING_PREFETCH_AHEAD < most)
            __builtin_prefetch(shmring_entry_ahead(&block, index), 0);
        shmring_entry *const entry = shmring_entry_at(&block, index);
        /* [acquire stamp] */
        if (!lossless && shmring_load_acquire(&entry->stamp) != shmring_published_stamp(next + i))
            break;
        const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: acquired with head or stamp] */
        if (slot >= all_slots) {
            result = SHMRING_CORRUPT;
            break;
        }
        if (slot != following && i != 0) {
            if (!scattered_too) {
                taken->interrupted = 1;
                break;
            }
            taken->scattered = 1;
        }
        slots_taken[i] = slot;
        following = shmring_slot_after(&block, slot);
        if (!lossless)
            shmring_pin(c, slot);
        shmring_read_record(&out, i, &block.geometry, shmring_record_at(&block, slot));
        index = shmring_next_index(&block, index);
    }
    taken->epoch = out.epoch;
    taken->count = i;
    return result;
}

/* shmring_collect_as, by what this consumer is and this take asks for. */
static inline int
shmring_collect(shmring_consumer *c, uint64_t most, int scattered_too, shmring_taken *taken)
{
    if (c->lossless && taken->rows == NULL && taken->metas == NULL)
        return shmring_collect_as(c, most, scattered_too, taken, 1, 1);
    return shmring_collect_as(c, most, scattered_too, taken, c->lossless, 0);
}

/* Makes a hold of the frames collected, counts them, moves on and lets the producer have what it may. */
static inline int
shmring_finish_take(shmring_consumer *c, uint64_t step, shmring_taken *taken)
{
    shmring_hold *hold = NULL;
    if (!taken->scattered) {
        hold = shmring_new_hold(c, c->next, taken->count, c->slots_taken[0], !c->lossless);
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
        c->jumped_to = c->next;
    }
    if (c->lossless && hold != NULL) {
        const shmring_hold *const before = c->newer;
        if (before != NULL && before->position + before->count < hold->position)
            shmring_pin_lagging(c); /* a jump: what was skipped is given back */
        if (c->older != NULL)
            shmring_pin_hold(c, c->older); /* alive two takes later: it gets pins, the cursor moves on */
        c->older = c->newer;
        c->newer = hold;
        if (hold->position + hold->count < c->next)
            shmring_pin_lagging(c); /* the next window lies further ahead: what comes before is given back */
        shmring_store_cursor(c);
    }
    shmring_publish_stats(c);
    return SHMRING_OK;
}

/* Lossless: what lies above the cursor is there. */
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

/* Rounds after which a read that keeps being lapped returns, so that its caller can look at signals and the
 * time. */
#define SHMRING_MOST_LAPS 4096u

/* Lossy: pin, then look again whether the frames are still there; if not, continue with the oldest left. */
static inline int
shmring_take_lossy(shmring_consumer *c, uint64_t least, uint64_t most, uint64_t step, int scattered_too,
                   shmring_taken *taken)
{
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t needed = scattered_too ? least : 1;
    for (unsigned round = 0; round < SHMRING_MOST_LAPS; round++) {
        /* In each round: what a window has in common with those that are held changes with its position. */
        const uint64_t room = shmring_may_take(c, least, most < slots ? most : slots);
        const uint64_t available = room < least ? 0 : shmring_available(c, room);
        if (c->head > SHMRING_MAX_POSITION)
            return SHMRING_CORRUPT;
        if (available < least) { /* shmring_outlook says SHMRING_HELD if that is for want of room */
            if (round != 0)
                shmring_publish_stats(c); /* nothing is left of what it went past */
            return SHMRING_EMPTY;
        }
        const int result = shmring_collect(c, room < available ? room : available, scattered_too, taken);
        const uint64_t pinned = taken->count;
        uint64_t intact = 0;
        shmring_fence_seq_cst(); /* [fence pin | mark, swap] my pins before a second look at the stamps */
        uint64_t index = c->index;
        /* [acquire stamp] */
        while (intact < pinned && shmring_load_acquire(&shmring_entry_at(c->block, index)->stamp) ==
                                      shmring_published_stamp(c->next + intact)) {
            intact++;
            index = shmring_next_index(c->block, index);
        }
        taken->count = intact;
        const uint64_t kept = intact >= needed && result == SHMRING_OK ? intact : 0;
        for (uint64_t i = kept; i < pinned; i++)
            shmring_unpin(c, c->slots_taken[i]);
        if (kept < pinned)
            shmring_notify_unpinned(c);
        if (result != SHMRING_OK)
            return result;
        if (kept != 0)
            return shmring_finish_take(c, step, taken);
        const uint64_t claimed = shmring_load_acquire(&c->block->hot->claimed); /* [acquire claimed] */
        if (claimed < c->head || claimed > SHMRING_MAX_POSITION)
            return SHMRING_CORRUPT; /* else this would go through all positions up to head one by one */
        const uint64_t oldest = claimed > slots ? claimed - slots : 0;
        const uint64_t after = c->next + intact + 1;
        shmring_seek(c, after > oldest ? after : oldest);
    }
    return SHMRING_EMPTY; /* it kept being lapped */
}

/* Every take: `least` (1 or more) to `most` frames from next on; SHMRING_EMPTY if there are fewer. Moves on
 * by `step` (0: by as many as were taken). scattered_too: exactly `least` frames even where they are not
 * adjacent in memory (then taken->scattered). */
static inline int
shmring_take_frames(shmring_consumer *c, uint64_t least, uint64_t most, uint64_t step, int scattered_too,
                    shmring_taken *taken)
{
    if (c->lossless)
        return shmring_take_lossless(c, least, most, step, scattered_too, taken);
    return shmring_take_lossy(c, least, most, step, scattered_too, taken);
}

#endif /* SHMRING_INTERNAL_READ_H */
