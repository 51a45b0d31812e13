/* SPDX-License-Identifier: Apache-2.0
 *
 * The producer's side: take over, claim, publish, abort, drop, swap, close, fail.
 * One producer a ring, held by a kernel lock; a handle belongs to one thread at a time.
 */
#ifndef SHMRING_PRODUCER_H
#define SHMRING_PRODUCER_H

#include "copy.h"
#include "eventcount.h"

#define SHMRING_LARGE_COPY ((size_t)1 << 20)
/* A trial's frames, through the cache and then past it; of each the fastest counts. Slots get warm again
 * only after some frames. */
#define SHMRING_TRIAL_WARM 4u
#define SHMRING_TRIAL 6u
/* Frames from one trial to the next: few after one that changed the way, twice as many after each that
 * did not. */
#define SHMRING_TRIAL_SOON 32u
#define SHMRING_TRIAL_LATE 2048u

typedef struct shmring_producer {
    shmring_block *block;
    int lock_fd;
    uint64_t head;  /* next position to publish */
    uint64_t index; /* its entry: head % slots */
    uint64_t limit; /* positions below it may be claimed, as far as the last rescan knows */
    uint64_t gate;  /* lowest cursor found by the last rescan, UINT64_MAX if nobody gates */
    uint64_t claimed;
    uint64_t join_epoch; /* this and active as the last rescan found them */
    uint64_t active;
    uint64_t next_seq;
    uint64_t epoch;
    uint64_t dropped;
    uint64_t swaps;
    uint64_t count;      /* frames of the open claim, 0 if none is open */
    uint64_t slot;       /* the first slot of the open claim; the others follow it in memory */
    uint32_t *slot_of;   /* entry -> slot: the permutation, in memory that nobody else can damage */
    uint32_t *entry_of;  /* slot -> entry */
    int exceeds_cache;   /* the ring is larger than the last-level cache */
    uint64_t warm_slots; /* that half the cache holds */
    int reuse_warm;      /* take the slot freed last: the ring exceeds the cache, nobody wants history */
    int lossy_active;
    int streaming_wins;                /* the last trial's outcome */
    uint64_t copies;                   /* large copies so far */
    uint64_t trial_began;              /* copies before the last trial */
    uint64_t trial_every;              /* copies from it to the next one */
    int64_t copy_ns[2];                /* through the cache, past it: in the last trial */
    uint64_t saved[SHMRING_MAX_BATCH]; /* stamps as found by the claim */
} shmring_producer;

/* ---- takeover ---- */

/* Reads the permutation that the last producer left and makes it whole: a producer killed inside a
 * swap leaves two invalid entries with one slot. Every stamp that is not of a published position
 * below head becomes invalid, so that nothing half-done surfaces later. */
static inline int
shmring_rebuild(shmring_producer *p)
{
    const shmring_block *const block = p->block;
    const uint64_t slots = block->geometry.slots;
    const uint32_t nobody = UINT32_MAX;
    uint64_t newest_seq = 0;
    for (uint64_t i = 0; i < slots; i++)
        p->entry_of[i] = p->slot_of[i] = nobody;
    for (int valid = 1; valid >= 0; valid--) { /* entries in use first: the others take what is left */
        for (uint64_t index = 0; index < slots; index++) {
            shmring_entry *const entry = shmring_entry_at(block, index);
            const uint64_t stamp =
                shmring_load_relaxed(&entry->stamp); /* [relaxed: the producer lock orders producers] */
            const uint64_t position = (stamp - 2) / 2;
            const uint32_t slot =
                shmring_load_relaxed(&entry->slot); /* [relaxed: the producer lock orders producers] */
            const int whole = stamp != 0 && stamp % 2 == 0 && position < p->head && position % slots == index;
            /* An entry that somebody damages between the two rounds must not be taken twice or never. */
            if (valid ? !whole : p->slot_of[index] != nobody)
                continue;
            const int usable = slot < slots && p->entry_of[slot] == nobody;
            if (valid) {
                if (!usable)
                    return SHMRING_CORRUPT;
                if (entry->seq >= newest_seq)
                    newest_seq = entry->seq + 1;
            } else {
                shmring_store_relaxed(&entry->stamp, 0u); /* [relaxed: readers look below head only] */
            }
            p->slot_of[index] = usable ? slot : nobody;
            if (usable)
                p->entry_of[slot] = (uint32_t)index;
        }
    }
    uint64_t slot = 0;
    for (uint64_t index = 0; index < slots; index++) {
        if (p->slot_of[index] != nobody)
            continue;
        while (p->entry_of[slot] != nobody)
            slot++;
        p->slot_of[index] = (uint32_t)slot;
        p->entry_of[slot] = (uint32_t)index;
        shmring_store_relaxed(&shmring_entry_at(block, index)->slot,
                              (uint32_t)slot); /* [relaxed: the entry is invalid] */
    }
    if (p->next_seq < newest_seq)
        p->next_seq = newest_seq;
    return SHMRING_OK;
}

