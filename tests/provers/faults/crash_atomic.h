/* SPDX-License-Identifier: Apache-2.0
 *
 * The spelling of shmring/internal/atomic.h for fault injection: before every access to the block the
 * process looks whether it is to kill (or stop) itself there. For programs of one translation unit; each
 * access is a site, known by name, so that a report can say where nobody was ever killed.
 */
#ifndef CRASH_ATOMIC_H
#define CRASH_ATOMIC_H

#include <signal.h>
#include <stdint.h>
#include <unistd.h>

typedef struct crash_site {
    const char *file;
    const char *function;
    const char *what;
    uint64_t line;
} crash_site;

/* Seen from outside, so that Python can set them through ctypes. */
#define CRASH_WORD __attribute__((visibility("default"), used))
CRASH_WORD uint64_t shmring_crash_steps;            /* sites passed so far */
CRASH_WORD uint64_t shmring_crash_at = UINT64_MAX;  /* the number of the site to die before */
CRASH_WORD uint32_t shmring_crash_signal = SIGKILL; /* or SIGSTOP */
CRASH_WORD const crash_site **shmring_crash_seen;   /* where to say which one it was; NULL: nowhere */

__attribute__((unused)) static const crash_site *crash_only; /* count this one only; NULL: all */

__attribute__((noinline, unused)) static void
crash_step(const crash_site *site)
{
    if (crash_only != NULL && site != crash_only)
        return;
    if (shmring_crash_steps++ != shmring_crash_at)
        return;
    if (shmring_crash_seen != NULL)
        *shmring_crash_seen = site;
    kill(getpid(), (int)shmring_crash_signal);
}

#define CRASH_POINT(what) \
    __extension__({ \
        static const crash_site crash_here \
            __attribute__((section("crash_sites"), used)) = {__FILE__, __func__, what, __LINE__}; \
        crash_step(&crash_here); \
    })

#define shmring_load_relaxed(address) (CRASH_POINT("load"), __atomic_load_n((address), __ATOMIC_RELAXED))
#define shmring_load_acquire(address) (CRASH_POINT("load"), __atomic_load_n((address), __ATOMIC_ACQUIRE))
#define shmring_store_relaxed(address, value) \
    (CRASH_POINT("store"), __atomic_store_n((address), (value), __ATOMIC_RELAXED))
#define shmring_store_release(address, value) \
    (CRASH_POINT("store"), __atomic_store_n((address), (value), __ATOMIC_RELEASE))

#define shmring_fetch_or_relaxed(address, bits) \
    (CRASH_POINT("or"), __atomic_fetch_or((address), (bits), __ATOMIC_RELAXED))
#define shmring_fetch_or_release(address, bits) \
    (CRASH_POINT("or"), __atomic_fetch_or((address), (bits), __ATOMIC_RELEASE))
#define shmring_fetch_and_release(address, bits) \
    (CRASH_POINT("and"), __atomic_fetch_and((address), (bits), __ATOMIC_RELEASE))
#define shmring_fetch_add_release(address, count) \
    (CRASH_POINT("add"), __atomic_fetch_add((address), (count), __ATOMIC_RELEASE))

#define shmring_fetch_add_relaxed(address, count) \
    (CRASH_POINT("add"), __atomic_fetch_add((address), (count), __ATOMIC_RELAXED))

#define shmring_cas_relaxed(address, expected, desired) \
    (CRASH_POINT("cas"), \
     __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))

#define shmring_cas_release(address, expected, desired) \
    (CRASH_POINT("cas"), \
     __atomic_compare_exchange_n((address), (expected), (desired), 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))

#define shmring_fence_seq_cst() (CRASH_POINT("fence"), __atomic_thread_fence(__ATOMIC_SEQ_CST))
#define shmring_fence_acquire() (CRASH_POINT("fence"), __atomic_thread_fence(__ATOMIC_ACQUIRE))

#endif /* CRASH_ATOMIC_H */
