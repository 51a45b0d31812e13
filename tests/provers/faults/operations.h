/* SPDX-License-Identifier: Apache-2.0
 *
 * What victims of crash.c do when they die: every operation on a ring.
 */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include "stage.h"

/* What a scene needs before the operation. */
enum {
    STALLED = 1,     /* consumers take nothing: the ring is full */
    CORPSE = 2,      /* somebody died before, unnoticed, holding frames */
    WARM = 4,        /* the producer prefers slots freed last */
    TAKES_OVER = 8,  /* the operation is the takeover, after a death in another one */
    JOINS = 16,      /* the operation is the join */
    ENDS_HANDLE = 32 /* nothing is left to continue with */
};

enum { AS_PRODUCER, AS_CONSUMER, AS_NOBODY };

typedef struct operation {
    const char *name;
    int who;
    int scene;
    uint64_t frames; /* a consumer waits for so many before */
    void (*run)(void);
} operation;

static session *mine; /* of a victim that consumes */
static uint64_t chance;

/* ---- a producer's ---- */

static void
produce(uint64_t want, uint64_t count)
{
    if (shmring_claim(&p, want) != SHMRING_OK)
        return;
    write_all(p.count);
    shmring_publish(&p, count < p.count ? count : p.count);
}

static void
put_one(void)
{
    produce(1, 1);
}

static void
put_a_batch(void)
{
    produce(p.block->geometry.slots, UINT64_MAX);
}

static void
put_part_of_a_claim(void)
{
    produce(3, 1);
}

static void
put_a_lap(void)
{
    for (uint64_t i = 0; i < p.block->geometry.slots; i++)
        produce(1, 1);
}

static void
abort_a_claim(void)
{
    produce(2, 0);
}

static void
drop_and_put(void)
{
    shmring_drop(&p, 1);
    produce(1, 1);
}

static void
put_by_copy(void)
{
    const uint64_t bytes = p.block->geometry.frame_bytes;
    uint64_t *const frame = (uint64_t *)malloc(bytes);
    const uint64_t meta[META_BYTES / sizeof(uint64_t)] = {p.next_seq, ~p.next_seq};
    const label mine_is = {p.next_seq, p.head, p.dropped};
    for (uint64_t word = 0; word < bytes / sizeof *frame; word++)
        frame[word] = frame_word(p.next_seq, word);
    memcpy(frame, &mine_is, sizeof mine_is);
    if (shmring_claim(&p, 1) != SHMRING_OK) {
        free(frame);
        return;
    }
    if (one_in(&chance, 2))
        shmring_copy_in(&p, 0, frame, bytes);
    else
        shmring_copy_streaming(shmring_claimed_slot(&p), frame, bytes);
    free(frame);
    CRASH_POINT("payload");
    shmring_describe(&p, 0, (int64_t)p.next_seq, 0, meta);
    shmring_publish(&p, 1);
}

static void
claim_in_vain(void)
{
    produce(1, 0);
    produce(3, 0);
}

static const shmring_patience impatience = {SHMRING_SECOND / 1000, 1000, 2};

static int64_t
soon(void)
{
    return shmring_now_ns() + SHMRING_SECOND / 500;
}

static void
wait_for_space(void)
{
    if (shmring_claim_until(&p, 1, soon(), &impatience) == SHMRING_OK)
        shmring_abort(&p);
}

static void
wait_for_consumers(void)
{
    shmring_await_consumers(&p, SHMRING_MAX_CONSUMERS, soon(), &impatience);
}

static void
reap_as_producer(void)
{
    shmring_reap_all(p.block, p.lock_fd);
}

static void
close_the_stream(void)
{
    close_producer(&p);
}

/* ---- a consumer's ---- */

static void
join_the_ring(void)
{
    begin_session(mine);
}

static void
keep_or_end(int result)
{
    if (result == SHMRING_EMPTY)
        return;
    CHECK_EQUAL(result, SHMRING_OK);
    check_taken(mine);
    if (mine->seen.taken.scattered)
        shmring_end_scattered(&mine->c, &mine->seen.taken);
    else
        keep_hold(mine, mine->seen.taken.hold);
}

static void
take_one(void)
{
    keep_or_end(shmring_take_one(&mine->c, ask(&mine->seen)));
}

static void
take_a_batch(void)
{
    keep_or_end(shmring_take_batch(&mine->c, 1, mine->c.block->geometry.slots, ask(&mine->seen)));
}

static void
take_the_latest(void)
{
    keep_or_end(shmring_take_latest(&mine->c, ask(&mine->seen)));
}

static void
take_windows(void)
{
    for (int i = 0; i < 2; i++)
        keep_or_end(shmring_take_window(&mine->c, 2, 1 + below(&chance, 3), ask(&mine->seen)));
}