static inline void
shmring_producer_free(shmring_producer *p)
{
    free(p->slot_of);
    free(p->entry_of);
    p->slot_of = NULL;
    p->entry_of = NULL;
}

/* Becomes the ring's producer, first or next. block is mapped with SHMRING_PRODUCE and outlives p;
 * lock_fd is a description of the block's file of its own (shmring_reopen).
 * SHMRING_PRODUCER_EXISTS, SHMRING_CORRUPT or SHMRING_SYSTEM if not. */
static inline int
shmring_producer_open(shmring_producer *p, shmring_block *block, int lock_fd)
{
    shmring_hot *const hot = block->hot;
    const uint64_t slots = block->geometry.slots;
    memset(p, 0, sizeof *p);
    p->block = block;
    p->lock_fd = lock_fd;
    if (!shmring_lock(lock_fd, SHMRING_LOCK_PRODUCER, F_WRLCK))
        return errno == EAGAIN || errno == EACCES ? SHMRING_PRODUCER_EXISTS : SHMRING_SYSTEM;
    p->slot_of = (uint32_t *)malloc(slots * sizeof *p->slot_of);
    p->entry_of = (uint32_t *)malloc(slots * sizeof *p->entry_of);
    int result = SHMRING_SYSTEM;
    if (p->slot_of != NULL && p->entry_of != NULL) {
        p->head = shmring_load_acquire(&hot->head);       /* [A1 <- R1] */
        p->claimed = shmring_load_acquire(&hot->claimed); /* [A7 <- R7] */
        p->next_seq =
            shmring_load_relaxed(&hot->next_seq); /* [relaxed: the producer lock orders producers] */
        result =
            p->head > SHMRING_MAX_POSITION || p->claimed < p->head ? SHMRING_CORRUPT : shmring_rebuild(p);
    }
    if (result != SHMRING_OK) {
        shmring_producer_free(p);
        shmring_lock(lock_fd, SHMRING_LOCK_PRODUCER, F_UNLCK);
        return result;
    }
    p->index = p->head % slots;
    p->limit = p->head; /* the first claim rescans */
    p->dropped = hot->dropped;
    p->swaps = hot->swaps;
    p->epoch = hot->epoch + 1;
    const uint64_t cache = shmring_cache_bytes();
    p->exceeds_cache = slots * block->geometry.slot_stride > cache;
    p->warm_slots = cache / 2 / block->geometry.slot_stride;
    p->warm_slots = p->warm_slots < 2 ? 2 : p->warm_slots;
    p->trial_every = SHMRING_TRIAL_SOON;
    shmring_store_relaxed(&hot->next_seq, p->next_seq);                /* [relaxed: R1 and R8 publish it] */
    shmring_store_relaxed(&hot->producer_pid, (uint32_t)getpid());     /* [relaxed: for messages] */
    shmring_store_relaxed(&hot->start_time, shmring_own_start_time()); /* [relaxed: for messages] */
    shmring_store_release(&hot->producer_state, (uint32_t)SHMRING_PRODUCER_LIVE); /* [R8 -> A8] */
    shmring_store_release(&hot->epoch, p->epoch); /* [R8 -> A8] last: a new epoch comes with a new state */
    shmring_event_announce(&hot->data_event);     /* heals a wake-up that a killed producer owed, too */
    return SHMRING_OK;
}

