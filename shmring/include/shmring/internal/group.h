/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups: each frame to one of the members, the next one that asks. To the producer a group is a consumer,
 * whose cursor is the group's next, and which pins slots by their owner words.
 */
#ifndef SHMRING_INTERNAL_GROUP_H
#define SHMRING_INTERNAL_GROUP_H

#include "owner.h"
#include "read.h"
#include "reap.h"

/* Takes between two looks at whether the other members live. */
#define SHMRING_REAP_EVERY 1024u

/* Rounds in which other members were faster after which a take returns, so that its caller can look at
 * signals and the time. */
#define SHMRING_MOST_TRIES 64u

/* What members look at besides head. */
static inline uint64_t
shmring_read_events(const shmring_consumer *c)
{
    return shmring_load_acquire(&shmring_group_of(c)->events); /* [acquire events] */
}

/* Reaps dead members of the consumer's group, so that the others get what they had. */
static inline void
shmring_reap_members(const shmring_consumer *c)
{
    shmring_block *const block = c->block;
    for (unsigned place = 0; place < block->geometry.consumers; place++) {
        const shmring_place *const row = &block->table[place];
        const uint64_t kind = shmring_load_acquire(&row->state) & 0xff; /* [acquire state] */
        /* [relaxed: acquired with state] */
        if (place != c->place && kind == SHMRING_PLACE_MEMBER &&
            shmring_load_relaxed(&row->group) == c->group)
            shmring_reap(block, c->lock_fd, place);
    }
}

/* The next position of the consumer, or of its group. */
static inline uint64_t
shmring_next_position(const shmring_consumer *c)
{
    return c->member ? shmring_load_acquire(&shmring_group_of(c)->next) : c->next; /* [acquire next] */
}

/* The member has come to the end: what it holds is done, as far as the others are concerned. Or it was not
 * the end. */
static inline void
shmring_mark_end(shmring_consumer *c, int at_end)
{
    if (c->at_end == at_end)
        return;
    c->at_end = at_end;
    shmring_place *const row = &c->block->table[c->place];
    const uint32_t flags = shmring_load_relaxed(&row->flags); /* [relaxed: this consumer's own word] */
    /* [relaxed: published with events] */
    shmring_store_relaxed(&row->flags, at_end ? flags | SHMRING_AT_END : flags & ~SHMRING_AT_END);
    shmring_announce_to_group(c->block, c->group);
}

/* Counts what a member took, and gives it to the caller. */
static inline int
shmring_finish_shared(shmring_consumer *c, shmring_hold *hold, uint64_t position, shmring_taken *taken)
{
    hold->position = position;
    hold->count = taken->count;
    hold->slot = c->slots_taken[0];
    c->held += taken->count;
    c->delivered += taken->count;
    for (uint64_t i = 0; i < taken->count; i++)
        c->pinned_slots += c->pin_counts[c->slots_taken[i]]++ == 0; /* by their owner words */
    taken->hold = hold;
    taken->lost = 0; /* other members have what is missing */
    if (c->at_end)
        shmring_mark_end(c, 0); /* another producer came */
    if (++c->takes % SHMRING_REAP_EVERY == 0)
        shmring_reap_members(c);
    return SHMRING_OK;
}

/* The slot of a frame that a dead member had, and its owner word; SHMRING_NO_SLOT if there is none since the
 * group's last news. */
static inline uint64_t
shmring_find_redo(shmring_consumer *c, uint64_t *word)
{
    const uint64_t events = shmring_read_events(c);
    if (events == c->events_seen)
        return SHMRING_NO_SLOT;
    for (uint64_t slot = 0; slot < shmring_all_slots(&c->block->geometry); slot++) {
        const uint64_t *const owner = shmring_owner_at(c->block, slot, c->group);
        *word = shmring_load_acquire(owner); /* [acquire owner] */
        if ((*word & 0xff) == SHMRING_OWNER_REDO)
            return slot;
    }
    c->events_seen = events;
    return SHMRING_NO_SLOT;
}

