/* SPDX-License-Identifier: Apache-2.0
 *
 * A ring and those who live through the deaths of others on it: what crash.c's survivors do, and how it is
 * known that they continue. They use the ring as the Python classes do, with waits in slices of 100 ms.
 */
#ifndef STAGE_H
#define STAGE_H

#include "../c/traffic.h"

enum { MOST_CONSUMERS = 4, PRODUCER = MOST_CONSUMERS, SURVIVORS = MOST_CONSUMERS + 1 };

#define WAIT_SLICE (SHMRING_SECOND / 10)
#define PATIENCE (20 * SHMRING_SECOND) /* until a wait counts as a hang, on whatever machine */

typedef struct progress {
    uint32_t plays;
    uint32_t ready;
    uint64_t seen_kill; /* it has made progress since the kill of that number */
    int64_t took_ns;
    uint64_t learnt_epoch; /* of the last producer that it took for dead */
} progress;

/* Shared by the processes of a round. */
typedef struct stage {
    traffic t;
    progress survivors[SURVIVORS];
    uint32_t stalled; /* consumers take nothing for a while */
    uint64_t kill_number;
    int64_t killed_at;
    uint64_t safe_head; /* published before the victim began what it dies in */
    uint64_t safe_seq;
    uint64_t most_offered; /* by what the victim does */
    uint64_t victim_place;
    uint32_t done;                 /* the victim lived through it */
    const struct crash_site *seen; /* where the victim died */
    uint64_t length;               /* of the operation, in instructions */
    char name[160];                /* of what happens, for messages */
    char failure[800];             /* of the first who failed */
    uint32_t failures;
} stage;

static stage *here;

void
check_failed(const char *file, int line, const char *what)
{
    const shmring_hot *const hot = here->t.r.block.hot;
    if (__atomic_fetch_add(&here->failures, 1u, __ATOMIC_SEQ_CST) == 0)
        snprintf(here->failure, sizeof here->failure,
                 "%s: %s:%d: %s; head %" PRIu64 " claimed %" PRIu64 " next_seq %" PRIu64 " active %" PRIx64
                 " slots %" PRIu64,
                 here->name, file, line, what, hot == NULL ? 0 : hot->head, hot == NULL ? 0 : hot->claimed,
                 hot == NULL ? 0 : hot->next_seq, hot == NULL ? 0 : hot->active,
                 here->t.r.block.geometry.slots);
    _exit(1);
}

/* ---- progress ---- */

/* The next frame was delivered, published, or the producer's death learnt. */
static void
mark_progress(int who)
{
    progress *const mine = &here->survivors[who];
    const uint64_t number = __atomic_load_n(&here->kill_number, __ATOMIC_ACQUIRE);
    if (mine->seen_kill == number)
        return;
    mine->took_ns = shmring_now_ns() - here->killed_at;
    __atomic_store_n(&mine->seen_kill, number, __ATOMIC_RELEASE);
}

static int
all_recovered(void)
{
    for (int who = 0; who < SURVIVORS; who++)
        if (here->survivors[who].plays &&
            __atomic_load_n(&here->survivors[who].seen_kill, __ATOMIC_ACQUIRE) != here->kill_number)
            return 0;
    return 1;
}

/* ---- producers ---- */

static shmring_producer p;

/* What the one who takes over finds: nothing torn, nothing gone, the next seq. */
static void
take_over(void)
{
    const shmring_block *const block = &here->t.r.block;
    const uint64_t epoch = block->hot->epoch;
    begin_producing(&here->t, &p);
    CHECK_EQUAL(p.epoch, epoch + 1);
    CHECK(p.head >= here->safe_head && p.head <= here->safe_head + here->most_offered);
    CHECK(p.next_seq >= here->safe_seq && p.next_seq <= here->safe_seq + here->most_offered);
    CHECK(p.next_seq - here->safe_seq >= p.head - here->safe_head);
    check_permutation(&p);
    for (uint64_t index = 0; index < block->geometry.slots; index++) {
        const shmring_entry *const entry = shmring_entry_at(block, index);
        if (entry->stamp == 0)
            continue;
        CHECK(entry->stamp % 2 == 0 && entry->stamp <= shmring_published_stamp(p.head - 1));
        check_labelled(&here->t, shmring_slot_at(block, entry->slot),
                       shmring_record_at(block, entry->slot)->seq);
    }
}

