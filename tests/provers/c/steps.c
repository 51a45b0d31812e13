/* SPDX-License-Identifier: Apache-2.0
 *
 * What may come between any two steps:  steps [SECONDS [SEED]]
 *
 * Every atomic access of the headers looks in here first. So at any step of what a participant does it
 * can be killed, or others can come, do something whole and go. First each participant is killed at each
 * step, then each is visited by each at each step, in many small rings. Without an argument that is done
 * for a share of the visits; with one for all of them, and afterwards, for SECONDS, random visitors come at
 * several random steps. After each run held frames are whole, every frame came that had to come, and the
 * ring is whole and works.
 *
 * One thread does all this in the order of the program: it checks the algorithm, with all its parts, and
 * not the memory orders.
 */
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

enum { RESIDENT, OTHER, NEWCOMER, LATECOMER, ACTORS, PRODUCER, NOBODY };

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

/* ---- the ring and its participants ---- */

/* Slots and spare slots. */
static const uint64_t sizes[][2] = {{2, 0}, {3, 0}, {4, 0}, {2, 1}, {3, 2}};
enum { SIZES = sizeof sizes / sizeof *sizes, LARGEST = 4, MOST_KEPT = 4 };

typedef struct kept {
    shmring_hold *hold;
    uint64_t seqs[LARGEST];
} kept;

typedef struct actor {
    shmring_consumer c;
    int present;
    uint64_t first_seq; /* counted from here on */
    uint64_t end_seq;   /* up to here */
    kept keeps[MOST_KEPT];
    unsigned keeping;
} actor;

static ring rings[SIZES];
static uint8_t *fresh[SIZES]; /* what their control bytes were at first */
static ring *r;
static shmring_producer p;
static actor actors[ACTORS];
static int reaper_fd;
static uint64_t may_be_lost; /* by a lossless consumer: dropped, or left unpublished by the dead */
static char scene[100];
static uint64_t runs;

