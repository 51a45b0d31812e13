/* SPDX-License-Identifier: Apache-2.0
 *
 * What may come between any two steps of the members of a group:  steps_groups [SECONDS [SEED]]
 *
 * The machinery is that of steps.h. After each run held frames are whole, also when the others have done a
 * lap, and every frame of the stream was finished by one member, or by a second one after the death of the
 * first; what a dead member had is lost only in a group at most once. Then the ring is whole and works, and
 * each member comes to the end of the stream.
 */
#include "steps.h"

enum { RESIDENT, OTHER, SWIFT, NEWCOMER, ACTORS };
enum { MOST_POSITIONS = 256, MOST_LIVES = 64 };

/* A member, each time that it joins another life. */
typedef struct actor {
    shmring_consumer c;
    int lock_fd;
    int present;
    unsigned life;
    kept keeps[MOST_KEPT];
    unsigned keeping;
} actor;

/* What the members did with the frame of one position. Lives are numbered from 1; 0: nobody. */
typedef struct line {
    unsigned holder;
    unsigned finisher;
} line;

static actor actors[ACTORS];
static line book[MOST_POSITIONS];
static unsigned lives;
static int is_dead[MOST_LIVES];
static int has_left[MOST_LIVES]; /* holding: what it then has is its own affair */
static unsigned deaths;
static int at_most_once;

/* ---- the book ---- */

static line *
line_of(uint64_t position)
{
    CHECK(position < MOST_POSITIONS);
    return &book[position];
}

static void
note_take(const actor *a, uint64_t position, int again)
{
    line *const l = line_of(position);
    if (again) {
        CHECK(!at_most_once);
        CHECK(l->holder == 0 ? deaths > 0 : is_dead[l->holder]); /* one may die before it notes its take */
    } else {
        CHECK_EQUAL(l->holder, 0);
    }
    l->holder = a->life;
}

static void
note_finish(const actor *a, uint64_t position)
{
    line *const l = line_of(position);
    CHECK_EQUAL(l->holder, a->life);
    CHECK(l->finisher == 0 || is_dead[l->finisher]);
    l->finisher = a->life;
}

static void
check_book(void)
{
    for (uint64_t position = 0; position < p.head; position++) {
        const line *const l = line_of(position);
        if (l->holder == 0)
            CHECK(at_most_once && deaths > 0);
        else if (l->finisher != l->holder)
            CHECK(is_dead[l->holder] && (at_most_once || has_left[l->holder]));
    }
}

/* ---- what members do ---- */

static void
enter(int who)
{
    actor *const a = &actors[who];
    if (a->present ||
        shmring_lock_held(r->fd, SHMRING_LOCK_GROUPS)) /* it would wait for the one that joins */
        return;
    a->keeping = 0;
    a->life = ++lives;
    a->present = 1; /* to be killed at any step of the join */
    a->lock_fd = lock_file(r);
    CHECK(a->life < MOST_LIVES);
    const int result =
        shmring_join_group(&a->c, &r->block, a->lock_fd, "workers", at_most_once ? SHMRING_AT_MOST_ONCE : 0,
                           SHMRING_START_OLDEST, "test");
    if (result == SHMRING_NO_PLACE) { /* somebody who reaps has the last one */
        close(a->lock_fd);
        a->present = 0;
        return;
    }
    CHECK_EQUAL(result, SHMRING_OK);
    r->block.table[a->c.place].pid += (uint32_t)who; /* as if each were a process */
}

static void
check_kept(const actor *a, const kept *keep)
{
    for (uint64_t i = 0; i < keep->hold->count; i++)
        CHECK(holds(&a->c, keep->hold, i, keep->seqs[i]));
}

static void
finish(int who, unsigned which)
{
    actor *const a = &actors[who];
    if (!a->present || which >= a->keeping)
        return;
    const kept keep = a->keeps[which];
    check_kept(a, &keep);
    for (uint64_t i = 0; i < keep.hold->count; i++)
        note_finish(a, keep.hold->position + i);
    a->keeping--;
    for (unsigned i = which; i < a->keeping; i++)
        a->keeps[i] = a->keeps[i + 1];
    shmring_release(&a->c, keep.hold);
}

