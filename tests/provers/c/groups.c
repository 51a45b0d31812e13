/* SPDX-License-Identifier: Apache-2.0
 *
 * A kill storm for groups:  groups [SECONDS [SEED]]
 *
 * The traffic of traffic.h, shared out to the members of one or two groups, next to ordinary consumers; each
 * participant is a process of its own. Members take one frame or several, keep some, release them in any
 * order, leave and join again. The parent stops them for a while, kills them with SIGKILL and starts others
 * in their place; so it does with the producer.
 *
 * Memory outside the ring has a line for each position of each group: which member had the frame last, and
 * which one finished its work on it, which it writes before it releases the frame. While a group has a
 * member, each frame is finished by one of them; a second one gets it only after the death of the first, and
 * knows that (taken.redelivered). In some rounds groups may also end, and lose what they had not finished.
 */
#include "children.h"
#include "traffic.h"

enum { TEAMS = 2, MOST_MEMBERS = 6, ORDINARY = 2, MOST_KEPT_BY_MEMBERS = 3 };
enum {
    PRODUCER,
    FIRST_ORDINARY,
    FIRST_MEMBER = FIRST_ORDINARY + ORDINARY,
    CHILDREN = FIRST_MEMBER + TEAMS * MOST_MEMBERS
};
enum { MOST_POSITIONS = 1 << 22, MOST_PROCESSES = 1 << 14, MOST_LIVES = 1 << 20 };

/* What the books say about one position. Lives are numbered from 1; 0: nobody. */
typedef struct line {
    uint32_t holder;   /* the life that had the frame last */
    uint32_t finisher; /* the life that last finished its work on it */
} line;

/* A stay of a member, from join to leave. */
typedef struct life {
    uint32_t process;
    uint32_t asked;         /* frames that it may have by now without a line that says so */
    uint32_t leaves;        /* what it still has is its own affair: nobody else gets it */
    uint32_t waits_holding; /* perhaps for the end of the stream: then, too */
} life;

typedef struct process {
    uint32_t doomed; /* set before it is killed */
    uint32_t late;   /* ... after the stream had ended */
    uint32_t life;
} process;

/* A group. Unless it may end, one of its members neither leaves nor is killed. */
typedef struct team {
    char name[8];
    uint32_t flags;
    int start;
    int may_end;
    unsigned members;
    uint32_t guard;      /* the process that stays */
    uint32_t next_guard; /* the one that is asked to stay in its place */
    uint64_t unrecorded; /* frames that dead members may have had without a line that says so */
    uint64_t came_again_unrecorded, redelivered, finished, lost;
    line *book;
} team;

typedef struct storm {
    traffic t;
    team teams[TEAMS];
    unsigned team_count;
    uint32_t guards_may_go; /* they are the only members left */
    uint32_t failed;        /* one process has said what is wrong; what the others find follows from that */
    uint32_t lives_begun;
    process processes[MOST_PROCESSES];
    life lives[MOST_LIVES];
} storm;

static storm *current;
static uint64_t seed, round_number, kills, stops, frames, redelivered, finished, lost;

/* ---- what went wrong ---- */

static void
print_ring(void)
{
    const shmring_block *const block = &current->t.r.block;
    const shmring_hot *const hot = block->hot;
    printf("  head %" PRIu64 " claimed %" PRIu64 " state %u active %" PRIx64 " slots %" PRIu64
           " spares %" PRIu64 "\n",
           hot->head, hot->claimed, hot->producer_state, hot->active, block->geometry.slots,
           block->geometry.spares);
    for (unsigned i = 0; i < block->geometry.consumers; i++) {
        const shmring_place *const row = &block->table[i];
        if (row->state & 0xff)
            printf("  place %u: kind %u pid %u group %u cursor %" PRIu64 " next %" PRIu64 " held %" PRIu64
                   " flags %x\n",
                   i, (unsigned)(row->state & 0xff), row->pid, row->group, row->cursor, row->next, row->held,
                   row->flags);
    }
    for (unsigned i = 0; i < SHMRING_MAX_GROUPS; i++)
        printf("  group %u '%.8s': next %" PRIu64 " events %" PRIu64 "\n", i, block->groups[i].name,
               block->groups[i].next, block->groups[i].events);
    for (uint64_t i = 0; i < shmring_all_slots(&block->geometry); i++) {
        const shmring_entry *const entry = shmring_entry_at(block, i);
        printf("  %" PRIu64 ": stamp %" PRIu64 " slot %u; pins %" PRIx64 " position %" PRIu64 " owners", i,
               entry->stamp, entry->slot, entry->pins, entry->position);
        for (unsigned j = 0; j < SHMRING_MAX_GROUPS; j++) {
            const uint64_t word = *shmring_owner_at(block, i, j);
            printf(" %" PRId64 ":%u", (int64_t)(word >> 8) - 1, (unsigned)(word & 0xff));
        }
        printf("\n");
    }
}