static inline void
shmring_end_stream(shmring_producer *p, uint32_t state)
{
    shmring_hot *const hot = p->block->hot;
    shmring_store_release(&hot->producer_state, state); /* [R8 -> A8] */
    shmring_event_announce(&hot->data_event);
    shmring_producer_free(p);
    shmring_lock(p->lock_fd, SHMRING_LOCK_PRODUCER, F_UNLCK);
}

/* Ends the stream and lets the next producer in. */
static inline void
shmring_producer_close(shmring_producer *p)
{
    shmring_end_stream(p, SHMRING_PRODUCER_CLOSED);
}

/* Ends the stream because of an error, and lets the next producer in. message is UTF-8 for people; of a longer
 * one the first SHMRING_FAILURE_BYTES - 1 bytes are kept, cut between two characters. */
static inline void
shmring_producer_fail(shmring_producer *p, const char *message)
{
    char *const failure = p->block->hot->failure;
    size_t length = strnlen(message, SHMRING_FAILURE_BYTES);
    if (length == SHMRING_FAILURE_BYTES) {
        length--;
        while (length > 0 && ((unsigned char)message[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(failure, message, length); /* R8 publishes it */
    memset(failure + length, 0, SHMRING_FAILURE_BYTES - length);
    shmring_end_stream(p, SHMRING_PRODUCER_FAILED);
}

/* ---- how to copy ---- */

/* Whether the next large copy goes past the cache. Then there is no use in warm slots either. */
static inline int
shmring_copy_streams(const shmring_producer *p)
{
    const uint64_t turn = p->copies - p->trial_began;
    return turn < SHMRING_TRIAL ? turn >= SHMRING_TRIAL_WARM : p->streaming_wins;
}

/* ---- claim ---- */

/* Finds the gate anew. join_epoch is read first: a consumer that joins later changes it, and the
 * claim looks at it again after its fence. */
static inline void
shmring_rescan(shmring_producer *p)
{
    const shmring_block *const block = p->block;
    const uint64_t slots = block->geometry.slots;
    p->join_epoch = shmring_load_acquire(&block->hot->join_epoch); /* [A4 <- R4] */
    uint64_t active = shmring_load_acquire(&block->hot->active);   /* [A10 <- R10] */
    p->active = active;
    uint64_t gate = UINT64_MAX;
    int wants_history = 0;
    int lossy = 0;
    while (active != 0) {
        const unsigned place = (unsigned)__builtin_ctzll(active);
        active &= active - 1;
        if (place >= block->geometry.consumers)
            break;
        const shmring_place *const row = &block->table[place];
        const uint64_t kind = shmring_load_acquire(&row->state) & 0xff; /* [A5 <- R5] */
        if (kind == SHMRING_PLACE_LOSSLESS) {
            const uint64_t cursor = shmring_load_acquire(&row->cursor); /* [A3 <- R3] */
            if (cursor < gate)
                gate = cursor;
        } else if (kind == SHMRING_PLACE_LOSSY) {
            lossy = 1;
        }
        const uint32_t flags = shmring_load_relaxed(&row->flags); /* [relaxed: A4 made it visible] */
        wants_history |= lossy || (flags & SHMRING_WANTS_RUNS) != 0;
    }
    p->gate = gate;
    p->limit = gate > UINT64_MAX - slots ? UINT64_MAX : gate + slots;
    p->lossy_active = lossy;
    p->reuse_warm = p->exceeds_cache && gate != UINT64_MAX && !wants_history;
}

/* active too: a newcomer's bit comes before its join_epoch, and whoever waited for consumers has seen it. */
static inline int
shmring_joined_since_rescan(const shmring_producer *p)
{
    const shmring_hot *const hot = p->block->hot;
    const uint64_t active = shmring_load_relaxed(&hot->active); /* [relaxed: the rescan acquires] */
    return shmring_load_acquire(&hot->join_epoch) != p->join_epoch /* [A4 <- R4] */ || active != p->active;
}

static inline uint64_t
shmring_pins(const shmring_producer *p, uint64_t slot)
{
    return shmring_load_acquire(&shmring_entry_at(p->block, slot)->pins); /* [A6 <- R6] */
}

/* Gives the entry of the claimed position the slot of the entry `other`, whose next position is
 * `later`. 1 done, 0 that slot is pinned or may not be taken; the limit may have fallen meanwhile. */
static inline int
shmring_swap(shmring_producer *p, uint64_t other, uint64_t later)
{
    shmring_entry *const mine = shmring_entry_at(p->block, p->index);
    shmring_entry *const theirs = shmring_entry_at(p->block, other);
    const uint32_t given = p->slot_of[p->index];
    const uint32_t taken = p->slot_of[other];
    if (shmring_pins(p, taken) != 0) /* spares the frame there */
        return 0;
    const uint64_t stamp = shmring_load_relaxed(&theirs->stamp); /* [relaxed: only the producer writes it] */
    shmring_store_relaxed(&theirs->stamp, 0u);                   /* [relaxed: ordered by the fence below] */
    shmring_fence_seq_cst(); /* [F7 <-> F8, F9, F10] invalid before a look at pins and newcomers */
    if (shmring_joined_since_rescan(p))
        shmring_rescan(p);
    if (later >= p->limit || shmring_pins(p, taken) != 0) {
        shmring_store_release(&theirs->stamp, stamp); /* [R2 -> A2] */
        return 0;
    }
    shmring_store_relaxed(&theirs->slot, given); /* [relaxed: the entry is invalid; R2 publishes it] */
    shmring_store_relaxed(&mine->slot, taken);   /* [relaxed: the entry is invalid; R2 publishes it] */
    p->slot_of[other] = given;
    p->slot_of[p->index] = taken;
    p->entry_of[given] = (uint32_t)other;
    p->entry_of[taken] = (uint32_t)p->index;
    p->saved[0] = 0; /* the claimed entry's old frame went with its slot */
    p->swaps++;
    shmring_store_relaxed(&p->block->hot->swaps, p->swaps); /* [relaxed: a statistic] */
    return 1;
}

/* The next position of the entry `index` at or after the claimed one. */
static inline uint64_t
shmring_position_of(const shmring_producer *p, uint64_t index)
{
    return p->head + (index >= p->index ? index - p->index : index + p->block->geometry.slots - p->index);
}

/* Prefers a slot freed last, which is still in the cache. Costs history: the frame there goes. The consumers'
 * cursors are looked at anew each time: next to a large copy that is nothing, and each slot more that is in
 * use takes its share of the cache. */
static inline void
shmring_reuse_warm(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    shmring_rescan(p);
    const uint64_t most = p->reuse_warm ? p->warm_slots : 0;
    for (uint64_t back = 1; back <= most && back <= p->gate; back++) {
        const uint64_t freed = p->gate - back;
        if (freed + slots <= p->head || freed >= p->head) /* overwritten by now, or not published */
            return;
        const uint64_t other = freed % slots;
        const uint64_t stamp = shmring_load_relaxed(
            &shmring_entry_at(p->block, other)->stamp); /* [relaxed: only the producer writes it] */
        if (stamp == shmring_published_stamp(freed) && shmring_swap(p, other, freed + slots))
            return;
    }
}

/* The slot that follows the slot of the frame before. */
static inline uint64_t
shmring_following_slot(const shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t before = p->slot_of[p->index == 0 ? slots - 1 : p->index - 1];
    return before + 1 == slots ? 0 : before + 1;
}

/* Prefers the slot that follows the slot of the frame before, so that runs are one piece of memory.
 * Spares recent history while a lossy consumer reads it. */
static inline void
shmring_rejoin_run(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t wanted = shmring_following_slot(p);
    if (p->slot_of[p->index] == wanted)
        return;
    const uint64_t other = p->entry_of[wanted];
    const uint64_t later = shmring_position_of(p, other);
    if (later < p->limit && (!p->lossy_active || later - p->head <= slots / 2))
        shmring_swap(p, other, later);
}

/* Makes sure that nobody holds the slot of the claimed entry, by a swap if need be. */
static inline int
shmring_settle(shmring_producer *p)
{
    const uint64_t slots = p->block->geometry.slots;
    if (p->reuse_warm && p->copies != 0 && !shmring_copy_streams(p))
        shmring_reuse_warm(p);
    else
        shmring_rejoin_run(p);
    if (shmring_pins(p, p->slot_of[p->index]) == 0 && p->head < p->limit)
        return SHMRING_OK;
    if (p->limit - p->head < slots) /* the cached gate may be older than what consumers passed since */
        shmring_rescan(p);
    uint64_t other = p->index;
    for (uint64_t later = p->head + 1; later < p->head + slots && later < p->limit; later++) {
        other = shmring_next_index(p->block, other);
        if (shmring_swap(p, other, later))
            return SHMRING_OK; /* later < limit still held after its rescan, so head < limit */
    }
    return SHMRING_FULL;
}

/* Marks the entries of positions head + from to head + to - 1 as being written. */
static inline void
shmring_mark(shmring_producer *p, uint64_t from, uint64_t to)
{
    const uint64_t end = p->head + to;
    if (end > p->claimed) { /* it never goes back */
        p->claimed = end;
        shmring_store_release(&p->block->hot->claimed, end); /* [R7 -> A7] */
    }
    const shmring_block block =
        *p->block; /* a copy: to the compiler, stamps might be stored into the block */
    const uint64_t head = p->head;
    uint64_t index = (p->index + from) % block.geometry.slots;
    for (uint64_t i = from; i < to; i++) {
        if (i + SHMRING_PREFETCH_AHEAD < to)
            shmring_prefetch_write(shmring_entry_ahead(&block, index));
        shmring_entry *const entry = shmring_entry_at(&block, index);
        p->saved[i] = shmring_load_relaxed(&entry->stamp); /* [relaxed: only the producer writes it] */
        shmring_store_relaxed(&entry->stamp,
                              shmring_writing_stamp(head + i)); /* [relaxed: ordered by the fence below] */
        index = shmring_next_index(&block, index);
    }
    shmring_fence_seq_cst(); /* [F6 <-> F8, F9, F10] the marks before a look at pins and newcomers */
    if (shmring_joined_since_rescan(p))
        shmring_rescan(p);
}

/* Puts back what shmring_mark found: these slots were not touched. */
static inline void
shmring_unmark(shmring_producer *p, uint64_t from, uint64_t to)
{
    uint64_t index = (p->index + from) % p->block->geometry.slots;
    for (uint64_t i = from; i < to; i++) {
        shmring_store_release(&shmring_entry_at(p->block, index)->stamp, p->saved[i]); /* [R2 -> A2] */
        index = shmring_next_index(p->block, index);
    }
}

/* How many frames from the first on are adjacent in memory and free, of `marked` marked ones. */
static inline uint64_t
shmring_count_run(const shmring_producer *p, uint64_t marked)
{
    const uint64_t slots = p->block->geometry.slots;
    uint64_t index = p->index;
    uint64_t slot = p->slot_of[p->index];
    uint64_t run = 1;
    for (; run < marked && p->head + run < p->limit; run++) {
        index = shmring_next_index(p->block, index);
        slot = slot + 1 == slots ? 0 : slot + 1;
        if (p->slot_of[index] != slot || shmring_pins(p, slot) != 0)
            break;
    }
    return run;
}

/* Claims 1 to `want` frames (p->count says how many), adjacent in memory from p->slot on.
 * SHMRING_FULL if a lossless consumer or held slots are in the way. Never waits; bounded. */
static inline int
shmring_claim(shmring_producer *p, uint64_t want)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t wished = want < slots ? want : slots;
    if (p->head >= p->limit || p->limit - p->head < wished)
        shmring_rescan(p);
    if (p->head >= p->limit)
        return SHMRING_FULL;
    shmring_mark(p, 0, 1);
    if (p->head >= p->limit || shmring_settle(p) != SHMRING_OK) {
        shmring_unmark(p, 0, 1);
        return SHMRING_FULL;
    }
    uint64_t count = 1;
    if (want > 1) {
        uint64_t most = p->limit - p->head;
        most = wished < most ? wished : most;
        most = SHMRING_MAX_BATCH < most ? SHMRING_MAX_BATCH : most;
        shmring_mark(p, 1, most);
        count = shmring_count_run(p, most);
        shmring_unmark(p, count, most);
    }
    p->count = count;
    p->slot = p->slot_of[p->index];
    return SHMRING_OK;
}

/* Where frame i of the open claim is to be written. The frames follow at slot_stride. */
static inline void *
shmring_claimed_slot(const shmring_producer *p)
{
    return shmring_slot_at(p->block, p->slot);
}

/* Describes frame i of the open claim: timestamp, valid rows, meta (meta_bytes bytes or NULL: zeros). */
static inline void
shmring_describe(shmring_producer *p, uint64_t i, int64_t timestamp_ns, uint64_t rows, const void *meta)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t index = p->index + i < slots ? p->index + i : p->index + i - slots;
    shmring_entry *const entry = shmring_entry_at(p->block, index);
    shmring_store_relaxed(&entry->timestamp_ns, timestamp_ns); /* [relaxed: R2 publishes it] */
    shmring_store_relaxed(&entry->rows, rows);                 /* [relaxed: R2 publishes it] */
    if (p->block->geometry.meta_bytes == 0)
        return;
    if (meta != NULL)
        memcpy(shmring_meta_at(entry), meta, p->block->geometry.meta_bytes);
    else
        memset(shmring_meta_at(entry), 0, p->block->geometry.meta_bytes);
}

/* Makes the first `count` frames of the open claim visible; the rest of the claim is given back. */
static inline void
shmring_publish(shmring_producer *p, uint64_t count)
{
    const shmring_block block = *p->block; /* copies, as in shmring_mark */
    const uint32_t *const slot_of = p->slot_of;
    const uint64_t first_seq = p->next_seq;
    const uint64_t head = p->head;
    const uint64_t epoch = p->epoch;
    shmring_hot *const hot = block.hot;
    uint64_t index = p->index;
    for (uint64_t i = 0; i < count; i++) {
        shmring_entry *const entry = shmring_entry_at(&block, index);
        shmring_store_relaxed(&entry->slot, slot_of[index]); /* [relaxed: R2 publishes it] */
        shmring_store_relaxed(&entry->seq, first_seq + i);   /* [relaxed: R2 publishes it] */
        shmring_store_relaxed(&entry->epoch, epoch);         /* [relaxed: R2 publishes it] */
        shmring_store_release(&entry->stamp, shmring_published_stamp(head + i)); /* [R2 -> A2] */
        index = shmring_next_index(&block, index);
    }
    const uint64_t next = index;
    for (uint64_t i = count; i < p->count; i++) { /* written to, but not published: never readable */
        shmring_store_relaxed(&shmring_entry_at(p->block, index)->stamp,
                              0u); /* [relaxed: it was not readable before either] */
        index = shmring_next_index(p->block, index);
    }
    p->count = 0;
    if (count == 0)
        return;
    p->next_seq += count;
    p->head += count;
    p->index = next;
    /* What the claim after the next one writes: its lines come from another core meanwhile. */
    const uint64_t following = shmring_following_slot(p);
    shmring_prefetch_write(shmring_entry_at(&block, shmring_next_index(&block, next)));
    shmring_prefetch_write(shmring_slot_at(&block, shmring_next_index(&block, following)));
    if (slot_of[next] != following) /* the next claim swaps, and looks at the pins there */
        shmring_prefetch_write(shmring_entry_at(&block, following));
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: R1 publishes it] */
    shmring_store_release(&hot->head, p->head);         /* [R1 -> A1] */
    shmring_fence_seq_cst();                            /* [F2 <-> F1] head before a look for sleepers */
    shmring_event_notify(&hot->data_event);
}

/* Gives the open claim back unseen; its positions are simply claimed again. */
static inline void
shmring_abort(shmring_producer *p)
{
    shmring_publish(p, 0);
}

/* Counts frames that the producer offered and had to drop: their seqs are used up, so everyone sees
 * the gap. */
static inline void
shmring_drop(shmring_producer *p, uint64_t count)
{
    shmring_hot *const hot = p->block->hot;
    p->next_seq += count;
    p->dropped += count;
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: R1 publishes it] */
    shmring_store_relaxed(&hot->dropped, p->dropped);   /* [relaxed: a statistic] */
}

