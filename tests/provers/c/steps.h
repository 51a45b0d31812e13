/* SPDX-License-Identifier: Apache-2.0
 *
 * Kills and visits between any two steps: what steps.c and steps_groups.c share.
 *
 * Every atomic access of the headers looks in here first. So at any step of what a participant does it can
 * be killed, or others can come, do something whole and go. First each participant is killed at each step,
 * then each is visited by each at each step, in many small rings. Without an argument that is done for a
 * share of the visits; with one for all of them, and afterwards, for SECONDS, random visitors come at several
 * random steps.
 *
 * One thread does all this in the order of the program: it checks the algorithm, with all its parts, and
 * not the memory orders.
 */
#ifndef SHMRING_TESTS_STEPS_H
#define SHMRING_TESTS_STEPS_H

static void look_in(void);

#define SHMRING_ATOMIC_SPELLING "steps_atomic.h"
/* Most of the time would be spent on asking the system for these. */
#include <shmring/internal/copy.h>
#include <shmring/internal/os.h>
#define shmring_own_start_time() UINT64_C(1)
#define shmring_cache_bytes() UINT64_C(32768)

#include "common.h"

#include <setjmp.h>

/* What somebody does, in one go or with visitors. */
typedef struct work {
    const char *name;
    int who; /* does it: PRODUCER, a consumer's number, or NOBODY in particular */
    void (*run)(void);
} work;

enum { PRODUCER = 100, NOBODY };

/* What a program puts to the test, and the scenes that it happens in. */
typedef struct program {
    const char *name;
    const work *works;
    unsigned work_count;
    unsigned scene_count;
    unsigned share; /* of the visits, without an argument: one in so many */
    void (*set_scene)(unsigned number);
    void (*prepare_kill)(uint64_t at);  /* of the one that does the work, before it begins */
    void (*clean_up)(const work *what); /* the one that did this was killed */
    void (*check_and_clear)(void);
} program;

static const program *the;

/* ---- steps and visits ---- */

typedef struct visit {
    uint64_t at; /* the step of the main work that it comes before */
    const work *does;
} visit;

enum { MOST_VISITS = 3 };
static visit visits[MOST_VISITS];
static unsigned visit_count;
static const work *main_work;
static uint64_t steps;   /* of the main work so far */
static uint64_t kill_at; /* step, or UINT64_MAX */
static int in_main_work; /* and no visitor is there */
static jmp_buf killed;

static void
look_in(void)
{
    if (!in_main_work)
        return;
    const uint64_t now = steps++;
    if (now == kill_at)
        longjmp(killed, 1);
    in_main_work = 0;
    for (unsigned i = 0; i < visit_count; i++)
        if (visits[i].at == now)
            visits[i].does->run();
    in_main_work = 1;
}

/* 1 if it came to its end, 0 if it was killed. */
static int
do_main_work(const work *what)
{
    main_work = what;
    steps = 0;
    if (setjmp(killed) != 0) {
        in_main_work = 0;
        return 0;
    }
    in_main_work = 1;
    main_work->run();
    in_main_work = 0;
    return 1;
}

/* ---- the ring and its producer ---- */

/* Slots and spare slots. */
static const uint64_t sizes[][2] = {{2, 0}, {3, 0}, {4, 0}, {2, 1}, {3, 2}};
enum { SIZES = sizeof sizes / sizeof *sizes, LARGEST = 4, MOST_KEPT = 4 };

typedef struct kept {
    shmring_hold *hold;
    uint64_t seqs[LARGEST];
} kept;

static ring rings[SIZES];
static uint8_t *fresh[SIZES]; /* what their control bytes were at first */
static ring *r;
static shmring_producer p;
static int reaper_fd;
static char scene[100];
static uint64_t runs;

