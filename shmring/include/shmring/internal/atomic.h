/* SPDX-License-Identifier: Apache-2.0
 *
 * Every atomic operation of shmring is spelled here, once, for plain integers in
 * shared memory, so that the same headers compile as C11 and as C++17 (an _Atomic
 * member would not). Each use elsewhere has a label; see docs/protocol.md. A checker brings its own
 * spelling: SHMRING_ATOMIC_SPELLING names a header that defines the same macros.
 */
#ifndef SHMRING_INTERNAL_ATOMIC_H
#define SHMRING_INTERNAL_ATOMIC_H

#if !defined(__GNUC__)
#error "shmring needs the __atomic builtins of gcc or clang"
#endif

#ifdef SHMRING_ATOMIC_SPELLING
#include SHMRING_ATOMIC_SPELLING
#else

#define shmring_load_relaxed(address) __atomic_load_n((address), __ATOMIC_RELAXED)
#define shmring_load_acquire(address) __atomic_load_n((address), __ATOMIC_ACQUIRE)
#define shmring_store_relaxed(address, value) __atomic_store_n((address), (value), __ATOMIC_RELAXED)
#define shmring_store_release(address, value) __atomic_store_n((address), (value), __ATOMIC_RELEASE)

#define shmring_fetch_or_relaxed(address, bits) __atomic_fetch_or((address), (bits), __ATOMIC_RELAXED)
#define shmring_fetch_or_release(address, bits) __atomic_fetch_or((address), (bits), __ATOMIC_RELEASE)
#define shmring_fetch_and_release(address, bits) __atomic_fetch_and((address), (bits), __ATOMIC_RELEASE)
#define shmring_fetch_add_release(address, count) __atomic_fetch_add((address), (count), __ATOMIC_RELEASE)
#define shmring_fetch_add_relaxed(address, count) __atomic_fetch_add((address), (count), __ATOMIC_RELAXED)

/* On failure *expected is what was found. */
#define shmring_cas_relaxed(address, expected, desired) \
    __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)

#define shmring_cas_release(address, expected, desired) \
    __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)

#define shmring_fence_seq_cst() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define shmring_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)

#endif /* SHMRING_ATOMIC_SPELLING */

/* A number for people: whole whenever it is read, and nothing is decided by it, so it needs no order. */
#define shmring_load_stat(address) shmring_load_relaxed(address)
#define shmring_store_stat(address, value) shmring_store_relaxed((address), (value))
#define shmring_add_stat(address, count) shmring_fetch_add_relaxed((address), (count))

/* A hint to the core that this is a spin loop. Not an ordering. */
static inline void
shmring_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

/* Keeps the compiler from moving accesses across it. No ordering between threads. */
static inline void
shmring_compiler_barrier(void)
{
    __asm__ __volatile__("" ::: "memory");
}

/* Asks for a line that this core is about to write, exclusively. Compilers for plain x86-64 would ask for
 * it to read, which costs a second transfer; older processors take prefetchw for a nop. */
static inline void
shmring_prefetch_write(const void *address)
{
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" ::"m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1);
#endif
}

#endif /* SHMRING_INTERNAL_ATOMIC_H */
