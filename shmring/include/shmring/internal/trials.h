/* SPDX-License-Identifier: Apache-2.0
 *
 * How large copies are best made here: now and then both ways are timed.
 */
#ifndef SHMRING_INTERNAL_TRIALS_H
#define SHMRING_INTERNAL_TRIALS_H

#include "../clock.h"
#include "../types.h"
#include "copy.h"

#define SHMRING_LARGE_COPY ((size_t)1 << 20)
/* A trial's frames, through the cache and then past it; of each the fastest counts. Slots get warm again
 * only after some frames. */
#define SHMRING_TRIAL_WARM 4u
#define SHMRING_TRIAL 6u
/* Frames from one trial to the next: few after one that changed the way, twice as many after each that
 * did not. */
#define SHMRING_TRIAL_SOON 32u
#define SHMRING_TRIAL_LATE 2048u

/* Whether the next large copy goes past the cache. Then there is no use in warm slots either. */
static inline int
shmring_will_stream(const shmring_producer *p)
{
    const uint64_t turn = p->copies - p->trial_began;
    return turn < SHMRING_TRIAL ? turn >= SHMRING_TRIAL_WARM : p->streaming_wins;
}

/* Records how long the copy of a trial's turn took. After the last one the faster way is chosen; streaming
 * must win by a quarter, since the consumer then reads from memory. */
static inline void
shmring_record_trial(shmring_producer *p, uint64_t turn, int streaming, int64_t took_ns)
{
    if (turn == 0 || turn == SHMRING_TRIAL_WARM || took_ns < p->copy_ns[streaming])
        p->copy_ns[streaming] = took_ns;
    if (turn + 1 < SHMRING_TRIAL)
        return;
    const int wins = p->copy_ns[1] + p->copy_ns[1] / 4 < p->copy_ns[0];
    if (wins != p->streaming_wins)
        p->trial_every = SHMRING_TRIAL_SOON;
    else if (p->trial_every < SHMRING_TRIAL_LATE)
        p->trial_every *= 2;
    p->streaming_wins = wins;
}

/* Where the ring may not stay in the cache, machines differ in how large copies are best made: so now and
 * then both ways are timed, and the faster one is used until the next trial. */
static inline void
shmring_copy_large(shmring_producer *p, void *target, const void *source, size_t bytes)
{
    const int streaming = shmring_will_stream(p);
    const uint64_t turn = p->copies++ - p->trial_began;
    const int64_t began = shmring_now_ns();
    if (streaming)
        shmring_copy_streaming(target, source, bytes);
    else
        memcpy(target, source, bytes);
    if (turn < SHMRING_TRIAL)
        shmring_record_trial(p, turn, streaming, shmring_now_ns() - began);
    else if (turn + 1 >= p->trial_every)
        p->trial_began = p->copies;
}

#endif /* SHMRING_INTERNAL_TRIALS_H */
