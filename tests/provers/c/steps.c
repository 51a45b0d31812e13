/* SPDX-License-Identifier: Apache-2.0
 *
 * What may come between any two steps:  steps [SECONDS [SEED]]
 *
 * The machinery is that of steps.h. After each run held frames are whole, every frame came that had to come,
 * and the ring is whole and works.
 */
#include "steps.h"

enum { RESIDENT, OTHER, NEWCOMER, LATECOMER, ACTORS };

typedef struct actor {
    shmring_consumer c;
    int present;
    uint64_t first_seq; /* counted from here on */
    uint64_t end_seq;   /* up to here */
    kept keeps[MOST_KEPT];
    unsigned keeping;
} actor;

static actor actors[ACTORS];
static uint64_t may_be_lost; /* by a lossless consumer: dropped, or left unpublished by the dead */

static void
drop_and_put(void)
{
    may_be_lost++;
    shmring_drop(&p, 1);
    produce(1, 1);
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
    {"the producer fills buffers for a lap", PRODUCER, fill_buffers_for_a_lap},
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

/* ---- kills ---- */

static void
kill_another(uint64_t at)
{
    if (at % 2)
        die(&actors[OTHER]); /* somebody to be reaped by the work, or by who comes after it */
}

static void
clean_up(const work *what)
{
    if (what->who == PRODUCER) {
        may_be_lost += LARGEST;
        kill_producer(&p);
        come_for_all(); /* before the takeover */
        take_one();
        start_producing();
    } else if (what->who < ACTORS) {
        die(&actors[what->who]);
    } else {
        close(reaper_fd);
    }
}

int
main(int argc, char **argv)
{
    const program mine = {"steps",   works,        WORKS,    SCENES,         23,
                          set_scene, kill_another, clean_up, check_and_clear};
    begin_program(&mine);
    return run_program(argc, argv);
}
