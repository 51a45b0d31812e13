/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps by which a consumer becomes a member of a group. One process at a time does them, by a kernel
 * lock, so that two of them do not make two groups of one name.
 */
#ifndef SHMRING_INTERNAL_MEMBER_H
#define SHMRING_INTERNAL_MEMBER_H

#include "group.h"
#include "join.h"

/* How often, a millisecond apart, a join asks for the lock before it gives up. */
#define SHMRING_GROUP_LOCK_TRIES 1000u

static inline int
shmring_lock_groups(int lock_fd)
{
    const struct timespec millisecond = {0, 1000000};
    for (unsigned tries = 0; tries < SHMRING_GROUP_LOCK_TRIES; tries++) {
        if (shmring_set_lock(lock_fd, SHMRING_LOCK_GROUPS, F_WRLCK))
            return SHMRING_OK;
        if (errno != EAGAIN && errno != EACCES)
            return SHMRING_SYSTEM;
        nanosleep(&millisecond, NULL);
    }
    return SHMRING_TIMEOUT;
}

/* Whether a place other than `except` is joined to the group; its owner may be dead. */
static inline int
shmring_has_members(const shmring_block *block, unsigned group, unsigned except)
{
    uint64_t active = shmring_load_acquire(&block->hot->active); /* [acquire active] */
    for (; active != 0; active &= active - 1) {
        const unsigned place = (unsigned)__builtin_ctzll(active);
        if (place >= block->geometry.consumers)
            break;
        const shmring_place *const row = &block->table[place];
        const uint64_t kind = shmring_load_acquire(&row->state) & 0xff; /* [acquire state] */
        /* [relaxed: acquired with state] */
        if (place != except && kind == SHMRING_PLACE_MEMBER && shmring_load_relaxed(&row->group) == group)
            return 1;
    }
    return 0;
}

/* The group of that name, else one that has no members. SHMRING_NO_GROUP if there is neither,
 * SHMRING_OTHER_GROUP if the one of that name has other flags. */
static inline int
shmring_find_group(const shmring_block *block, const char *name, uint32_t flags, unsigned *found)
{
    *found = SHMRING_MAX_GROUPS;
    for (unsigned group = SHMRING_MAX_GROUPS; group-- > 0;) {
        if (!shmring_has_members(block, group, SHMRING_MAX_CONSUMERS)) {
            *found = group;
        } else if (strncmp(block->groups[group].name, name, SHMRING_LABEL_BYTES - 1) == 0) {
            *found = group;
            /* [relaxed: the lock of the groups orders them] */
            const uint32_t others = shmring_load_relaxed(&block->groups[group].flags);
            return others == flags ? SHMRING_OK : SHMRING_OTHER_GROUP;
        }
    }
    return *found == SHMRING_MAX_GROUPS ? SHMRING_NO_GROUP : SHMRING_OK;
}

/* Makes the group that nobody is in any more a new one, which begins at the position. What members of the
 * last one had is nobody's, and what they took can be taken again: nobody is left who compares with the
 * words. */
static inline void
shmring_begin_group(const shmring_consumer *c, const char *name, uint32_t flags, uint64_t position)
{
    shmring_group *const group = shmring_group_of(c);
    for (uint64_t slot = 0; slot < shmring_all_slots(&c->block->geometry); slot++) {
        uint64_t *const owner = shmring_owner_at(c->block, slot, c->group);
        shmring_store_release(owner, UINT64_C(0)); /* [release owner] */
    }
    memset(group->name, 0, sizeof group->name);
    memcpy(group->name, name, strnlen(name, sizeof group->name - 1));
    shmring_store_relaxed(&group->flags, flags); /* [relaxed: published with next] */
    shmring_store_stat(&group->lost, UINT64_C(0));
    shmring_store_release(&group->next, position); /* [release next] */
}

/* From now on the next to join finds the group here. Not before it has its position: they would take what the
 * last group of this number left for that. */
static inline void
shmring_become_member(const shmring_consumer *c)
{
    uint64_t *const state = &c->block->table[c->place].state;
    const uint64_t entering = shmring_load_relaxed(state); /* [relaxed: the place's lock orders owners] */
    /* [release state] */
    shmring_store_release(state, (entering | 0xff) - 0xff + SHMRING_PLACE_MEMBER);
}

/* Where a new group begins: the newcomer has found everything from c->next to c->head intact, and keeps
 * it. */
static inline uint64_t
shmring_group_start(const shmring_consumer *c, int start)
{
    if (start == SHMRING_START_NEXT)
        return c->head;
    return start == SHMRING_START_NEWEST && c->head > c->next ? c->head - 1 : c->next;
}

#endif /* SHMRING_INTERNAL_MEMBER_H */