/* Notes how long the copy of a trial's turn took. After the last one the faster way is chosen; streaming must
 * win by a quarter, since the consumer then reads from memory. */
static inline void
shmring_judge_copy(shmring_producer *p, uint64_t turn, int streaming, int64_t took_ns)
{
    if (turn == 0 || turn == SHMRING_TRIAL_WARM || took_ns < p->copy_ns[streaming])
        p->copy_ns[streaming] = took_ns;
    if (turn + 1 < SHMRING_TRIAL)
        return;
    const int wins = p->copy_ns[1] + p->copy_ns[1] / 4 < p->copy_ns[0];
    if (wins != p->streaming_wins)
        p->trial_every = SHMRING_TRIAL_SOON;
    else if (p->trial_every < SHMRING_TRIAL_LATE)
        p->trial_every *= 2;
    p->streaming_wins = wins;
}

/* Where the ring exceeds the cache, machines differ in how large copies are best made: so now and then both
 * ways are timed, and the faster one is used until the next trial. */
static inline void
shmring_copy_large(shmring_producer *p, void *target, const void *source, size_t bytes)
{
    const int streaming = shmring_copy_streams(p);
    const uint64_t turn = p->copies++ - p->trial_began;
    const int64_t began = shmring_now_ns();
    if (streaming)
        shmring_copy_streaming(target, source, bytes);
    else
        memcpy(target, source, bytes);
    if (turn < SHMRING_TRIAL)
        shmring_judge_copy(p, turn, streaming, shmring_now_ns() - began);
    else if (turn + 1 >= p->trial_every)
        p->trial_began = p->copies;
}

