/* SPDX-License-Identifier: Apache-2.0
 *
 * Passing time before a sleep.
 */
#ifndef SHMRING_INTERNAL_SPIN_H
#define SHMRING_INTERNAL_SPIN_H

#include "../types.h"
#include "atomic.h"
#include "os.h"

/* Whether the ring has more participants than there are cores: a spinning thread would keep another
 * participant off its core. */
static inline int
shmring_is_crowded(const shmring_block *block, long cores)
{
    /* [relaxed: a hint about how busy the machine is] */
    const uint64_t active = shmring_load_relaxed(&block->hot->active);
    return __builtin_popcountll(active) + 1 > cores;
}

/* Looks of a brief wait, without a clock: about as long as a frame takes from core to core. */
#define SHMRING_BRIEF_LOOKS 64u

/* With a core for everybody, a spin still yields this often to other programs. A yield takes longer than a
 * frame takes from core to core. */
#define SHMRING_YIELD_EVERY_NS 50000

/* A spin that adapts: from the first to the most, about what a sleep costs, where waits are that short; else
 * down to the least, which costs next to nothing. */
#define SHMRING_SPIN_LEAST_NS 1000
#define SHMRING_SPIN_FIRST_NS 20000
#define SHMRING_SPIN_MOST_NS 50000

/* How long the next wait spins, after one that took waited_ns. */
static inline int64_t
shmring_adapt_spin(int64_t spin_ns, int64_t waited_ns)
{
    if (waited_ns <= SHMRING_SPIN_MOST_NS)
        return SHMRING_SPIN_MOST_NS;
    return spin_ns / 2 > SHMRING_SPIN_LEAST_NS ? spin_ns / 2 : SHMRING_SPIN_LEAST_NS;
}

/* Passes time before a sleep. With a core for everybody: pauses, and every 16 pauses a look at the
 * clock. With more participants than cores the core is given away instead, every time. */
typedef struct shmring_spin {
    int64_t until_ns;
    int64_t yield_ns;
    uint32_t rounds;
    int crowded;
} shmring_spin;

static inline shmring_spin
shmring_spin_start(const shmring_block *block, int64_t spin_ns, long cores)
{
    shmring_spin spin;
    const int64_t now = spin_ns <= 0 ? 0 : shmring_now_ns();
    spin.crowded = shmring_is_crowded(block, cores);
    spin.rounds = 0;
    spin.until_ns = spin_ns <= 0 ? 0 : spin_ns == SHMRING_FOR_EVER ? spin_ns : now + spin_ns;
    spin.yield_ns = spin.crowded ? 0 : now + SHMRING_YIELD_EVERY_NS;
    return spin;
}

/* 0 when the time is used up. */
static inline int
shmring_spin_once(shmring_spin *spin)
{
    if (spin->until_ns == 0)
        return 0;
    shmring_cpu_relax();
    if (!spin->crowded && ++spin->rounds % 16 != 0)
        return 1;
    const int64_t now = shmring_now_ns();
    if (now >= spin->until_ns)
        return 0;
    if (now >= spin->yield_ns) {
        sched_yield();
        spin->yield_ns = spin->crowded ? 0 : now + SHMRING_YIELD_EVERY_NS;
    }
    return 1;
}

#endif /* SHMRING_INTERNAL_SPIN_H */
