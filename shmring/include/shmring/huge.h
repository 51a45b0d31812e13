/* SPDX-License-Identifier: Apache-2.0
 *
 * Huge pages for the slots of a new block: fewer misses when addresses are translated, and fewer page
 * faults. Where the file has one, every mapping by shmring_map uses it.
 *
 * The kernel can put a page of 2 MiB (with small pages of 4 KiB) under any whole 2 MiB of a file
 * (MADV_COLLAPSE, Linux 6.1): that needs no privilege, no hugetlbfs and no setting. Where it cannot, the
 * block is as good as before.
 */
#ifndef SHMRING_HUGE_H
#define SHMRING_HUGE_H

#include "internal/mapping.h"

/* The bytes of the block's file that huge pages can hold: from *begin on, how many. Only whole ones of the
 * slots, and of the spare slots where these agree with the size of a huge page. */
static inline uint64_t
shmring_huge_span(const shmring_geometry *g, uint64_t *begin)
{
    const uint64_t huge = shmring_huge_page_bytes();
    const uint64_t slots = g->slots * g->slot_stride;
    const uint64_t all = slots % huge == 0 ? slots + g->spares * g->slot_stride : slots;
    const uint64_t end = (g->slots_offset + all) / huge * huge;
    *begin = shmring_round_up(g->slots_offset, huge);
    return *begin < end ? end - *begin : 0;
}

/* Puts huge pages under what it can of the bytes begin to end of the block's file, before or after they are
 * allocated. They take no memory that the block would not take. 0 and errno if not all are huge now: EINVAL,
 * the kernel has none or no MADV_COLLAPSE; ENOMEM, EBUSY or EAGAIN, no memory in one piece. */
static inline int
shmring_make_huge(int fd, const shmring_geometry *g, uint64_t begin, uint64_t end)
{
    const uint64_t huge = shmring_huge_page_bytes();
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t first;
    const uint64_t last = shmring_huge_span(g, &first) + first;
    begin = begin < first ? first : shmring_round_up(begin, huge);
    end = end < last ? end / huge * huge : last;
    if (begin >= end)
        return 1;
    void *const place = shmring_map_aligned(fd, begin, end - begin, PROT_READ, 0);
    if (place == MAP_FAILED)
        return 0;
    for (uint64_t at = begin; at < end; at += huge) /* a huge page grows around one that is there */
        (void)posix_fallocate(fd, (off_t)(at + huge - page), (off_t)page);
    int result = madvise(place, end - begin, MADV_COLLAPSE);
    for (int tries = 0; result != 0 && errno == EAGAIN && tries < 3; tries++)
        result = madvise(place, end - begin, MADV_COLLAPSE);
    const int saved = errno;
    munmap(place, end - begin);
    errno = saved;
    return result == 0;
}

/* How many bytes of the slots lie on huge pages, as this process can map them. fd is never locked. */
static inline uint64_t
shmring_huge_bytes(int fd, const shmring_geometry *g)
{
    uint64_t begin;
    const uint64_t bytes = shmring_huge_span(g, &begin);
    void *const place =
        bytes == 0 ? MAP_FAILED : shmring_map_aligned(fd, begin, bytes, PROT_READ, MAP_POPULATE);
    if (place == MAP_FAILED)
        return 0;
    const uint64_t found = shmring_huge_bytes_at(place);
    munmap(place, bytes);
    return found;
}

#endif /* SHMRING_HUGE_H */