/* Takes up to `most` frames and keeps them. 0 if there was nothing. */
static int
fetch(int who, uint64_t most)
{
    take t;
    actor *const a = &actors[who];
    if (!a->present)
        return 0;
    if (a->keeping == MOST_KEPT)
        finish(who, 0);
    const int result =
        most == 1 ? shmring_take_one(&a->c, ask(&t)) : shmring_take_batch(&a->c, 1, most, ask(&t));
    if (result == SHMRING_EMPTY)
        return 0;
    CHECK_EQUAL(result, SHMRING_OK);
    kept *const keep = &a->keeps[a->keeping];
    keep->hold = t.taken.hold;
    memcpy(keep->seqs, t.seqs, sizeof keep->seqs);
    for (uint64_t i = 0; i < t.taken.count; i++)
        note_take(a, keep->hold->position + i, t.taken.redelivered);
    a->keeping++;
    check_kept(a, keep);
    return 1;
}

static void
go_away(int who)
{
    actor *const a = &actors[who];
    if (!a->present)
        return;
    if (a->keeping > 0) {
        has_left[a->life] = 1;
        shmring_leave_holding(&a->c);
    }
    while (a->keeping > 0)
        finish(who, 0);
    CHECK_EQUAL(a->c.pinned_slots + a->c.held, 0);
    leave(&a->c);
    a->present = 0;
}

static void
die(int who)
{
    actor *const a = &actors[who];
    if (!a->present)
        return;
    deaths++;
    is_dead[a->life] = 1;
    a->c.lock_fd = a->lock_fd; /* it may have died before it noted that itself */
    kill_consumer(&a->c);
    a->present = 0;
}

static void
take_one(void)
{
    fetch(RESIDENT, 1);
}

static void
take_all(void)
{
    fetch(RESIDENT, r->block.geometry.slots);
}

static void
finish_the_first(void)
{
    finish(RESIDENT, 0);
}

static void
finish_the_last(void)
{
    finish(RESIDENT, actors[RESIDENT].keeping - 1);
}

static void
look_for_the_end(void)
{
    if (actors[RESIDENT].present)
        shmring_outlook(&actors[RESIDENT].c, 1, 1);
}

static void
leave_the_group(void)
{
    go_away(RESIDENT);
}

static void
leave_and_come_back(void)
{
    go_away(RESIDENT);
    enter(RESIDENT);
}

static void
die_unnoticed(void)
{
    die(RESIDENT);
}

static void
take_as_another(void)
{
    fetch(OTHER, 1);
}

static void
die_as_another(void)
{
    die(OTHER);
}

static void
read_on(void)
{
    while (fetch(SWIFT, 1))
        finish(SWIFT, 0);
}

/* The others have been round the ring once. */
static void
do_a_lap(void)
{
    for (uint64_t i = 0; i <= r->block.geometry.slots; i++) {
        read_on();
        produce(1, 1);
    }
}

static void
end_and_continue(void)
{
    close_producer(&p);
    read_on();
    shmring_outlook(&actors[SWIFT].c, 1, 1);
    start_producing();
}

static void
come_and_take(void)
{
    enter(NEWCOMER);
    fetch(NEWCOMER, 1);
}

static void
come_and_take_all(void)
{
    enter(NEWCOMER);
    fetch(NEWCOMER, r->block.geometry.slots);
}

