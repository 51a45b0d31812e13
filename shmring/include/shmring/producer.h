/* SPDX-License-Identifier: Apache-2.0
 *
 * The producer's side: take over, claim, publish, abort, drop, close, fail, abandon. A ring has one producer,
 * the owner of a kernel lock; a handle belongs to one thread at a time. Nothing here waits: wait.h has what
 * does.
 */
#ifndef SHMRING_PRODUCER_H
#define SHMRING_PRODUCER_H

#include "block.h"
#include "internal/publish.h"
#include "internal/reap.h"
#include "internal/takeover.h"

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
    if (!shmring_set_lock(lock_fd, SHMRING_LOCK_PRODUCER, F_WRLCK))
        return errno == EAGAIN || errno == EACCES ? SHMRING_PRODUCER_EXISTS : SHMRING_SYSTEM;
    p->slot_of = (uint32_t *)malloc(shmring_all_slots(&block->geometry) * sizeof *p->slot_of);
    p->entry_of = (uint32_t *)malloc(shmring_all_slots(&block->geometry) * sizeof *p->entry_of);
    int result = SHMRING_SYSTEM;
    if (p->slot_of != NULL && p->entry_of != NULL) {
        p->head = shmring_load_acquire(&hot->head);       /* [acquire head] */
        p->claimed = shmring_load_acquire(&hot->claimed); /* [acquire claimed] */
        /* [relaxed: the producer lock orders producers] */
        p->next_seq = shmring_load_relaxed(&hot->next_seq);
        result =
            p->head > SHMRING_MAX_POSITION || p->claimed < p->head ? SHMRING_CORRUPT : shmring_rebuild(p);
    }
    if (result != SHMRING_OK) {
        shmring_producer_free(p);
        shmring_set_lock(lock_fd, SHMRING_LOCK_PRODUCER, F_UNLCK);
        return result;
    }
    p->index = p->head % slots;
    p->limit = p->head; /* the first claim rescans */
    p->dropped = hot->dropped;
    p->swaps = hot->swaps;
    p->epoch = hot->epoch + 1;
    const uint64_t cache = shmring_cache_bytes();
    p->exceeds_cache = slots * block->geometry.slot_stride > cache;
    p->times_copies = slots * block->geometry.slot_stride >= cache / 2;
    p->warm_slots = cache / 2 / block->geometry.slot_stride;
    p->warm_slots = p->warm_slots < 2 ? 2 : p->warm_slots;
    p->trial_every = SHMRING_TRIAL_SOON;
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: published with head] */
    shmring_store_release(&hot->head, p->head); /* [release head] what the last producer left behind it */
    shmring_store_stat(&hot->producer_pid, (uint32_t)getpid());
    shmring_store_stat(&hot->start_time, shmring_own_start_time());
    /* [release producer_state] */
    shmring_store_release(&hot->producer_state, (uint32_t)SHMRING_PRODUCER_LIVE);
    /* [release epoch] last: a new epoch comes with a new state */
    shmring_store_release(&hot->epoch, p->epoch);
    shmring_event_announce(&hot->data_event); /* heals a wake-up that a killed producer owed, too */
    return SHMRING_OK;
}

/* Ends the stream and lets the next producer in. */
static inline void
shmring_producer_close(shmring_producer *p)
{
    shmring_unmark_ahead(p);
    shmring_end_stream(p, SHMRING_PRODUCER_CLOSED);
}

/* Ends the stream because of an error, and lets the next producer in. message is UTF-8 for people; of a
 * longer one the first SHMRING_FAILURE_BYTES - 1 bytes are kept, cut between two characters. */
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
    memcpy(failure, message, length); /* published with producer_state */
    memset(failure + length, 0, SHMRING_FAILURE_BYTES - length);
    shmring_unmark_ahead(p);
    shmring_end_stream(p, SHMRING_PRODUCER_FAILED);
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
    if (p->head >= p->limit) {
        shmring_unmark_ahead(p);
        return SHMRING_FULL;
    }
    if (shmring_claim_entry(p) != SHMRING_OK)
        return SHMRING_FULL;
    uint64_t count = 1;
    if (want > 1) {
        uint64_t most = p->limit - p->head;
        most = wished < most ? wished : most;
        most = SHMRING_MAX_BATCH < most ? SHMRING_MAX_BATCH : most;
        shmring_mark_writing(p, 1, most);
        count = shmring_count_run(p, most);
        shmring_restore_stamps(p, count, most);
    }
    p->count = count;
    p->slot = p->slot_of[p->index];
    return SHMRING_OK;
}

/* Where the first frame of the open claim is to be written. The others follow at slot_stride. */
static inline void *
shmring_claimed_slot(const shmring_producer *p)
{
    return shmring_slot_at(p->block, p->slot);
}

/* Copies one whole frame of `bytes` bytes into frame i of the open claim, the best way for the case. */
static inline void
shmring_copy_in(shmring_producer *p, uint64_t i, const void *source, size_t bytes)
{
    uint8_t *const target = shmring_slot_at(p->block, p->slot) + i * p->block->geometry.slot_stride;
    if (p->times_copies && bytes >= SHMRING_LARGE_COPY)
        shmring_copy_large(p, target, source, bytes);
    else
        memcpy(target, source, bytes);
}

