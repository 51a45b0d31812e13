/* SPDX-License-Identifier: Apache-2.0
 *
 * What the protocol needs of the operating system: futexes, locks, the start time of a process. With clock.h
 * and platform.h, this is what another system would have another version of.
 */
#ifndef SHMRING_INTERNAL_OS_H
#define SHMRING_INTERNAL_OS_H

#include "platform.h"

#include "../clock.h"

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
 * 5.16 cannot wait for several words: there it returns every millisecond. */
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
    if (syscall(number, list, count, 0, &until, CLOCK_MONOTONIC) == -1 &&
        (errno == ENOSYS || errno == EPERM)) { /* the kernel, or a filter, has no such call */
        const int64_t soon = shmring_now_ns() + SHMRING_SECOND / 1000;
        shmring_futex_wait(words[0], values[0], soon < deadline_ns ? soon : deadline_ns);
    }
}

/* ---- locks: one byte of the block's file each, owned by an open file description ---- */

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

/* type: F_WRLCK or F_UNLCK. 1 if done, 0 if another one has a lock there or on an error. */
static inline int
shmring_set_span_lock(int fd, int64_t byte, int64_t length, int type)
{
    struct flock request = shmring_lock_request(byte, length, type);
    return fcntl(fd, F_OFD_SETLK, &request) == 0;
}

/* 1 if another description holds a byte of the span. Only exclusive locks count, for which the file must be
 * open for writing: a shared one, which permission to read is enough for, says nothing about who is alive.
 * An error counts as held: never evict on doubt. */
static inline int
shmring_span_held(int fd, int64_t byte, int64_t length)
{
    struct flock request = shmring_lock_request(byte, length, F_RDLCK);
    if (fcntl(fd, F_OFD_GETLK, &request) != 0)
        return 1;
    return request.l_type != F_UNLCK;
}

/* 1 if what keeps this description from locking the byte is a shared lock, which is no sign of life. */
static inline int
shmring_lock_blocked(int fd, int64_t byte)
{
    struct flock request = shmring_lock_request(byte, 1, F_WRLCK);
    return fcntl(fd, F_OFD_GETLK, &request) == 0 && request.l_type == F_RDLCK;
}

static inline int
shmring_set_lock(int fd, int64_t byte, int type)
{
    return shmring_set_span_lock(fd, byte, 1, type);
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

#endif /* SHMRING_INTERNAL_OS_H */
