/* SPDX-License-Identifier: Apache-2.0
 *
 * How many slots a lossy consumer may hold. Each reserves a share of what the producer can do without: a
 * slot to write to, and one that it published. Where more lossy consumers join than there are slots for,
 * each still gets the least share.
 */
#ifndef SHMRING_INTERNAL_SHARE_H
#define SHMRING_INTERNAL_SHARE_H

#include "../types.h"
#include "atomic.h"
#include "geometry.h"
#include "os.h"

/* A loop over frames holds one while it takes the next. */
#define SHMRING_LEAST_SHARE 2u

/* What all lossy consumers together may hold. */
static inline uint64_t
shmring_shareable(const shmring_geometry *g)
{
    const uint64_t all = shmring_all_slots(g);
    return all > 3 ? all - 2 : all - 1;
}

/* What another place takes of that: the share of a lossy consumer, or what one that left still holds. A
 * dead one takes nothing: its frames go back as soon as the producer needs them. */
static inline uint64_t
shmring_share_of(const shmring_consumer *c, unsigned other)
{
    const shmring_place *const row = &c->block->table[other];
    const uint64_t kind = shmring_load_acquire(&row->state) & 0xff; /* [acquire state] */
    if ((kind != SHMRING_PLACE_LOSSY && kind != SHMRING_PLACE_LEFT) ||
        !shmring_lock_held(c->lock_fd, SHMRING_LOCK_PLACE(other)))
        return 0;
    if (kind == SHMRING_PLACE_LEFT)
        return shmring_load_stat(&row->held);
    return shmring_load_relaxed(&row->max_held); /* [relaxed: acquired with state] */
}

static inline uint64_t
shmring_share_left(const shmring_consumer *c)
{
    uint64_t left = shmring_shareable(&c->block->geometry);
    for (unsigned other = 0; other < c->block->geometry.consumers; other++) {
        const uint64_t taken = other == c->place ? 0 : shmring_share_of(c, other);
        left -= taken < left ? taken : left;
    }
    return left;
}

static inline void
shmring_store_share(const shmring_consumer *c, uint64_t share)
{
    /* [relaxed: ordered by the fence below, or published with state] */
    shmring_store_relaxed(&c->block->table[c->place].max_held, share);
}

/* Reserves `share` slots, or what was reserved before if the others leave less. Two that reserve at the same
 * time see each other. 1 if it is done. */
static inline int
shmring_reserve(shmring_consumer *c, uint64_t share)
{
    shmring_store_share(c, share);
    shmring_fence_seq_cst(); /* [fence share | share] my share before a look at the others' */
    if (shmring_share_left(c) < share) {
        shmring_store_share(c, c->max_held);
        return 0;
    }
    c->max_held = share;
    return 1;
}

/* The first share of a lossy consumer, stored before its state. It has that much in any case. */
static inline uint64_t
shmring_least_share(const shmring_geometry *g)
{
    const uint64_t shareable = shmring_shareable(g);
    return shareable < SHMRING_LEAST_SHARE ? shareable : SHMRING_LEAST_SHARE;
}

/* Half of what the others leave, where that is more than the first share. */
static inline void
shmring_reserve_default(shmring_consumer *c)
{
    const uint64_t half = shmring_share_left(c) / 2;
    if (half > c->max_held)
        shmring_reserve(c, half);
}

#endif /* SHMRING_INTERNAL_SHARE_H */
