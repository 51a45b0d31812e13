/* SPDX-License-Identifier: Apache-2.0
 *
 * Random traffic through a ring that checks itself: what the producer and the consumers of stress.c
 * (threads) and processes.c (processes that are killed) do. Every frame says who it is and carries a
 * pattern; every consumer keeps its own books and compares them with the ring's after each take.
 */
#ifndef SHMRING_TESTS_TRAFFIC_H
#define SHMRING_TESTS_TRAFFIC_H

#include "common.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

/* One round: a ring and who uses it. Shared between the threads or processes of the round. */
typedef struct traffic {
    ring r;
    int processes; /* they are killed: what a dead producer did not finish leaves gaps in seq */
    int exceeds_cache;
    int drops;
    uint32_t stop;                                                    /* the producer is to end */
    uint32_t ended;                                                   /* it did; final_seq is set */
    uint64_t final_seq;                                               /* next_seq at the end */
    uint64_t frames, takes, sessions, takeovers, swaps, lost, copies; /* how much was done */
} traffic;

/* ---- chance ---- */

static inline uint64_t
next_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(*state);
}

static inline uint64_t
below(uint64_t *state, uint64_t bound)
{
    return next_random(state) % bound;
}

static inline int
one_in(uint64_t *state, uint64_t n)
{
    return below(state, n) == 0;
}

/* Mostly tight rings of a few page-sized slots; now and then gapless ones. Half of them have spare slots. */
static inline shmring_geometry
random_geometry(uint64_t *random)
{
    shmring_geometry g = page_slots(2 + below(random, 9));
    g.frame_bytes = 64 + 8 * below(random, 50);
    g.consumers = 8;
    g.meta_bytes = META_BYTES;
    if (one_in(random, 4)) {
        g.slots = MOST_TAKEN;
        g.frame_bytes = g.slot_stride = 64;
    }
    g.spares = one_in(random, 2) ? 1 + below(random, 4) : 0;
    return g;
}

/* ---- frames ---- */

/* What every frame begins with; the pattern of its seq follows. */
typedef struct label {
    uint64_t seq;
    uint64_t position;
    uint64_t dropped;
} label;
enum { LABEL_WORDS = sizeof(label) / sizeof(uint64_t) };

/* Where frame i of a claim or hold lies, slot being its first one. Under TSan always in the first of the
 * two mappings: it would not know the other one as the same memory. */
static inline uint8_t *
frame_at(const shmring_block *block, uint64_t slot, uint64_t i)
{
    if (UNDER_TSAN && i != 0)
        return shmring_slot_at(block, (slot + i) % block->geometry.slots);
    return shmring_slot_at(block, slot) + i * block->geometry.slot_stride;
}

static inline void
write_labelled(const shmring_producer *p, uint64_t i)
{
    const label mine = {p->next_seq + i, p->head + i, p->dropped};
    const uint64_t words = p->block->geometry.frame_bytes / sizeof(uint64_t);
    uint64_t *const frame = (uint64_t *)(void *)frame_at(p->block, p->slot, i);
    memcpy(frame, &mine, sizeof mine);
    for (uint64_t word = LABEL_WORDS; word < words; word++)
        frame[word] = frame_word(mine.seq, word);
}

static inline label
check_labelled(const traffic *t, const void *frame, uint64_t seq)
{
    label found;
    const uint64_t words = t->r.block.geometry.frame_bytes / sizeof(uint64_t);
    memcpy(&found, frame, sizeof found);
    CHECK_EQUAL(found.seq, seq);
    if (t->processes)
        CHECK(found.seq >= found.position + found.dropped);
    else
        CHECK_EQUAL(found.seq, found.position + found.dropped);
    for (uint64_t word = LABEL_WORDS; word < words; word++)
        CHECK_EQUAL(((const uint64_t *)frame)[word], frame_word(seq, word));
    return found;
}

static inline void
check_meta(const uint8_t *meta, uint64_t seq)
{
    uint64_t words[META_BYTES / sizeof(uint64_t)];
    memcpy(words, meta, sizeof words);
    CHECK_EQUAL(words[0], seq);
    CHECK_EQUAL(words[1], ~seq);
}

/* ---- the producer ---- */

static inline void
begin_producing(traffic *t, shmring_producer *p)
{
    open_producer(&t->r, p);
    p->exceeds_cache = t->exceeds_cache;
    p->copies = 1; /* large ones, through the cache: so warm slots are reused */
}