/* Takes a frame that a dead member had; SHMRING_EMPTY if there is none (any more). */
static inline int
shmring_take_again(shmring_consumer *c, shmring_hold *hold, shmring_taken *taken)
{
    uint64_t slot, word;
    while ((slot = shmring_find_redo(c, &word)) != SHMRING_NO_SLOT) {
        uint64_t *const owner = shmring_owner_at(c->block, slot, c->group);
        const uint64_t position = shmring_owned_position(word);
        /* [release owner] */
        if (!shmring_cas_release(owner, &word, shmring_owner_word(position, SHMRING_OWNER_PLACE + c->place)))
            continue;
        shmring_read_record(taken, 0, &c->block->geometry, shmring_record_at(c->block, slot));
        c->slots_taken[0] = (uint32_t)slot;
        c->redelivered++;
        taken->count = 1;
        taken->redelivered = 1;
        return shmring_finish_shared(c, hold, position, taken);
    }
    return SHMRING_EMPTY;
}

/* The slot that an entry names; SHMRING_NO_SLOT if it is damaged. There is no look at the stamp: the entry
 * has the group's next frame by construction, even where a producer died that was to put the stamp back; and
 * where it has moved on, the record of the slot says so. */
static inline uint64_t
shmring_slot_of(const shmring_block *block, uint64_t index)
{
    /* [relaxed: acquired with head] */
    const uint32_t slot = shmring_load_relaxed(&shmring_entry_at(block, index)->slot);
    return slot < shmring_all_slots(&block->geometry) ? slot : SHMRING_NO_SLOT;
}

/* Takes up to `most` frames from c->next on, the group's next; 0 if another member was faster. */
static inline uint64_t
shmring_own_run(shmring_consumer *c, uint64_t most, shmring_taken *taken)
{
    const shmring_block *const block = c->block;
    uint64_t index = c->index;
    uint64_t following = SHMRING_NO_SLOT;
    uint64_t count = 0;
    for (; count < most && c->next + count < c->head; count++) {
        const uint64_t slot = shmring_slot_of(block, index);
        if (slot == SHMRING_NO_SLOT)
            break;
        if (count != 0 && slot != following) {
            taken->interrupted = 1;
            break;
        }
        if (!shmring_own(c, slot, c->next + count))
            break;
        c->slots_taken[count] = (uint32_t)slot;
        shmring_read_record(taken, count, &block->geometry, shmring_record_at(block, slot));
        following = shmring_slot_after(block, slot);
        index = shmring_next_index(block, index);
    }
    return count;
}

/* `least` to `most` frames from the group's next on; fewer than `least` where other members take some of
 * them. SHMRING_CORRUPT if the next one is not where its entry says. */
static inline int
shmring_take_new(shmring_consumer *c, uint64_t least, uint64_t most, shmring_hold *hold, shmring_taken *taken)
{
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t room = most < slots ? most : slots;
    const uint64_t first = shmring_load_acquire(&shmring_group_of(c)->next); /* [acquire next] */
    uint64_t next = first;
    for (unsigned round = 0; round < SHMRING_MOST_TRIES; round++) {
        if (next != c->next)
            shmring_seek(c, next);
        const uint64_t available = shmring_available(c, room);
        if (available <= slots) {
            if (c->head > SHMRING_MAX_POSITION)
                return SHMRING_CORRUPT;
            if (available < least)
                return SHMRING_EMPTY;
            taken->count = shmring_own_run(c, room, taken);
            if (taken->count != 0) {
                shmring_seek(c, next + taken->count);
                return shmring_finish_shared(c, hold, next, taken);
            }
        }
        next = shmring_load_acquire(&shmring_group_of(c)->next); /* [acquire next] */
    }
    return next == first ? SHMRING_CORRUPT : SHMRING_EMPTY; /* other members were faster, each time */
}

