/* SPDX-License-Identifier: Apache-2.0
 *
 * The spelling of shmring/internal/atomic.h for the litmus tests: every access is a step of the explorer.
 */
#ifndef LITMUS_ATOMIC_H
#define LITMUS_ATOMIC_H

#include "explore.h"

#define LITMUS_LOAD(address, order) ((__typeof__(*(address) + 0))litmus_load((address), (order), LITMUS_HERE))
#define LITMUS_STORE(address, value, order) \
    litmus_store((address), (uint64_t)(__typeof__(*(address) + 0))(value), (order), LITMUS_HERE)
#define LITMUS_FETCH(what, address, value, order) \
    ((__typeof__(*(address) + 0))litmus_fetch_##what( \
        (address), (uint64_t)(__typeof__(*(address) + 0))(value), (order), LITMUS_HERE))

#define shmring_load_relaxed(address) LITMUS_LOAD(address, LITMUS_RELAXED)
#define shmring_load_acquire(address) LITMUS_LOAD(address, LITMUS_ACQUIRE)
#define shmring_store_relaxed(address, value) LITMUS_STORE(address, value, LITMUS_RELAXED)
#define shmring_store_release(address, value) LITMUS_STORE(address, value, LITMUS_RELEASE)

#define shmring_fetch_or_relaxed(address, bits) LITMUS_FETCH(or, address, bits, LITMUS_RELAXED)
#define shmring_fetch_or_release(address, bits) LITMUS_FETCH(or, address, bits, LITMUS_RELEASE)
#define shmring_fetch_and_release(address, bits) LITMUS_FETCH(and, address, bits, LITMUS_RELEASE)
#define shmring_fetch_add_release(address, count) LITMUS_FETCH(add, address, count, LITMUS_RELEASE)
/* What a mutant may ask for. */
#define shmring_fetch_and_relaxed(address, bits) LITMUS_FETCH(and, address, bits, LITMUS_RELAXED)
#define shmring_fetch_add_relaxed(address, count) LITMUS_FETCH(add, address, count, LITMUS_RELAXED)

#define shmring_cas_relaxed(address, expected, desired) \
    (sizeof *(address) == sizeof(uint32_t) \
         ? litmus_cas_u32((uint32_t *)(void *)(address), (uint32_t *)(void *)(expected), \
                          (uint32_t)(desired), LITMUS_HERE) \
         : litmus_cas((address), (uint64_t *)(void *)(expected), (desired), LITMUS_RELAXED, LITMUS_HERE))

#define shmring_cas_release(address, expected, desired) \
    litmus_cas((address), (expected), (desired), LITMUS_RELEASE, LITMUS_HERE)

#define shmring_fence_seq_cst() litmus_fence(1, LITMUS_HERE)
#define shmring_fence_acquire() litmus_fence(0, LITMUS_HERE)

static inline int
litmus_cas_u32(uint32_t *address, uint32_t *expected, uint32_t desired, litmus_place place)
{
    uint64_t found = *expected;
    const int done = litmus_cas(address, &found, desired, LITMUS_RELAXED, place);
    *expected = (uint32_t)found;
    return done;
}

#endif /* LITMUS_ATOMIC_H */
