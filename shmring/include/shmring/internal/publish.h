/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a claim.
 */
#ifndef SHMRING_INTERNAL_PUBLISH_H
#define SHMRING_INTERNAL_PUBLISH_H

#include "claim.h"
#include "eventcount.h"

/* Makes the first `count` frames of the open claim visible, and wakes the consumers that sleep; the last
 * `kept` stay claimed, and what lies between is given back. */
static inline void
shmring_publish_first(shmring_producer *p, uint64_t count, uint64_t kept)
{
    const shmring_block block = *p->block; /* copies, as in shmring_mark_writing */
    const uint32_t *const slot_of = p->slot_of;
    const uint64_t first_seq = p->next_seq;
    const uint64_t head = p->head;
    const uint64_t epoch = p->epoch;
    shmring_hot *const hot = block.hot;
    uint64_t index = p->index;
    for (uint64_t i = 0; i < count; i++) {
        shmring_entry *const entry = shmring_entry_at(&block, index);
        shmring_entry *const record = shmring_record_at(&block, slot_of[index]);
        shmring_store_relaxed(&entry->slot, slot_of[index]); /* [relaxed: published with stamp] */
        shmring_store_relaxed(&record->position, head + i);  /* [relaxed: published with stamp] */
        shmring_store_relaxed(&record->seq, first_seq + i);  /* [relaxed: published with stamp] */
        shmring_store_relaxed(&record->epoch, epoch);        /* [relaxed: published with stamp] */
        shmring_store_release(&entry->stamp, shmring_published_stamp(head + i)); /* [release stamp] */
        index = shmring_next_index(&block, index);
    }
    const uint64_t next = index;
    for (uint64_t i = count; i + kept < p->count; i++) { /* written to, but not published: never readable */
        /* [relaxed: it was not readable before either] */
        shmring_store_relaxed(&shmring_entry_at(p->block, index)->stamp, 0u);
        index = shmring_next_index(p->block, index);
    }
    p->count = kept;
    if (count == 0)
        return;
    p->next_seq += count;
    p->head += count;
    p->index = next;
    /* What the claim after the next one writes: its lines come from another core meanwhile. */
    const uint64_t after = shmring_next_index(&block, next);
    const uint64_t following = shmring_following_slot(p);
    shmring_prefetch_write(shmring_entry_at(&block, after));
    shmring_prefetch_write(block.data + shmring_mapped_offset(&block.geometry, slot_of[after]));
    if (following != SHMRING_NO_SLOT &&
        slot_of[next] != following) /* the next claim looks at the pins there */
        shmring_prefetch_write(shmring_record_at(&block, following));
    shmring_store_relaxed(&hot->next_seq, p->next_seq); /* [relaxed: published with head] */
    shmring_store_release(&hot->head, p->head);         /* [release head] */
    if (kept == 0)
        shmring_mark_ahead(p);
    /* [fence publish | sleep] head before a look for sleepers */
    /* [fence mark | pin, join, recheck] the mark before the next claim's look at pins and newcomers */
    shmring_fence_seq_cst();
    shmring_event_notify(&hot->data_event);
}

#endif /* SHMRING_INTERNAL_PUBLISH_H */
