/* SPDX-License-Identifier: Apache-2.0
 *
 * What shmring needs of the operating system: clocks, futex, locks of the kernel, mappings.
 * Linux only; another system would be another version of this file.
 */
#ifndef SHMRING_OS_H
#define SHMRING_OS_H

#if !defined(__linux__)
#error "shmring runs on Linux only so far"
#endif

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* F_OFD_SETLK, MAP_ANONYMOUS, syscall; include shmring before other headers */
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "atomic.h"
#include "layout.h"

#define SHMRING_FOR_EVER INT64_MAX
#define SHMRING_SECOND INT64_C(1000000000)

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static inline int64_t
shmring_clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * SHMRING_SECOND + (int64_t)now.tv_nsec;
}

static inline int64_t
shmring_now_ns(void)
{
    return shmring_clock_ns(CLOCK_MONOTONIC);
}

/* A few milliseconds coarse, a few nanoseconds cheap. */
static inline int64_t
shmring_coarse_now_ns(void)
{
    return shmring_clock_ns(CLOCK_MONOTONIC_COARSE);
}

/* Sleeps while *word == value, until the deadline (CLOCK_MONOTONIC). May wake for no reason. */
static inline void
shmring_futex_wait(const uint32_t *word, uint32_t value, int64_t deadline_ns)
{
    struct timespec until;
    until.tv_sec = (time_t)(deadline_ns / SHMRING_SECOND);
    until.tv_nsec = (long)(deadline_ns % SHMRING_SECOND);
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, deadline_ns == SHMRING_FOR_EVER ? NULL : &until, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

static inline void
shmring_futex_wake_all(const uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

#define SHMRING_MAX_WATCHED 128u /* FUTEX_WAITV_MAX */

/* Sleeps while every *words[i] == values[i], until the deadline. May wake for no reason. Kernels before
 * 5.16 cannot wait for several words: there it looks every millisecond. */
static inline void
shmring_futex_wait_any(uint32_t *const *words, const uint32_t *values, unsigned count, int64_t deadline_ns)
{
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } list[SHMRING_MAX_WATCHED];
    struct timespec until;
    until.tv_sec = (time_t)(deadline_ns / SHMRING_SECOND);
    until.tv_nsec = (long)(deadline_ns % SHMRING_SECOND);
    for (unsigned i = 0; i < count; i++) {
        list[i].value = values[i];
        list[i].address = (uint64_t)(uintptr_t)words[i];
        list[i].flags = 2; /* FUTEX2_SIZE_U32, shared between processes */
        list[i].reserved = 0;
    }
    const long number = 449; /* futex_waitv, the same on every architecture */
    if (syscall(number, list, count, 0, &until, CLOCK_MONOTONIC) == -1 && errno == ENOSYS) {
        const int64_t soon = shmring_now_ns() + SHMRING_SECOND / 1000;
        shmring_futex_wait(words[0], values[0], soon < deadline_ns ? soon : deadline_ns);
    }
}

/* ---- locks: one byte of the block's file each, owned by an open file description ---- */

/* A new description of the same file, never mapped: a mapping would keep its locks alive. */
static inline int
shmring_reopen(int fd, int writable)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

static inline struct flock
shmring_lock_request(int64_t byte, int64_t length, int type)
{
    struct flock request;
    memset(&request, 0, sizeof request);
    request.l_type = (short)type;
    request.l_whence = SEEK_SET;
    request.l_start = (off_t)byte;
    request.l_len = (off_t)length;
    return request;
}

/* type: F_WRLCK or F_UNLCK. 1 if done, 0 if somebody else has a lock there or on an error. */
static inline int
shmring_lock_span(int fd, int64_t byte, int64_t length, int type)
{
    struct flock request = shmring_lock_request(byte, length, type);
    return fcntl(fd, F_OFD_SETLK, &request) == 0;
}

/* 1 if another description holds a byte of the span. Only exclusive locks count, for which the file must be
 * open for writing: a shared one, which whoever may read the file can take, says nothing about who lives.
 * An error counts as held: never evict on doubt. */
static inline int
shmring_span_held(int fd, int64_t byte, int64_t length)
{
    struct flock request = shmring_lock_request(byte, length, F_RDLCK);
    if (fcntl(fd, F_OFD_GETLK, &request) != 0)
        return 1;
    return request.l_type != F_UNLCK;
}

/* 1 if what keeps this description from locking the byte is a shared lock: of somebody who need not be able
 * to write to the file, and no sign of life. */
static inline int
shmring_lock_blocked(int fd, int64_t byte)
{
    struct flock request = shmring_lock_request(byte, 1, F_WRLCK);
    return fcntl(fd, F_OFD_GETLK, &request) == 0 && request.l_type == F_RDLCK;
}

static inline int
shmring_lock(int fd, int64_t byte, int type)
{
    return shmring_lock_span(fd, byte, 1, type);
}

static inline int
shmring_lock_held(int fd, int64_t byte)
{
    return shmring_span_held(fd, byte, 1);
}

/* Start time of this process in clock ticks since boot (proc(5), field 22); 0 if unknown. */
static inline uint64_t
shmring_own_start_time(void)
{
    char text[1024];
    const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *at = strrchr(text, ')'); /* the command may hold spaces */
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : (uint64_t)strtoull(at + 1, NULL, 10);
}

/* ---- the mapped block ---- */

/* A process's view of a block: its own copy of the geometry and its mappings. */
typedef struct shmring_block {
    shmring_geometry geometry;
    uint8_t generation[16];
    uint64_t created_ns;
    uint8_t *control; /* identity to entries */
    uint8_t *data;    /* the slots, mapped twice back to back; NULL if not mapped */
    shmring_hot *hot;
    shmring_place *table;
    uint8_t *entries;
} shmring_block;

/* What a handle may write. */
enum {
    SHMRING_OBSERVE = 0, /* nothing */
    SHMRING_CONSUME = 1, /* all but the slots */
    SHMRING_PRODUCE = 2  /* everything */
};

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
    if (shmring_geometry_place(&expected) != SHMRING_OK ||
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
    const uint32_t ready = shmring_load_acquire(&shared->ready); /* [A9 <- R9] */
    memcpy(identity, page, sizeof *identity);
    munmap(page, sizeof *identity);
    return shmring_check_identity(identity, ready, &status);
}

static inline void
shmring_unmap(shmring_block *block)
{
    const shmring_geometry *g = &block->geometry;
    if (block->control != NULL)
        munmap(block->control, g->slots_offset);
    if (block->data != NULL)
        munmap(block->data, 2 * g->slots * g->slot_stride);
    block->control = NULL;
    block->data = NULL;
}

/* Maps the slots twice, back to back, so that a run across the wrap is one piece of memory. */
static inline int
shmring_map_data(shmring_block *block, int fd, int writable)
{
    const shmring_geometry *g = &block->geometry;
    const size_t bytes = g->slots * g->slot_stride;
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *const place = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED)
        return SHMRING_SYSTEM;
    uint8_t *const first = (uint8_t *)place;
    if (mmap(first, bytes, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)g->slots_offset) == MAP_FAILED ||
        mmap(first + bytes, bytes, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)g->slots_offset) ==
            MAP_FAILED) {
        const int saved = errno;
        munmap(first, 2 * bytes);
        errno = saved;
        return SHMRING_SYSTEM;
    }
    block->data = first;
    return SHMRING_OK;
}

