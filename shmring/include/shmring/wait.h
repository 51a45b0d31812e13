/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting: for space, for frames, for consumers. shmring_wait_data may run in another thread than the one that
 * has the handle: it touches the block only.
 */
#ifndef SHMRING_WAIT_H
#define SHMRING_WAIT_H

#include "consumer.h"
#include "producer.h"
#include "internal/spin.h"

/* Claims as shmring_claim does, if there is space in a moment. */
static inline int
shmring_claim_briefly(shmring_producer *p, uint64_t want)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        shmring_cpu_relax();
        if (shmring_claim(p, want) == SHMRING_OK)
            return SHMRING_OK;
    }
    return SHMRING_FULL;
}

/* Claims as shmring_claim does; spins for spin_ns, then sleeps until there is space, the deadline
 * (CLOCK_MONOTONIC) or a wake-up. SHMRING_FULL: look around, then call again. */
static inline int
shmring_claim_wait(shmring_producer *p, uint64_t want, int64_t deadline_ns, int64_t spin_ns, long cores)
{
    uint32_t *const event = &p->block->hot->space_event;
    shmring_spin spin = shmring_spin_start(p->block, spin_ns, cores);
    do {
        if (shmring_claim(p, want) == SHMRING_OK)
            return SHMRING_OK;
    } while (shmring_spin_once(&spin));
    const uint32_t value = shmring_event_prepare(event);
    if (shmring_claim(p, want) == SHMRING_OK)
        return SHMRING_OK;
    shmring_futex_wait(event, value, deadline_ns);
    return shmring_claim(p, want);
}

/* 1 as soon as head >= needed, 0 if it does not come in a moment. */
static inline int
shmring_wait_briefly(const shmring_block *block, uint64_t needed)
{
    for (unsigned look = 0; look < SHMRING_BRIEF_LOOKS; look++) {
        if (shmring_read_head(block) >= needed)
            return 1;
        shmring_cpu_relax();
    }
    return 0;
}

/* Spins for spin_ns, then sleeps until head >= needed, the producer's state is no longer `state`,
 * the deadline (CLOCK_MONOTONIC) or a wake-up: look around, then call again. Touches nothing of the
 * handle, so that another thread may release frames meanwhile. */
static inline void
shmring_wait_data(const shmring_block *block, uint64_t needed, uint32_t state, int64_t deadline_ns,
                  int64_t spin_ns, long cores)
{
    shmring_hot *const hot = block->hot;
    shmring_spin spin = shmring_spin_start(block, spin_ns, cores);
    do {
        if (shmring_read_head(block) >= needed || shmring_read_producer_state(block) != state)
            return;
    } while (shmring_spin_once(&spin));
    const uint32_t value = shmring_event_prepare(&hot->data_event);
    if (shmring_read_head(block) >= needed || shmring_read_producer_state(block) != state)
        return;
    shmring_futex_wait(&hot->data_event, value, deadline_ns);
}

static inline unsigned
shmring_active_consumers(const shmring_block *block)
{
    return (unsigned)__builtin_popcountll(shmring_load_acquire(&block->hot->active)); /* [A10 <- R10] */
}

/* Sleeps until `least` consumers have joined, the deadline or a wake-up. */
static inline void
shmring_wait_consumers(const shmring_block *block, unsigned least, int64_t deadline_ns)
{
    uint32_t *const event = &block->hot->space_event;
    const uint32_t value = shmring_event_prepare(event);
    if (shmring_active_consumers(block) < least)
        shmring_futex_wait(event, value, deadline_ns);
}

#endif /* SHMRING_WAIT_H */
