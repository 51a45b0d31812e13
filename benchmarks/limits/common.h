/* What the limit programs share: two or more pinned processes, a clock, waiting, percentiles. */
#ifndef SHMRING_BENCH_COMMON_H
#define SHMRING_BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define LINE 128 /* two cache lines: processors fetch them in pairs */
#define ACQUIRE(address) __atomic_load_n((address), __ATOMIC_ACQUIRE)
#define RELEASE(address, value) __atomic_store_n((address), (value), __ATOMIC_RELEASE)

static inline int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void
pin_to(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static inline void
relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

/* One look of a wait. Gives the core away now and then where there are more processes than cores. */
static inline void
wait_a_bit(unsigned *looks, int crowded)
{
    relax();
    if (crowded && ++*looks % 16 == 0)
        sched_yield();
}

static inline void *
shared_memory(size_t bytes)
{
    void *const memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    memset(memory, 1, bytes); /* no page fault is to be measured */
    return memory;
}

/* 0 in the child, which dies with its parent. */
static inline pid_t
fork_child(void)
{
    const pid_t child = fork();
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

static inline void
join_children(int count)
{
    for (int i = 0; i < count; i++) {
        int status = 0;
        wait(&status);
        if (status != 0) {
            fprintf(stderr, "a child failed: %d\n", status);
            exit(1);
        }
    }
}

static inline int
compare_times(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* One-way times from round trips, as JSON. */
static inline void
print_percentiles(int64_t *times, size_t count)
{
    qsort(times, count, sizeof *times, compare_times);
    printf("{\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f}\n", (double)times[count / 2] / 2,
           (double)times[count * 99 / 100] / 2, (double)times[count * 999 / 1000] / 2);
}

/* Reads every byte. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx2", "default")))
#endif
static inline uint64_t
sum_words(const uint64_t *words, size_t count)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    size_t i = 0;
    for (; i + 32 <= count; i += 32)
        for (size_t j = 0; j < 8; j++) {
            a += words[i + j];
            b += words[i + 8 + j];
            c += words[i + 16 + j];
            d += words[i + 24 + j];
        }
    for (; i < count; i++)
        a += words[i];
    return a + b + c + d;
}

#endif /* SHMRING_BENCH_COMMON_H */