void
check_failed(const char *file, int place, const char *what)
{
    if (__atomic_exchange_n(&current->failed, 1u, __ATOMIC_ACQ_REL))
        _exit(1);
    printf("groups: seed %" PRIu64 " round %" PRIu64 ", process %d: %s:%d: %s\n", seed, round_number,
           (int)getpid(), file, place, what);
    print_ring();
    fflush(stdout);
    _exit(1);
}

static void
check_line(int holds_true, const char *what, uint64_t position, const line *l)
{
    char text[200];
    if (holds_true)
        return;
    snprintf(text, sizeof text, "position %" PRIu64 ", had by life %u, finished by %u: %s", position,
             l->holder, l->finisher, what);
    check_failed(__FILE__, __LINE__, text);
}

static void
stuck(int signal_number)
{
    (void)signal_number;
    check_failed(__FILE__, __LINE__, "nothing moves any more");
}

/* ---- the books ---- */

static int
is_doomed(uint32_t number)
{
    const life *const one = &current->lives[number];
    return shmring_load_acquire(&current->processes[one->process].doomed) != 0;
}

static void
record_take(team *g, uint32_t me, uint64_t position, int again)
{
    CHECK(position < MOST_POSITIONS);
    line *const l = &g->book[position];
    const uint32_t before = __atomic_exchange_n(&l->holder, me, __ATOMIC_ACQ_REL);
    if (!again) {
        check_line(before == 0, "another one had it, and nothing said so", position, l);
        return;
    }
    check_line((g->flags & SHMRING_AT_MOST_ONCE) == 0, "it came again in a group at most once", position, l);
    check_line(before == 0 || is_doomed(before), "it came again, and the member that had it lives", position,
               l);
    shmring_fetch_add_release(&g->redelivered, UINT64_C(1));
    if (before == 0)
        shmring_fetch_add_release(&g->came_again_unrecorded, UINT64_C(1));
}

static void
record_finish(team *g, uint32_t me, uint64_t position)
{
    line *const l = &g->book[position];
    check_line(shmring_load_acquire(&l->holder) == me, "another one has it now", position, l);
    const uint32_t before = __atomic_exchange_n(&l->finisher, me, __ATOMIC_ACQ_REL);
    check_line(before == 0 || is_doomed(before), "it was finished before", position, l);
}

/* Whether the frame that the life had last may be lost, although it did not finish it. */
static int
may_be_lost(const team *g, uint32_t holder)
{
    if (holder == 0) /* nobody had it; or a dead member had it, and died before it could say so */
        return g->may_end || (g->flags & SHMRING_AT_MOST_ONCE) != 0;
    const life *const one = &current->lives[holder];
    const process *const its = &current->processes[one->process];
    return its->doomed && (g->may_end || (g->flags & SHMRING_AT_MOST_ONCE) != 0 || one->leaves ||
                           (one->waits_holding && its->late));
}

/* The round is over. */
static void
check_book(team *g, uint64_t head)
{
    uint64_t nobody_had = 0;
    for (uint64_t position = 0; position < head; position++) {
        const line *const l = &g->book[position];
        const int done = l->holder != 0 && l->finisher == l->holder;
        check_line(done || may_be_lost(g, l->holder), "it was never finished", position, l);
        g->finished += (uint64_t)done;
        g->lost += (uint64_t)!done;
        nobody_had += l->holder == 0;
    }
    CHECK(g->came_again_unrecorded <= g->unrecorded);
    CHECK(g->may_end || nobody_had <= g->unrecorded);
}

/* ---- a member ---- */

typedef struct member {
    team *g;
    uint32_t process;
    uint32_t number; /* of its life */
    uint64_t random;
    shmring_consumer c;
    kept keeps[MOST_KEPT_BY_MEMBERS];
    unsigned keeping;
    take seen;
} member;

static life *
life_of(const member *m)
{
    return &current->lives[m->number];
}

