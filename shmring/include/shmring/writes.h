/* SPDX-License-Identifier: Apache-2.0
 *
 * A word before a process dies of a write to a frame. A consumer maps the slots for reading only, so that a
 * write there ends its process by SIGSEGV. The handler here writes a line about it to stderr, and gives the
 * signal back to what had it before: the write happens again, and the process ends as it would have. Any
 * other SIGSEGV goes to the handler that had the signal before. Not part of shmring.h: include it where you
 * want it.
 *
 *     shmring_explain_writes();    once
 *     block.name = "camera";       after shmring_map, for as long as the block is covered
 *     shmring_cover(&block);       the same table as for truncation.h
 */
#ifndef SHMRING_WRITES_H
#define SHMRING_WRITES_H

#include "internal/explain.h"

/* 1 if the handler is installed, now or before. 0 and errno if not; EBUSY: another one was installed over it,
 * and passes signals on to it, or does not. */
static inline int
shmring_explain_writes(void)
{
    const int was_installed = shmring_sigsegv_installed;
    shmring_sigsegv_installed = 1;
    return shmring_install_handler(SIGSEGV, shmring_on_sigsegv, &shmring_sigsegv_before, was_installed);
}

#endif /* SHMRING_WRITES_H */
