/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes killed by SIGKILL in the middle of every operation:  crash [SECONDS [SEED [WORKERS]]]
 *
 * A round is a ring, 1 to 4 consumers and a producer that must live through what happens to others, and one
 * operation. Victim after victim does that operation and is killed before its first access to the block,
 * before the second, and so on, until one lives through it. Now and then it is stopped there instead, and
 * then killed or continued: a stopped process must not be taken for dead. After each death every survivor
 * must continue, a next producer takes over, and in the end every frame is accounted for and the ring is
 * whole. Built with BY_INSTRUCTION, from headers without crash points, victims die between two instructions,
 * wherever that is: they are single-stepped.
 *
 * Prints a report as JSON and exits 0 if no promise was broken. The seed fixes what is done, not when.
 */
#ifdef BY_INSTRUCTION
#define CRASH_POINT(what) ((void)0)
#else
#define SHMRING_ATOMIC_SPELLING "crash_atomic.h"
#endif

#include "operations.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum {
    MOST_WORKERS = 64,
#ifdef BY_INSTRUCTION
    MOST_VICTIMS = 15, /* of a round */
    ENOUGH_ENDS = MOST_VICTIMS,
    RARE_VICTIMS = 0,
#else
    MOST_VICTIMS = 1000,
    ENOUGH_ENDS = 2, /* victims that lived through it, until the operation counts as done */
    RARE_VICTIMS = 3,
#endif
    RECOVERY_BINS = 2000, /* of a millisecond each */
    MOST_SITES = 1024
};

/* ---- what is counted, by all workers together ---- */

typedef struct tally {
    uint64_t kills, stops, lived;
    uint64_t bins[RECOVERY_BINS + 1];
    int64_t worst_ns;
} tally;

typedef struct totals {
    uint64_t next_round, kills, stops, rounds, frames, delivered, lost, swaps;
    tally operations[ALL_OPERATIONS];
    uint64_t sites[MOST_SITES];
} totals;

static totals *all;
static stage *stages;
static uint64_t seed;
static int64_t end_ns;

static void
add(uint64_t *word, uint64_t count)
{
    __atomic_fetch_add(word, count, __ATOMIC_RELAXED);
}

/* Where a victim is to die: at the access, or instruction, of that number; if a site is given, at its passage
 * of that number there. */
typedef struct aim {
    uint64_t at;
    const struct crash_site *site;
    int number; /* of the signal */
} aim;

#ifndef BY_INSTRUCTION
extern const crash_site __start_crash_sites[], __stop_crash_sites[];

static void
count_site(void)
{
    if (here->seen != NULL)
        add(&all->sites[here->seen - __start_crash_sites], 1);
    here->seen = NULL;
}

static int
is_in_headers(const crash_site *site)
{
    return strstr(site->file, "shmring/") != NULL && strstr(site->file, "faults/") == NULL;
}

static const crash_site *
random_site(uint64_t *random, const char *file)
{
    for (;;) {
        const crash_site *const site =
            &__start_crash_sites[below(random, (uint64_t)(__stop_crash_sites - __start_crash_sites))];
        if (is_in_headers(site) && strstr(site->file, file) != NULL)
            return site;
    }
}

/* The one where the fewest died, of some. */
static aim
aim_at_a_rare_site(uint64_t *random)
{
    aim found = {below(random, 3), random_site(random, ""), SIGKILL};
    for (int i = 0; i < 20; i++) {
        const crash_site *const other = random_site(random, "");
        if (all->sites[other - __start_crash_sites] < all->sites[found.site - __start_crash_sites])
            found.site = other;
    }
    return found;
}

/* In the middle of something that a takeover has to clean up. */
static aim
aim_at_a_producer(uint64_t *random)
{
    static const char *const files[] = {"claim.h", "swap.h", "producer.h"};
    const aim found = {below(random, 4), random_site(random, files[below(random, 3)]), SIGKILL};
    return found;
}
#else
static void
count_site(void)
{
}

enum { LONGEST = 20000 }; /* of an operation, as far as it is stepped through */

