/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames delivered, lost and skipped, counted by their seqs.
 */
#ifndef SHMRING_INTERNAL_LOSSES_H
#define SHMRING_INTERNAL_LOSSES_H

#include "entries.h"
#include "hold.h"
#include "words.h"

/* Positions below `end` that were skipped on purpose since the last frame taken. */
static inline uint64_t
shmring_skipped_below(const shmring_consumer *c, uint64_t end)
{
    const uint64_t reached = c->jumped_to < end ? c->jumped_to : end;
    return reached > c->first_uncounted ? reached - c->first_uncounted : 0;
}

/* Counts frames first seen in this take (overlapping windows meet some again), and the gap before each:
 * what was jumped over on purpose was skipped, the rest is lost, whatever the cause. */
static inline void
shmring_count_gaps(shmring_consumer *c, shmring_taken *taken)
{
    uint64_t jumped = shmring_skipped_below(c, c->next);
    for (uint64_t i = 0; i < taken->count; i++) {
        const uint64_t seq = taken->seqs[i];
        if (seq < c->expected_seq && c->delivered == 0)
            c->expected_seq = seq; /* a newcomer saw next_seq ahead of the head that it saw */
        if (seq < c->expected_seq)
            continue;
        const uint64_t gap = seq - c->expected_seq;
        const uint64_t skipped = gap < jumped ? gap : jumped;
        c->skipped += skipped;
        taken->lost += gap - skipped;
        jumped = 0;
        c->delivered++;
        c->expected_seq = seq + 1;
    }
}

/* Counts the frames of a take, and what is missing before and between them. */
static inline void
shmring_count_taken(shmring_consumer *c, shmring_taken *taken)
{
    const uint64_t first = taken->seqs[0];
    const uint64_t last = taken->seqs[taken->count - 1];
    taken->lost = 0;
    if (first == c->expected_seq &&
        last - first == taken->count - 1) { /* seqs only grow: no gap in between */
        c->delivered += taken->count;
        c->expected_seq = last + 1;
    } else {
        shmring_count_gaps(c, taken);
    }
    if (c->first_uncounted < c->next + taken->count)
        c->first_uncounted = c->next + taken->count;
    c->lost += taken->lost;
}

/* Counts frames that were offered after the last one taken, when the producer of that epoch offers no more.
 * If another producer has begun, the seq of its first frame will show the gap. Frames that can still be read
 * (fewer than a batch or window needs) are not lost: then the count waits. */
static inline void
shmring_count_lost_at_end(shmring_consumer *c, uint64_t epoch)
{
    const shmring_hot *const hot = c->block->hot;
    /* [relaxed: acquired with producer_state] */
    const uint64_t next_seq = shmring_load_relaxed(&hot->next_seq);
    uint64_t head = shmring_read_head(c->block);
    while (shmring_is_published(c->block, head % c->block->geometry.slots, head))
        head++; /* by a producer that died before it could store head */
    /* [fence recheck | announce, mark, swap] next_seq and head before a look at whose they are */
    shmring_fence_acquire();
    const uint64_t now = shmring_load_relaxed(&hot->epoch); /* [relaxed: ordered by the fence above] */
    if (now != epoch || next_seq <= c->expected_seq || (c->next < head && c->first_uncounted < head))
        return;
    const uint64_t gap = next_seq - c->expected_seq;
    const uint64_t jumped = shmring_skipped_below(c, head);
    const uint64_t skipped = gap < jumped ? gap : jumped;
    c->skipped += skipped;
    c->lost += gap - skipped;
    c->expected_seq = next_seq;
    if (c->first_uncounted < head)
        c->first_uncounted = head; /* not next: windows may have jumped to a frame of the next producer */
    shmring_publish_stats(c);
}

#endif /* SHMRING_INTERNAL_LOSSES_H */