/* Describes frame i of the open claim: timestamp, valid rows, meta (meta_bytes bytes; NULL: zeros). */
static inline void
shmring_describe(shmring_producer *p, uint64_t i, int64_t timestamp_ns, uint64_t rows, const void *meta)
{
    shmring_entry *const record = shmring_record_at(p->block, p->slot_of[shmring_claimed_index(p, i)]);
    shmring_store_relaxed(&record->timestamp_ns, timestamp_ns); /* [relaxed: published with stamp] */
    shmring_store_relaxed(&record->rows, rows);                 /* [relaxed: published with stamp] */
    if (p->block->geometry.meta_bytes == 0)
        return;
    if (meta != NULL)
        memcpy(shmring_meta_at(record), meta, p->block->geometry.meta_bytes);
    else
        memset(shmring_meta_at(record), 0, p->block->geometry.meta_bytes);
}

/* Makes the first `count` frames of the open claim visible, and wakes the consumers that sleep; the rest of
 * the claim is given back. */
static inline void
shmring_publish(shmring_producer *p, uint64_t count)
{
    shmring_publish_first(p, count, 0);
}

/* Gives the open claim back unseen; its positions are simply claimed again. */
static inline void
shmring_abort(shmring_producer *p)
{
    shmring_publish(p, 0);
}

/* Counts frames that the producer offered and had to drop: their seqs are used up, so every consumer counts
 * them as lost. */
static inline void
shmring_drop(shmring_producer *p, uint64_t count)
{
    shmring_hot *const hot = p->block->hot;
    p->next_seq += count;
    p->dropped += count;
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: published with head] */
    shmring_store_stat(&hot->dropped, p->dropped);
}

/* ---- several buffers that a driver fills ---- */

/* Claims one more frame behind the open claim, or the first one. Its slot need not be adjacent to the others
 * (shmring_claimed_slot_of), so publish such a claim with shmring_publish_oldest, or abort it. SHMRING_FULL:
 * as for shmring_claim, or the claim has all entries; what has been claimed before stays as it is. */
static inline int
shmring_claim_more(shmring_producer *p)
{
    const uint64_t head = p->head;
    const uint64_t index = p->index;
    if (p->count == 0)
        return shmring_claim(p, 1);
    if (p->count == p->block->geometry.slots)
        return SHMRING_FULL;
    p->index = shmring_claimed_index(p, p->count); /* as if the open claim had been published */
    p->head += p->count;
    if (p->head >= p->limit)
        shmring_rescan(p);
    const int result = p->head < p->limit ? shmring_claim_entry(p) : SHMRING_FULL;
    p->head = head;
    p->index = index;
    if (result == SHMRING_OK)
        p->count++;
    return result;
}

/* The slot of frame i of the open claim, 0 being the oldest. shmring_slot_at says where it is: a slot has one
 * address for as long as the block is mapped. */
static inline uint64_t
shmring_claimed_slot_of(const shmring_producer *p, uint64_t i)
{
    return p->slot_of[shmring_claimed_index(p, i)];
}

/* Makes the first frame of the open claim visible; the others stay claimed, and become frame 0, 1, ... */
static inline void
shmring_publish_oldest(shmring_producer *p)
{
    shmring_publish_first(p, 1, p->count - 1);
    p->slot = p->slot_of[p->index];
}

/* Puts the first frame of the open claim behind the others, unseen: its slot, which keeps its address, is the
 * last to be written again. shmring_drop afterwards lets it count as lost. */
static inline void
shmring_requeue_oldest(shmring_producer *p)
{
    const uint32_t oldest = p->slot_of[p->index];
    for (uint64_t i = 1; i < p->count; i++)
        shmring_name_slot(p, shmring_claimed_index(p, i - 1), p->slot_of[shmring_claimed_index(p, i)]);
    shmring_name_slot(p, shmring_claimed_index(p, p->count - 1), oldest);
    p->slot = p->slot_of[p->index];
}

/* ---- the end ---- */

/* Leaves without a word about the end, as a producer that dies: consumers find SHMRING_DIED, or wait for the
 * next producer. An open claim is aborted. For a program that forwards a stream whose source died. */
static inline void
shmring_producer_abandon(shmring_producer *p)
{
    shmring_abort(p);
    shmring_unmark_ahead(p);
    shmring_producer_free(p);
    shmring_set_lock(p->lock_fd, SHMRING_LOCK_PRODUCER, F_UNLCK);
    shmring_event_announce(&p->block->hot->data_event); /* those who sleep ask the kernel at once */
}

/* Frees the places of dead consumers, whose cursors and pins would hold the producer back. Returns how many
 * there were. lock_fd is the producer's, or another description that owns no place: the place of its own
 * consumer would look abandoned. */
static inline unsigned
shmring_reap_all(shmring_block *block, int lock_fd)
{
    unsigned evicted = 0;
    for (unsigned place = 0; place < block->geometry.consumers; place++)
        evicted += (unsigned)shmring_reap(block, lock_fd, place);
    return evicted;
}

#endif /* SHMRING_PRODUCER_H */
