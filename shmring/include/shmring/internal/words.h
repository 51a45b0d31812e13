/* SPDX-License-Identifier: Apache-2.0
 *
 * The hot words that a consumer reads.
 */
#ifndef SHMRING_INTERNAL_WORDS_H
#define SHMRING_INTERNAL_WORDS_H

#include "../types.h"
#include "atomic.h"

static inline uint64_t
shmring_read_head(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->head); /* [A1 <- R1] */
}

/* To be read before the state, for shmring_count_lost_at_end. */
static inline uint64_t
shmring_read_epoch(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->epoch); /* [A8 <- R8] */
}

static inline uint32_t
shmring_read_producer_state(const shmring_block *block)
{
    return shmring_load_acquire(&block->hot->producer_state); /* [A8 <- R8] */
}

#endif /* SHMRING_INTERNAL_WORDS_H */