/* A take of a member: first what a dead one had, a frame at a time. */
static inline int
shmring_take_shared(shmring_consumer *c, uint64_t least, uint64_t most, shmring_taken *taken)
{
    shmring_hold *const hold = shmring_new_hold(c, 0, 0, 0, 0);
    if (hold == NULL)
        return SHMRING_SYSTEM;
    hold->owned = 1;
    taken->interrupted = 0;
    taken->scattered = 0;
    taken->redelivered = 0;
    int result = shmring_take_again(c, hold, taken);
    if (result == SHMRING_EMPTY)
        result = shmring_take_new(c, least, most, hold, taken);
    if (result != SHMRING_OK) {
        hold->next_spare = c->spare;
        c->spare = hold;
    }
    shmring_publish_stats(c);
    return result;
}

/* Ends a hold of a member. */
static inline void
shmring_release_shared(shmring_consumer *c, const shmring_hold *hold)
{
    for (uint64_t i = 0; i < hold->count; i++) {
        const uint64_t slot = shmring_held_slot(c, hold, i);
        c->pinned_slots -= --c->pin_counts[slot] == 0;
        shmring_disown(c, slot, hold->position + i);
    }
    shmring_announce_disowned(c);
}

/* A member that leaves keeps its frames by pins, set before the owner words let go of them. */
static inline void
shmring_pin_owned(shmring_consumer *c)
{
    for (uint64_t slot = 0; slot < shmring_all_slots(&c->block->geometry); slot++) {
        if (c->pin_counts[slot] == 0)
            continue;
        /* [relaxed: this member's own] */
        const uint64_t word = shmring_load_relaxed(shmring_owner_at(c->block, slot, c->group));
        /* [relaxed: ordered by the release of owner after it] */
        shmring_fetch_or_relaxed(&shmring_record_at(c->block, slot)->pins, c->bit);
        shmring_disown(c, slot, shmring_owned_position(word));
    }
    shmring_announce_disowned(c);
}

/* Whether the member may die, with a frame that it has, before the consumer does. The members of one
 * process die together. */
static inline int
shmring_may_give_up(const shmring_consumer *c, unsigned place)
{
    const shmring_place *const mine = &c->block->table[c->place];
    const shmring_place *const row = &c->block->table[place];
    if (row->pid == mine->pid && row->start_time == mine->start_time)
        return 0;
    return !(shmring_load_relaxed(&row->flags) & SHMRING_AT_END); /* [relaxed: a change comes with events] */
}

/* Whether a frame of the group may still be put up again: another member has it, and has not come to the
 * end. */
static inline int
shmring_is_shared_out(const shmring_consumer *c)
{
    const shmring_block *const block = c->block;
    for (uint64_t slot = 0; slot < shmring_all_slots(&block->geometry); slot++) {
        const uint64_t *const owner = shmring_owner_at(block, slot, c->group);
        const uint64_t who = shmring_load_acquire(owner) & 0xff; /* [acquire owner] */
        if (who == SHMRING_OWNER_REDO)
            return 1;
        if (who >= SHMRING_OWNER_PLACE && who - SHMRING_OWNER_PLACE < block->geometry.consumers &&
            shmring_may_give_up(c, (unsigned)(who - SHMRING_OWNER_PLACE)))
            return 1;
    }
    return 0;
}

/* The end of the stream for a member: it has come when no other one may still die with a frame of the
 * group. */
static inline int
shmring_member_outlook(shmring_consumer *c, int producer)
{
    shmring_mark_end(c, 1);
    const int may_come_back = shmring_gives_again(c->block, c->group);
    if (may_come_back && !shmring_is_shared_out(c))
        return producer;
    shmring_reap_members(c); /* so that it comes back, or is counted as lost */
    return may_come_back ? SHMRING_EMPTY : producer;
}

#endif /* SHMRING_INTERNAL_GROUP_H */
