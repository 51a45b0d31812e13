/* SPDX-License-Identifier: Apache-2.0
 *
 * The consumer's side: lossless and lossy reads, holds (cursor lag and pins), waiting; and the
 * observer's private copies. A handle belongs to one thread at a time; shmring_wait_data may run
 * meanwhile in another, it touches the block only.
 */
#ifndef SHMRING_CONSUMER_H
#define SHMRING_CONSUMER_H

#include "eventcount.h"

/* Frames that the consumer still holds: behind its cursor, or pinned. */
typedef struct shmring_hold {
    uint64_t position;
    uint64_t count;
    uint64_t slot; /* of the first frame; the others follow in memory */
    int pinned;
    struct shmring_hold *next_spare;
} shmring_hold;

typedef struct shmring_consumer {
    shmring_block *block;
    int lock_fd;
    unsigned place;
    int lossless;
    int left;        /* left the ring; what is still held stays pinned */
    uint64_t bit;    /* 1 << place */
    uint64_t next;   /* next position to read */
    uint64_t index;  /* its entry */
    uint64_t head;   /* as last seen */
    uint64_t cursor; /* as last stored (lossless) */
    uint64_t expected_seq;
    uint64_t fresh; /* positions from here on were neither delivered nor counted as lost or skipped */
    uint64_t aim;   /* where latest or windows jumped to: what lies between was passed over on purpose */
    uint64_t delivered;
    uint64_t lost;
    uint64_t skipped;
    uint64_t held;         /* frames in live holds */
    uint64_t pinned_slots; /* distinct slots with our pin */
    shmring_hold *older;   /* lossless: the last two holds are kept by the lagging cursor, not by pins */
    shmring_hold *newer;
    shmring_hold *spare;
    uint32_t *pin_counts; /* per slot: our holds that need the pin */
    uint32_t *run;        /* the slots of the frames being taken */
} shmring_consumer;

/* What one take tells of its frames. The arrays are the caller's, room for the frames asked for;
 * any of them but seqs may be NULL. */
typedef struct shmring_taken {
    uint64_t *seqs;
    int64_t *timestamps_ns;
    uint64_t *rows;
    uint8_t *metas;
    uint64_t count;
    uint64_t lost;   /* frames lost just before or between these */
    uint64_t epoch;  /* of the last frame */
    int interrupted; /* more frames were there, but not adjacent in memory */
    int scattered;   /* the slots are not adjacent: consumer->run names them */
    shmring_hold *hold;
} shmring_taken;

/* ---- pins ---- */

static inline void
shmring_pin(shmring_consumer *c, uint64_t slot)
{
    if (c->pin_counts[slot]++ != 0)
        return;
    c->pinned_slots++;
    shmring_fetch_or_relaxed(&shmring_entry_at(c->block, slot)->pins,
                             c->bit); /* [relaxed: ordered by F8, or by R3 after it] */
}

static inline void
shmring_unpin(shmring_consumer *c, uint64_t slot)
{
    if (--c->pin_counts[slot] != 0)
        return;
    c->pinned_slots--;
    shmring_fetch_and_release(&shmring_entry_at(c->block, slot)->pins, ~c->bit); /* [R6 -> A6] */
}