static void
begin_life(member *m)
{
    m->number = __atomic_add_fetch(&current->lives_begun, 1u, __ATOMIC_RELAXED);
    CHECK(m->number < MOST_LIVES);
    life_of(m)->process = m->process;
    shmring_store_release(&current->processes[m->process].life, m->number);
    m->keeping = 0;
    CHECK_EQUAL(shmring_join_group(&m->c, &current->t.r.block, lock_file(&current->t.r), m->g->name,
                                   m->g->flags, m->g->start, "member"),
                SHMRING_OK);
    if (one_in(&m->random, 4))
        shmring_want_runs(&m->c);
}

/* It was asked to stay, and knows it now. */
static int
stays(const member *m)
{
    if (shmring_load_acquire(&m->g->next_guard) == m->process)
        shmring_store_release(&m->g->guard, m->process);
    return shmring_load_acquire(&m->g->guard) == m->process;
}

static void
check_hold(const member *m, const kept *keep)
{
    for (uint64_t i = 0; i < keep->hold->count; i++) {
        const label found =
            check_labelled(&current->t, frame_at(m->c.block, keep->hold->slot, i), keep->seqs[i]);
        CHECK_EQUAL(found.position, keep->hold->position + i);
    }
}

/* Finishes the work on one of its takes, and releases it. */
static void
finish_one(member *m)
{
    if (m->keeping == 0)
        return;
    kept *const keep = &m->keeps[below(&m->random, m->keeping)];
    check_hold(m, keep);
    for (uint64_t i = 0; i < keep->hold->count; i++)
        record_finish(m->g, m->number, keep->hold->position + i);
    shmring_release(&m->c, keep->hold);
    *keep = m->keeps[--m->keeping];
}

/* 0 if there was nothing to take. */
static int
take_some(member *m)
{
    const uint64_t want = one_in(&m->random, 3) ? 1 + below(&m->random, m->c.block->geometry.slots) : 1;
    shmring_taken *const taken = ask(&m->seen);
    if (m->keeping == MOST_KEPT_BY_MEMBERS)
        finish_one(m);
    shmring_store_release(&life_of(m)->asked, (uint32_t)want);
    const int result = want == 1 ? shmring_take_one(&m->c, taken) : shmring_take_batch(&m->c, 1, want, taken);
    CHECK(result == SHMRING_OK || result == SHMRING_EMPTY);
    for (uint64_t i = 0; result == SHMRING_OK && i < taken->count; i++)
        record_take(m->g, m->number, taken->hold->position + i, taken->redelivered);
    shmring_store_release(&life_of(m)->asked, 0u);
    if (result == SHMRING_EMPTY)
        return 0;
    kept *const keep = &m->keeps[m->keeping++];
    keep->hold = taken->hold;
    memcpy(keep->seqs, m->seen.seqs, sizeof keep->seqs);
    check_hold(m, keep);
    for (uint64_t i = 0; i < taken->count; i++)
        check_meta(m->seen.metas + i * META_BYTES, keep->seqs[i]);
    if (one_in(&m->random, 10))
        usleep((useconds_t)below(&m->random, 500));
    while (m->keeping > 0 && !one_in(&m->random, 2))
        finish_one(m);
    return 1;
}

/* Waits for more, not for long. 1: nothing more will come. */
static int
await_more(member *m)
{
    const shmring_patience patience = {SHMRING_SECOND / 1000, (int64_t)below(&m->random, 20000), 2};
    const int ended = (int)shmring_load_acquire(&current->t.ended);
    life *const mine = life_of(m);
    shmring_store_release(&mine->waits_holding, (uint32_t)(m->keeping > 0));
    const int outlook = shmring_await(&m->c, 1, shmring_now_ns() + SHMRING_SECOND / 500, &patience);
    if (!m->c.at_end)
        shmring_store_release(&mine->waits_holding, 0u);
    if (outlook == SHMRING_OK || outlook == SHMRING_TIMEOUT)
        return 0;
    CHECK(outlook == SHMRING_ENDED || outlook == SHMRING_DIED || outlook == SHMRING_HELD);
    if (outlook != SHMRING_ENDED)
        usleep((useconds_t)below(&m->random, 300)); /* until the next producer comes */
    return ended && outlook == SHMRING_ENDED && m->keeping == 0;
}

/* Works until it has taken `takes` times, or the stream has ended (then 1). */
static int
work(member *m, uint64_t takes)
{
    while (stays(m) || takes > 0) {
        const int alone =
            (int)shmring_load_acquire(&current->guards_may_go); /* before the last look for frames */
        if (take_some(m)) {
            takes -= takes > 0;
            continue;
        }
        finish_one(m);
        if (await_more(m) && (alone || !stays(m)))
            return 1;
    }
    return 0;
}