static const work works[] = {
    {"the producer puts one", PRODUCER, put_one},
    {"the producer puts a batch", PRODUCER, put_a_batch},
    {"the producer puts less than it claimed", PRODUCER, put_less_than_claimed},
    {"the producer aborts", PRODUCER, abort_a_claim},
    {"the producer puts a lap", PRODUCER, put_a_lap},
    {"the producer fills buffers for a lap", PRODUCER, fill_buffers_for_a_lap},
    {"the producer closes and another opens", PRODUCER, close_and_hand_over},
    {"the producer dies and another takes over", PRODUCER, die_and_be_followed},
    {"the resident takes one", RESIDENT, take_one},
    {"the resident takes all", RESIDENT, take_all},
    {"the resident finishes its first frame", RESIDENT, finish_the_first},
    {"the resident finishes its last frame", RESIDENT, finish_the_last},
    {"the resident looks for the end", RESIDENT, look_for_the_end},
    {"the resident leaves", RESIDENT, leave_the_group},
    {"the resident leaves and comes back", RESIDENT, leave_and_come_back},
    {"the resident dies", RESIDENT, die_unnoticed},
    {"another one takes one", OTHER, take_as_another},
    {"another one dies", OTHER, die_as_another},
    {"a swift one reads on", SWIFT, read_on},
    {"a newcomer takes one", NEWCOMER, come_and_take},
    {"a newcomer takes all", NEWCOMER, come_and_take_all},
    {"somebody reaps", NOBODY, reap_the_dead},
};
/* By the producer and the swift one, between the steps of members alone. */
static const work laps[] = {
    {"the others do a lap", PRODUCER, do_a_lap},
    {"the stream ends and continues", PRODUCER, end_and_continue},
};
enum { WORKS = sizeof works / sizeof *works };

/* ---- scenes ---- */

enum { HABITS = 3, SCENES = SIZES * HABITS * 2 * 2 };

/* A small ring with some history; the resident and another hold frames of it, or not. */
static void
set_scene(unsigned number)
{
    const unsigned size = number % SIZES;
    const unsigned kept_by_resident = number / SIZES % HABITS;
    const int other = (int)(number / SIZES / HABITS % 2);
    at_most_once = (int)(number / SIZES / HABITS / 2);
    snprintf(scene, sizeof scene, "%u and %u slots, a resident that holds %u%s%s", (unsigned)sizes[size][0],
             (unsigned)sizes[size][1], kept_by_resident, other ? ", another holds a frame" : "",
             at_most_once ? ", at most once" : "");
    runs++;
    r = &rings[size];
    memcpy(r->block.control, fresh[size], r->block.geometry.slots_offset);
    memset(actors, 0, sizeof actors);
    memset(book, 0, sizeof book);
    memset(is_dead, 0, sizeof is_dead);
    memset(has_left, 0, sizeof has_left);
    lives = deaths = 0;
    main_work = NULL;
    visit_count = 0;
    kill_at = UINT64_MAX;
    start_producing();
    enter(RESIDENT);
    enter(OTHER);
    enter(SWIFT);
    produce(1, 1);
    if (other)
        fetch(OTHER, 1);
    for (unsigned i = 0; i < r->block.geometry.slots + 1; i++) {
        if (actors[RESIDENT].keeping < kept_by_resident)
            fetch(RESIDENT, 1);
        else if (i > 0)
            read_on();
        produce(1, 1);
    }
    produce(1, 1);
}

/* The next member that is there, from this one on. */
static int
present_from(int who)
{
    while (!actors[who].present)
        who = (who + 1) % ACTORS;
    return who;
}

static void
each_finishes_all(void)
{
    for (int who = 0; who < ACTORS; who++)
        while (actors[who].present && actors[who].keeping > 0)
            finish(who, (unsigned)runs % actors[who].keeping);
}

/* Members and what they hold are gone: no place and no slot is kept for anybody. */
static void
check_nothing_is_held(void)
{
    CHECK_EQUAL(r->block.hot->active, 0);
    for (uint64_t place = 0; place < r->block.geometry.consumers; place++)
        CHECK_EQUAL(r->block.table[place].state & 0xff, SHMRING_PLACE_FREE);
    for (uint64_t slot = 0; slot < shmring_all_slots(&r->block.geometry); slot++) {
        CHECK_EQUAL(shmring_record_at(&r->block, slot)->pins, 0);
        CHECK_EQUAL(*shmring_owner_at(&r->block, slot, actors[SWIFT].c.group) & 0xff, SHMRING_OWNER_DONE);
    }
}

