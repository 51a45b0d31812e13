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

/* Three for a block, one or two for a private mapping; further ones are not covered. */
#define SHMRING_MAX_COVERED 1536u

/* A covered mapping is one word, so that nobody can read half of one: its first page (of 4 KiB: every page
 * size is a multiple) in 36 bits, and its pages in 28. 0: free. */
SHMRING_LINKED_ONCE uint64_t shmring_covered[SHMRING_MAX_COVERED];
SHMRING_LINKED_ONCE shmring_block *shmring_covered_of[SHMRING_MAX_COVERED]; /* what each is mapped from */
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
    return word & ((UINT64_C(1) << 28) - 1);
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
shmring_cover_range(shmring_block *block, const void *begin, size_t bytes)
{
    const uint64_t first = shmring_page_of(begin);
    const uint64_t pages = bytes >> 12;
    if (first >> 36 != 0 || pages >> 28 != 0)
        return 0;
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        uint64_t none = shmring_load_relaxed(&shmring_covered[i]); /* [relaxed: a first look] */
        /* [relaxed: a thread that touches the mapping got it from the one that announced it] */
        if (none == 0 && shmring_cas_relaxed(&shmring_covered[i], &none, first << 28 | pages)) {
            shmring_store_relaxed(&shmring_covered_of[i], block); /* [relaxed: the same] */
            return 1;
        }
    }
    return 0;
}

/* The slots from this offset on, mapped at `begin`: before the wrap and behind it. */
static inline int
shmring_cover_slots(shmring_block *block, const uint8_t *begin, uint64_t offset, size_t bytes)
{
    const uint64_t first = shmring_first_bytes(block);
    const size_t before = offset >= first ? 0 : first - offset < bytes ? (size_t)(first - offset) : bytes;
    return (before == 0 || shmring_cover_range(block, begin, before)) &&
           (before == bytes || shmring_cover_range(block, begin + before, bytes - before));
}

/* The covered mappings that begin in these bytes begin as far behind `to` now; NULL: they are gone. */
static inline void
shmring_cover_moved(const void *from, size_t bytes, const void *to)
{
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        /* [relaxed: only the thread that maps and unmaps it changes its word] */
        const uint64_t word = shmring_load_relaxed(&shmring_covered[i]);
        const uint64_t behind = shmring_covered_first(word) - shmring_page_of(from);
        if (word == 0 || behind >= bytes >> 12)
            continue;
        /* [relaxed: a thread that touches the mapping got it from the one that moved it] */
        shmring_store_relaxed(&shmring_covered[i], to == NULL ? UINT64_C(0)
                                                              : (shmring_page_of(to) + behind) << 28 |
                                                                    shmring_covered_pages(word));
    }
}

/* The covered mapping in which an address lies, which is mapped; SHMRING_MAX_COVERED if there is none. */
static inline unsigned
shmring_find_covered(uintptr_t at)
{
    const uint64_t page = (uint64_t)at >> 12;
    for (unsigned i = 0; i < SHMRING_MAX_COVERED; i++) {
        /* [relaxed: a thread that has the mapping sees that it is covered] */
        const uint64_t word = shmring_load_relaxed(&shmring_covered[i]);
        if (page - shmring_covered_first(word) < shmring_covered_pages(word))
            return i;
    }
    return SHMRING_MAX_COVERED;
}

/* ---- handlers: loads, stores and system calls only ---- */

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
    const unsigned i = shmring_find_covered(at);
    if (i == SHMRING_MAX_COVERED)
        return 0;
    const uint64_t word = shmring_load_relaxed(&shmring_covered[i]); /* [relaxed: as before] */
    const uintptr_t begin = (uintptr_t)(shmring_covered_first(word) << 12);
    const uintptr_t end = begin + (uintptr_t)(shmring_covered_pages(word) << 12);
    shmring_block *const block = shmring_load_relaxed(&shmring_covered_of[i]); /* [relaxed: as before] */
    /* [relaxed: the system call comes after, and nobody sees zeros before it] */
    shmring_store_relaxed(&block->lost, 1u);
    return shmring_put_zeros(at - at % shmring_sigbus_page, end) || shmring_put_zeros(begin, end);
}

static inline int
shmring_has_handler(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) ||
           (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

/* Sent by kill or raise, not by an access. */
static inline int
shmring_was_sent(const siginfo_t *info)
{
    return info->si_code <= 0;
}

/* Gives the signal back to what had it before. An access happens again after that; a signal that was sent
 * would not. */
static inline void
shmring_give_back_signal(const struct sigaction *before, int number, const siginfo_t *info)
{
    sigaction(number, before, NULL);
    if (shmring_was_sent(info))
        raise(number);
}

/* Leaves a signal to the handler that was there before, or to the kernel. */
static inline void
shmring_pass_on(const struct sigaction *before, int number, siginfo_t *info, void *context)
{
    if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(number, info, context);
    else if (shmring_has_handler(before))
        before->sa_handler(number);
    else if (!shmring_was_sent(info) || before->sa_handler == SIG_DFL)
        shmring_give_back_signal(before, number, info); /* and it kills this time */
}

SHMRING_LINKED_ONCE void
shmring_on_sigbus(int number, siginfo_t *info, void *context)
{
    const int saved = errno;
    if (info->si_code != BUS_ADRERR || !shmring_replace_lost((uintptr_t)info->si_addr))
        shmring_pass_on(&shmring_sigbus_before, number, info, context);
    errno = saved;
}

/* Installs a handler. 1 if it is there now, or was before. 0 and errno if not; EBUSY: there was another one,
 * with *before set, and a second one was installed over it: the two would pass signals on without end. */
static inline int
shmring_install_handler(int number, void (*handler)(int, siginfo_t *, void *), struct sigaction *before,
                        int was_installed)
{
    struct sigaction ours, now;
    if (sigaction(number, NULL, &now) != 0)
        return 0;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handler)
        return 1;
    if (was_installed && shmring_has_handler(&now)) {
        errno = EBUSY;
        return 0;
    }
    *before = now;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = handler;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (now.sa_flags & (SA_NODEFER | SA_RESTART));
    ours.sa_mask = now.sa_mask; /* it may call that handler, which expects its own */
    return sigaction(number, &ours, NULL) == 0;
}

#endif /* SHMRING_INTERNAL_COVER_H */