/* Holds three frames, of which the cursor can lag behind two, and gives them back in any order. */
static void
hold_and_release(void)
{
    while (mine->keeping > 0)
        end_one_keep(mine);
    for (int i = 0; i < 3; i++) {
        if (shmring_take_one(&mine->c, ask(&mine->seen)) != SHMRING_OK)
            break;
        check_taken(mine);
        mine->keeps[mine->keeping].hold = mine->seen.taken.hold;
        mine->keeps[mine->keeping++].seqs[0] = mine->seen.seqs[0];
    }
    while (mine->keeping > 0)
        end_one_keep(mine);
}

static void
wait_for_a_frame(void)
{
    shmring_await(&mine->c, mine->c.block->geometry.slots, soon(), &impatience);
    const shmring_news news = shmring_note_news(&mine->c, 1000);
    shmring_wait_data(mine->c.block, &news, soon(), 1000, 2);
}

static void
ask_for_runs(void)
{
    shmring_want_runs(&mine->c);
}

static void
ask_for_shares(void)
{
    shmring_limit_held(&mine->c, 1 + below(&chance, shmring_all_slots(&mine->c.block->geometry)));
    shmring_limit_held(&mine->c, 1);
    shmring_limit_held(&mine->c, SHMRING_LEAST_SHARE);
}

static void
leave_the_ring(void)
{
    end_session(mine);
}

static void
leave_holding_frames(void)
{
    if (mine->keeping > 0)
        shmring_leave_holding(&mine->c);
    while (mine->keeping > 0)
        end_one_keep(mine);
    leave(&mine->c);
}

static void
count_the_end(void)
{
    shmring_count_lost_at_end(&mine->c, shmring_read_epoch(mine->c.block));
}

/* ---- anybody's ---- */

static void
attach(void)
{
    shmring_identity identity;
    CHECK_EQUAL(shmring_read_identity(here->t.r.fd, &identity), SHMRING_OK);
}

static void
reap_the_dead(void)
{
    const int fd = lock_file(&here->t.r);
    shmring_reap_all(&here->t.r.block, fd);
    close(fd);
}

static const operation operations[] = {
    {"take over", AS_PRODUCER, TAKES_OVER, 0, take_over},
    {"put one frame", AS_PRODUCER, 0, 0, put_one},
    {"put one frame by copy", AS_PRODUCER, 0, 0, put_by_copy},
    {"put a batch", AS_PRODUCER, 0, 0, put_a_batch},
    {"publish a part of a claim", AS_PRODUCER, 0, 0, put_part_of_a_claim},
    {"put a lap", AS_PRODUCER, 0, 0, put_a_lap},
    {"put a lap into warm slots", AS_PRODUCER, WARM, 0, put_a_lap},
    {"abort", AS_PRODUCER, 0, 0, abort_a_claim},
    {"drop one, put one", AS_PRODUCER, 0, 0, drop_and_put},
    {"claim in a full ring", AS_PRODUCER, STALLED, 0, claim_in_vain},
    {"wait for space", AS_PRODUCER, STALLED, 0, wait_for_space},
    {"wait for consumers", AS_PRODUCER, 0, 0, wait_for_consumers},
    {"reap", AS_PRODUCER, CORPSE, 0, reap_as_producer},
    {"close", AS_PRODUCER, ENDS_HANDLE, 0, close_the_stream},
    {"join", AS_CONSUMER, JOINS, 0, join_the_ring},
    {"take one frame", AS_CONSUMER, 0, 1, take_one},
    {"take a batch", AS_CONSUMER, 0, 2, take_a_batch},
    {"take the latest", AS_CONSUMER, 0, 2, take_the_latest},
    {"take windows", AS_CONSUMER, 0, 2, take_windows},
    {"hold frames and release them", AS_CONSUMER, 0, 1, hold_and_release},
    {"wait for a frame", AS_CONSUMER, 0, 0, wait_for_a_frame},
    {"ask for runs", AS_CONSUMER, 0, 0, ask_for_runs},
    {"ask for other shares", AS_CONSUMER, 0, 0, ask_for_shares},
    {"count what was dropped", AS_CONSUMER, ENDS_HANDLE, 0, count_the_end},
    {"leave", AS_CONSUMER, ENDS_HANDLE, 0, leave_the_ring},
    {"leave holding frames", AS_CONSUMER, ENDS_HANDLE, 1, leave_holding_frames},
    {"attach", AS_NOBODY, 0, 0, attach},
    {"reap as somebody else", AS_NOBODY, CORPSE, 0, reap_the_dead},
};
enum { OPERATIONS = sizeof operations / sizeof *operations, FORMAT = OPERATIONS, ALL_OPERATIONS };

#endif /* OPERATIONS_H */