static inline void
shmring_notify_unpinned(const shmring_consumer *c)
{
    shmring_fence_seq_cst(); /* [F4 <-> F1] the pin is gone before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

static inline uint64_t
shmring_held_slot(const shmring_consumer *c, const shmring_hold *hold, uint64_t i)
{
    const uint64_t slot = hold->slot + i;
    return slot < c->block->geometry.slots ? slot : slot - c->block->geometry.slots;
}

static inline void
shmring_pin_hold(shmring_consumer *c, shmring_hold *hold)
{
    for (uint64_t i = 0; i < hold->count; i++)
        shmring_pin(c, shmring_held_slot(c, hold, i));
    hold->pinned = 1;
}

/* ---- cursor and holds ---- */

/* Stores the lowest position that is still read without a pin: the producer's license to overwrite
 * what lies below. */
static inline void
shmring_store_cursor(shmring_consumer *c)
{
    uint64_t cursor = c->next;
    if (c->newer != NULL && c->newer->position < cursor)
        cursor = c->newer->position;
    if (c->older != NULL && c->older->position < cursor)
        cursor = c->older->position;
    if (cursor == c->cursor)
        return;
    c->cursor = cursor;
    shmring_store_release(&c->block->table[c->place].cursor, cursor); /* [R3 -> A3] */
    shmring_fence_seq_cst(); /* [F3 <-> F1] the cursor before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

static inline void
shmring_tell(const shmring_consumer *c)
{
    shmring_place *const row = &c->block->table[c->place];
    shmring_store_relaxed(&row->delivered, c->delivered); /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->lost, c->lost);           /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->skipped, c->skipped);     /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->held, c->held);           /* [relaxed: a statistic] */
    shmring_store_relaxed(&row->next, c->next);           /* [relaxed: a statistic] */
    if (!c->lossless)
        shmring_store_relaxed(&row->cursor, c->next); /* [relaxed: a lossy cursor gates nobody] */
}

static inline shmring_hold *
shmring_new_hold(shmring_consumer *c, uint64_t position, uint64_t count, uint64_t slot, int pinned)
{
    shmring_hold *hold = c->spare;
    if (hold != NULL)
        c->spare = hold->next_spare;
    else if ((hold = (shmring_hold *)malloc(sizeof *hold)) == NULL)
        return NULL;
    hold->position = position;
    hold->count = count;
    hold->slot = slot;
    hold->pinned = pinned;
    hold->next_spare = NULL;
    return hold;
}

/* Pins the frames that the cursor lags behind for, so that it may go on. */
static inline void
shmring_pin_lagging(shmring_consumer *c)
{
    if (c->older != NULL)
        shmring_pin_hold(c, c->older);
    if (c->newer != NULL)
        shmring_pin_hold(c, c->newer);
    c->older = NULL;
    c->newer = NULL;
}

static inline void
shmring_stop_lagging(shmring_consumer *c)
{
    shmring_pin_lagging(c);
    shmring_store_cursor(c);
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

static inline void
shmring_go_to(shmring_consumer *c, uint64_t position)
{
    c->next = position;
    c->index = position % c->block->geometry.slots;
}

/* ---- reading ---- */

/* Copies what entry i of a take says; accounts for its seq. */
static inline void
shmring_note(shmring_taken *taken, uint64_t i, const shmring_geometry *g, shmring_entry *entry)
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

static inline uint64_t
shmring_head(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->head); /* [A1 <- R1] */
}

/* Positions below `end` that were passed over on purpose since the last frame taken. */
static inline uint64_t
shmring_passed(const shmring_consumer *c, uint64_t end)
{
    const uint64_t aim = c->aim < end ? c->aim : end;
    return aim > c->fresh ? aim - c->fresh : 0;
}

/* Counts frames first seen in this take (overlapping windows meet some again), and the gap before each:
 * what was passed over on purpose was skipped, the rest is lost, whatever the cause. */
static inline void
shmring_count_gaps(shmring_consumer *c, shmring_taken *taken)
{
    uint64_t passed = shmring_passed(c, c->next);
    for (uint64_t i = 0; i < taken->count; i++) {
        const uint64_t seq = taken->seqs[i];
        if (seq < c->expected_seq && c->delivered == 0)
            c->expected_seq = seq; /* a newcomer saw next_seq ahead of the head that it saw */
        if (seq < c->expected_seq)
            continue;
        const uint64_t gap = seq - c->expected_seq;
        const uint64_t wanted = gap < passed ? gap : passed;
        c->skipped += wanted;
        taken->lost += gap - wanted;
        passed = 0;
        c->delivered++;
        c->expected_seq = seq + 1;
    }
}

static inline void
shmring_count(shmring_consumer *c, shmring_taken *taken)
{
    const uint64_t first = taken->seqs[0];
    const uint64_t last = taken->seqs[taken->count - 1];
    taken->lost = 0;
    if (first == c->expected_seq &&
        last - first == taken->count - 1) { /* seqs only grow: no gap in between */
        c->delivered += taken->count;
        c->expected_seq = last + 1;
    } else {
        shmring_count_gaps(c, taken);
    }
    if (c->fresh < c->next + taken->count)
        c->fresh = c->next + taken->count;
    c->lost += taken->lost;
}

/* Frames that were offered after the last one taken, when the producer of that epoch offers no more. If
 * another one has begun, the seq of its first frame will tell. Frames that can still be read (fewer than a
 * batch or window needs) are not lost: then the count waits. */
static inline void
shmring_count_end(shmring_consumer *c, uint64_t epoch)
{
    const shmring_hot *const hot = c->block->hot;
    const uint64_t next_seq = shmring_load_relaxed(&hot->next_seq); /* [relaxed: A8 made it visible] */
    const uint64_t head = shmring_head(c->block);
    shmring_fence_acquire(); /* [F10 <-> F5, F6, F7] next_seq and head before a look at whose they are */
    const uint64_t now = shmring_load_relaxed(&hot->epoch); /* [relaxed: ordered by the fence above] */
    if (now != epoch || next_seq <= c->expected_seq || (c->next < head && c->fresh < head))
        return;
    const uint64_t gap = next_seq - c->expected_seq;
    const uint64_t passed = shmring_passed(c, head);
    const uint64_t wanted = gap < passed ? gap : passed;
    c->skipped += wanted;
    c->lost += gap - wanted;
    c->expected_seq = next_seq;
    if (c->fresh < head)
        c->fresh = head; /* not next: windows may have jumped to a frame of the next producer */
    shmring_tell(c);
}

/* Published frames from next on; looks at head anew if fewer than `wanted` are known of. */
static inline uint64_t
shmring_available(shmring_consumer *c, uint64_t wanted)
{
    if (c->head < c->next + wanted)
        c->head = shmring_head(c->block);
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
        shmring_note(&out, i, &block.geometry, entry);
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
    shmring_count(c, taken);
    if (step == 0 && taken->count == 1) {
        c->next++;
        c->index = shmring_next_index(c->block, c->index);
    } else {
        shmring_go_to(c, c->next + (step != 0 ? step : taken->count));
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
    shmring_tell(c);
    return SHMRING_OK;
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
                shmring_tell(c); /* nothing is left of what it went past */
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
        shmring_go_to(c, after > oldest ? after : oldest);
    }
    return SHMRING_EMPTY; /* lapped again and again: the caller looks at signals and the time */
}

/* Takes least (1 or more) to most frames from next on; SHMRING_EMPTY if there are fewer. `step` (0: as many as
 * taken) says how far to go on: windows overlap. scattered_too: exactly `least` frames even where
 * they are not adjacent (then taken->scattered). */
static inline int
shmring_take(shmring_consumer *c, uint64_t least, uint64_t most, uint64_t step, int scattered_too,
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
    c->head = shmring_head(c->block);
    if (c->head > c->next + 1) {
        shmring_go_to(c, c->head - 1);
        c->aim = c->next;
    }
    return shmring_take(c, 1, 1, 0, 0, taken);
}

/* Slots that this consumer's held frames and `least` frames from next on need at the same time. */
static inline uint64_t
shmring_slots_needed(const shmring_consumer *c, uint64_t least)
{
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t from = c->lossless ? c->cursor : c->next;
    uint64_t needed = c->next + least - from + c->pinned_slots;
    if (needed <= slots)
        return needed;
    uint64_t end = c->next + least < c->head ? c->next + least : c->head;
    if (end > from && end - from > slots)
        end = from + slots; /* damaged counters may be far apart */
    for (uint64_t position = from; position < end; position++) {
        shmring_entry *const entry = shmring_entry_at(c->block, position % slots);
        if (!c->lossless && shmring_load_relaxed(&entry->stamp) !=
                                shmring_published_stamp(position)) /* [relaxed: a guess is good enough] */
            continue; /* gone: the slot that is there now is that of another frame */
        const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: a guess is good enough] */
        if (slot < slots && c->pin_counts[slot] != 0)
            needed--;
    }
    return needed;
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
    shmring_fetch_add_release(&c->block->hot->join_epoch, UINT64_C(1)); /* [R4 -> A4] */
}