static void
end_life(member *m)
{
    if (m->keeping > 0 && one_in(&m->random, 2)) {
        shmring_store_release(&life_of(m)->leaves, 1u);
        shmring_leave_holding(&m->c);
    }
    while (m->keeping > 0)
        finish_one(m);
    CHECK_EQUAL(m->c.held + m->c.pinned_slots, 0);
    leave(&m->c);
}

static void
work_until_the_end(team *g, uint32_t number, uint64_t random)
{
    member *const m = (member *)calloc(1, sizeof *m);
    int ended = 0;
    m->g = g;
    m->process = number;
    m->random = random;
    while (!ended) {
        begin_life(m);
        ended = work(m, 1 + below(&m->random, one_in(&m->random, 2) ? 10 : 500));
        end_life(m);
    }
    free(m);
}

/* ---- the parent ---- */

typedef struct child {
    pid_t pid;
    uint32_t process; /* 0: there is none */
} child;

static child children[CHILDREN];
static uint32_t processes_begun;

static team *
team_of(int who)
{
    return who < FIRST_MEMBER ? NULL : &current->teams[(who - FIRST_MEMBER) / MOST_MEMBERS];
}

static void
play(int who, uint64_t random)
{
    if (who == PRODUCER)
        produce_until_told(&current->t, random);
    else if (who < FIRST_MEMBER)
        consume_until_the_end(&current->t, random);
    else
        work_until_the_end(team_of(who), processes_begun, random);
}

static void
begin_process(int who, uint64_t random)
{
    processes_begun++;
    CHECK(processes_begun < MOST_PROCESSES);
    children[who].process = processes_begun;
    children[who].pid = start_child(play, who, random);
}

/* It must live: it is the one that stays, or was asked to. */
static int
is_needed(int who)
{
    const team *const g = team_of(who);
    return g != NULL && !g->may_end &&
           (shmring_load_acquire(&g->guard) == children[who].process ||
            g->next_guard == children[who].process);
}

static void
kill_process(int who)
{
    process *const its = &current->processes[children[who].process];
    its->late = shmring_load_acquire(&current->t.ended);
    shmring_store_release(&its->doomed, 1u);
    kill_child(children[who].pid);
    kills++;
    if (who >= FIRST_MEMBER)
        team_of(who)->unrecorded += current->lives[its->life].asked;
}

/* Stops, kills and restarts some of `from` to the last, one or several at once. */
static void
disturb(int from, uint64_t *random)
{
    const unsigned victims = 1 + (unsigned)below(random, one_in(random, 8) ? CHILDREN : 3);
    int chosen[CHILDREN];
    memset(chosen, 0, sizeof chosen);
    for (unsigned i = 0; i < victims; i++) {
        const int who = from + (int)below(random, (uint64_t)(CHILDREN - from));
        chosen[who] = children[who].process != 0 && !is_needed(who);
    }
    if (one_in(random, 4)) {
        for (int who = from; who < CHILDREN; who++)
            if (chosen[who])
                kill(children[who].pid, SIGSTOP);
        usleep((useconds_t)below(random, 3000));
        stops++;
    }
    const int lives = one_in(random, 8); /* it was only slow */
    for (int who = from; who < CHILDREN; who++)
        if (chosen[who] && !lives)
            kill_process(who);
    for (int who = from; who < CHILDREN; who++) {
        if (chosen[who] && lives)
            kill(children[who].pid, SIGCONT);
        else if (chosen[who])
            begin_process(who, next_random(random));
    }
}

/* Now and then another member is the one that stays. */
static void
change_guards(uint64_t *random)
{
    for (unsigned i = 0; i < current->team_count; i++) {
        team *const g = &current->teams[i];
        const uint64_t chosen = FIRST_MEMBER + i * MOST_MEMBERS + below(random, g->members);
        if (!g->may_end && shmring_load_acquire(&g->guard) == g->next_guard && one_in(random, 3))
            shmring_store_release(&g->next_guard, children[chosen].process);
    }
}

static void
begin_team(unsigned number, uint64_t *random)
{
    team *const g = &current->teams[number];
    const size_t bytes = MOST_POSITIONS * sizeof *g->book;
    const int first = FIRST_MEMBER + (int)number * MOST_MEMBERS;
    memset(g, 0, sizeof *g);
    snprintf(g->name, sizeof g->name, "team%u", number);
    g->flags = number == 0 ? 0 : SHMRING_AT_MOST_ONCE;
    g->may_end = one_in(random, 4);
    g->start = g->may_end ? SHMRING_START_NEXT : SHMRING_START_OLDEST;
    g->members = 2 + (unsigned)below(random, MOST_MEMBERS - 1);
    g->book =
        (line *)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(g->book != MAP_FAILED);
    g->next_guard = processes_begun + 1;
    begin_process(first, next_random(random));
    while (shmring_load_acquire(&g->guard) != g->next_guard) /* the group begins at the first position */
        usleep(100);
    for (int who = first + 1; who < first + (int)g->members; who++)
        begin_process(who, next_random(random));
    if (g->may_end)
        g->guard = g->next_guard = 0;
}