/* Copies one whole frame of `bytes` bytes into frame i of the open claim, the best way for the case. */
static inline void
shmring_copy_in(shmring_producer *p, uint64_t i, const void *source, size_t bytes)
{
    uint8_t *const target = shmring_slot_at(p->block, p->slot) + i * p->block->geometry.slot_stride;
    if (p->exceeds_cache && bytes >= SHMRING_LARGE_COPY)
        shmring_copy_large(p, target, source, bytes);
    else
        memcpy(target, source, bytes);
}

/* Claims as shmring_claim does, if there is space in a moment. */
static inline int
shmring_claim_briefly(shmring_producer *p, uint64_t want)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        shmring_cpu_relax();
        if (shmring_claim(p, want) == SHMRING_OK)
            return SHMRING_OK;
    }
    return SHMRING_FULL;
}

/* Claims as shmring_claim does; spins for spin_ns, then sleeps until there is space, the deadline
 * (CLOCK_MONOTONIC) or a wake-up. SHMRING_FULL: look around, then call again. */
static inline int
shmring_claim_wait(shmring_producer *p, uint64_t want, int64_t deadline_ns, int64_t spin_ns, long cores)
{
    uint32_t *const event = &p->block->hot->space_event;
    shmring_spin spin = shmring_spin_start(p->block, spin_ns, cores);
    do {
        if (shmring_claim(p, want) == SHMRING_OK)
            return SHMRING_OK;
    } while (shmring_spin_once(&spin));
    const uint32_t value = shmring_event_prepare(event);
    if (shmring_claim(p, want) == SHMRING_OK)
        return SHMRING_OK;
    shmring_futex_wait(event, value, deadline_ns);
    return shmring_claim(p, want);
}

static inline unsigned
shmring_active_consumers(const shmring_block *block)
{
    return (unsigned)__builtin_popcountll(shmring_load_acquire(&block->hot->active)); /* [A10 <- R10] */
}

/* Sleeps until `least` consumers have joined, the deadline or a wake-up. */
static inline void
shmring_wait_consumers(const shmring_block *block, unsigned least, int64_t deadline_ns)
{
    uint32_t *const event = &block->hot->space_event;
    const uint32_t value = shmring_event_prepare(event);
    if (shmring_active_consumers(block) < least)
        shmring_futex_wait(event, value, deadline_ns);
}

#endif /* SHMRING_PRODUCER_H */
