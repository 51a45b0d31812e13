/* SPDX-License-Identifier: Apache-2.0
 *
 * The producer's side: take over, claim, publish, abort, drop, close, fail, abandon. A ring has one producer,
 * the owner of a kernel lock; a handle belongs to one thread at a time. Nothing here waits: wait.h has what
 * does.
 */
#ifndef SHMRING_PRODUCER_H
#define SHMRING_PRODUCER_H

#include "block.h"
#include "internal/claim.h"
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
    p->warm_slots = cache / 2 / block->geometry.slot_stride;
    p->warm_slots = p->warm_slots < 2 ? 2 : p->warm_slots;
    p->trial_every = SHMRING_TRIAL_SOON;
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: published with producer_state] */
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
    if (p->head >= p->limit)
        return SHMRING_FULL;
    shmring_mark_writing(p, 0, 1);
    if (p->head >= p->limit || shmring_secure_slot(p) != SHMRING_OK) {
        shmring_restore_stamps(p, 0, 1);
        return SHMRING_FULL;
    }
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
    if (p->exceeds_cache && bytes >= SHMRING_LARGE_COPY)
        shmring_copy_large(p, target, source, bytes);
    else
        memcpy(target, source, bytes);
}

/* Describes frame i of the open claim: timestamp, valid rows, meta (meta_bytes bytes; NULL: zeros). */
static inline void
shmring_describe(shmring_producer *p, uint64_t i, int64_t timestamp_ns, uint64_t rows, const void *meta)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t index = p->index + i < slots ? p->index + i : p->index + i - slots;
    shmring_entry *const record = shmring_record_at(p->block, p->slot_of[index]);
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
    const shmring_block block = *p->block; /* copies, as in shmring_mark_writing */
    const uint32_t *const slot_of = p->slot_of;
    const uint64_t first_seq = p->next_seq;
    const uint64_t head = p->head;
    const uint64_t epoch = p->epoch;
    shmring_hot *const hot = block.hot;
    uint64_t index = p->index;
    for (uint64_t i = 0; i < count; i++) {
        shmring_entry *const entry = shmring_entry_at(&block, index);
        shmring_entry *const record = shmring_record_at(&block, slot_of[index]);
        shmring_store_relaxed(&entry->slot, slot_of[index]); /* [relaxed: published with stamp] */
        shmring_store_relaxed(&record->position, head + i);  /* [relaxed: published with stamp] */
        shmring_store_relaxed(&record->seq, first_seq + i);  /* [relaxed: published with stamp] */
        shmring_store_relaxed(&record->epoch, epoch);        /* [relaxed: published with stamp] */
        shmring_store_release(&entry->stamp, shmring_published_stamp(head + i)); /* [release stamp] */
        index = shmring_next_index(&block, index);
    }
    const uint64_t next = index;
    for (uint64_t i = count; i < p->count; i++) { /* written to, but not published: never readable */
        /* [relaxed: it was not readable before either] */
        shmring_store_relaxed(&shmring_entry_at(p->block, index)->stamp, 0u);
        index = shmring_next_index(p->block, index);
    }
    p->count = 0;
    if (count == 0)
        return;
    p->next_seq += count;
    p->head += count;
    p->index = next;
    /* What the claim after the next one writes: its lines come from another core meanwhile. */
    const uint64_t after = shmring_next_index(&block, next);
    const uint64_t following = shmring_following_slot(p);
    shmring_prefetch_write(shmring_entry_at(&block, after));
    shmring_prefetch_write(shmring_slot_at(&block, slot_of[after]));
    if (following != SHMRING_NO_SLOT &&
        slot_of[next] != following) /* the next claim looks at the pins there */
        shmring_prefetch_write(shmring_record_at(&block, following));
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: published with head] */
    shmring_store_release(&hot->head, p->head);         /* [release head] */
    shmring_fence_seq_cst(); /* [fence publish | sleep] head before a look for sleepers */
    shmring_event_notify(&hot->data_event);
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

/* Leaves without a word about the end, as a producer that dies: consumers find SHMRING_DIED, or wait for the
 * next producer. An open claim is aborted. For a program that forwards a stream whose source died. */
static inline void
shmring_producer_abandon(shmring_producer *p)
{
    shmring_abort(p);
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