/* Anywhere; often near the end, where what was prepared becomes visible. */
static aim
aim_at_any_step(uint64_t *random)
{
    const uint64_t length = here->length != 0 ? here->length : 4000;
    const uint64_t end = length < 300 ? length : 300;
    const aim found = {one_in(random, 3) ? length - below(random, end) : below(random, length), NULL,
                       SIGKILL};
    return found;
}
#define aim_at_a_rare_site aim_at_any_step
#define aim_at_a_producer aim_at_any_step
#endif

static void
record_recovery(tally *of)
{
    for (int who = 0; who < SURVIVORS; who++) {
        const progress *const one = &here->survivors[who];
        if (!one->plays || here->kill_number == 0 || one->seen_kill != here->kill_number)
            continue;
        const int64_t bin = one->took_ns / (SHMRING_SECOND / 1000);
        add(&of->bins[bin < RECOVERY_BINS ? bin : RECOVERY_BINS], 1);
        if (one->took_ns > of->worst_ns)
            of->worst_ns = one->took_ns; /* nearly never wrong: another worker at the same instant */
    }
}

/* ---- processes ---- */

static pid_t
start(void)
{
    const pid_t parent = getpid();
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(60);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return child;
}

static int
wait_for(pid_t child)
{
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
    return status;
}

