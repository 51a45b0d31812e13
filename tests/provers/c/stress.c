/* SPDX-License-Identifier: Apache-2.0
 *
 * Stress with threads that share one mapping:  stress [SECONDS [SEED]]
 *
 * Rounds of random geometry, policies and traffic (traffic.h): one producer that batches, aborts, drops
 * and hands over, consumers that join, hold, jump and leave, an observer. Any violation ends the program
 * with what happened, the seed and the round.
 *
 * What ThreadSanitizer sees here, and what not. It follows acquire and release, so it checks the edges
 * of words: payload, meta and the plain fields of a place are plain memory, and each access to them must
 * be ordered by such an edge. It knows nothing of stand-alone fences: whether the two sides of a pair of
 * them see each other in time shows only in the patterns of the frames.
 * It needs one address for one byte (frames are therefore looked at through the first mapping of the
 * slots) and calls to memcpy that were not inlined (-fno-builtin). Two readings are races by design, as in
 * every seqlock, and are not done under it: the observer's copies, and the meta of a frame that a
 * lossy consumer has pinned but not yet looked at again. Nothing is suppressed.
 */
#include "traffic.h"

#include <pthread.h>
#include <signal.h>

enum { MOST_CONSUMERS = 4 };

static uint64_t seed, round_number;
static traffic current;

void
check_failed(const char *file, int line, const char *what)
{
    const shmring_hot *const hot = current.r.block.hot;
    printf("stress: seed %" PRIu64 " round %" PRIu64 ": %s:%d: %s\n", seed, round_number, file, line, what);
    printf("  head %" PRIu64 " claimed %" PRIu64 " next_seq %" PRIu64 " active %" PRIx64 " slots %" PRIu64
           "\n",
           hot->head, hot->claimed, hot->next_seq, hot->active, current.r.block.geometry.slots);
    fflush(stdout);
    _exit(1);
}

static void
stuck(int signal_number)
{
    (void)signal_number;
    check_failed(__FILE__, __LINE__, "nothing moves any more");
}

/* ---- one round ---- */

typedef struct part {
    pthread_t thread;
    void (*play)(traffic *, uint64_t);
    uint64_t random;
} part;

static void *
play_part(void *argument)
{
    const part *const mine = (const part *)argument;
    mine->play(&current, mine->random);
    return NULL;
}

static void
start_part(part *one, void (*play)(traffic *, uint64_t), uint64_t *random)
{
    one->play = play;
    one->random = next_random(random);
    CHECK_EQUAL(pthread_create(&one->thread, NULL, play_part, one), 0);
}

static void
run_round(uint64_t random)
{
    part parts[MOST_CONSUMERS + 2];
    unsigned count = 0;
    const unsigned consumers = 1 + (unsigned)below(&random, MOST_CONSUMERS);
    make_ring(&current.r, random_geometry(&random));
    current.exceeds_cache = one_in(&random, 3);
    current.drops = one_in(&random, 2);
    current.stop = current.ended = 0;
    alarm(120);
    for (unsigned i = 0; i < consumers; i++)
        start_part(&parts[count++], consume_until_the_end, &random);
    if (!UNDER_TSAN)
        start_part(&parts[count++], observe_until_the_end, &random);
    start_part(&parts[count++], produce_until_told, &random);
    usleep(50000 + (useconds_t)below(&random, 300000));
    shmring_store_release(&current.stop, 1u);
    for (unsigned i = 0; i < count; i++)
        pthread_join(parts[i].thread, NULL);
    check_ring_at_rest(&current);
    end_ring(&current.r);
}

int
main(int argc, char **argv)
{
    const int64_t seconds = argc > 1 ? strtoll(argv[1], NULL, 10) : 3;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    const int64_t end = shmring_now_ns() + seconds * SHMRING_SECOND;
    signal(SIGALRM, stuck);
    for (round_number = 0; round_number == 0 || shmring_now_ns() < end; round_number++)
        run_round(mix(seed * 1000003 + round_number));
    printf("stress: seed %" PRIu64 ": %" PRIu64 " rounds, %" PRIu64 " frames, %" PRIu64 " takeovers, %" PRIu64
           " swaps; %" PRIu64 " stays of consumers, %" PRIu64 " delivered, %" PRIu64 " lost, %" PRIu64
           " copies; no violation\n",
           seed, round_number, current.frames, current.takeovers, current.swaps, current.sessions,
           current.takes, current.lost, current.copies);
    return 0;
}