/* Maps the block behind fd after checking it. fd may be closed afterwards. */
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
    block->entries = block->control + g->entries_offset;
    result = shmring_map_data(block, fd, access == SHMRING_PRODUCE);
    if (result != SHMRING_OK) {
        const int saved = errno;
        shmring_unmap(block);
        errno = saved;
    }
    return result;
}

/* Touches every page of the slots before the first frame does. huge_pages and lock are requests to the
 * kernel; 0 if one was refused (errno says why). */
static inline int
shmring_prefault(const shmring_block *block, int writable, int huge_pages, int lock)
{
    const size_t bytes = 2 * block->geometry.slots * block->geometry.slot_stride;
    if (huge_pages && madvise(block->data, bytes, MADV_HUGEPAGE) != 0)
        return 0;
    madvise(block->data, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ); /* Linux 5.14 */
    return !lock ||
           (mlock(block->data, bytes) == 0 && mlock(block->control, block->geometry.slots_offset) == 0);
}

/* Writes a fresh, empty ring into the block behind fd, which is at least geometry->block_bytes
 * long and belongs to nobody yet. Nobody can attach before this is done. */
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
    for (uint64_t index = 0; index < geometry->slots; index++) {
        uint8_t *const at = bytes + geometry->entries_offset + index * geometry->entry_stride;
        ((shmring_entry *)(void *)at)->slot = (uint32_t)index;
    }
    shmring_store_release(&identity->ready, 1u); /* [R9 -> A9] */
    munmap(control, geometry->slots_offset);
    return SHMRING_OK;
}

/* Opens the block of that name (as SharedMemory names it, without the slash). -1 and errno. */
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

/* Gives the nameless file behind fd (O_TMPFILE) its name, if that is free. -1 and errno. */
static inline int
shmring_link(int fd, const char *path)
{
    char source[40];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

/* ---- indices into the block, reduced by the copied geometry ---- */

static inline shmring_entry *
shmring_entry_at(const shmring_block *block, uint64_t index)
{
    return (shmring_entry *)(void *)(block->entries + index * block->geometry.entry_stride);
}

static inline uint8_t *
shmring_slot_at(const shmring_block *block, uint64_t slot)
{
    return block->data + slot * block->geometry.slot_stride;
}

/* For loops over entries that another core wrote last: so many entries ahead, and no further than the
 * loop goes, their lines are asked for. */
#define SHMRING_PREFETCH_AHEAD 16u

static inline const void *
shmring_entry_ahead(const shmring_block *block, uint64_t index)
{
    const uint64_t ahead = index + SHMRING_PREFETCH_AHEAD;
    return block->entries + (ahead < block->geometry.slots ? ahead : index) * block->geometry.entry_stride;
}

static inline uint8_t *
shmring_meta_at(shmring_entry *entry)
{
    return (uint8_t *)(entry + 1);
}

static inline uint64_t
shmring_next_index(const shmring_block *block, uint64_t index)
{
    return index + 1 == block->geometry.slots ? 0 : index + 1;
}

#endif /* SHMRING_OS_H */
