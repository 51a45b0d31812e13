/* SPDX-License-Identifier: Apache-2.0
 *
 * Surviving a block whose file is cut while it is mapped. The kernel answers an access to a lost page with
 * SIGBUS. The handler here, opt-in and for the whole process, records the loss, puts zeros there and in all
 * that follows in the file, and lets the access continue; but only in mappings that were announced (covered).
 * Any other SIGBUS goes to the handler that had the signal before. Not part of shmring.h: include it where
 * you want it.
 *
 *     shmring_survive_truncation();          once
 *     shmring_cover(&block);                 after shmring_map
 *     if (shmring_lost_pages(&block)) ...    after a step: what it read or wrote may have been zeros
 *     shmring_uncover(&block);               before shmring_unmap
 *
 * All of this is memory of the process, none of it of the block. A child of a fork has its own copy.
 */
#ifndef SHMRING_TRUNCATION_H
#define SHMRING_TRUNCATION_H

#include "internal/cover.h"

/* Announces a mapped block to the handler. 0 if the table is full: what found no room is as without the
 * handler. */
static inline int
shmring_cover(const shmring_block *block)
{
    const size_t bytes = shmring_first_bytes(block);
    const size_t rest = shmring_mapped_bytes(&block->geometry) - bytes;
    const int control = shmring_cover_range(block->control, block->geometry.slots_offset);
    const int first = shmring_cover_range(block->data, bytes);
    return shmring_cover_range(block->data + bytes, rest) && first && control;
}

/* Undoes shmring_cover. */
static inline void
shmring_uncover(const shmring_block *block)
{
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        /* [relaxed: only the handler changes the words of a block that is mapped] */
        const uint64_t word = shmring_load_relaxed(&shmring_covered[i]);
        /* [relaxed: the unmapping comes later] */
        if (word != 0 && shmring_covers(word, block))
            shmring_store_relaxed(&shmring_covered[i], UINT64_C(0));
    }
}

/* Whether pages of the block were found missing since it was mapped, by this thread's steps so far or by
 * another thread. */
static inline int
shmring_lost_pages(const shmring_block *block)
{
    shmring_compiler_barrier(); /* the handler runs inside the accesses before */
    /* [relaxed: set before the zeros could be seen] */
    if (shmring_load_relaxed(&shmring_any_lost) == 0)
        return 0;
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        const uint64_t word = shmring_load_relaxed(&shmring_covered[i]); /* [relaxed: as before] */
        if ((word & SHMRING_COVER_LOST) && shmring_covers(word, block))
            return 1;
    }
    return 0;
}

/* 1 if the handler is installed, now or before. 0 and errno if not; EBUSY: another one was installed over it,
 * and the two would pass signals to each other without end. */
static inline int
shmring_survive_truncation(void)
{
    struct sigaction ours, now;
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return 0;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == shmring_on_sigbus)
        return 1;
    if (shmring_sigbus_page != 0 && shmring_has_handler(&now)) {
        errno = EBUSY;
        return 0;
    }
    shmring_sigbus_before = now;
    shmring_sigbus_page = (uintptr_t)sysconf(_SC_PAGESIZE);
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = shmring_on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

#endif /* SHMRING_TRUNCATION_H */
