/* SPDX-License-Identifier: Apache-2.0
 *
 * Stress with processes that are killed at any moment:  processes [SECONDS [SEED]]
 *
 * The traffic of traffic.h, each participant a process of its own. The parent stops them for a while,
 * kills them with SIGKILL and starts others in their place: the next producer takes over, the places of
 * dead consumers are reaped. Each survivor keeps exact books all the while. In the end the
 * ring must be whole. The seed fixes what is done, not when the system does it.
 */
#include "children.h"
#include "traffic.h"

enum { CONSUMERS = 3, CHILDREN = CONSUMERS + 2, PRODUCER = CONSUMERS, OBSERVER = CONSUMERS + 1 };

static uint64_t seed, round_number, kills, stops;
static traffic *current;

void
check_failed(const char *file, int line, const char *what)
{
    const shmring_hot *const hot = current->r.block.hot;
    printf("processes: seed %" PRIu64 " round %" PRIu64 ": %s:%d: %s\n", seed, round_number, file, line,
           what);
    printf("  head %" PRIu64 " claimed %" PRIu64 " next_seq %" PRIu64 " active %" PRIx64 " slots %" PRIu64
           "\n",
           hot->head, hot->claimed, hot->next_seq, hot->active, current->r.block.geometry.slots);
    fflush(stdout);
    _exit(1);
}

static void
stuck(int signal_number)
{
    (void)signal_number;
    check_failed(__FILE__, __LINE__, "nothing moves any more");
}

/* ---- children ---- */

static void
play(int who, uint64_t random)
{
    if (who == PRODUCER)
        produce_until_told(current, random);
    else if (who == OBSERVER)
        observe_until_the_end(current, random);
    else
        consume_until_the_end(current, random);
}

/* ---- one round ---- */

/* Stops, kills and restarts children, one or several at once. */
static void
disturb(pid_t *children, uint64_t *random)
{
    const unsigned victims = 1 + (unsigned)below(random, one_in(random, 8) ? CHILDREN : 2);
    int chosen[CHILDREN] = {0, 0, 0, 0, 0};
    for (unsigned i = 0; i < victims; i++)
        chosen[below(random, CHILDREN)] = 1;
    if (one_in(random, 4)) {
        for (int who = 0; who < CHILDREN; who++)
            if (chosen[who])
                kill(children[who], SIGSTOP);
        usleep((useconds_t)below(random, 3000));
        stops++;
    }
    const int lives = one_in(random, 8); /* it was only slow */
    for (int who = 0; who < CHILDREN; who++)
        if (chosen[who] && !lives) {
            kill_child(children[who]);
            kills++;
        }
    for (int who = 0; who < CHILDREN; who++) {
        if (chosen[who] && lives)
            kill(children[who], SIGCONT);
        else if (chosen[who])
            children[who] = start_child(play, who, next_random(random));
    }
}

static void
run_round(uint64_t random)
{
    pid_t children[CHILDREN];
    make_ring(&current->r, random_geometry(&random));
    current->processes = 1;
    current->exceeds_cache = one_in(&random, 3);
    current->drops = one_in(&random, 2);
    current->stop = current->ended = 0;
    alarm(120);
    for (int who = 0; who < CHILDREN; who++)
        children[who] = start_child(play, who, next_random(&random));
    const int64_t end = shmring_now_ns() + SHMRING_SECOND / 2;
    while (shmring_now_ns() < end) {
        usleep((useconds_t)below(&random, one_in(&random, 4) ? 20000 : 3000));
        disturb(children, &random);
    }
    shmring_store_release(&current->stop, 1u);
    for (int who = 0; who < CHILDREN; who++)
        let_child_end(children[who]);
    const int fd = lock_file(&current->r);
    shmring_reap_all(&current->r.block, fd);
    close(fd);
    check_ring_at_rest(current);
    end_ring(&current->r);
}

int
main(int argc, char **argv)
{
    const int64_t seconds = argc > 1 ? strtoll(argv[1], NULL, 10) : 3;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    void *const shared =
        mmap(NULL, sizeof *current, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const int64_t end = shmring_now_ns() + seconds * SHMRING_SECOND;
    if (shared == MAP_FAILED)
        return 1;
    current = (traffic *)shared;
    signal(SIGALRM, stuck);
    for (round_number = 0; round_number == 0 || shmring_now_ns() < end; round_number++)
        run_round(mix(seed * 1000003 + round_number));
    printf("processes: seed %" PRIu64 ": %" PRIu64 " rounds, %" PRIu64 " kills, %" PRIu64 " stops, %" PRIu64
           " frames, %" PRIu64 " takeovers, %" PRIu64 " copies; no violation\n",
           seed, round_number, kills, stops, current->frames, current->takeovers, current->copies);
    return 0;
}
