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

#define SHMRING_LINES_AT_ONCE 256u

/* Copies lines from this one on, without the metas; how many, 0 if the file was cut. */
static inline uint64_t
shmring_look_at_lines(int fd, const shmring_geometry *g, uint64_t first, shmring_entry *lines)
{
    uint8_t chunk[SHMRING_LINES_AT_ONCE * sizeof(shmring_entry)];
    void *const target = g->entry_stride == sizeof *lines ? (void *)lines : (void *)chunk;
    const uint64_t fit = g->entry_stride < sizeof chunk ? sizeof chunk / g->entry_stride : 1;
    const uint64_t left = shmring_all_slots(g) - first;
    const uint64_t count = left < fit ? left : fit;
    if (!shmring_read_file(fd, target, (count - 1) * g->entry_stride + sizeof(shmring_entry),
                           g->entries_offset + first * g->entry_stride))
        return 0;
    for (uint64_t i = 0; i < count && target == (void *)chunk; i++)
        memcpy(&lines[i], chunk + i * g->entry_stride, sizeof *lines);
    return count;
}

/* Counts the slots that each consumer has pinned; 0 if the file was cut. */
static inline int
shmring_look_at_pins(int fd, const shmring_geometry *g, shmring_place_status *statuses)
{
    shmring_entry lines[SHMRING_LINES_AT_ONCE];
    uint64_t count = 0;
    for (uint64_t slot = 0; slot < shmring_all_slots(g); slot += count) {
        count = shmring_look_at_lines(fd, g, slot, lines);
        if (count == 0)
            return 0;
        for (uint64_t i = 0; i < count; i++) {
            for (uint64_t pins = lines[i].pins; pins != 0; pins &= pins - 1) {
                const unsigned place = (unsigned)__builtin_ctzll(pins);
                if (place < g->consumers)
                    statuses[place].pins++;
            }
        }
    }
    return 1;
}

/* Whether one of these groups (bits) has the frame of a slot, by the slot's owner words. */
static inline int
shmring_has_owner(const uint64_t *owners, uint32_t groups)
{
    for (uint32_t left = groups; left != 0; left &= left - 1)
        if ((owners[__builtin_ctz(left)] & 0xff) != 0) /* not done */
            return 1;
    return 0;
}

/* Marks the slots that entries name (1), and those that consumers or these groups hold (2). 0 if the file was
 * cut. */
static inline int
shmring_mark_slots(int fd, const shmring_geometry *g, uint32_t groups, uint8_t *marks)
{
    const uint64_t all = shmring_all_slots(g);
    shmring_entry lines[SHMRING_LINES_AT_ONCE];
    uint64_t owners[SHMRING_LINES_AT_ONCE][SHMRING_MAX_GROUPS];
    uint64_t count = 0;
    for (uint64_t slot = 0; slot < all; slot += count) {
        count = shmring_look_at_lines(fd, g, slot, lines);
        if (count == 0 ||
            !shmring_read_file(fd, owners, count * sizeof *owners, g->owners_offset + slot * sizeof *owners))
            return 0;
        for (uint64_t i = 0; i < count; i++) {
            if (slot + i < g->slots && lines[i].slot < all)
                marks[lines[i].slot] |= 1;
            if (lines[i].pins != 0 || shmring_has_owner(owners[i], groups))
                marks[slot + i] |= 2;
        }
    }
    return 1;
}

/* How many spare slots are in use: slots that are held and that no entry names any more. 0 if the file was
 * cut, or without memory. */
static inline int
shmring_look_at_spares(int fd, const shmring_geometry *g, uint32_t groups, uint64_t *in_use)
{
    const uint64_t all = shmring_all_slots(g);
    *in_use = 0;
    if (g->spares == 0)
        return 1;
    uint8_t *const marks = (uint8_t *)calloc(all, 1);
    if (marks == NULL)
        return 0;
    const int done = shmring_mark_slots(fd, g, groups, marks);
    for (uint64_t slot = 0; slot < all; slot++)
        *in_use += marks[slot] == 2;
    free(marks);
    if (*in_use > g->spares)
        *in_use = g->spares; /* the producer has worked in between */
    return done;
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
