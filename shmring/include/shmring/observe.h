/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking at a ring without taking part. What begins with shmring_look_at_identity reads the block's file, never a mapping:
 * whatever somebody puts or cuts there meanwhile, a read comes back. It ends where the file does, and finds zeros
 * in a hole without making pages for it. The kernel takes hold of a page by a fully ordered atomic before it
 * copies from it, so of two reads in a row the second sees nothing older than the first.
 */
#ifndef SHMRING_OBSERVE_H
#define SHMRING_OBSERVE_H

#include "block.h"
#include "internal/look.h"
#include "internal/read.h"

static inline void
shmring_read_ring_status(const shmring_block *block, shmring_ring_status *report)
{
    const shmring_hot *const hot = block->hot;
    report->head = shmring_load_acquire(&hot->head);                     /* [A1 <- R1] */
    report->next_seq = shmring_load_relaxed(&hot->next_seq);             /* [relaxed: a statistic] */
    report->producer_state = shmring_load_acquire(&hot->producer_state); /* [A8 <- R8] */
    report->epoch = shmring_load_relaxed(&hot->epoch);                   /* [relaxed: a statistic] */
    report->start_time = shmring_load_relaxed(&hot->start_time);         /* [relaxed: A8 made it visible] */
    report->producer_pid = shmring_load_relaxed(&hot->producer_pid);     /* [relaxed: A8 made it visible] */
    report->dropped = shmring_load_relaxed(&hot->dropped);               /* [relaxed: a statistic] */
    report->swaps = shmring_load_relaxed(&hot->swaps);                   /* [relaxed: a statistic] */
    report->active = shmring_load_acquire(&hot->active);                 /* [A10 <- R10] */
    memset(report->failure, 0, sizeof report->failure);
    if (report->producer_state == SHMRING_PRODUCER_FAILED)
        memcpy(report->failure, hot->failure, sizeof report->failure - 1);
}

static inline void
shmring_read_place_status(const shmring_block *block, unsigned place, shmring_place_status *report)
{
    const uint64_t bit = UINT64_C(1) << place;
    shmring_copy_row(&block->table[place], report);
    if ((report->state & 0xff) == SHMRING_PLACE_FREE)
        return;
    for (uint64_t slot = 0; slot < block->geometry.slots; slot++) {
        const uint64_t pins =
            shmring_load_relaxed(&shmring_entry_at(block, slot)->pins); /* [relaxed: a statistic] */
        report->pins += (pins & bit) != 0;
    }
}

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
    shmring_read_entry(taken, 0, &block->geometry, entry);
    memcpy(target, shmring_slot_at(block, slot), block->geometry.frame_bytes);
    shmring_fence_acquire(); /* [F10 <-> F5, F6, F7] the copy before a second look at the stamp */
    const uint64_t stamp = shmring_load_relaxed(&entry->stamp); /* [relaxed: ordered by the fence above] */
    return stamp == shmring_published_stamp(position) ? SHMRING_OK : SHMRING_EMPTY;
}

/* As shmring_read_identity. */
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

/* 0 if the file was cut. */
static inline int
shmring_look_at_ring(int fd, const shmring_geometry *g, shmring_ring_status *report)
{
    shmring_hot hot;
    shmring_block copy;
    if (!shmring_read_file(fd, &hot, sizeof hot, g->hot_offset))
        return 0;
    memset(&copy, 0, sizeof copy);
    copy.hot = &hot;
    shmring_read_ring_status(&copy, report);
    return 1;
}

/* Fills in a report for each place of the consumer table; 0 if the file was cut. */
static inline int
shmring_look_at_places(int fd, const shmring_geometry *g, shmring_place_status *reports)
{
    shmring_place table[SHMRING_MAX_CONSUMERS];
    int taken = 0;
    if (!shmring_read_file(fd, table, g->consumers * sizeof *table, g->table_offset))
        return 0;
    for (uint64_t place = 0; place < g->consumers; place++) {
        shmring_copy_row(&table[place], &reports[place]);
        taken |= (reports[place].state & 0xff) != SHMRING_PLACE_FREE;
    }
    return !taken || shmring_look_at_pins(fd, g, reports);
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
    shmring_taken noted = *taken;
    noted.metas = NULL; /* read from the file below */
    if (!shmring_read_file(fd, &stamp, sizeof stamp, at))
        return SHMRING_TRUNCATED;
    if (stamp != expected)
        return SHMRING_EMPTY;
    if (!shmring_read_file(fd, &entry, sizeof entry, at))
        return SHMRING_TRUNCATED;
    if (entry.slot >= g->slots)
        return SHMRING_CORRUPT;
    shmring_read_entry(&noted, 0, g, &entry);
    taken->epoch = noted.epoch;
    if (taken->metas != NULL && !shmring_read_file(fd, taken->metas, g->meta_bytes, at + sizeof entry))
        return SHMRING_TRUNCATED;
    if (!shmring_read_file(fd, target, g->frame_bytes, g->slots_offset + entry.slot * g->slot_stride) ||
        !shmring_read_file(fd, &stamp, sizeof stamp, at))
        return SHMRING_TRUNCATED;
    return stamp == expected ? SHMRING_OK : SHMRING_EMPTY;
}

#endif /* SHMRING_OBSERVE_H */