void
check_failed(const char *file, int line, const char *what)
{
    in_main_work = 0;
    printf("%s: %s; %s", the->name, scene, main_work == NULL ? "nobody" : main_work->name);
    if (kill_at != UINT64_MAX)
        printf(", killed before step %" PRIu64, kill_at);
    for (unsigned i = 0; i < visit_count; i++)
        printf(", before step %" PRIu64 " %s", visits[i].at, visits[i].does->name);
    printf("\n  %s:%d: %s\n", file, line, what);
    exit(1);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
/* Who is killed gives no memory back. */
#ifdef __cplusplus
extern "C"
#endif
    const char *
    __asan_default_options(void);
const char *
__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

static void
start_producing(void)
{
    const int exceeds_cache = p.exceeds_cache;
    open_producer(r, &p);
    p.exceeds_cache = exceeds_cache;
    p.copies = 1; /* large ones, through the cache: so warm slots are reused */
}

static void
write_slowly(uint64_t i)
{
    fill_frame((uint8_t *)shmring_claimed_slot(&p) + i * r->block.geometry.slot_stride, 128, UINT64_MAX);
    look_in();
    write_frame(&p, i);
}

/* Claims up to `want` frames, writes them and publishes up to `count`. 0 if the ring is full. */
static int
produce(uint64_t want, uint64_t count)
{
    if (shmring_claim(&p, want) != SHMRING_OK)
        return 0;
    for (uint64_t i = 0; i < p.count; i++)
        write_slowly(i);
    shmring_publish(&p, count < p.count ? count : p.count);
    return 1;
}

static void
put_one(void)
{
    produce(1, 1);
}

static void
put_a_lap(void)
{
    for (uint64_t i = 0; i <= r->block.geometry.slots; i++)
        produce(1, 1);
}

static void
put_a_batch(void)
{
    produce(r->block.geometry.slots, r->block.geometry.slots);
}

static void
put_less_than_claimed(void)
{
    produce(r->block.geometry.slots, 1);
}

static void
abort_a_claim(void)
{
    produce(1, 0);
}

/* A driver with as many buffers as there are entries, but one: in turn it fills them all, publishes the first
 * or fills it again, and gets one more. What it has not published goes back. */
static void
fill_buffers(uint64_t turns)
{
    const uint64_t most = r->block.geometry.slots - 1;
    for (uint64_t i = 0; i < turns; i++) {
        while (p.count < most && shmring_claim_more(&p) == SHMRING_OK)
            continue;
        for (uint64_t j = 0; j < p.count; j++)
            fill_frame(buffer_at(&p, j), 128, UINT64_MAX);
        look_in();
        if (p.count > 0 && i % 3 == 1)
            shmring_requeue_oldest(&p);
        for (uint64_t j = 0; j < p.count; j++)
            write_buffer(&p, j);
        if (p.count > 0)
            shmring_publish_oldest(&p);
    }
    shmring_abort(&p);
}

static void
fill_buffers_for_a_lap(void)
{
    fill_buffers(r->block.geometry.slots + 1);
}

static void
close_and_hand_over(void)
{
    close_producer(&p);
    start_producing();
}

static void
die_and_be_followed(void)
{
    if (shmring_claim(&p, 2) == SHMRING_OK)
        fill_frame(shmring_claimed_slot(&p), 128, UINT64_MAX);
    kill_producer(&p);
    start_producing();
}

static void
reap_the_dead(void)
{
    reaper_fd = lock_file(r);
    shmring_reap_all(&r->block, reaper_fd);
    close(reaper_fd);
}

/* ---- runs ---- */

/* Kills the one that does the work at each of its steps. */
static void
kill_at_each_step(unsigned number, const work *what)
{
    int ended = 0;
    for (uint64_t at = 0; !ended; at++) {
        the->set_scene(number);
        the->prepare_kill(at);
        kill_at = at;
        ended = do_main_work(what);
        if (!ended)
            the->clean_up(what);
        the->check_and_clear();
    }
}

static int
may_visit(const work *visitor, const work *host)
{
    return visitor->who != host->who;
}

static void
visit_at_each_step(unsigned number, const work *what, const work *visitor)
{
    for (uint64_t at = 0; at == 0 || at < steps; at++) {
        the->set_scene(number);
        visits[0].at = at;
        visits[0].does = visitor;
        visit_count = 1;
        do_main_work(what);
        const uint64_t length = steps;
        the->check_and_clear();
        steps = length;
    }
}

static uint64_t
random_below(uint64_t *state, uint64_t bound)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(*state) % bound;
}

static void
visit_at_random_steps(uint64_t *random)
{
    const work *const what = &the->works[random_below(random, the->work_count)];
    the->set_scene((unsigned)random_below(random, the->scene_count));
    while (visit_count < MOST_VISITS) {
        const work *const visitor = &the->works[random_below(random, the->work_count)];
        if (!may_visit(visitor, what))
            continue;
        visits[visit_count].does = visitor;
        visits[visit_count].at = random_below(random, random_below(random, 2) ? 12 : 60);
        visit_count++;
    }
    do_main_work(what);
    the->check_and_clear();
}

static void
make_rings(void)
{
    for (unsigned i = 0; i < SIZES; i++) {
        make_ring(&rings[i], with_spares(sizes[i][0], sizes[i][1]));
        const size_t bytes = rings[i].block.geometry.slots_offset;
        fresh[i] = (uint8_t *)malloc(bytes);
        memcpy(fresh[i], rings[i].block.control, bytes);
    }
}

/* Each work visited by each other one at each step, in every scene; or one in `share` of these. */
static void
visit_each_other(unsigned share)
{
    unsigned turn = 0;
    for (unsigned number = 0; number < the->scene_count; number++)
        for (unsigned i = 0; i < the->work_count; i++)
            for (unsigned j = 0; j < the->work_count; j++)
                if (may_visit(&the->works[j], &the->works[i]) && turn++ % share == 0)
                    visit_at_each_step(number, &the->works[i], &the->works[j]);
}

static void
begin_program(const program *one)
{
    the = one;
    make_rings();
}

/* Everything, as the arguments say. */
static int
run_program(int argc, char **argv)
{
    const int all = argc > 1;
    const int64_t seconds = all ? strtoll(argv[1], NULL, 10) : 0;
    uint64_t random = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (unsigned number = 0; number < the->scene_count; number++)
        for (unsigned i = 0; i < the->work_count; i++)
            kill_at_each_step(number, &the->works[i]);
    const uint64_t kills = runs;
    visit_each_other(all ? 1 : the->share);
    const uint64_t visited = runs;
    const int64_t end = shmring_now_ns() + seconds * SHMRING_SECOND;
    while (shmring_now_ns() < end)
        visit_at_random_steps(&random);
    printf("%s: %" PRIu64 " kills, %" PRIu64 " visits, %" PRIu64 " runs with several visits; no violation\n",
           the->name, kills, visited - kills, runs - visited);
    return 0;
}

#endif /* SHMRING_TESTS_STEPS_H */
