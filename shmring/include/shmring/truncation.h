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

/* Announces a mapped block to the handlers, also to that of writes.h. The structure may not move. 0 if the
 * table is full: what found no room is as without the handlers. */
static inline int
shmring_cover(shmring_block *block)
{
    const int control = shmring_cover_range(block, block->control, block->geometry.slots_offset);
    return shmring_cover_slots(block, block->data, 0, shmring_mapped_bytes(&block->geometry)) && control;
}

/* Undoes shmring_cover. */
static inline void
shmring_uncover(const shmring_block *block)
{
    shmring_cover_moved(block->control, block->geometry.slots_offset, NULL);
    shmring_cover_moved(block->data, shmring_mapped_bytes(&block->geometry), NULL);
}

/* Whether pages of the block were found missing since it was mapped, by this thread's steps so far or by
 * another thread. */
static inline int
shmring_lost_pages(const shmring_block *block)
{
    shmring_compiler_barrier(); /* the handler runs inside the accesses before */
    /* [relaxed: set before the zeros could be seen] */
    return shmring_load_relaxed(&block->lost) != 0;
}

/* 1 if the handler is installed, now or before. 0 and errno if not; EBUSY: another one was installed over it,
 * and the two would pass signals to each other without end. */
static inline int
shmring_survive_truncation(void)
{
    const int was_installed = shmring_sigbus_page != 0;
    shmring_sigbus_page = (uintptr_t)sysconf(_SC_PAGESIZE);
    return shmring_install_handler(SIGBUS, shmring_on_sigbus, &shmring_sigbus_before, was_installed);
}

#endif /* SHMRING_TRUNCATION_H */