static void
write_all(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t seq = p.next_seq + i;
        const uint64_t meta[META_BYTES / sizeof(uint64_t)] = {seq, ~seq};
        uint8_t *const frame = frame_at(p.block, p.slot, i);
        fill_frame(frame, 48, ~seq); /* half of it is rubbish so far */
        CRASH_POINT("payload");
        write_labelled(&p, i);
        CRASH_POINT("payload");
        shmring_describe(&p, i, (int64_t)seq, 0, meta);
    }
}

/* 0 after a slice without space. */
static int
put_some(uint64_t want)
{
    const shmring_patience patience = {WAIT_SLICE, 20000, 2};
    if (shmring_claim_until(&p, want, shmring_now_ns() + WAIT_SLICE, &patience) != SHMRING_OK)
        return 0;
    write_all(p.count);
    shmring_publish(&p, p.count);
    return 1;
}

static void
keep_safe(void)
{
    here->safe_head = p.head;
    here->safe_seq = p.next_seq;
}

static void
put_until_all_recovered(void)
{
    const int64_t end = shmring_now_ns() + PATIENCE;
    while (!all_recovered()) {
        put_some(1);
        CHECK(shmring_now_ns() < end);
        usleep(20);
    }
}

/* Publishes a last lap and ends the stream: now everything that was ever offered is known. */
static void
end_stream(void)
{
    for (uint64_t i = 0; i < 2 * p.block->geometry.slots; i++)
        put_some(1);
    check_permutation(&p);
    here->t.frames += p.head;
    here->t.swaps += p.swaps;
    here->t.final_seq = p.next_seq;
    close_producer(&p);
    shmring_store_release(&here->t.ended, 1u);
}

static void
survive_as_producer(uint64_t random)
{
    take_over();
    here->survivors[PRODUCER].ready = 1;
    while (!__atomic_load_n(&here->t.stop, __ATOMIC_ACQUIRE)) {
        if (put_some(one_in(&random, 3) ? 1 + below(&random, p.block->geometry.slots) : 1))
            mark_progress(PRODUCER);
        usleep((useconds_t)below(&random, 100));
    }
    end_stream();
}

/* ---- consumers ---- */

static int
producer_is_gone(const shmring_consumer *c)
{
    shmring_ring_status status;
    const int producer = shmring_look_at_producer(c->lock_fd, &c->block->geometry, &status);
    return producer == SHMRING_ENDED || producer == SHMRING_DIED;
}

/* Waits at most a slice for `least` frames. */
static void
wait_a_slice(const session *s, uint64_t least, uint32_t state, uint64_t *random)
{
    const shmring_news news = {s->c.next + least, shmring_read_epoch(s->c.block), state, NULL, 0, NULL, 0};
    shmring_wait_data(s->c.block, &news, shmring_now_ns() + WAIT_SLICE, (int64_t)below(random, 20000), 2);
}

static void
survive_as_consumer(int who, uint64_t random)
{
    session *const s = (session *)calloc(1, sizeof *s);
    uint64_t least = 1;
    s->t = &here->t;
    s->random = random;
    begin_session(s);
    here->survivors[who].ready = 1;
    for (;;) {
        const int ended = (int)shmring_load_acquire(&here->t.ended); /* before the last look for frames */
        const uint32_t state = shmring_read_producer_state(s->c.block);
        if (__atomic_load_n(&here->stalled, __ATOMIC_ACQUIRE)) {
            usleep(200);
            continue;
        }
        if (consume_once(s, &least)) {
            mark_progress(who);
            if (one_in(&s->random, 300)) {
                end_session(s);
                begin_session(s);
            }
            continue;
        }
        end_one_keep(s); /* gives something back while waiting, so nobody waits forever */
        if (ended && s->keeping == 0 && s->c.next >= shmring_read_head(s->c.block))
            break;
        const uint64_t epoch = shmring_load_acquire(&s->c.block->hot->epoch);
        if (producer_is_gone(&s->c) && epoch == shmring_load_acquire(&s->c.block->hot->epoch)) {
            here->survivors[who].learnt_epoch = epoch;
            mark_progress(who);
        }
        if (!ended)
            wait_a_slice(s, least, state, &s->random);
    }
    check_end(s);
    __atomic_fetch_add(&here->t.takes, s->c.delivered, __ATOMIC_RELAXED);
    __atomic_fetch_add(&here->t.lost, s->c.lost, __ATOMIC_RELAXED);
    end_session(s);
    free(s);
}

#endif /* STAGE_H */
