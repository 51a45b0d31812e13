/* SPDX-License-Identifier: Apache-2.0
 *
 * The block: choosing its geometry, writing a fresh ring into it, opening and mapping it. Nothing here waits.
 */
#ifndef SHMRING_BLOCK_H
#define SHMRING_BLOCK_H

#include "clock.h"
#include "internal/atomic.h"
#include "internal/geometry.h"
#include "internal/mapping.h"

/* Completes a geometry of which slots, spares, frame_bytes, meta_bytes, row_bytes, consumers, page_bytes
 * and schema_bytes are set. Chooses slot_stride and rounds slots up so that the data region is whole pages:
 * gapless slots if that costs little, else the padding that makes the smallest block. If spare slots are
 * asked for, they fill their last page. SHMRING_TOO_LARGE if
 * there is no such block. */
static inline int
shmring_geometry_choose(shmring_geometry *g)
{
    const uint64_t asked = g->slots;
    const uint64_t little = UINT64_C(1) << 20;
    uint64_t best = 0;
    if (asked < 2 || asked > SHMRING_MAX_SLOTS || g->frame_bytes < 1 || g->frame_bytes > SHMRING_MAX_BLOCK ||
        g->page_bytes < 4096 || g->page_bytes > SHMRING_MAX_SCHEMA)
        return SHMRING_TOO_LARGE;
    for (uint64_t unit = SHMRING_ALIGN; unit <= g->page_bytes; unit *= 2) {
        const uint64_t stride = shmring_round_up(g->frame_bytes, unit);
        const uint64_t power = stride & (~stride + 1); /* largest power of two in the stride */
        const uint64_t step = power < g->page_bytes ? g->page_bytes / power : 1;
        const uint64_t slots = shmring_round_up(asked, step);
        if (slots > SHMRING_MAX_BLOCK / stride)
            continue;
        const uint64_t bytes = slots * (stride + sizeof(shmring_entry));
        if (best != 0 && bytes >= best)
            continue;
        best = bytes;
        g->slots = slots;
        g->slot_stride = stride;
        if (stride == g->frame_bytes && bytes <= little)
            break;
    }
    if (best == 0 || g->spares > SHMRING_MAX_BLOCK / g->slot_stride)
        return SHMRING_TOO_LARGE;
    g->spares = shmring_round_up(g->spares * g->slot_stride, g->page_bytes) / g->slot_stride;
    return shmring_compute_offsets(g);
}

/* Writes a fresh, empty ring into the block behind fd, which is at least geometry->block_bytes long and
 * belongs to nobody yet. Nobody can attach before this is done. schema (schema_bytes bytes) may be NULL:
 * zeros. SHMRING_SYSTEM and errno if the block cannot be mapped. */
