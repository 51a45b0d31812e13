/* SPDX-License-Identifier: Apache-2.0
 *
 * The spelling of shmring/internal/atomic.h for steps.c: before every access, look_in().
 */
#ifndef STEPS_ATOMIC_H
#define STEPS_ATOMIC_H

#define shmring_load_relaxed(address) (look_in(), __atomic_load_n((address), __ATOMIC_SEQ_CST))
#define shmring_load_acquire(address) shmring_load_relaxed(address)
#define shmring_store_relaxed(address, value) \
    (look_in(), __atomic_store_n((address), (value), __ATOMIC_SEQ_CST))
#define shmring_store_release(address, value) shmring_store_relaxed(address, value)

#define shmring_fetch_or_relaxed(address, bits) \
    (look_in(), __atomic_fetch_or((address), (bits), __ATOMIC_SEQ_CST))
#define shmring_fetch_or_release(address, bits) shmring_fetch_or_relaxed(address, bits)
#define shmring_fetch_and_release(address, bits) \
    (look_in(), __atomic_fetch_and((address), (bits), __ATOMIC_SEQ_CST))
#define shmring_fetch_add_release(address, more) \
    (look_in(), __atomic_fetch_add((address), (more), __ATOMIC_SEQ_CST))

#define shmring_fetch_add_relaxed(address, more) shmring_fetch_add_release(address, more)

#define shmring_cas_relaxed(address, expected, desired) \
    (look_in(), \
     __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))

#define shmring_cas_release(address, expected, desired) shmring_cas_relaxed(address, expected, desired)

#define shmring_fence_seq_cst() look_in()
#define shmring_fence_acquire() look_in()

#endif /* STEPS_ATOMIC_H */