/* Everything is taken and finished; the ring works, lap after lap; the stream ends for everybody. */
static void
check_and_clear(void)
{
    reap_the_dead();
    check_permutation(&p);
    check_history(&r->block);
    do_a_lap();
    for (int who = 0; who < ACTORS; who++)
        for (unsigned i = 0; actors[who].present && i < actors[who].keeping; i++)
            check_kept(&actors[who], &actors[who].keeps[i]);
    each_finishes_all();
    for (int who = 0; who < ACTORS; who++)
        while (fetch(who, 1 + runs % 2))
            finish(who, 0);
    for (uint64_t i = 0; i < 2 * r->block.geometry.slots; i++) {
        CHECK(produce(1, 1));
        CHECK(fetch(present_from((int)((runs + i) % ACTORS)), 1));
        each_finishes_all();
    }
    check_book();
    check_permutation(&p);
    check_history(&r->block);
    close_producer(&p);
    for (int who = 0; who < ACTORS; who++)
        if (actors[who].present)
            CHECK_EQUAL(shmring_outlook(&actors[who].c, 1, 1), SHMRING_ENDED);
    for (int who = 0; who < ACTORS; who++)
        go_away(who);
    check_nothing_is_held();
}

/* ---- kills ---- */

static void
kill_another(uint64_t at)
{
    if (at % 2)
        die(OTHER); /* somebody to be reaped by the work, or by who comes after it */
}

static void
clean_up(const work *what)
{
    if (what->who == PRODUCER) {
        kill_producer(&p);
        read_on(); /* before the takeover */
        come_and_take();
        start_producing();
    } else if (what->who < ACTORS) {
        die(what->who);
        come_and_take();
    } else {
        close(reaper_fd);
    }
}

/* What the others do together, between any two steps of a member. */
static void
visit_by_laps(unsigned number)
{
    for (unsigned i = 0; i < WORKS; i++)
        for (unsigned j = 0; j < sizeof laps / sizeof *laps; j++)
            if (works[i].who != PRODUCER && works[i].who != SWIFT)
                visit_at_each_step(number, &works[i], &laps[j]);
}

/* ---- a group that is founded ---- */

static shmring_consumer founder;
static int founded;

static void
found_a_group(void)
{
    founded = 1;
    CHECK_EQUAL(
        shmring_join_group(&founder, &r->block, lock_file(r), "founders", 0, SHMRING_START_OLDEST, "test"),
        SHMRING_OK);
}

static const work founding = {"a group is founded", NOBODY, found_a_group};

/* The group gets each frame from where it began. */
static void
read_to_head(void)
{
    for (uint64_t next = r->block.groups[founder.group].next; next < p.head; next++) {
        take t;
        CHECK_EQUAL(shmring_take_one(&founder, ask(&t)), SHMRING_OK);
        CHECK_EQUAL(t.taken.hold->position, next);
        CHECK(holds(&founder, t.taken.hold, 0, t.seqs[0]));
        shmring_release(&founder, t.taken.hold);
    }
}

/* Founds a group at each step of what the producer does, and kills the producer some steps later. */
static void
found_and_kill(unsigned number, const work *what)
{
    enum { STEPS_LATER = 6 };
    for (uint64_t later = 1; later < STEPS_LATER; later++) {
        int ended = 0;
        for (uint64_t at = 0; !ended; at++) {
            set_scene(number);
            founded = 0;
            visits[0].at = at;
            visits[0].does = &founding;
            visit_count = 1;
            kill_at = at + later;
            ended = do_main_work(what);
            if (!ended) {
                kill_producer(&p);
                start_producing();
            }
            if (founded) {
                read_to_head();
                leave(&founder);
            }
            check_and_clear();
        }
    }
}

int
main(int argc, char **argv)
{
    const program mine = {"steps_groups", works,        WORKS,    SCENES,         29,
                          set_scene,      kill_another, clean_up, check_and_clear};
    begin_program(&mine);
    for (unsigned number = 0; number < SCENES; number++) {
        visit_by_laps(number);
        if (number % 3 == 0)
            found_and_kill(number, &works[0]);
    }
    return run_program(argc, argv);
}
