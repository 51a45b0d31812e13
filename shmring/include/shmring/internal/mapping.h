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

/* Maps the slots twice, back to back, so that a run across the wrap is one piece of memory; the spare slots
 * follow them in the file, and in the second mapping. */
static inline int
shmring_map_data(shmring_block *block, int fd, int writable)
{
    const shmring_geometry *g = &block->geometry;
    const size_t bytes = g->slots * g->slot_stride;
    const size_t all = shmring_mapped_bytes(g);
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *const place = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED)
        return SHMRING_SYSTEM;
    uint8_t *const first = (uint8_t *)place;
    if (mmap(first, bytes, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)g->slots_offset) == MAP_FAILED ||
        mmap(first + bytes, all - bytes, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)g->slots_offset) ==
            MAP_FAILED) {
        const int saved = errno;
        munmap(first, all);
        errno = saved;
        return SHMRING_SYSTEM;
    }
    block->data = first;
    return SHMRING_OK;
}

#endif /* SHMRING_INTERNAL_MAPPING_H */