void
check_failed(const char *file, int line, const char *what)
{
    in_main_work = 0;
    printf("steps: %s; %s", scene, main_work == NULL ? "nobody" : main_work->name);
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

/* ---- what the producer does ---- */

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

static void
drop_and_put(void)
{
    may_be_lost++;
    shmring_drop(&p, 1);
    produce(1, 1);
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

/* ---- what consumers do ---- */

static void
check_kept(const actor *a, const kept *keep)
{
    for (uint64_t i = 0; i < keep->hold->count; i++)
        CHECK(holds(&a->c, keep->hold, i, keep->seqs[i]));
}

static void
enter(actor *a, int lossless, int start)
{
    if (a->present)
        return;
    a->present = 1;
    a->keeping = 0;
    join(r, &a->c, lossless, start);
    if (!lossless && r->block.geometry.spares != 0) { /* without spares, it holds what it likes */
        a->c.max_held = r->block.table[a->c.place].max_held;
        shmring_limit_held(&a->c,
                           shmring_shareable(&r->block.geometry)); /* as much as there is, or what it got */
    }
    a->first_seq = a->c.expected_seq;
    a->end_seq = a->first_seq;
}

static void
give_back(actor *a, unsigned which)
{
    if (!a->present || which >= a->keeping)
        return;
    const kept keep = a->keeps[which];
    check_kept(a, &keep);
    a->keeping--;
    for (unsigned i = which; i < a->keeping; i++)
        a->keeps[i] = a->keeps[i + 1];
    shmring_release(&a->c, keep.hold);
}

/* The books are right after a take, and a lossless consumer lost only what nobody could have. */
static void
check_books(actor *a, const take *t)
{
    const shmring_consumer *const c = &a->c;
    if (c->delivered == t->taken.count)
        a->first_seq = t->seqs[0] < a->first_seq ? t->seqs[0] : a->first_seq;
    for (uint64_t i = 0; i < t->taken.count; i++) {
        /* after a window its last frame comes again */
        CHECK(t->seqs[i] + 1 >= a->end_seq || c->delivered == t->taken.count);
        a->end_seq = t->seqs[i] + 1;
    }
    CHECK_EQUAL(c->delivered + c->lost + c->skipped, a->end_seq - a->first_seq);
    CHECK(!c->lossless || c->lost <= may_be_lost);
}

/* What a consumer may ask for. */
typedef int (*ask_for)(actor *a, take *t);

static int
a_frame(actor *a, take *t)
{
    return shmring_take_one(&a->c, ask(t));
}

static int
all_there_is(actor *a, take *t)
{
    return shmring_take_batch(&a->c, 1, r->block.geometry.slots, ask(t));
}

static int
some(actor *a, take *t)
{
    return shmring_take_batch(&a->c, 1, 1 + runs % r->block.geometry.slots, ask(t));
}

static int
the_latest(actor *a, take *t)
{
    return shmring_take_latest(&a->c, ask(t));
}

static int
a_window(actor *a, take *t)
{
    return shmring_take_window(&a->c, 2, 1, ask(t));
}

/* Asks, and gives back what it keeps where that is in the way. */
static int
ask_with_room(actor *a, ask_for wish, take *t)
{
    for (;;) {
        const uint64_t head = r->block.hot->head;
        const int result = wish(a, t);
        if (result != SHMRING_EMPTY)
            return result;
        if (a->keeping == 0 || a->c.lossless || shmring_outlook(&a->c, 1, 0) != SHMRING_HELD) {
            CHECK(a->c.next >= head || wish == a_window);
            return SHMRING_EMPTY;
        }
        give_back(a, 0);
    }
}

/* Takes what it wishes for and keeps it. 0 if there was nothing. */
static int
fetch(actor *a, ask_for wish)
{
    take t;
    if (!a->present)
        return 0;
    if (a->keeping == MOST_KEPT)
        give_back(a, 0);
    const int result = ask_with_room(a, wish, &t);
    if (result == SHMRING_EMPTY)
        return 0;
    CHECK_EQUAL(result, SHMRING_OK);
    CHECK(a->c.pinned_slots <= a->c.max_held);
    check_books(a, &t);
    if (t.taken.scattered) {
        for (uint64_t i = 0; i < t.taken.count; i++)
            CHECK(frame_is(shmring_slot_at(&r->block, a->c.slots_taken[i]), r->block.geometry.frame_bytes,
                           t.seqs[i]));
        shmring_end_scattered(&a->c, &t.taken);
        return 1;
    }
    kept *const keep = &a->keeps[a->keeping++];
    keep->hold = t.taken.hold;
    memcpy(keep->seqs, t.seqs, sizeof keep->seqs);
    check_kept(a, keep);
    return 1;
}

static void
go_away(actor *a)
{
    if (!a->present)
        return;
    if (a->keeping > 0)
        shmring_leave_holding(&a->c);
    while (a->keeping > 0)
        give_back(a, 0);
    CHECK_EQUAL(a->c.pinned_slots + a->c.held, 0);
    leave(&a->c);
    a->present = 0;
}

static void
die(actor *a)
{
    if (!a->present)
        return;
    kill_consumer(&a->c);
    a->present = 0;
}

static void
reap_the_dead(void)
{
    reaper_fd = lock_file(r);
    shmring_reap_all(&r->block, reaper_fd);
    close(reaper_fd);
}

static void
take_one(void)
{
    fetch(&actors[RESIDENT], a_frame);
}

static void
take_all(void)
{
    fetch(&actors[RESIDENT], all_there_is);
}

static void
take_the_latest(void)
{
    fetch(&actors[RESIDENT], the_latest);
}

static void
take_windows(void)
{
    fetch(&actors[RESIDENT], a_window);
    fetch(&actors[RESIDENT], a_window);
}

static void
read_on(void)
{
    for (uint64_t i = 0; i < 2; i++) {
        fetch(&actors[RESIDENT], a_frame);
        give_back(&actors[RESIDENT], 0);
    }
}

static void
give_the_first_back(void)
{
    give_back(&actors[RESIDENT], 0);
}

static void
give_the_last_back(void)
{
    give_back(&actors[RESIDENT], actors[RESIDENT].keeping - 1);
}

/* As much as there is, and back to the least. */
static void
ask_for_shares(void)
{
    if (!actors[RESIDENT].present)
        return;
    shmring_limit_held(&actors[RESIDENT].c, shmring_shareable(&r->block.geometry));
    shmring_limit_held(&actors[RESIDENT].c, shmring_least_share(&r->block.geometry));
}

static void
leave_the_ring(void)
{
    go_away(&actors[RESIDENT]);
}

static void
die_unnoticed(void)
{
    die(&actors[RESIDENT]);
}

static void
take_as_another(void)
{
    fetch(&actors[OTHER], a_frame);
    give_back(&actors[OTHER], 0);
}

static void
come_for_all(void)
{
    enter(&actors[NEWCOMER], 1, SHMRING_START_OLDEST);
    fetch(&actors[NEWCOMER], a_frame);
}

static void
come_for_more(void)
{
    enter(&actors[NEWCOMER], 1, SHMRING_START_NEXT);
    fetch(&actors[NEWCOMER], a_frame);
}

static void
come_for_the_newest(void)
{
    enter(&actors[LATECOMER], 1, SHMRING_START_NEWEST);
    fetch(&actors[LATECOMER], a_frame);
}

static void
come_lossy(void)
{
    enter(&actors[LATECOMER], 0, SHMRING_START_OLDEST);
    fetch(&actors[LATECOMER], a_frame);
}

static const work works[] = {
    {"the producer puts one", PRODUCER, put_one},
    {"the producer puts a batch", PRODUCER, put_a_batch},
    {"the producer puts less than it claimed", PRODUCER, put_less_than_claimed},
    {"the producer aborts", PRODUCER, abort_a_claim},
    {"the producer drops one and puts one", PRODUCER, drop_and_put},
    {"the producer puts a lap", PRODUCER, put_a_lap},
    {"the producer closes and another opens", PRODUCER, close_and_hand_over},
    {"the producer dies and another takes over", PRODUCER, die_and_be_followed},
    {"the resident takes one", RESIDENT, take_one},
    {"the resident takes all", RESIDENT, take_all},
    {"the resident takes the latest", RESIDENT, take_the_latest},
    {"the resident takes two windows", RESIDENT, take_windows},
    {"the resident reads on", RESIDENT, read_on},
    {"the resident gives its first frame back", RESIDENT, give_the_first_back},
    {"the resident gives its last frame back", RESIDENT, give_the_last_back},
    {"the resident asks for other shares", RESIDENT, ask_for_shares},
    {"the resident leaves", RESIDENT, leave_the_ring},
    {"the resident dies", RESIDENT, die_unnoticed},
    {"another one takes one", OTHER, take_as_another},
    {"a newcomer joins for all", NEWCOMER, come_for_all},
    {"a newcomer joins for what comes", NEWCOMER, come_for_more},
    {"a latecomer joins for the newest", LATECOMER, come_for_the_newest},
    {"a lossy latecomer joins", LATECOMER, come_lossy},
    {"somebody reaps", NOBODY, reap_the_dead},
};
enum { WORKS = sizeof works / sizeof *works };

/* ---- scenes ---- */

enum { READS_NOTHING, READS_ALL, HOLDS_AND_READS_ON, HOLDS_TWO, HABITS };
enum { SCENES = SIZES * 2 * HABITS * 2 * 2 };

/* A small ring with some history and one resident, or another who holds a frame, too. */
static void
set_scene(unsigned number)
{
    const unsigned size = number % SIZES;
    const int lossless = (int)(number / SIZES % 2);
    const int habit = (int)(number / SIZES / 2 % HABITS);
    const int other = (int)(number / SIZES / 2 / HABITS % 2);
    const int warm = (int)(number / SIZES / 2 / HABITS / 2);
    static const char *const habits[HABITS] = {"reads nothing", "reads all", "holds one and reads on",
                                               "holds the last two and lags"};
    snprintf(scene, sizeof scene, "%u and %u slots, a %s resident that %s%s%s", (unsigned)sizes[size][0],
             (unsigned)sizes[size][1], lossless ? "lossless" : "lossy", habits[habit],
             other ? ", another holds a frame" : "", warm ? ", warm slots" : "");
    runs++;
    r = &rings[size];
    memcpy(r->block.control, fresh[size], r->block.geometry.slots_offset);
    memset(actors, 0, sizeof actors);
    may_be_lost = 0;
    main_work = NULL;
    visit_count = 0;
    kill_at = UINT64_MAX;
    p.exceeds_cache = warm;
    start_producing();
    enter(&actors[RESIDENT], lossless, SHMRING_START_OLDEST);
    if (other)
        enter(&actors[OTHER], 0, SHMRING_START_OLDEST);
    for (uint64_t i = 0; i < 2 * r->block.geometry.slots + 1 && produce(1, 1); i++) {
        if (i == 0 && other)
            fetch(&actors[OTHER], a_frame);
        if (habit == READS_NOTHING || (habit == HOLDS_TWO && i == 0) || !fetch(&actors[RESIDENT], a_frame))
            continue;
        if (habit != HOLDS_TWO || actors[RESIDENT].keeping > 2)
            give_back(&actors[RESIDENT], habit == HOLDS_AND_READS_ON ? 1 : 0);
    }
}

/* Everybody reads what is there; the ring works, lap after lap; everybody leaves. */
static void
check_and_clear(void)
{
    const uint64_t slots = r->block.geometry.slots;
    reap_the_dead();
    check_permutation(&p);
    check_history(&r->block);
    for (unsigned i = 0; i < ACTORS; i++)
        for (unsigned j = 0; actors[i].present && j < actors[i].keeping; j++)
            check_kept(&actors[i], &actors[i].keeps[j]);
    for (unsigned i = 0; i < ACTORS; i++) {
        while (fetch(&actors[i], some))
            continue;
        CHECK(!actors[i].present || actors[i].c.next == p.head);
        while (actors[i].present && actors[i].keeping > 0)
            give_back(&actors[i], (unsigned)runs % actors[i].keeping);
    }
    for (uint64_t i = 0; i < 2 * slots; i++) {
        CHECK(produce(1, 1));
        for (unsigned j = 0; j < ACTORS; j++) {
            CHECK_EQUAL(fetch(&actors[j], a_frame), actors[j].present);
            give_back(&actors[j], 0);
        }
    }
    check_permutation(&p);
    check_history(&r->block);
    for (unsigned i = 0; i < ACTORS; i++)
        go_away(&actors[i]);
    CHECK_EQUAL(r->block.hot->active, 0);
    for (uint64_t slot = 0; slot < shmring_all_slots(&r->block.geometry); slot++)
        CHECK_EQUAL(shmring_record_at(&r->block, slot)->pins, 0);
    close_producer(&p);
}

/* ---- runs ---- */

/* Kills the one that does the work at each of its steps. With or without a visitor in the dead one's ring. */
static void
kill_at_each_step(unsigned number, const work *what)
{
    int ended = 0;
    for (uint64_t at = 0; !ended; at++) {
        set_scene(number);
        if (at % 2)
            die(&actors[OTHER]); /* somebody to be reaped by the work, or by who comes after it */
        kill_at = at;
        ended = do_main_work(what);
        if (!ended && what->who == PRODUCER) {
            may_be_lost += LARGEST;
            kill_producer(&p);
            come_for_all(); /* before the takeover */
            take_one();
            start_producing();
        } else if (!ended && what->who < ACTORS) {
            die(&actors[what->who]);
        } else if (!ended) {
            close(reaper_fd);
        }
        check_and_clear();
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
        set_scene(number);
        visits[0].at = at;
        visits[0].does = visitor;
        visit_count = 1;
        do_main_work(what);
        const uint64_t length = steps;
        check_and_clear();
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
    const work *const what = &works[random_below(random, WORKS)];
    set_scene((unsigned)random_below(random, SCENES));
    while (visit_count < MOST_VISITS) {
        const work *const visitor = &works[random_below(random, WORKS)];
        if (!may_visit(visitor, what))
            continue;
        visits[visit_count].does = visitor;
        visits[visit_count].at = random_below(random, random_below(random, 2) ? 12 : 60);
        visit_count++;
    }
    do_main_work(what);
    check_and_clear();
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
    for (unsigned number = 0; number < SCENES; number++)
        for (unsigned i = 0; i < WORKS; i++)
            for (unsigned j = 0; j < WORKS; j++)
                if (may_visit(&works[j], &works[i]) && turn++ % share == 0)
                    visit_at_each_step(number, &works[i], &works[j]);
}

int
main(int argc, char **argv)
{
    const int all = argc > 1;
    const int64_t seconds = all ? strtoll(argv[1], NULL, 10) : 0;
    uint64_t random = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    make_rings();
    for (unsigned number = 0; number < SCENES; number++)
        for (unsigned i = 0; i < WORKS; i++)
            kill_at_each_step(number, &works[i]);
    const uint64_t kills = runs;
    visit_each_other(all ? 1 : 23);
    const uint64_t visited = runs;
    const int64_t end = shmring_now_ns() + seconds * SHMRING_SECOND;
    while (shmring_now_ns() < end)
        visit_at_random_steps(&random);
    printf("steps: %" PRIu64 " kills, %" PRIu64 " visits, %" PRIu64
           " runs with several visits; no violation\n",
           kills, visited - kills, runs - visited);
    return 0;
}
