/* SPDX-License-Identifier: Apache-2.0
 *
 * Owner words: which member of a group has the frame in a slot. The position in a word only grows, so a word
 * that was seen once never comes back, and nobody has to reset it.
 */
#ifndef SHMRING_INTERNAL_OWNER_H
#define SHMRING_INTERNAL_OWNER_H

#include "../types.h"
#include "entries.h"
#include "eventcount.h"

static inline uint64_t
shmring_owner_word(uint64_t position, uint64_t who)
{
    return (position + 1) << 8 | who;
}

/* The position of a word that some member has stored. */
static inline uint64_t
shmring_owned_position(uint64_t word)
{
    return (word >> 8) - 1;
}

/* Whether the slot's frame of this position, or of a later one, has an owner. */
static inline int
shmring_reaches(uint64_t word, uint64_t position)
{
    return word >> 8 > position;
}

static inline shmring_group *
shmring_group_of(const shmring_consumer *c)
{
    return &c->block->groups[c->group];
}

/* Moves the group past a position that has an owner: the owner's task, or that of the next to find it. */
static inline void
shmring_pass(const shmring_consumer *c, uint64_t position)
{
    uint64_t expected = position;
    /* [release next] */
    if (!shmring_cas_release(&shmring_group_of(c)->next, &expected, position + 1))
        return;
    shmring_fence_seq_cst(); /* [fence pass | sleep] next before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
}

/* News for the members of a group that wait: they look around. */
static inline void
shmring_announce_to_group(shmring_block *block, unsigned group)
{
    shmring_fetch_add_release(&block->groups[group].events, UINT64_C(1)); /* [release events] */
    shmring_event_announce(&block->hot->data_event);
}

/* After owner words that let go of slots: wakes a producer that waits for one, and members that wait for
 * the end. */
static inline void
shmring_announce_disowned(const shmring_consumer *c)
{
    shmring_fence_seq_cst(); /* [fence unpin | sleep] the words before a look for a sleeping producer */
    shmring_event_notify(&c->block->hot->space_event);
    /* [acquire producer_state] */
    if (shmring_load_acquire(&c->block->hot->producer_state) != SHMRING_PRODUCER_LIVE)
        shmring_announce_to_group(c->block, c->group);
}

/* Makes the frame of this position, found in this slot, the member's own. 0: it is another's, or was never in
 * the slot: the entry had moved on. Then the slot's frame may be one that another member holds, so its record
 * comes before the word. */
static inline int
shmring_own(const shmring_consumer *c, uint64_t slot, uint64_t position)
{
    uint64_t *const owner = shmring_owner_at(c->block, slot, c->group);
    uint64_t word = shmring_load_acquire(owner); /* [acquire owner] */
    const int passed = shmring_reaches(word, position);
    if (!passed) {
        /* [relaxed: acquired with head] */
        const uint64_t found = shmring_load_relaxed(&shmring_record_at(c->block, slot)->position);
        const uint64_t mine = shmring_owner_word(position, SHMRING_OWNER_PLACE + c->place);
        if (found != position || !shmring_cas_release(owner, &word, mine)) /* [release owner] */
            return 0;
    }
    shmring_pass(c, position);
    return !passed;
}

/* The member is done with the frame. shmring_announce_disowned follows after the last of several. */
static inline void
shmring_disown(const shmring_consumer *c, uint64_t slot, uint64_t position)
{
    uint64_t *const owner = shmring_owner_at(c->block, slot, c->group);
    /* [release owner] */
    shmring_store_release(owner, shmring_owner_word(position, SHMRING_OWNER_DONE));
}

/* Whether what a dead member of the group had goes to another one; else it is lost. */
static inline int
shmring_gives_again(const shmring_block *block, unsigned group)
{
    /* [relaxed: acquired with state] */
    return (shmring_load_relaxed(&block->groups[group].flags) & SHMRING_AT_MOST_ONCE) == 0;
}

/* What a dead member had is put up for the others, or is lost if the group says so. The caller holds the
 * place's lock. Killed halfway, it is simply done again. */
static inline void
shmring_give_up_owned(shmring_block *block, unsigned place)
{
    /* [relaxed: the place's lock orders owners] */
    const unsigned group = shmring_load_relaxed(&block->table[place].group) % SHMRING_MAX_GROUPS;
    const int lost = !shmring_gives_again(block, group);
    for (uint64_t slot = 0; slot < shmring_all_slots(&block->geometry); slot++) {
        uint64_t *const owner = shmring_owner_at(block, slot, group);
        uint64_t word = shmring_load_acquire(owner); /* [acquire owner] */
        if ((word & 0xff) != SHMRING_OWNER_PLACE + place)
            continue;
        const uint64_t who = lost ? SHMRING_OWNER_DONE : SHMRING_OWNER_REDO;
        /* [release owner] */
        if (shmring_cas_release(owner, &word, (word | 0xff) - 0xff + who) && lost)
            shmring_add_stat(&block->groups[group].lost, UINT64_C(1));
    }
    shmring_announce_to_group(block, group);
}

#endif /* SHMRING_INTERNAL_OWNER_H */