/* Offers some frames: publishes all of a claim, some, none; or drops. */
static inline void
offer(traffic *t, shmring_producer *p, uint64_t *random)
{
    const uint64_t slots = p->block->geometry.slots;
    const uint64_t want = one_in(random, 3) ? 1 + below(random, slots + 1) : 1;
    const int64_t until = shmring_now_ns() + SHMRING_SECOND / 1000;
    const int result = one_in(random, 2)
                           ? shmring_claim(p, want)
                           : shmring_claim_wait(p, want, until, (int64_t)below(random, 20000), 2);
    if (result != SHMRING_OK) {
        shmring_reap_all(p->block, p->lock_fd);
        if (t->drops && one_in(random, 4))
            shmring_drop(p, 1 + below(random, 3));
        sched_yield();
        return;
    }
    const uint64_t count = one_in(random, 16) ? below(random, p->count + 1) : p->count;
    for (uint64_t i = 0; i < p->count; i++) {
        const uint64_t seq = p->next_seq + i;
        const uint64_t meta[META_BYTES / sizeof(uint64_t)] = {seq, ~seq};
        if (i < count)
            write_labelled(p, i);
        else /* rubbish that nobody may ever see */
            fill_frame(frame_at(p->block, p->slot, i), p->block->geometry.frame_bytes, ~seq);
        shmring_describe(p, i, (int64_t)seq, 0, meta);
    }
    shmring_publish(p, count);
}

/* What belongs into the oldest buffer of a driver, or into the only frame of a claim. */
static inline void
fill_oldest(shmring_producer *p)
{
    const uint64_t meta[META_BYTES / sizeof(uint64_t)] = {p->next_seq, ~p->next_seq};
    write_labelled(p, 0);
    shmring_describe(p, 0, (int64_t)p->next_seq, 0, meta);
}

/* For some frames, a driver with several buffers: it writes to all of them at any time, publishes the oldest,
 * or fills it again. */
static inline void
drive(traffic *t, shmring_producer *p, uint64_t *random)
{
    const uint64_t buffers = 1 + below(random, p->block->geometry.slots);
    for (uint64_t turns = below(random, 40); turns > 0; turns--) {
        while (p->count < buffers && shmring_claim_more(p) == SHMRING_OK)
            continue;
        if (p->count == 0) {
            shmring_reap_all(p->block, p->lock_fd);
            break;
        }
        const uint64_t any = shmring_claimed_slot_of(p, below(random, p->count));
        fill_frame(shmring_slot_at(p->block, any), p->block->geometry.frame_bytes, ~p->next_seq);
        if (one_in(random, 8)) {
            shmring_requeue_oldest(p);
            if (t->drops)
                shmring_drop(p, 1);
        }
        fill_oldest(p);
        shmring_publish_oldest(p);
    }
    shmring_abort(p);
}

/* Hands the ring over to the next producer; as one that ends, or as one that died with a claim open. */
static inline void
hand_over(traffic *t, shmring_producer *p, uint64_t *random)
{
    if (one_in(random, 2)) {
        close_producer(p);
    } else {
        if (shmring_claim(p, 1 + below(random, 3)) == SHMRING_OK)
            fill_frame(shmring_claimed_slot(p), p->block->geometry.frame_bytes, UINT64_MAX);
        kill_producer(p);
    }
    begin_producing(t, p);
    t->takeovers++;
}

static inline void
produce_until_told(traffic *t, uint64_t random)
{
    static shmring_producer p; /* a process has one */
    begin_producing(t, &p);
    while (!shmring_load_acquire(&t->stop)) {
        offer(t, &p, &random);
        if (one_in(&random, 30))
            drive(t, &p, &random);
        if (one_in(&random, 2000))
            hand_over(t, &p, &random);
        if (t->drops && one_in(&random, 500))
            shmring_drop(&p, 1);
    }
    check_permutation(&p);
    t->frames += p.head;
    t->swaps += p.swaps;
    t->final_seq = p.next_seq;
    close_producer(&p);
    shmring_store_release(&t->ended, 1u);
}

/* ---- a consumer ---- */

enum { MOST_KEPT = 4 };

typedef struct kept {
    shmring_hold *hold;
    uint64_t seqs[MOST_TAKEN];
} kept;

/* One stay of a consumer, from join to leave, and its own books. */
typedef struct session {
    traffic *t;
    uint64_t random;
    shmring_consumer c;
    kept keeps[MOST_KEPT];
    unsigned keeping;
    uint64_t first_seq; /* counted from here on */
    uint64_t expected_seq;
    uint64_t expected_position;
    uint64_t delivered;
    uint64_t absent; /* seqs that were not delivered */
    uint64_t passed; /* positions that were not delivered: published, but not for this consumer */
    take seen;
} session;