/* ---- waiting ---- */

/* To be read before the state, for shmring_count_end. */
static inline uint64_t
shmring_epoch(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->epoch); /* [A8 <- R8] */
}

static inline uint32_t
shmring_producer_state(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->producer_state); /* [A8 <- R8] */
}

/* 1 as soon as head >= needed, 0 if it does not come in a moment. */
static inline int
shmring_wait_briefly(const shmring_block *block, uint64_t needed)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        if (shmring_head(block) >= needed)
            return 1;
        shmring_cpu_relax();
    }
    return 0;
}

/* Spins for spin_ns, then sleeps until head >= needed, the producer's state is no longer `state`,
 * the deadline (CLOCK_MONOTONIC) or a wake-up: look around, then call again. Touches nothing of the
 * handle, so that another thread may release frames meanwhile. */
static inline void
shmring_wait_data(const shmring_block *block, uint64_t needed, uint32_t state, int64_t deadline_ns,
                  int64_t spin_ns, long cores)
{
    shmring_hot *const hot = block->hot;
    shmring_spin spin = shmring_spin_start(block, spin_ns, cores);
    do {
        if (shmring_head(block) >= needed || shmring_producer_state(block) != state)
            return;
    } while (shmring_spin_once(&spin));
    const uint32_t value = shmring_event_prepare(&hot->data_event);
    if (shmring_head(block) >= needed || shmring_producer_state(block) != state)
        return;
    shmring_futex_wait(&hot->data_event, value, deadline_ns);
}

/* ---- private copies, without a place or a pin ---- */

/* Copies position's frame (frame_bytes) and what its entry says if it is intact: a seqlock read
 * (Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012).
 * SHMRING_EMPTY if it is not there any more, or not yet. */
static inline int
shmring_copy_out(const shmring_block *block, uint64_t position, void *target, shmring_taken *taken)
{
    const uint64_t slots = block->geometry.slots;
    shmring_entry *const entry = shmring_entry_at(block, position % slots);
    if (shmring_load_acquire(&entry->stamp) != shmring_published_stamp(position)) /* [A2 <- R2] */
        return SHMRING_EMPTY;
    const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: A2 made it visible] */
    if (slot >= slots)
        return SHMRING_CORRUPT;
    shmring_note(taken, 0, &block->geometry, entry);
    memcpy(target, shmring_slot_at(block, slot), block->geometry.frame_bytes);
    shmring_fence_acquire(); /* [F10 <-> F5, F6, F7] the copy before a second look at the stamp */
    const uint64_t stamp = shmring_load_relaxed(&entry->stamp); /* [relaxed: ordered by the fence above] */
    return stamp == shmring_published_stamp(position) ? SHMRING_OK : SHMRING_EMPTY;
}

#endif /* SHMRING_CONSUMER_H */