static void
check_ended(pid_t child)
{
    const int status = wait_for(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
stuck(int number)
{
    (void)number;
    check_failed(__FILE__, __LINE__, "nothing moves any more");
}

/* ---- victims ---- */

static void
arm(aim where)
{
    here->done = 0;
    here->seen = NULL;
#ifdef BY_INSTRUCTION
    (void)where;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
#else
    shmring_crash_seen = &here->seen;
    shmring_crash_signal = (uint32_t)where.number;
    shmring_crash_steps = 0;
    crash_only = where.site;
    shmring_crash_at = where.at;
#endif
}

static void
disarm(void)
{
#ifndef BY_INSTRUCTION
    shmring_crash_at = UINT64_MAX;
#endif
    __atomic_store_n(&here->done, 1u, __ATOMIC_RELEASE);
}

static void
take_for_a_while(uint64_t takes)
{
    uint64_t least = 1;
    for (; takes > 0; takes--) {
        const uint32_t state = shmring_read_producer_state(mine->c.block);
        if (consume_once(mine, &least))
            continue;
        end_one_keep(mine);
        wait_a_slice(mine, least, state, &chance);
    }
}

static void
await_frames(uint64_t count)
{
    const int64_t end = shmring_now_ns() + PATIENCE;
    while (shmring_read_head(mine->c.block) < mine->c.next + count) {
        end_one_keep(mine); /* or it might wait for itself */
        CHECK(shmring_now_ns() < end);
        wait_a_slice(mine, count, shmring_read_producer_state(mine->c.block), &chance);
    }
}

static void
begin_as_consumer(uint64_t random)
{
    mine = (session *)calloc(1, sizeof *mine);
    mine->t = &here->t;
    mine->random = random;
}

/* A consumer that holds frames and is dead before anything else happens. If `producing`, the
 * caller is the producer and keeps frames coming. */
static void
make_corpse(uint64_t random, int producing)
{
    int status = 0;
    const pid_t child = start();
    if (child == 0) {
        if (producing)
            close(p.lock_fd);
        begin_as_consumer(random);
        begin_session(mine);
        while (mine->keeping == 0)
            take_for_a_while(1);
        raise(SIGKILL);
    }
    while (producing && waitpid(child, &status, WNOHANG) == 0)
        put_some(1);
    if (!producing)
        status = wait_for(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
die_as_producer(const operation *what, aim where)
{
    const uint64_t slots = here->t.r.block.geometry.slots;
    here->t.exceeds_cache = (what->scene & WARM) != 0;
    if (!(what->scene & TAKES_OVER)) {
        take_over();
        put_until_all_recovered();
        for (uint64_t i = below(&chance, slots); i > 0; i--)
            put_some(1);
        if (what->scene & CORPSE)
            make_corpse(next_random(&chance), 1);
        if (what->scene & STALLED) {
            __atomic_store_n(&here->stalled, 1u, __ATOMIC_RELEASE);
            for (uint64_t i = 0; i < 2 * slots && shmring_claim(&p, 1) == SHMRING_OK; i++) {
                write_all(1);
                shmring_publish(&p, 1);
            }
        }
        keep_safe();
        here->most_offered = slots + 4;
    }
    arm(where);
    what->run();
    disarm();
    here->stalled = 0;
    if (what->scene & ENDS_HANDLE)
        return;
    for (int i = 0; i < 3; i++)
        put_some(1);
    check_permutation(&p);
    keep_safe();
    here->most_offered = 0;
}

static void
die_as_consumer(const operation *what, aim where, uint64_t random)
{
    here->victim_place = UINT64_MAX;
    begin_as_consumer(random);
    if (!(what->scene & JOINS)) {
        begin_session(mine);
        here->victim_place = mine->c.place;
        take_for_a_while(below(&chance, 10));
        await_frames(what->frames);
    }
    arm(where);
    what->run();
    disarm();
    if (what->scene & ENDS_HANDLE)
        return;
    take_for_a_while(10);
    end_session(mine);
}

static pid_t
start_victim(const operation *what, aim where, uint64_t round_random, uint64_t random)
{
    const pid_t child = start();
    if (child != 0)
        return child;
    chance = random;
    if (what->who == AS_PRODUCER) {
        die_as_producer(what, where);
    } else if (what->who == AS_CONSUMER) {
        die_as_consumer(what, where, round_random);
    } else {
        arm(where);
        what->run();
        disarm();
    }
    _exit(0);
}

/* ---- the director: lets victims die ---- */

#ifndef BY_INSTRUCTION
/* A stopped process is slow, not dead: nobody takes its place, its frames or its role. */
static void
check_not_evicted(const operation *what, uint64_t *random)
{
    const shmring_block *const block = &here->t.r.block;
    const int fd = lock_file(&here->t.r);
    const uint64_t place = here->victim_place;
    const uint64_t epoch = block->hot->epoch;
    const int produces = what->who == AS_PRODUCER && !(what->scene & (TAKES_OVER | ENDS_HANDLE));
    const int consumes = what->who == AS_CONSUMER && !(what->scene & (JOINS | ENDS_HANDLE));
    const uint64_t state = consumes ? block->table[place].state : 0;
    const uint64_t cursor = consumes ? block->table[place].cursor : 0;
    usleep(one_in(random, 4) ? 150000 : 3000);
    if (produces) {
        CHECK(shmring_lock_held(fd, SHMRING_LOCK_PRODUCER));
        for (int who = 0; who < MOST_CONSUMERS; who++)
            CHECK(here->survivors[who].learnt_epoch != epoch);
    }
    if (consumes) {
        CHECK(shmring_lock_held(fd, SHMRING_LOCK_PLACE(place)));
        CHECK_EQUAL(block->table[place].state, state);
        CHECK_EQUAL(block->table[place].cursor, cursor);
    }
    close(fd);
}
#endif

/* Waits for its end. 1 if it was killed, 0 if it lived through the operation. */
static int
watch(const operation *what, tally *counts, pid_t victim, aim where, uint64_t *random)
{
    int status = wait_for(victim);
#ifdef BY_INSTRUCTION
    (void)what, (void)random;
    CHECK(WIFSTOPPED(status));
    uint64_t i = 0;
    for (; i < where.at && !__atomic_load_n(&here->done, __ATOMIC_ACQUIRE); i++) {
        CHECK_EQUAL(ptrace(PTRACE_SINGLESTEP, victim, NULL, NULL), 0);
        status = wait_for(victim);
        if (!WIFSTOPPED(status))
            break;
    }
    here->length = where.at >= LONGEST ? i : here->length;
    if (WIFSTOPPED(status)) {
        if (here->done)
            ptrace(PTRACE_DETACH, victim, NULL, NULL);
        else
            kill(victim, SIGKILL);
        status = wait_for(victim);
    }
#else
    (void)where;
    if (WIFSTOPPED(status)) {
        counts->stops++;
        add(&all->stops, 1);
        check_not_evicted(what, random);
        here->stalled = 0;
        kill(victim, one_in(random, 2) ? SIGKILL : SIGCONT);
        status = wait_for(victim);
    }
#endif
    count_site();
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        add(&counts->kills, 1);
        add(&all->kills, 1);
        return 1;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    add(&counts->lived, 1);
    return 0;
}

/* No pin and no bit of anybody is left at a place that is free. Its next owner changes the state. */
static void
check_free_places(void)
{
    const shmring_block *const block = &here->t.r.block;
    for (uint64_t place = 0; place < block->geometry.consumers; place++) {
        const uint64_t state = shmring_load_acquire(&block->table[place].state);
        if ((state & 0xff) != SHMRING_PLACE_FREE)
            continue;
        uint64_t left = shmring_load_acquire(&block->hot->active);
        for (uint64_t slot = 0; slot < shmring_all_slots(&block->geometry); slot++)
            left |= shmring_load_acquire(&shmring_record_at(block, slot)->pins);
        CHECK((left >> place & 1) == 0 || shmring_load_acquire(&block->table[place].state) != state);
    }
}

static void
wait_for_recovery(void)
{
    const int64_t end = shmring_now_ns() + PATIENCE;
    while (!all_recovered()) {
        CHECK_EQUAL(here->failures, 0);
        CHECK(shmring_now_ns() < end);
        usleep(100);
    }
}

/* A producer that dies somewhere in the middle of something, for a takeover to clean up after. */
static void
wreck(uint64_t *random)
{
    const operation *what;
    do
        what = &operations[below(random, OPERATIONS)];
    while (what->who != AS_PRODUCER || what->scene & (TAKES_OVER | STALLED | CORPSE) ||
           (what->run != put_a_lap && one_in(random, 2))); /* most of them in a swap */
    const aim where = aim_at_a_producer(random);
    watch(what, &all->operations[what - operations], start_victim(what, where, 0, next_random(random)), where,
          random);
}

/* 1 if it was killed, 0 if it lived through the operation. */
static int
let_one_die(const operation *what, tally *counts, aim where, uint64_t round_random, uint64_t *random)
{
    if (what->scene & TAKES_OVER)
        wreck(random);
    if (what->scene & CORPSE && what->who != AS_PRODUCER)
        make_corpse(next_random(random), 0);
    const pid_t victim = start_victim(what, where, round_random, next_random(random));
    const int killed = watch(what, counts, victim, where, random);
    here->stalled = 0;
    check_free_places();
    record_recovery(counts); /* from the death before: the producer since then has seen everyone continue */
    here->killed_at = shmring_now_ns();
    __atomic_fetch_add(&here->kill_number, 1u, __ATOMIC_SEQ_CST);
    if (what->who != AS_PRODUCER || one_in(random, 4))
        wait_for_recovery(); /* of a producer's death they learn by themselves */
    return killed;
}

static pid_t
start_survivor(int who, uint64_t random)
{
    here->survivors[who].plays = 1;
    const pid_t child = start();
    if (child == 0) {
        alarm(0);
        if (who == PRODUCER)
            survive_as_producer(random);
        else
            survive_as_consumer(who, random);
        _exit(0);
    }
    const int64_t end = shmring_now_ns() + PATIENCE;
    while (!__atomic_load_n(&here->survivors[who].ready, __ATOMIC_ACQUIRE)) {
        CHECK(shmring_now_ns() < end && here->failures == 0);
        usleep(50);
    }
    return child;
}

static void
end_stream_as_successor(void)
{
    const pid_t child = start();
    if (child == 0) {
        take_over();
        put_until_all_recovered();
        end_stream();
        _exit(0);
    }
    check_ended(child);
}

/* Where the next victim of a round dies. */
static aim
next_aim(uint64_t turn, uint64_t *random)
{
#ifdef BY_INSTRUCTION
    const aim to_its_end = {LONGEST, NULL, SIGKILL};
    return turn == 0 ? to_its_end : aim_at_any_step(random);
#else
    const aim found = {turn, NULL, one_in(random, 10) ? SIGSTOP : SIGKILL};
    return found;
#endif
}

static void
run_round(const operation *what, tally *counts, uint64_t random)
{
    pid_t survivors[SURVIVORS] = {0, 0, 0, 0, 0};
    const uint64_t round_random = next_random(&random);
    const int consumers = 1 + (int)below(&random, MOST_CONSUMERS);
    shmring_geometry g = random_geometry(&random);
    if (g.slots < 4)
        g.slots += 4;
    g.consumers = (uint64_t)consumers + (what->scene & CORPSE ? 2 : 1 + below(&random, 2));
    memset(here, 0, sizeof *here);
    snprintf(here->name, sizeof here->name, "seed %" PRIu64 ", %s", seed, what->name);
    here->t.processes = 1;
    make_ring(&here->t.r, g);
    alarm(240);
    if (what->who != AS_PRODUCER)
        survivors[PRODUCER] = start_survivor(PRODUCER, next_random(&random));
    for (int who = 0; who < consumers; who++)
        survivors[who] = start_survivor(who, next_random(&random));
    int lived = 0;
    for (uint64_t turn = 0; lived < ENOUGH_ENDS && turn < MOST_VICTIMS && shmring_now_ns() < end_ns; turn++) {
        const aim where = next_aim(turn, &random);
        snprintf(here->name, sizeof here->name, "seed %" PRIu64 ", %s, killed at %" PRIu64, seed, what->name,
                 where.at);
        lived += !let_one_die(what, counts, where, round_random, &random);
        alarm(240);
    }
    for (int i = 0; i < RARE_VICTIMS && shmring_now_ns() < end_ns; i++)
        let_one_die(what, counts, aim_at_a_rare_site(&random), next_random(&random), &random);
    if (what->who == AS_PRODUCER)
        end_stream_as_successor();
    wait_for_recovery();
    record_recovery(counts);
    __atomic_store_n(&here->t.stop, 1u, __ATOMIC_RELEASE);
    for (int who = SURVIVORS - 1; who >= 0; who--)
        if (survivors[who] != 0)
            check_ended(survivors[who]);
    const int fd = lock_file(&here->t.r);
    shmring_reap_all(&here->t.r.block, fd);
    close(fd);
    check_ring_at_rest(&here->t);
    end_ring(&here->t.r);
    add(&all->rounds, 1);
    add(&all->frames, here->t.frames);
    add(&all->delivered, here->t.takes);
    add(&all->lost, here->t.lost);
    add(&all->swaps, here->t.swaps);
}

/* Nobody can attach to a block that is half written; written again, it is a whole one. */
static void
format_and_die(tally *counts, uint64_t random)
{
    uint8_t generation[16] = {1, 2, 3};
    shmring_geometry g = random_geometry(&random);
    static const operation what = {"format", AS_NOBODY, 0, 0, NULL};
    CHECK_EQUAL(shmring_compute_offsets(&g), SHMRING_OK);
    memset(here, 0, sizeof *here);
    int lived = 0;
    for (uint64_t turn = 0; lived < ENOUGH_ENDS && turn < MOST_VICTIMS && shmring_now_ns() < end_ns; turn++) {
        aim where = next_aim(turn, &random);
        where.number = SIGKILL;
        snprintf(here->name, sizeof here->name, "seed %" PRIu64 ", format, killed at %" PRIu64, seed,
                 where.at);
        const int fd = memfd_create("shmring-test", MFD_CLOEXEC);
        CHECK(fd >= 0 && posix_fallocate(fd, 0, (off_t)g.block_bytes) == 0);
        here->t.r.fd = fd;
        const pid_t child = start();
        if (child == 0) {
            arm(where);
            shmring_format(fd, &g, generation, NULL);
            disarm();
            _exit(0);
        }
        const int killed = watch(&what, counts, child, where, &random);
        shmring_identity identity;
        const int found = shmring_read_identity(fd, &identity);
        CHECK(found == SHMRING_OK || (killed && (found == SHMRING_NOT_READY || found == SHMRING_FOREIGN)));
        if (found != SHMRING_OK)
            CHECK_EQUAL(shmring_format(fd, &g, generation, NULL), SHMRING_OK);
        CHECK_EQUAL(shmring_map(&here->t.r.block, fd, SHMRING_PRODUCE), SHMRING_OK);
        check_ring_at_rest(&here->t);
        end_ring(&here->t.r);
        lived += !killed;
    }
    add(&all->rounds, 1);
}

static void
work(void)
{
    signal(SIGALRM, stuck);
    while (shmring_now_ns() < end_ns) {
        const uint64_t number = __atomic_fetch_add(&all->next_round, 1, __ATOMIC_RELAXED);
        const uint64_t which = number % ALL_OPERATIONS;
        const uint64_t random = mix(seed * 1000003 + number);
        if (which == FORMAT)
            format_and_die(&all->operations[FORMAT], random);
        else
            run_round(&operations[which], &all->operations[which], random);
    }
}

/* ---- the report ---- */

static double
percentile(const tally *of, double share)
{
    uint64_t count = 0, seen = 0;
    for (int bin = 0; bin <= RECOVERY_BINS; bin++)
        count += of->bins[bin];
    for (int bin = 0; bin <= RECOVERY_BINS; bin++) {
        seen += of->bins[bin];
        if (count != 0 && (double)seen >= share * (double)count)
            return bin + 0.5;
    }
    return 0;
}

static void
print_tally(const char *who, const char *name, const tally *of, const char *comma)
{
    printf("  {\"role\": \"%s\", \"operation\": \"%s\", \"kills\": %" PRIu64 ", \"stops\": %" PRIu64
           ", \"lived through\": %" PRIu64
           ", \"recovery ms\": {\"median\": %.1f, \"p99\": %.1f, \"worst\": %.1f}}%s\n",
           who, name, of->kills, of->stops, of->lived, percentile(of, 0.5), percentile(of, 0.99),
           (double)of->worst_ns / 1e6, comma);
}

static void
print_report(int64_t began, const char *failure)
{
    static const char *const roles[] = {"producer", "consumer", "anybody"};
    printf("{\n \"mode\": \"%s\",\n \"seed\": %" PRIu64 ",\n \"seconds\": %.1f,\n",
#ifdef BY_INSTRUCTION
           "between two instructions",
#else
           "before each access to the block",
#endif
           seed, (double)(shmring_now_ns() - began) / 1e9);
    printf(" \"kills\": %" PRIu64 ",\n \"stops\": %" PRIu64 ",\n \"rounds\": %" PRIu64
           ",\n \"frames\": %" PRIu64 ",\n \"delivered\": %" PRIu64 ",\n \"lost, all counted\": %" PRIu64
           ",\n \"swaps\": %" PRIu64 ",\n",
           all->kills, all->stops, all->rounds, all->frames, all->delivered, all->lost, all->swaps);
    printf(" \"operations\": [\n");
    for (int i = 0; i < OPERATIONS; i++)
        print_tally(roles[operations[i].who], operations[i].name, &all->operations[i], ",");
    print_tally("creator", "format", &all->operations[FORMAT], "");
    printf(" ],\n \"sites\": [");
#ifndef BY_INSTRUCTION
    const char *comma = "";
    for (const crash_site *site = __start_crash_sites; site < __stop_crash_sites; site++)
        if (is_in_headers(site)) {
            printf("%s\n  {\"file\": \"%s\", \"function\": \"%s\", \"line\": %" PRIu64
                   ", \"access\": \"%s\", \"kills\": %" PRIu64 "}",
                   comma, strrchr(site->file, '/') + 1, site->function, site->line, site->what,
                   all->sites[site - __start_crash_sites]);
            comma = ",";
        }
#endif
    printf("\n ],\n \"violation\": ");
    if (failure == NULL)
        printf("null\n}\n");
    else
        printf("\"%s\"\n}\n", failure);
}

static void *
shared_memory(size_t bytes)
{
    void *const memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(2);
    return memory;
}

int
main(int argc, char **argv)
{
    const int64_t began = shmring_now_ns();
    const char *failure = NULL;
    const int64_t seconds = argc > 1 ? strtoll(argv[1], NULL, 10) : 10;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    int workers = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 8;
    workers = workers < 1 ? 1 : workers > MOST_WORKERS ? MOST_WORKERS : workers;
    all = (totals *)shared_memory(sizeof *all);
    stages = (stage *)shared_memory(MOST_WORKERS * sizeof *stages);
    end_ns = began + seconds * SHMRING_SECOND;
    pid_t pids[MOST_WORKERS];
    for (int i = 0; i < workers; i++) {
        here = &stages[i];
        pids[i] = fork();
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work();
            _exit(0);
        }
    }
    for (int left = workers; left > 0; left--) {
        int status = 0, which = 0;
        const pid_t ended = wait(&status);
        while (which < workers && pids[which] != ended)
            which++;
        if (ended < 0 || which == workers || status == 0)
            continue;
        if (failure == NULL)
            failure = stages[which].failures != 0 ? stages[which].failure : "a worker died";
        for (int i = 0; i < workers; i++)
            kill(pids[i], SIGKILL);
    }
    print_report(began, failure);
    return failure != NULL;
}