static inline void
begin_session(session *s)
{
    shmring_consumer *const c = &s->c;
    join(&s->t->r, c, !one_in(&s->random, 3), (int)below(&s->random, 3));
    if (!c->lossless && c->block->geometry.spares != 0) /* without spares, it holds what it likes */
        c->max_held = c->block->table[c->place].max_held;
    s->keeping = 0;
    s->first_seq = s->expected_seq = c->expected_seq;
    s->expected_position = c->next;
    s->delivered = s->absent = s->passed = 0;
    if (one_in(&s->random, 4))
        shmring_want_runs(c);
}

static inline void
check_kept(const session *s, const kept *keep)
{
    for (uint64_t i = 0; i < keep->hold->count; i++)
        check_labelled(s->t, frame_at(s->c.block, keep->hold->slot, i), keep->seqs[i]);
}

/* Ends one of the holds: its frames must still be what they were. */
static inline void
end_one_keep(session *s)
{
    if (s->keeping == 0)
        return;
    kept *const keep = &s->keeps[below(&s->random, s->keeping)];
    check_kept(s, keep);
    shmring_release(&s->c, keep->hold);
    *keep = s->keeps[--s->keeping];
}

static inline void
keep_hold(session *s, shmring_hold *hold)
{
    if (s->keeping == MOST_KEPT)
        end_one_keep(s);
    s->keeps[s->keeping].hold = hold;
    memcpy(s->keeps[s->keeping].seqs, s->seen.seqs, sizeof s->seen.seqs);
    s->keeping++;
    while (s->keeping > 0 && !one_in(&s->random, 5))
        end_one_keep(s);
}

/* Enters one frame into the books. */
static inline void
account(session *s, const label *frame)
{
    if (s->delivered == 0 && frame->seq < s->expected_seq)
        s->first_seq = s->expected_seq =
            frame->seq; /* joined in the middle of a publish: it counts from here */
    if (s->delivered == 0 && frame->position - s->expected_position > frame->seq - s->expected_seq)
        s->expected_position = frame->position - (frame->seq - s->expected_seq); /* or from here */
    if (frame->seq < s->expected_seq) {
        CHECK(frame->position < s->expected_position); /* windows overlap */
        return;
    }
    CHECK(frame->position >= s->expected_position);
    s->absent += frame->seq - s->expected_seq;
    s->passed += frame->position - s->expected_position;
    s->expected_seq = frame->seq + 1;
    s->expected_position = frame->position + 1;
    s->delivered++;
}

/* The ring's counts must be the books'. Lossless: what was passed over was so on purpose, and all of it. */
static inline void
check_books(const session *s)
{
    const shmring_consumer *const c = &s->c;
    CHECK_EQUAL(c->delivered, s->delivered);
    CHECK_EQUAL(c->lost + c->skipped, s->absent);
    CHECK(c->skipped <= s->passed);
    if (c->lossless)
        CHECK_EQUAL(c->skipped, s->passed);
}

static inline void
check_taken(session *s)
{
    const shmring_consumer *const c = &s->c;
    const shmring_taken *const taken = &s->seen.taken;
    for (uint64_t i = 0; i < taken->count; i++) {
        const uint8_t *const frame = taken->scattered ? shmring_slot_at(c->block, c->slots_taken[i])
                                                      : frame_at(c->block, taken->hold->slot, i);
        const label found = check_labelled(s->t, frame, s->seen.seqs[i]);
        CHECK_EQUAL(s->seen.timestamps[i], found.seq);
        if (taken->metas != NULL)
            check_meta(s->seen.metas + i * META_BYTES, found.seq);
        account(s, &found);
    }
    CHECK(c->pinned_slots <= c->max_held);
    check_books(s);
}

/* Takes one frame, some, a window, or the latest. */
static inline int
take_something(session *s, uint64_t *least)
{
    shmring_consumer *const c = &s->c;
    shmring_taken *const taken = ask(&s->seen);
    const uint64_t slots = c->block->geometry.slots;
    const uint64_t some = 1 + below(&s->random, slots);
    if (UNDER_TSAN && !c->lossless)
        taken->metas = NULL; /* read before the second look at the stamp: a race by design */
    *least = 1;
    switch (below(&s->random, 8)) {
    case 0:
        return shmring_take_latest(c, taken);
    case 1:
    case 2:
        return shmring_take_batch(c, 1, some, taken);
    case 3:
        *least = some;
        return shmring_take_window(c, some, 1 + below(&s->random, some + 2), taken);
    default:
        return shmring_take_one(c, taken);
    }
}

/* One take and what follows from it. 0 if there was nothing to take. */
static inline int
consume_once(session *s, uint64_t *least)
{
    const int result = take_something(s, least);
    if (result == SHMRING_EMPTY)
        return 0;
    CHECK_EQUAL(result, SHMRING_OK);
    check_taken(s);
    if (s->seen.taken.scattered)
        shmring_end_scattered(&s->c, &s->seen.taken);
    else
        keep_hold(s, s->seen.taken.hold);
    return 1;
}

