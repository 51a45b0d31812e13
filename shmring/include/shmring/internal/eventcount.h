/* SPDX-License-Identifier: Apache-2.0
 *
 * Eventcounts: kernel waits on a word of the block without lost wake-ups.
 * Bit 0 says that a participant sleeps, bits 1 to 31 count wake-ups; the word is the futex word.
 * A number of sleepers instead of a bit would leak one at every kill.
 */
#ifndef SHMRING_INTERNAL_EVENTCOUNT_H
#define SHMRING_INTERNAL_EVENTCOUNT_H

#include "atomic.h"
#include "os.h"

/* Says "I may sleep". The caller re-checks its condition afterwards, then sleeps on the returned
 * value. Wait-free. */
static inline uint32_t
shmring_event_prepare(uint32_t *event)
{
    /* [relaxed: ordered by the fence below] */
    const uint32_t value = shmring_fetch_or_relaxed(event, 1u) | 1u;
    /* [fence sleep | publish, cursor, pass, unpin, announce] my bit before my look at the condition */
    shmring_fence_seq_cst();
    return value;
}

/* Wakes every sleeper. The caller has stored its news and passed a seq_cst fence since. The bit
 * falls only together with a new count: clearing it alone is the classic lost wake-up. */
static inline void
shmring_event_notify(uint32_t *event)
{
    uint32_t value = shmring_load_relaxed(event);              /* [relaxed: ordered by the caller's fence] */
    for (int tries = 0; (value & 1u) && tries < 64; tries++) { /* an honest word changes once or twice */
        if (shmring_cas_relaxed(event, &value, value + 1u)) {  /* [relaxed: the futex orders the rest] */
            shmring_futex_wake_all(event);
            return;
        }
    }
}

/* After news that has no fence of its own: a close, a join, a leave, a takeover. */
static inline void
shmring_event_announce(uint32_t *event)
{
    shmring_fence_seq_cst(); /* [fence announce | sleep, recheck] the news before a look for sleepers */
    shmring_event_notify(event);
}

#endif /* SHMRING_INTERNAL_EVENTCOUNT_H */
