/* SPDX-License-Identifier: Apache-2.0
 *
 * What the litmus tests see of the explorer: shared words whose every access is a step of Relacy's
 * memory model, and a world that each execution starts from again.
 */
#ifndef LITMUS_EXPLORE_H
#define LITMUS_EXPLORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LITMUS_THREADS = 3, LITMUS_MEMORY = 8192 };

/* Every word that threads share lies in here. */
extern uint8_t litmus_memory[LITMUS_MEMORY];

typedef struct litmus_test {
    const char *name;
    const char *edges; /* of docs/protocol.md, for the report */
    unsigned bound;    /* preemptions, or LITMUS_FULL */
    void (*prepare)(void);
    void (*threads[LITMUS_THREADS])(void);
    void (*after)(void);
    const char *known_violation; /* why it fails so far; NULL for a test that must pass */
} litmus_test;

#define LITMUS_FULL 1000u

typedef struct litmus_place {
    const char *file;
    int line;
} litmus_place;

#define LITMUS_HERE ((litmus_place){__FILE__, __LINE__})

/* ---- words ---- */

enum { LITMUS_ATOMIC, LITMUS_DATA, LITMUS_PLAIN, LITMUS_QUIET };

/* Says before the exploration what a word of litmus_memory is:
 * ATOMIC  an atomic of the model;
 * DATA    a word of a frame: reads that a second look may reject are relaxed atomics, all other reads and
 *         writes are plain accesses whose races are found;
 * PLAIN   accessed plainly, by assignments that are noticed at the next step;
 * QUIET   read for messages only: no step. */
void litmus_word(const void *address, unsigned bytes, int kind);

enum { LITMUS_RELAXED, LITMUS_ACQUIRE, LITMUS_RELEASE, LITMUS_ACQ_REL };

uint64_t litmus_load(const void *address, int order, litmus_place place);
void litmus_store(void *address, uint64_t value, int order, litmus_place place);
uint64_t litmus_fetch_or(void *address, uint64_t bits, int order, litmus_place place);
uint64_t litmus_fetch_and(void *address, uint64_t bits, int order, litmus_place place);
uint64_t litmus_fetch_add(void *address, uint64_t count, int order, litmus_place place);
int litmus_cas(void *address, uint64_t *expected, uint64_t desired, int order, litmus_place place);
void litmus_fence(int seq_cst, litmus_place place);

/* Words of a frame. read: a race is a failure. peek: a copy that may be rejected. */
uint64_t litmus_read(const void *address);
void litmus_write(void *address, uint64_t value);
uint64_t litmus_peek(const void *address);
int litmus_is_data(const void *address);
/* For readers of plain words, all of them, without knowing which. */
void litmus_read_plain(void);

/* ---- the system ---- */

void litmus_futex_wait(const uint32_t *word, uint32_t value);
void litmus_futex_wake_all(const uint32_t *word);
void litmus_yield(void);

/* Ends this execution: a violation. */
void litmus_fail(const char *what, litmus_place place);

#define CHECK(condition) ((condition) ? (void)0 : litmus_fail(#condition, LITMUS_HERE))

/* ---- the tests' side ---- */

/* The tests of each file, or NULL if it is not linked. */
extern const litmus_test *const litmus_tests[];
extern const size_t litmus_files;
/* The private memory of the participants, which each execution starts with as `prepare` left it. */
extern void *const litmus_world;
extern const size_t litmus_world_bytes;

#ifdef __cplusplus
}
#endif
#endif /* LITMUS_EXPLORE_H */
