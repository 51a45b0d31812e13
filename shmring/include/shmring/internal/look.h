/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a block through its file, and what that copies out.
 */
#ifndef SHMRING_INTERNAL_LOOK_H
#define SHMRING_INTERNAL_LOOK_H

#include "../types.h"
#include "atomic.h"
#include "geometry.h"
#include "os.h"

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

/* A member's cursor is that of its group. */
static inline void
shmring_copy_group(const shmring_group *groups, shmring_place_status *status)
{
    if ((status->state & 0xff) == SHMRING_PLACE_MEMBER)
        status->cursor = status->next = shmring_load_stat(&groups[status->group % SHMRING_MAX_GROUPS].next);
}

/* A row of the consumer table; the pins and the owner's lock, which lie elsewhere, are 0. */
static inline void
shmring_copy_row(const shmring_place *row, shmring_place_status *status)
{
    status->state = shmring_load_acquire(&row->state); /* [acquire state] */
    status->cursor = shmring_load_stat(&row->cursor);
    status->delivered = shmring_load_stat(&row->delivered);
    status->lost = shmring_load_stat(&row->lost);
    status->skipped = shmring_load_stat(&row->skipped);
    status->held = shmring_load_stat(&row->held);
    status->next = shmring_load_stat(&row->next);
    status->flags = shmring_load_stat(&row->flags);
    status->max_held = shmring_load_stat(&row->max_held);
    status->redelivered = shmring_load_stat(&row->redelivered);
    status->group = shmring_load_stat(&row->group);
    status->joined_ns = row->joined_ns;
    status->start_time = row->start_time;
    status->pid = row->pid;
    memcpy(status->label, row->label, sizeof status->label);
    status->label[sizeof status->label - 1] = 0;
    status->pins = 0;
    status->alive = 0;
}

/* Counts the slots that each consumer has pinned; 0 if the file was cut. */
static inline int
shmring_look_at_pins(int fd, const shmring_geometry *g, shmring_place_status *statuses)
{
    uint8_t chunk[1 << 14];
    const uint64_t at_once = g->entry_stride < sizeof chunk ? sizeof chunk / g->entry_stride : 1;
    for (uint64_t slot = 0; slot < shmring_all_slots(g); slot += at_once) {
        const uint64_t left = shmring_all_slots(g) - slot;
        const uint64_t count = left < at_once ? left : at_once;
        if (!shmring_read_file(fd, chunk, (count - 1) * g->entry_stride + sizeof(shmring_entry),
                               g->entries_offset + slot * g->entry_stride))
            return 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t pins;
            memcpy(&pins, chunk + i * g->entry_stride + offsetof(shmring_entry, pins), sizeof pins);
            for (; pins != 0; pins &= pins - 1) {
                const unsigned place = (unsigned)__builtin_ctzll(pins);
                if (place < g->consumers)
                    statuses[place].pins++;
            }
        }
    }
    return 1;
}

/* What a producer's state says of the frames to come: SHMRING_OK while there is one, SHMRING_EMPTY before the
 * first, SHMRING_ENDED, SHMRING_FAILED. */
static inline int
shmring_producer_outlook(uint32_t state)
{
    switch (state) {
    case SHMRING_PRODUCER_LIVE:
        return SHMRING_OK;
    case SHMRING_PRODUCER_CLOSED:
        return SHMRING_ENDED;
    case SHMRING_PRODUCER_FAILED:
        return SHMRING_FAILED;
    default:
        return SHMRING_EMPTY;
    }
}

/* Finds out whether the owner of a taken place lives; one that left since the row was read has no place any
 * more, and did not die. 0 if the file was cut. */
static inline int
shmring_look_at_owner(int fd, const shmring_geometry *g, unsigned place, shmring_place_status *status)
{
    const uint64_t at = g->table_offset + place * sizeof(shmring_place) + offsetof(shmring_place, state);
    uint64_t state;
    status->alive = (uint32_t)shmring_lock_held(fd, SHMRING_LOCK_PLACE(place));
    if (status->alive)
        return 1;
    if (!shmring_read_file(fd, &state, sizeof state, at))
        return 0;
    if (state != status->state)
        status->state = SHMRING_PLACE_FREE;
    return 1;
}

#endif /* SHMRING_INTERNAL_LOOK_H */
