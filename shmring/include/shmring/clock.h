/* SPDX-License-Identifier: Apache-2.0
 *
 * Clocks. Every deadline of these headers is a time of CLOCK_MONOTONIC in nanoseconds.
 */
#ifndef SHMRING_CLOCK_H
#define SHMRING_CLOCK_H

#include "internal/platform.h"

#define SHMRING_FOR_EVER INT64_MAX
#define SHMRING_SECOND INT64_C(1000000000)

/* Reads a clock of clock_gettime(2), in nanoseconds. */
static inline int64_t
shmring_clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * SHMRING_SECOND + (int64_t)now.tv_nsec;
}

/* CLOCK_MONOTONIC, which every deadline is a time of. */
static inline int64_t
shmring_now_ns(void)
{
    return shmring_clock_ns(CLOCK_MONOTONIC);
}

/* The same clock, a few milliseconds coarse and a few nanoseconds cheap. */
static inline int64_t
shmring_coarse_now_ns(void)
{
    return shmring_clock_ns(CLOCK_MONOTONIC_COARSE);
}

#endif /* SHMRING_CLOCK_H */
