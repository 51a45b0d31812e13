/* SPDX-License-Identifier: Apache-2.0
 *
 * Writable memory of held frames: a consumer maps the pages of their slots once more, and the kernel copies a
 * page when it is first written to (copy on write). Nobody else sees what is written. Not part of shmring.h:
 * include it where you want it.
 *
 *     shmring_take_one(&consumer, &taken);
 *     fd = shmring_reopen(lock_fd, 0);
 *     shmring_map_private(&memory, &block, fd, taken.hold->slot, nbytes);
 *     close(fd);
 *     ... memory.data
 *     shmring_unmap_private(&memory);
 *     shmring_release(&consumer, taken.hold);    not before: pages that nobody wrote to show the slot
 */
#ifndef SHMRING_PRIVATE_H
#define SHMRING_PRIVATE_H

#include "internal/cover.h"
#include "internal/mapping.h"

/* To read: data. */
typedef struct shmring_private {
    uint8_t *data;  /* the first frame; NULL: nothing is mapped */
    uint8_t *place; /* the pages */
    size_t bytes;
} shmring_private;

/* Maps bytes of held slots, which lie side by side from `slot` on, also across the wrap. fd: the block's
 * file, open for reading; never the lock_fd, whose locks would live as long as the mapping. It may be closed
 * afterwards. SHMRING_SYSTEM and errno if the kernel refuses. */
static inline int
shmring_map_private(shmring_private *memory, shmring_block *block, int fd, uint64_t slot, size_t bytes)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t offset = shmring_mapped_offset(&block->geometry, slot);
    const uint64_t before = offset % page;
    const size_t whole = (size_t)shmring_round_up(before + bytes, page);
    void *const place =
        shmring_map_slots(&block->geometry, fd, offset - before, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (place == MAP_FAILED)
        return SHMRING_SYSTEM;
    memory->place = (uint8_t *)place;
    memory->data = memory->place + before;
    memory->bytes = whole;
    (void)shmring_cover_slots(block, memory->place, offset - before, whole);
    return SHMRING_OK;
}

/* Undoes shmring_map_private. */
static inline void
shmring_unmap_private(shmring_private *memory)
{
    shmring_cover_moved(memory->place, memory->bytes, NULL);
    munmap(memory->place, memory->bytes);
    memory->data = NULL;
}

/* Copies every page that was not copied yet: from now on the memory has nothing to do with the slots. */
static inline void
shmring_copy_private(shmring_private *memory)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < memory->bytes; at += page) {
        uint8_t byte = shmring_load_relaxed(memory->place + at); /* [relaxed: no other memory is involved] */
        /* [relaxed: the same]; an exchange, since clang makes a read of what adds nothing */
        (void)shmring_cas_relaxed(memory->place + at, &byte, byte);
    }
}

#endif /* SHMRING_PRIVATE_H */