static inline int
shmring_format(int fd, const shmring_geometry *geometry, const uint8_t generation[16], const void *schema)
{
    void *const control = mmap(NULL, geometry->slots_offset, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        return SHMRING_SYSTEM;
    uint8_t *const bytes = (uint8_t *)control;
    shmring_identity *const identity = (shmring_identity *)control;
    shmring_store_relaxed(&identity->ready, 0u); /* [relaxed: a block being formatted has no readers] */
    memset(bytes, 0, geometry->slots_offset);
    identity->magic = SHMRING_MAGIC;
    identity->abi = SHMRING_ABI;
    memcpy(identity->generation, generation, 16);
    identity->created_ns = (uint64_t)shmring_clock_ns(CLOCK_REALTIME);
    identity->creator_pid = (uint32_t)getpid();
    identity->geometry = *geometry;
    if (schema != NULL)
        memcpy(bytes + geometry->schema_offset, schema, geometry->schema_bytes);
    for (uint64_t index = 0; index < shmring_all_slots(geometry); index++) {
        uint8_t *const at = bytes + geometry->entries_offset + index * geometry->entry_stride;
        shmring_entry *const entry = (shmring_entry *)(void *)at;
        entry->slot = (uint32_t)index;
        entry->position = SHMRING_NO_POSITION;
    }
    shmring_store_release(&identity->ready, 1u); /* [release ready] */
    munmap(control, geometry->slots_offset);
    return SHMRING_OK;
}

/* Gives the nameless file behind fd (O_TMPFILE) its name, if that is free. 0; -1 and errno if not. */
static inline int
shmring_link(int fd, const char *path)
{
    char source[40];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

/* Opens the block of that name (as SharedMemory names it, without the slash) for one of SHMRING_OBSERVE,
 * SHMRING_CONSUME and SHMRING_PRODUCE. A file descriptor; -1 and errno if there is none. */
static inline int
shmring_open(const char *name, int access)
{
    char path[NAME_MAX + 2];
    if (strchr(name, '/') != NULL || (size_t)snprintf(path, sizeof path, "/%s", name) >= sizeof path) {
        errno = EINVAL;
        return -1;
    }
    /* O_NONBLOCK means nothing to a block, and keeps a FIFO of that name from making us wait */
    return shm_open(path, (access == SHMRING_OBSERVE ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK, 0);
}

/* A new description of the same file, for the lock of a producer or a consumer. Never map it: a mapping
 * would keep its locks alive. -1 and errno if there is none. */
static inline int
shmring_reopen(int fd, int writable)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

/* Undoes shmring_map. Nothing may use the block any more. */
static inline void
shmring_unmap(shmring_block *block)
{
    const shmring_geometry *g = &block->geometry;
    if (block->control != NULL)
        munmap(block->control, g->slots_offset);
    if (block->data != NULL)
        munmap(block->data, shmring_mapped_bytes(g));
    block->control = NULL;
    block->data = NULL;
}

/* Maps the block behind fd after checking it, for one of SHMRING_OBSERVE, SHMRING_CONSUME (the slots for
 * reading only) and SHMRING_PRODUCE. fd may be closed afterwards. SHMRING_OK, or what is wrong:
 * SHMRING_FOREIGN, SHMRING_NOT_READY, SHMRING_OTHER_ABI, SHMRING_TRUNCATED, SHMRING_CORRUPT or
 * SHMRING_SYSTEM. */
static inline int
shmring_map(shmring_block *block, int fd, int access)
{
    shmring_identity identity;
    memset(block, 0, sizeof *block);
    int result = shmring_read_identity(fd, &identity);
    if (result != SHMRING_OK)
        return result;
    block->geometry = identity.geometry;
    block->created_ns = identity.created_ns;
    memcpy(block->generation, identity.generation, sizeof block->generation);
    const shmring_geometry *g = &block->geometry;
    void *const control =
        mmap(NULL, g->slots_offset, access == SHMRING_OBSERVE ? PROT_READ : PROT_READ | PROT_WRITE,
             MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        return SHMRING_SYSTEM;
    block->control = (uint8_t *)control;
    block->hot = (shmring_hot *)(void *)(block->control + g->hot_offset);
    block->table = (shmring_place *)(void *)(block->control + g->table_offset);
    block->groups = (shmring_group *)(void *)(block->control + g->groups_offset);
    block->entries = block->control + g->entries_offset;
    block->owners = (uint64_t *)(void *)(block->control + g->owners_offset);
    result = shmring_map_data(block, fd, access == SHMRING_PRODUCE);
    if (result != SHMRING_OK) {
        const int saved = errno;
        shmring_unmap(block);
        errno = saved;
    }
    return result;
}

/* Touches every page of the slots before the first frame does. lock: keeps them in memory; 0 if the kernel
 * refused that (errno says why). */
static inline int
shmring_prefault(const shmring_block *block, int writable, int lock)
{
    const size_t bytes = shmring_mapped_bytes(&block->geometry);
    madvise(block->data, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ); /* Linux 5.14 */
    return !lock ||
           (mlock(block->data, bytes) == 0 && mlock(block->control, block->geometry.slots_offset) == 0);
}

/* The memory of a slot: frame_bytes bytes, and padding up to slot_stride. The slots are mapped twice, back
 * to back, so that frames of one hold lie side by side even across the end; the spare slots lie behind. */
static inline uint8_t *
shmring_slot_at(const shmring_block *block, uint64_t slot)
{
    return block->data + shmring_mapped_offset(&block->geometry, slot);
}

#endif /* SHMRING_BLOCK_H */
