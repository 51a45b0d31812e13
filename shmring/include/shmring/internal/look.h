/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a block through its file, and what that copies out.
 */
#ifndef SHMRING_INTERNAL_LOOK_H
#define SHMRING_INTERNAL_LOOK_H

#include "../types.h"
#include "atomic.h"

/* 1 if the file has all of it; else errno, which is 0 where the file ends before. */
static inline int
shmring_read_file(int fd, void *target, uint64_t bytes, uint64_t offset)
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

/* A row of the consumer table; the pins, which lie elsewhere, are 0. */
static inline void
shmring_copy_row(const shmring_place *row, shmring_place_status *report)
{
    report->state = shmring_load_acquire(&row->state);         /* [A5 <- R5] */
    report->cursor = shmring_load_relaxed(&row->cursor);       /* [relaxed: a statistic] */
    report->delivered = shmring_load_relaxed(&row->delivered); /* [relaxed: a statistic] */
    report->lost = shmring_load_relaxed(&row->lost);           /* [relaxed: a statistic] */
    report->skipped = shmring_load_relaxed(&row->skipped);     /* [relaxed: a statistic] */
    report->held = shmring_load_relaxed(&row->held);           /* [relaxed: a statistic] */
    report->next = shmring_load_relaxed(&row->next);           /* [relaxed: a statistic] */
    report->flags = shmring_load_relaxed(&row->flags);         /* [relaxed: a statistic] */
    report->joined_ns = row->joined_ns;
    report->start_time = row->start_time;
    report->pid = row->pid;
    memcpy(report->label, row->label, sizeof report->label);
    report->label[sizeof report->label - 1] = 0;
    report->pins = 0;
}

/* Counts the slots that each consumer has pinned; 0 if the file was cut. */
static inline int
shmring_look_at_pins(int fd, const shmring_geometry *g, shmring_place_status *reports)
{
    uint8_t chunk[1 << 14];
    const uint64_t at_once = g->entry_stride < sizeof chunk ? sizeof chunk / g->entry_stride : 1;
    for (uint64_t slot = 0; slot < g->slots; slot += at_once) {
        const uint64_t count = g->slots - slot < at_once ? g->slots - slot : at_once;
        if (!shmring_read_file(fd, chunk, (count - 1) * g->entry_stride + sizeof(shmring_entry),
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

#endif /* SHMRING_INTERNAL_LOOK_H */
