/* SPDX-License-Identifier: Apache-2.0
 *
 * From a file to a mapped block: what is checked, and how it is mapped.
 */
#ifndef SHMRING_INTERNAL_MAPPING_H
#define SHMRING_INTERNAL_MAPPING_H

#include "../types.h"
#include "atomic.h"
#include "geometry.h"

/* What the size of the block's file says before anything else is looked at. */
static inline int
shmring_check_file(int fd, struct stat *status)
{
    if (fstat(fd, status) != 0)
        return SHMRING_SYSTEM;
    if (!S_ISREG(status->st_mode))
        return SHMRING_FOREIGN;
    if (status->st_size == 0)
        return SHMRING_NOT_READY;
    return (uint64_t)status->st_size < sizeof(shmring_identity) ? SHMRING_FOREIGN : SHMRING_OK;
}

/* A file that is long enough but lacks pages counts as cut: a touch of one may end the process. */
static inline int
shmring_check_identity(const shmring_identity *identity, uint32_t ready, const struct stat *status)
{
    if (identity->magic != SHMRING_MAGIC)
        return SHMRING_FOREIGN;
    if (ready == 0)
        return SHMRING_NOT_READY;
    if (identity->abi != SHMRING_ABI)
        return SHMRING_OTHER_ABI;
    shmring_geometry expected = identity->geometry;
    if (shmring_compute_offsets(&expected) != SHMRING_OK ||
        memcmp(&expected, &identity->geometry, sizeof expected) != 0)
        return SHMRING_CORRUPT;
    if ((uint64_t)status->st_size < expected.block_bytes ||
        (uint64_t)status->st_blocks < expected.block_bytes / 512)
        return SHMRING_TRUNCATED;
    if (expected.page_bytes % (uint64_t)sysconf(_SC_PAGESIZE) != 0)
        return SHMRING_CORRUPT;
    return SHMRING_OK;
}

/* Copies and checks the identity of the block behind fd, on the way to mapping it. */
static inline int
shmring_read_identity(int fd, shmring_identity *identity)
{
    struct stat status;
    const int result = shmring_check_file(fd, &status);
    if (result != SHMRING_OK)
        return result;
    void *page = mmap(NULL, sizeof *identity, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return SHMRING_SYSTEM;
    const shmring_identity *shared = (const shmring_identity *)page;
    const uint32_t ready = shmring_load_acquire(&shared->ready); /* [acquire ready] */
    memcpy(identity, page, sizeof *identity);
    munmap(page, sizeof *identity);
    return shmring_check_identity(identity, ready, &status);
}

/* Bytes of a huge page: what one table of page entries maps. */
static inline size_t
shmring_huge_page_bytes(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return page / sizeof(uint64_t) * page;
}

/* Reserves addresses for that many bytes of the file from offset on. Where a huge page fits into them,
 * address and offset agree modulo its size: only then does the kernel map one. MAP_FAILED and errno if there
 * are none. */
static inline void *
shmring_reserve_addresses(uint64_t offset, size_t bytes)
{
    const size_t huge = shmring_huge_page_bytes();
    const size_t more = bytes < huge ? 0 : huge;
    void *const place =
        mmap(NULL, bytes + more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED || more == 0)
        return place;
    uint8_t *const begin = (uint8_t *)place;
    const size_t before = (size_t)(offset - (uintptr_t)place) % huge;
    if (before != 0)
        munmap(begin, before);
    munmap(begin + before + bytes, more - before);
    return begin + before;
}

/* Maps part of a file at such addresses. MAP_FAILED and errno if that fails. */
static inline void *
shmring_map_aligned(int fd, uint64_t offset, size_t bytes, int protection, int flags)
{
    void *const place = shmring_reserve_addresses(offset, bytes);
    if (place == MAP_FAILED)
        return MAP_FAILED;
    void *const found = mmap(place, bytes, protection, MAP_SHARED | MAP_FIXED | flags, fd, (off_t)offset);
    if (found == MAP_FAILED) {
        const int saved = errno;
        munmap(place, bytes);
        errno = saved;
    }
    return found;
}

/* Of the mapping that begins there, the bytes that are mapped as huge pages of shared memory (proc(5)). */
static inline uint64_t
shmring_huge_bytes_at(const void *place)
{
    char line[256];
    unsigned long long begin, end, kilobytes = 0;
    int here = 0;
    FILE *const file = fopen("/proc/self/smaps", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%llx-%llx ", &begin, &end) == 2)
            here = begin == (uintptr_t)place;
        else if (here && sscanf(line, "ShmemPmdMapped: %llu kB", &kilobytes) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    return kilobytes << 10;
}

/* Maps what lies at these offsets of the mapped slots, at addresses of its own. In memory the slots come
 * twice, back to back, so that a run across the wrap is one piece of memory; the spare slots follow them in
 * the file, and in the second mapping. sharing: MAP_SHARED or MAP_PRIVATE. MAP_FAILED and errno if that
 * fails. */
static inline void *
shmring_map_slots(const shmring_geometry *g, int fd, uint64_t offset, size_t bytes, int protection,
                  int sharing)
{
    const uint64_t first = g->slots * g->slot_stride;
    void *const place = shmring_reserve_addresses(g->slots_offset + offset, bytes);
    for (size_t done = 0; place != MAP_FAILED && done < bytes;) {
        const uint64_t at = offset + done;
        const size_t left = bytes - done;
        const size_t part = at < first && first - at < left ? (size_t)(first - at) : left;
        const uint64_t in_file = g->slots_offset + (at < first ? at : at - first);
        if (mmap((uint8_t *)place + done, part, protection, sharing | MAP_FIXED, fd, (off_t)in_file) ==
            MAP_FAILED) {
            const int saved = errno;
            munmap(place, bytes);
            errno = saved;
            return MAP_FAILED;
        }
        done += part;
    }
    return place;
}

static inline int
shmring_map_data(shmring_block *block, int fd, int writable)
{
    const shmring_geometry *g = &block->geometry;
    void *const place = shmring_map_slots(g, fd, 0, shmring_mapped_bytes(g),
                                          writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED);
    if (place == MAP_FAILED)
        return SHMRING_SYSTEM;
    block->data = (uint8_t *)place;
    return SHMRING_OK;
}

#endif /* SHMRING_INTERNAL_MAPPING_H */
