/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking at a block without taking part, by reading its file and never through a mapping: whatever somebody
 * puts or cuts there meanwhile, a read comes back. It ends where the file does, and finds zeros in a hole
 * without making pages for it. The kernel takes hold of a page by a fully ordered atomic before it copies
 * from it, so of two reads in a row the second sees nothing older than the first.
 */
#ifndef SHMRING_LOOK_H
#define SHMRING_LOOK_H

#include "os.h"

#include "consumer.h"
#include "report.h"

/* 1 if the file has all of it; else errno, which is 0 where the file ends before. */
static inline int
shmring_read_at(int fd, void *target, uint64_t bytes, uint64_t offset)
{
    uint8_t *const to = (uint8_t *)target;
    uint64_t done = 0;
    while (done < bytes) {
        const ssize_t got = pread(fd, to + done, bytes - done, (off_t)(offset + done));
        if (got > 0)
            done += (uint64_t)got;
        else if (got == 0) {
            errno = 0;
            return 0;
        } else if (errno != EINTR)
            return 0;
    }
    return 1;
}

/* As shmring_read_identity. */
static inline int
shmring_look(int fd, shmring_identity *identity)
{
    struct stat status;
    const int result = shmring_check_file(fd, &status);
    if (result != SHMRING_OK)
        return result;
    if (!shmring_read_at(fd, identity, sizeof *identity, 0))
        return SHMRING_TRUNCATED;
    const uint32_t ready = identity->ready; /* what was written before it is seen by the next read */
    if (!shmring_read_at(fd, identity, sizeof *identity, 0))
        return SHMRING_TRUNCATED;
    return shmring_check_identity(identity, ready, &status);
}

/* 0 if the file was cut. */
static inline int
shmring_look_at_ring(int fd, const shmring_geometry *g, shmring_ring_report *report)
{
    shmring_hot hot;
    shmring_block copy;
    if (!shmring_read_at(fd, &hot, sizeof hot, g->hot_offset))
        return 0;
    memset(&copy, 0, sizeof copy);
    copy.hot = &hot;
    shmring_report(&copy, report);
    return 1;
}

/* Counts the slots that each consumer has pinned; 0 if the file was cut. */
static inline int
shmring_look_at_pins(int fd, const shmring_geometry *g, shmring_place_report *reports)
{
    uint8_t chunk[1 << 14];
    const uint64_t at_once = g->entry_stride < sizeof chunk ? sizeof chunk / g->entry_stride : 1;
    for (uint64_t slot = 0; slot < g->slots; slot += at_once) {
        const uint64_t count = g->slots - slot < at_once ? g->slots - slot : at_once;
        if (!shmring_read_at(fd, chunk, (count - 1) * g->entry_stride + sizeof(shmring_entry),
                             g->entries_offset + slot * g->entry_stride))
            return 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t pins;
            memcpy(&pins, chunk + i * g->entry_stride + offsetof(shmring_entry, pins), sizeof pins);
            for (; pins != 0; pins &= pins - 1) {
                const unsigned place = (unsigned)__builtin_ctzll(pins);
                if (place < g->consumers)
                    reports[place].pins++;
            }
        }
    }
    return 1;
}

/* Fills in a report for each place of the consumer table; 0 if the file was cut. */
static inline int
shmring_look_at_places(int fd, const shmring_geometry *g, shmring_place_report *reports)
{
    shmring_place table[SHMRING_MAX_CONSUMERS];
    int taken = 0;
    if (!shmring_read_at(fd, table, g->consumers * sizeof *table, g->table_offset))
        return 0;
    for (uint64_t place = 0; place < g->consumers; place++) {
        shmring_report_row(&table[place], &reports[place]);
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
    if (!shmring_read_at(fd, &stamp, sizeof stamp, at))
        return SHMRING_TRUNCATED;
    if (stamp != expected)
        return SHMRING_EMPTY;
    if (!shmring_read_at(fd, &entry, sizeof entry, at))
        return SHMRING_TRUNCATED;
    if (entry.slot >= g->slots)
        return SHMRING_CORRUPT;
    shmring_note(&noted, 0, g, &entry);
    taken->epoch = noted.epoch;
    if (taken->metas != NULL && !shmring_read_at(fd, taken->metas, g->meta_bytes, at + sizeof entry))
        return SHMRING_TRUNCATED;
    if (!shmring_read_at(fd, target, g->frame_bytes, g->slots_offset + entry.slot * g->slot_stride) ||
        !shmring_read_at(fd, &stamp, sizeof stamp, at))
        return SHMRING_TRUNCATED;
    return stamp == expected ? SHMRING_OK : SHMRING_EMPTY;
}

#endif /* SHMRING_LOOK_H */
