/* SPDX-License-Identifier: Apache-2.0
 *
 * The mappings that are covered, and the handler that puts zeros where one of them lost its pages. All of
 * this is memory of the process, none of it of the block.
 */
#ifndef SHMRING_INTERNAL_COVER_H
#define SHMRING_INTERNAL_COVER_H

#include "../types.h"
#include "atomic.h"
#include "geometry.h"

#include <signal.h>

/* One for all files that are linked into a program or library. */
#define SHMRING_LINKED_ONCE __attribute__((weak, visibility("hidden")))

#define SHMRING_MAX_COVERED 1536u /* three for a block; further ones are not covered */
#define SHMRING_COVER_LOST UINT64_C(1)

/* A covered mapping is one word, so that nobody can read half of one: its first page (of 4 KiB: every page
 * size is a multiple) in 36 bits, its pages in 27, and whether one of them was lost. 0: free. */
SHMRING_LINKED_ONCE uint64_t shmring_covered[SHMRING_MAX_COVERED];
SHMRING_LINKED_ONCE uint32_t shmring_any_lost; /* ever, in this process */
SHMRING_LINKED_ONCE struct sigaction shmring_sigbus_before;
SHMRING_LINKED_ONCE uintptr_t shmring_sigbus_page; /* bytes, for the handler; 0: not installed */

static inline uint64_t
shmring_covered_first(uint64_t word)
{
    return word >> 28;
}

static inline uint64_t
shmring_covered_pages(uint64_t word)
{
    return word >> 1 & ((UINT64_C(1) << 27) - 1);
}

static inline uint64_t
shmring_page_of(const void *address)
{
    return (uint64_t)(uintptr_t)address >> 12;
}

/* The slots are mapped twice, and each time is covered for itself: in a covered mapping, what follows a page
 * follows it in the file, too. Bytes of the first one. */
static inline size_t
shmring_first_bytes(const shmring_block *block)
{
    return block->geometry.slots * block->geometry.slot_stride;
}

static inline int
shmring_covers(uint64_t word, const shmring_block *block)
{
    const uint64_t first = shmring_covered_first(word);
    return first == shmring_page_of(block->control) || first == shmring_page_of(block->data) ||
           first == shmring_page_of(block->data + shmring_first_bytes(block));
}

static inline int
shmring_cover_range(const void *begin, size_t bytes)
{
    const uint64_t first = shmring_page_of(begin);
    const uint64_t pages = bytes >> 12;
    if (first >> 36 != 0 || pages >> 27 != 0)
        return 0;
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        uint64_t none = 0;
        /* [relaxed: a thread that touches the mapping got it from the one that announced it] */
        if (shmring_cas_relaxed(&shmring_covered[i], &none, first << 28 | pages << 1))
            return 1;
    }
    return 0;
}

/* The covered mapping that began at `from` begins at `to` now; NULL: it is gone. */
static inline void
shmring_cover_moved(const void *from, const void *to)
{
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        /* [relaxed: only the handler changes the words of a block that is mapped] */
        const uint64_t word = shmring_load_relaxed(&shmring_covered[i]);
        if (word == 0 || shmring_covered_first(word) != shmring_page_of(from))
            continue;
        const uint64_t rest = word & ((UINT64_C(1) << 28) - 1);
        /* [relaxed: a thread that touches the mapping got it from the one that moved it] */
        shmring_store_relaxed(&shmring_covered[i],
                              to == NULL ? UINT64_C(0) : shmring_page_of(to) << 28 | rest);
    }
}

/* ---- the handler: loads, stores and system calls only ---- */

static inline int
shmring_put_zeros(uintptr_t begin, uintptr_t end)
{
    return mmap((void *)begin, end - begin, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

/* 1 if the address lies in a covered mapping and can be read now. Where a file was cut, all that follows is
 * gone as well: one mapping of zeros for the rest, because the number of mappings of a process is limited
 * (vm.max_map_count). When it has them all, a whole mapping is replaced, which takes no further one. */
static inline int
shmring_replace_lost(uintptr_t at)
{
    const uint64_t page = (uint64_t)at >> 12;
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        /* [relaxed: a thread that has the mapping sees that it is covered] */
        const uint64_t word = shmring_load_relaxed(&shmring_covered[i]);
        if (page - shmring_covered_first(word) >= shmring_covered_pages(word))
            continue;
        /* [relaxed: the system call comes after, and nobody sees zeros before it] */
        shmring_fetch_or_relaxed(&shmring_covered[i], SHMRING_COVER_LOST);
        shmring_store_relaxed(&shmring_any_lost, 1u); /* [relaxed: the same] */
        const uintptr_t begin = (uintptr_t)(shmring_covered_first(word) << 12);
        const uintptr_t end = begin + (uintptr_t)(shmring_covered_pages(word) << 12);
        return shmring_put_zeros(at - at % shmring_sigbus_page, end) || shmring_put_zeros(begin, end);
    }
    return 0;
}

static inline int
shmring_has_handler(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) ||
           (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

SHMRING_LINKED_ONCE void
shmring_on_sigbus(int number, siginfo_t *info, void *context)
{
    const int saved = errno;
    const int sent = info->si_code <= 0; /* by kill or raise, not by an access */
    if (info->si_code == BUS_ADRERR && shmring_replace_lost((uintptr_t)info->si_addr)) {
        errno = saved;
        return;
    }
    if (shmring_sigbus_before.sa_flags & SA_SIGINFO) {
        shmring_sigbus_before.sa_sigaction(number, info, context);
    } else if (shmring_has_handler(&shmring_sigbus_before)) {
        shmring_sigbus_before.sa_handler(number);
    } else if (!sent || shmring_sigbus_before.sa_handler == SIG_DFL) {
        sigaction(number, &shmring_sigbus_before, NULL); /* the access happens again, and kills this time */
        if (sent)
            raise(number); /* this one would not */
    }
    errno = saved;
}

#endif /* SHMRING_INTERNAL_COVER_H */
