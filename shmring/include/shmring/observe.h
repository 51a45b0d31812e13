/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking at a ring without taking part. The functions that begin with shmring_look read the block's file,
 * never a mapping: whatever another program writes there or cuts off, a read returns. It ends where the file
 * does, and finds zeros in a hole without making pages for it. The kernel takes hold of a page by a fully
 * ordered atomic before it copies from it, so of two reads in a row the second sees nothing older than the
 * first.
 */
#ifndef SHMRING_OBSERVE_H
#define SHMRING_OBSERVE_H

#include "block.h"
#include "internal/look.h"
#include "internal/read.h"

/* What the mapped block says about the ring and its producer. */
static inline void
shmring_read_ring_status(const shmring_block *block, shmring_ring_status *status)
{
    const shmring_hot *const hot = block->hot;
    status->head = shmring_load_acquire(&hot->head); /* [acquire head] */
    status->next_seq = shmring_load_stat(&hot->next_seq);
    status->producer_state = shmring_load_acquire(&hot->producer_state); /* [acquire producer_state] */
    status->epoch = shmring_load_stat(&hot->epoch);
    status->start_time = shmring_load_relaxed(&hot->start_time); /* [relaxed: acquired with producer_state] */
    /* [relaxed: acquired with producer_state] */
    status->producer_pid = shmring_load_relaxed(&hot->producer_pid);
    status->dropped = shmring_load_stat(&hot->dropped);
    status->swaps = shmring_load_stat(&hot->swaps);
    status->active = shmring_load_acquire(&hot->active); /* [acquire active] */
    memset(status->failure, 0, sizeof status->failure);
    if (status->producer_state == SHMRING_PRODUCER_FAILED)
        memcpy(status->failure, hot->failure, sizeof status->failure - 1);
}

/* What the mapped block says about the consumer at a place; its state is SHMRING_PLACE_FREE if there is
 * none. */
static inline void
shmring_read_place_status(const shmring_block *block, unsigned place, shmring_place_status *status)
{
    const uint64_t bit = UINT64_C(1) << place;
    shmring_copy_row(&block->table[place], status);
    if ((status->state & 0xff) == SHMRING_PLACE_FREE)
        return;
    shmring_copy_group(block->groups, status);
    for (uint64_t slot = 0; slot < shmring_all_slots(&block->geometry); slot++) {
        const uint64_t pins = shmring_load_stat(&shmring_record_at(block, slot)->pins);
        status->pins += (pins & bit) != 0;
    }
}

/* Copies position's frame (frame_bytes) and what its record says if it is intact: a seqlock read
 * (Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012).
 * SHMRING_EMPTY if it is not there any more, or not yet. */
static inline int
shmring_copy_out(const shmring_block *block, uint64_t position, void *target, shmring_taken *taken)
{
    const uint64_t slots = block->geometry.slots;
    shmring_entry *const entry = shmring_entry_at(block, position % slots);
    /* [acquire stamp] */
    if (shmring_load_acquire(&entry->stamp) != shmring_published_stamp(position))
        return SHMRING_EMPTY;
    const uint32_t slot = shmring_load_relaxed(&entry->slot); /* [relaxed: acquired with stamp] */
    if (slot >= shmring_all_slots(&block->geometry))
        return SHMRING_CORRUPT;
    shmring_read_record(taken, 0, &block->geometry, shmring_record_at(block, slot));
    memcpy(target, shmring_slot_at(block, slot), block->geometry.frame_bytes);
    /* [fence recheck | announce, mark, swap] the copy before a second look at the stamp */
    shmring_fence_acquire();
    const uint64_t stamp = shmring_load_relaxed(&entry->stamp); /* [relaxed: ordered by the fence above] */
    return stamp == shmring_published_stamp(position) ? SHMRING_OK : SHMRING_EMPTY;
}

/* Reads and checks the identity of the block behind fd. SHMRING_OK, or what is wrong, as shmring_map says
 * it. */
static inline int
shmring_look_at_identity(int fd, shmring_identity *identity)
{
    struct stat status;
    const int result = shmring_check_file(fd, &status);
    if (result != SHMRING_OK)
        return result;
    if (!shmring_read_file(fd, identity, sizeof *identity, 0))
        return SHMRING_TRUNCATED;
    const uint32_t ready = identity->ready; /* what was written before it is seen by the next read */
    if (!shmring_read_file(fd, identity, sizeof *identity, 0))
        return SHMRING_TRUNCATED;
    return shmring_check_identity(identity, ready, &status);
}

/* What the block says about the ring and its producer; 0 if the file was cut. */
static inline int
shmring_look_at_ring(int fd, const shmring_geometry *g, shmring_ring_status *status)
{
    shmring_hot hot;
    shmring_block copy;
    if (!shmring_read_file(fd, &hot, sizeof hot, g->hot_offset))
        return 0;
    memset(&copy, 0, sizeof copy);
    copy.hot = &hot;
    shmring_read_ring_status(&copy, status);
    return 1;
}

