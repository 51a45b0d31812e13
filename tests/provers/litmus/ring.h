/* SPDX-License-Identifier: Apache-2.0
 *
 * A tiny ring inside the explorer's memory, from our own headers: what the system does is done by doubles.
 */
#ifndef LITMUS_RING_H
#define LITMUS_RING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "explore.h"

/* ---- doubles ---- */

void *litmus_copy(void *to, const void *from, size_t bytes);
void *litmus_zeros(size_t bytes);
int litmus_lock(int fd, int64_t byte, int type);
int litmus_lock_held(int fd, int64_t byte);

#define SHMRING_ATOMIC_SPELLING "litmus_atomic.h"
#define memcpy(to, from, bytes) litmus_copy((to), (from), (bytes))
#define mmap(...) ((void *)litmus_memory)
#define munmap(...) litmus_unmap()
#define fstat(fd, status) \
    ((status)->st_mode = S_IFREG, (status)->st_size = LITMUS_MEMORY, \
     (status)->st_blocks = LITMUS_MEMORY / 512, 0)
#define calloc(count, bytes) litmus_zeros((count) * (bytes))
#define malloc(bytes) litmus_zeros(bytes)
#define free(thing) ((void)(thing)) /* the world is thrown away as a whole */
#define sched_yield() litmus_yield()
int litmus_unmap(void);
#include <shmring/internal/os.h>
#define shmring_set_lock litmus_lock
#define shmring_lock_held litmus_lock_held
#define shmring_futex_wait(word, value, deadline) litmus_futex_wait((word), (value))
#define shmring_futex_wake_all(word) litmus_futex_wake_all(word)
#define shmring_own_start_time() UINT64_C(1)
#include <shmring/internal/copy.h>
#define shmring_cache_bytes() UINT64_C(0) /* every ring exceeds it; a test says if it reuses warm slots */
#include <shmring/shmring.h>
#undef mmap
#undef munmap
#undef fstat

/* ---- the world ---- */

enum { MOST_CONSUMERS = 3, MOST_SLOTS = 3, FRAME_BYTES = 16, META_BYTES = 8 };

typedef struct taken_frames {
    shmring_taken taken;
    uint64_t seqs[MOST_SLOTS];
    uint8_t metas[MOST_SLOTS * META_BYTES];
} taken_frames;

typedef struct world_t {
    shmring_block block;
    shmring_producer p;
    shmring_consumer c[MOST_CONSUMERS];
    shmring_hold *hold[MOST_CONSUMERS][2];
    uint64_t seen; /* what a thread leaves for `after` */
    size_t arena_used;
    _Alignas(16) uint8_t arena[4096];
} world_t;

extern world_t world;

/* Descriptions of the block's file: the producer's, then each consumer's, then others'. */
enum { PRODUCER_FD = 10, CONSUMER_FD = 20, OTHER_FD = 30 };

/* A ring of so many slots, and the producer's handle. */
void make_ring(uint64_t slots, uint64_t meta_bytes);
void make_ring_with_spares(uint64_t slots, uint64_t spares, uint64_t meta_bytes);
void open_producer(void);
/* The kernel's part of a kill. */
void die(int fd);

/* Consumer i joins, at the oldest frame. */
void join(unsigned i, int lossless, int start);
/* Consumer i becomes a member of the one group. */
void join_group(unsigned i);
/* One frame, with the seq of its position and a payload that says so. 0: the ring is full. */
int put(void);
/* The same, as steps of a thread. */
void put_one(void);
void put_two(void);
void put_frames(unsigned count);
/* The same, once there is space. */
void put_waiting(void);
/* Takes one frame and keeps it as hold `which`. What was taken is right, or the test fails. */
int take(unsigned i, unsigned which);
void take_and_release(unsigned i, unsigned count);
/* A held frame is whole, and nobody writes to it. */
void check_hold(unsigned i, unsigned which);
void give_back(unsigned i, unsigned which);
/* Consumer 0 takes a frame if there is one, and gives it back; or waits for one, and keeps it. */
void take_one(void);
void first_waits(void);
/* A copy without a place. SHMRING_OK: it was whole and the right one, or the test fails. */
int copy_out(uint64_t position);

#define LOSSY 0
#define LOSSLESS 1

/* Weak: NULL is the address of those whose file is not linked. */
#define LITMUS_TESTS(name) extern const litmus_test name[] __attribute__((weak))
LITMUS_TESTS(frame_tests);
LITMUS_TESTS(group_tests);
LITMUS_TESTS(pin_tests);
LITMUS_TESTS(place_tests);
LITMUS_TESTS(sleep_tests);
LITMUS_TESTS(block_tests);

#endif /* LITMUS_RING_H */