static void
begin_round(uint64_t *random)
{
    shmring_geometry g = page_slots(2 + below(random, 15));
    g.frame_bytes = 64 + 8 * below(random, 50);
    g.consumers = CHILDREN;
    g.meta_bytes = META_BYTES;
    g.spares = one_in(random, 2) ? 1 + below(random, 4) : 0;
    memset(current->lives, 0, (current->lives_begun + 1) * sizeof(life));
    memset(current, 0, offsetof(storm, processes) + (processes_begun + 1) * sizeof(process));
    memset(children, 0, sizeof children);
    processes_begun = 0;
    make_ring(&current->t.r, g);
    current->t.processes = 1;
    current->t.exceeds_cache = one_in(random, 3);
    current->t.drops = one_in(random, 2);
    current->team_count = one_in(random, 2) ? 1 : TEAMS;
    for (unsigned i = 0; i < current->team_count; i++)
        begin_team(i, random);
    for (int who = FIRST_ORDINARY; who < FIRST_MEMBER; who++)
        if (one_in(random, 2))
            begin_process(who, next_random(random));
    begin_process(PRODUCER, next_random(random));
}

static void
let_process_end(int who)
{
    let_child_end(children[who].pid);
    children[who].process = 0;
}

/* Waits for all, first for those that may go. */
static void
let_all_end(void)
{
    for (int who = 0; who < CHILDREN; who++)
        if (children[who].process != 0 && !is_needed(who))
            let_process_end(who);
    shmring_store_release(&current->guards_may_go, 1u);
    for (int who = 0; who < CHILDREN; who++)
        if (children[who].process != 0)
            let_process_end(who);
}

static void
end_round(void)
{
    const shmring_block *const block = &current->t.r.block;
    const uint64_t head = block->hot->head;
    const int fd = lock_file(&current->t.r);
    shmring_reap_all(&current->t.r.block, fd);
    close(fd);
    frames += head;
    for (unsigned i = 0; i < current->team_count; i++) {
        team *const g = &current->teams[i];
        check_book(g, head);
        finished += g->finished;
        redelivered += g->redelivered;
        lost += g->lost;
        munmap(g->book, MOST_POSITIONS * sizeof *g->book);
    }
    check_ring_at_rest(&current->t);
    end_ring(&current->t.r);
}

static void
run_round(uint64_t random)
{
    alarm(120);
    begin_round(&random);
    const int64_t end = shmring_now_ns() + SHMRING_SECOND / 2;
    while (shmring_now_ns() < end && current->t.r.block.hot->head < MOST_POSITIONS / 2) {
        usleep((useconds_t)below(&random, one_in(&random, 4) ? 10000 : 2000));
        disturb(PRODUCER, &random);
        change_guards(&random);
    }
    shmring_store_release(&current->t.stop, 1u);
    for (unsigned i = 0; i < 4; i++) { /* the end is disturbed, too */
        usleep((useconds_t)below(&random, 2000));
        disturb(FIRST_ORDINARY, &random);
    }
    let_all_end();
    end_round();
}

int
main(int argc, char **argv)
{
    const int64_t seconds = argc > 1 ? strtoll(argv[1], NULL, 10) : 5;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    void *const shared = mmap(NULL, sizeof *current, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const int64_t end = shmring_now_ns() + seconds * SHMRING_SECOND;
    if (shared == MAP_FAILED)
        return 1;
    current = (storm *)shared;
    signal(SIGALRM, stuck);
    for (round_number = 0; round_number == 0 || shmring_now_ns() < end; round_number++)
        run_round(mix(seed * 1000003 + round_number));
    printf("groups: seed %" PRIu64 ": %" PRIu64 " rounds, %" PRIu64 " kills, %" PRIu64 " stops, %" PRIu64
           " frames, %" PRIu64 " finished, %" PRIu64 " redelivered, %" PRIu64
           " lost as they may be; no violation\n",
           seed, round_number, kills, stops, frames, finished, redelivered, lost);
    return 0;
}