/* As shmring_producer_outlook, and SHMRING_DIED where the producer's process ended without closing;
 * SHMRING_TRUNCATED if the file was cut. The only place that knows what "died" means.
 *
 * A producer has the lock before its state is LIVE and until after it is not, so one whose state is LIVE
 * between two looks at a free lock is dead; unless it came after the first and was gone before the second.
 * Then it has left a new epoch. */
static inline int
shmring_look_at_producer(int fd, const shmring_geometry *g, shmring_ring_status *status)
{
    if (!shmring_look_at_ring(fd, g, status))
        return SHMRING_TRUNCATED;
    if (status->producer_state != SHMRING_PRODUCER_LIVE || shmring_lock_held(fd, SHMRING_LOCK_PRODUCER))
        return shmring_producer_outlook(status->producer_state);
    const uint64_t epoch = status->epoch;
    if (!shmring_look_at_ring(fd, g, status))
        return SHMRING_TRUNCATED;
    const int died =
        status->producer_state == SHMRING_PRODUCER_LIVE && !shmring_lock_held(fd, SHMRING_LOCK_PRODUCER);
    if (!shmring_look_at_ring(fd, g, status))
        return SHMRING_TRUNCATED;
    return died && status->epoch == epoch ? SHMRING_DIED : shmring_producer_outlook(status->producer_state);
}

/* Copies the groups, of which those with members count (SHMRING_PLACE_MEMBER); 0 if the file was cut. */
static inline int
shmring_look_at_groups(int fd, const shmring_geometry *g, shmring_group *groups)
{
    if (!shmring_read_file(fd, groups, SHMRING_MAX_GROUPS * sizeof *groups, g->groups_offset))
        return 0;
    for (unsigned group = 0; group < SHMRING_MAX_GROUPS; group++)
        groups[group].name[SHMRING_LABEL_BYTES - 1] = 0;
    return 1;
}

/* Fills in a status for each place of the consumer table; 0 if the file was cut. */
static inline int
shmring_look_at_places(int fd, const shmring_geometry *g, shmring_place_status *statuses)
{
    shmring_place table[SHMRING_MAX_CONSUMERS];
    shmring_group groups[SHMRING_MAX_GROUPS];
    int taken = 0;
    if (!shmring_look_at_groups(fd, g, groups) ||
        !shmring_read_file(fd, table, g->consumers * sizeof *table, g->table_offset))
        return 0;
    for (unsigned place = 0; place < g->consumers; place++) {
        shmring_copy_row(&table[place], &statuses[place]);
        if ((statuses[place].state & 0xff) == SHMRING_PLACE_FREE)
            continue;
        taken = 1;
        shmring_copy_group(groups, &statuses[place]);
        if (!shmring_look_at_owner(fd, g, place, &statuses[place]))
            return 0;
    }
    return !taken || shmring_look_at_pins(fd, g, statuses);
}

/* A private copy of the frame of this position, as shmring_copy_out makes it: a stamp, what it covers, the
 * stamp again. SHMRING_EMPTY if it is not there any more, or not yet; SHMRING_TRUNCATED if the file was
 * cut. */
static inline int
shmring_look_at_frame(int fd, const shmring_geometry *g, uint64_t position, void *target,
                      shmring_taken *taken)
{
    const uint64_t at = g->entries_offset + position % g->slots * g->entry_stride;
    const uint64_t expected = shmring_published_stamp(position);
    uint64_t stamp;
    shmring_entry entry;
    shmring_taken read = *taken;
    read.metas = NULL; /* read from the file below */
    if (!shmring_read_file(fd, &stamp, sizeof stamp, at))
        return SHMRING_TRUNCATED;
    if (stamp != expected)
        return SHMRING_EMPTY;
    if (!shmring_read_file(fd, &entry, sizeof entry, at))
        return SHMRING_TRUNCATED;
    if (entry.slot >= shmring_all_slots(g))
        return SHMRING_CORRUPT;
    const uint64_t slot = entry.slot;
    const uint64_t record = g->entries_offset + slot * g->entry_stride;
    if (record != at && !shmring_read_file(fd, &entry, sizeof entry, record))
        return SHMRING_TRUNCATED;
    shmring_read_record(&read, 0, g, &entry);
    taken->epoch = read.epoch;
    if (taken->metas != NULL && !shmring_read_file(fd, taken->metas, g->meta_bytes, record + sizeof entry))
        return SHMRING_TRUNCATED;
    if (!shmring_read_file(fd, target, g->frame_bytes, g->slots_offset + slot * g->slot_stride) ||
        !shmring_read_file(fd, &stamp, sizeof stamp, at))
        return SHMRING_TRUNCATED;
    return stamp == expected ? SHMRING_OK : SHMRING_EMPTY;
}

#endif /* SHMRING_OBSERVE_H */