/* Everything was read that will ever come; now every frame offered since the join is accounted for. */
static inline void
check_end(session *s)
{
    shmring_count_lost_at_end(&s->c, shmring_read_epoch(s->c.block));
    CHECK_EQUAL(s->c.delivered, s->delivered);
    CHECK(s->t->final_seq >= s->first_seq || s->delivered == 0);
    if (s->t->final_seq >= s->first_seq)
        CHECK_EQUAL(s->c.delivered + s->c.lost + s->c.skipped, s->t->final_seq - s->first_seq);
}

static inline void
end_session(session *s)
{
    if (s->keeping > 0 && one_in(&s->random, 2))
        shmring_leave_holding(&s->c);
    while (s->keeping > 0)
        end_one_keep(s);
    CHECK_EQUAL(s->c.held, 0);
    CHECK_EQUAL(s->c.pinned_slots, 0);
    leave(&s->c);
}

/* Takes until it has taken enough, or the stream has ended (then 1). */
static inline int
run_session(session *s, uint64_t takes)
{
    const shmring_block *const block = s->c.block;
    uint64_t least = 1;
    while (takes > 0) {
        const int ended = (int)shmring_load_acquire(&s->t->ended); /* before the last look for frames */
        if (consume_once(s, &least)) {
            takes--;
            continue;
        }
        end_one_keep(s); /* gives something back while waiting, so nobody waits forever */
        if (ended && s->keeping == 0) {
            if (s->c.next >= shmring_read_head(block)) {
                check_end(s);
                return 1;
            }
            continue;
        }
        const int64_t until = shmring_now_ns() + SHMRING_SECOND / 500;
        const shmring_news news = shmring_note_news(&s->c, least);
        shmring_wait_data(block, &news, until, (int64_t)below(&s->random, 20000), 2);
    }
    return 0;
}

static inline void
consume_until_the_end(traffic *t, uint64_t random)
{
    session *const s = (session *)calloc(1, sizeof *s);
    uint64_t sessions = 0, takes = 0, lost = 0;
    int ended = 0;
    s->t = t;
    s->random = random;
    while (!ended) {
        begin_session(s);
        ended = run_session(s, 1 + below(&s->random, one_in(&s->random, 2) ? 20 : 3000));
        sessions++;
        takes += s->c.delivered;
        lost += s->c.lost;
        end_session(s);
    }
    free(s);
    shmring_fetch_add_release(&t->sessions, sessions);
    shmring_fetch_add_release(&t->takes, takes);
    shmring_fetch_add_release(&t->lost, lost);
}

/* ---- an observer ---- */

/* Private copies of random frames near head: whole and the right ones, or none. */
static inline void
observe_until_the_end(traffic *t, uint64_t random)
{
    const shmring_block *const block = &t->r.block;
    const uint64_t slots = block->geometry.slots;
    uint8_t *const copy = (uint8_t *)malloc(block->geometry.frame_bytes);
    take *const seen = (take *)calloc(1, sizeof *seen);
    uint64_t copies = 0;
    while (!shmring_load_acquire(&t->ended)) {
        const uint64_t head = shmring_read_head(block);
        const uint64_t back = 1 + below(&random, slots + 1);
        if (head < back || shmring_copy_out(block, head - back, copy, ask(seen)) != SHMRING_OK) {
            sched_yield();
            continue;
        }
        const label found = check_labelled(t, copy, seen->seqs[0]);
        CHECK_EQUAL(found.position, head - back);
        CHECK_EQUAL(seen->timestamps[0], found.seq);
        check_meta(seen->metas, found.seq);
        copies++;
    }
    free(copy);
    free(seen);
    shmring_fetch_add_release(&t->copies, copies);
}

/* ---- after the round ---- */

/* Everybody left: the ring is as whole as on its first day. */
static inline void
check_ring_at_rest(traffic *t)
{
    static shmring_producer p;
    const shmring_block *const block = &t->r.block;
    CHECK_EQUAL(block->hot->active, 0);
    for (uint64_t slot = 0; slot < shmring_all_slots(&block->geometry); slot++)
        CHECK_EQUAL(shmring_record_at(block, slot)->pins, 0);
    for (uint64_t place = 0; place < block->geometry.consumers; place++)
        CHECK_EQUAL(block->table[place].state & 0xff, SHMRING_PLACE_FREE);
    open_producer(&t->r, &p);
    check_permutation(&p);
    for (uint64_t i = 0; i < 3 * block->geometry.slots; i++)
        CHECK_EQUAL(put(&p), SHMRING_OK);
    CHECK_EQUAL(check_history(block), block->geometry.slots);
    close_producer(&p);
}

#endif /* SHMRING_TESTS_TRAFFIC_H */
