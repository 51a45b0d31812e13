/* SPDX-License-Identifier: Apache-2.0
 *
 * The atomic operations as the fuzzer spells them: before each one it may damage the block, as another
 * process could at that very moment, and it counts them, so that a loop without end is seen.
 */
#ifndef SHMRING_FUZZ_ATOMIC_H
#define SHMRING_FUZZ_ATOMIC_H

void fuzz_moment(void);

#define shmring_load_relaxed(address) (fuzz_moment(), __atomic_load_n((address), __ATOMIC_RELAXED))
#define shmring_load_acquire(address) (fuzz_moment(), __atomic_load_n((address), __ATOMIC_ACQUIRE))
#define shmring_store_relaxed(address, value) \
    (fuzz_moment(), __atomic_store_n((address), (value), __ATOMIC_RELAXED))
#define shmring_store_release(address, value) \
    (fuzz_moment(), __atomic_store_n((address), (value), __ATOMIC_RELEASE))

#define shmring_fetch_or_relaxed(address, bits) \
    (fuzz_moment(), __atomic_fetch_or((address), (bits), __ATOMIC_RELAXED))
#define shmring_fetch_or_release(address, bits) \
    (fuzz_moment(), __atomic_fetch_or((address), (bits), __ATOMIC_RELEASE))
#define shmring_fetch_and_release(address, bits) \
    (fuzz_moment(), __atomic_fetch_and((address), (bits), __ATOMIC_RELEASE))
#define shmring_fetch_add_release(address, count) \
    (fuzz_moment(), __atomic_fetch_add((address), (count), __ATOMIC_RELEASE))

#define shmring_fetch_add_relaxed(address, count) \
    (fuzz_moment(), __atomic_fetch_add((address), (count), __ATOMIC_RELAXED))

#define shmring_cas_relaxed(address, expected, desired) \
    (fuzz_moment(), \
     __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))

#define shmring_cas_release(address, expected, desired) \
    (fuzz_moment(), \
     __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))

#define shmring_fence_seq_cst() (fuzz_moment(), __atomic_thread_fence(__ATOMIC_SEQ_CST))
#define shmring_fence_acquire() (fuzz_moment(), __atomic_thread_fence(__ATOMIC_ACQUIRE))

#endif /* SHMRING_FUZZ_ATOMIC_H */
