/* SPDX-License-Identifier: Apache-2.0
 *
 * What the producer may overwrite: what the consumers' cursors, pins and groups leave.
 */
#ifndef SHMRING_INTERNAL_GATE_H
#define SHMRING_INTERNAL_GATE_H

#include "../types.h"
#include "atomic.h"
#include "entries.h"

/* One look at all places. */
static inline void
shmring_scan_places(shmring_producer *p)
{
    const shmring_block *const block = p->block;
    const uint64_t slots = block->geometry.slots;
    p->join_count = shmring_load_acquire(&block->hot->join_count); /* [acquire join_count] */
    uint64_t active = shmring_load_acquire(&block->hot->active);   /* [acquire active] */
    p->active = active;
    uint64_t gate = UINT64_MAX;
    int wants_history = 0;
    int lossy = 0;
    uint32_t groups = 0;
    while (active != 0) {
        const unsigned place = (unsigned)__builtin_ctzll(active);
        active &= active - 1;
        if (place >= block->geometry.consumers)
            break;
        const shmring_place *const row = &block->table[place];
        const uint64_t kind = shmring_load_acquire(&row->state) & 0xff; /* [acquire state] */
        if (kind == SHMRING_PLACE_LOSSLESS) {
            const uint64_t cursor = shmring_load_acquire(&row->cursor); /* [acquire cursor] */
            if (cursor < gate)
                gate = cursor;
        } else if (kind == SHMRING_PLACE_LOSSY) {
            lossy = 1;
        } else if (kind == SHMRING_PLACE_MEMBER || kind == SHMRING_PLACE_ENTERING) {
            /* [relaxed: acquired with state] */
            const uint32_t group = shmring_load_relaxed(&row->group) % SHMRING_MAX_GROUPS;
            /* The cursor first: a newcomer stores next, then that its cursor gates no more. */
            const uint64_t cursor = shmring_load_acquire(&row->cursor);             /* [acquire cursor] */
            const uint64_t next = shmring_load_acquire(&block->groups[group].next); /* [acquire next] */
            const uint64_t lowest = cursor < next ? cursor : next; /* a newcomer's cursor gates, too */
            groups |= 1u << group;
            if (lowest < gate)
                gate = lowest;
        }
        const uint32_t flags = shmring_load_relaxed(&row->flags); /* [relaxed: acquired with join_count] */
        wants_history |= lossy || (flags & SHMRING_WANTS_RUNS) != 0;
    }
    p->gate = gate;
    p->limit = gate > UINT64_MAX - slots ? UINT64_MAX : gate + slots;
    p->lossy_active = lossy;
    p->groups = groups;
    p->reuse_warm = p->exceeds_cache && gate != UINT64_MAX && !wants_history;
}

/* Looks of a rescan, each of which met a newcomer, after which the ring counts as full. */
#define SHMRING_MOST_SCANS 64u

/* Finds the gate again. join_count is read first: a consumer that joins later changes it, and the claim
 * looks at it again after its fence. And it is read last: a group may have passed from a member that was
 * gone when its place was looked at to one that was not there yet. */
static inline void
shmring_rescan(shmring_producer *p)
{
    for (unsigned scan = 0; scan < SHMRING_MOST_SCANS; scan++) {
        shmring_scan_places(p);
        if (shmring_load_acquire(&p->block->hot->join_count) == p->join_count) /* [acquire join_count] */
            return;
    }
    p->gate = 0;
    p->limit = p->head;
}

/* active too: a newcomer's bit comes before its join_count, and a producer that waited for consumers has
 * seen it. */
static inline int
shmring_joined_since_rescan(const shmring_producer *p)
{
    const shmring_hot *const hot = p->block->hot;
    const uint64_t active = shmring_load_relaxed(&hot->active); /* [relaxed: the rescan acquires] */
    /* [acquire join_count] */
    return shmring_load_acquire(&hot->join_count) != p->join_count || active != p->active;
}

/* Whether a member of one of the groups has the slot, or is to get it. */
static inline int
shmring_is_owned(const shmring_block *block, uint32_t groups, uint64_t slot)
{
    for (uint32_t left = groups; left != 0; left &= left - 1) {
        const unsigned group = (unsigned)__builtin_ctz(left);
        const uint64_t *const owner = shmring_owner_at(block, slot, group);
        if ((shmring_load_acquire(owner) & 0xff) != SHMRING_OWNER_DONE) /* [acquire owner] */
            return 1;
    }
    return 0;
}

/* Whether a consumer or a group holds the slot. Owners first: a member that leaves pins before it lets go. */
static inline int
shmring_is_held_in(const shmring_block *block, uint32_t groups, uint64_t slot)
{
    if (groups != 0 && shmring_is_owned(block, groups, slot))
        return 1;
    return shmring_load_acquire(&shmring_record_at(block, slot)->pins) != 0; /* [acquire pins] */
}

static inline int
shmring_is_held(const shmring_producer *p, uint64_t slot)
{
    return shmring_is_held_in(p->block, p->groups, slot);
}

#endif /* SHMRING_INTERNAL_GATE_H */
