/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of the block that say how far the producer is.
 */
#ifndef SHMRING_INTERNAL_WORDS_H
#define SHMRING_INTERNAL_WORDS_H

#include "../types.h"
#include "atomic.h"

/* Positions below it are published. */
static inline uint64_t
shmring_read_head(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->head); /* [acquire head] */
}

/* To be read before the state, for shmring_count_lost_at_end. */
static inline uint64_t
shmring_read_epoch(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->epoch); /* [acquire epoch] */
}

static inline uint32_t
shmring_read_producer_state(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->producer_state); /* [acquire producer_state] */
}

#endif /* SHMRING_INTERNAL_WORDS_H */
