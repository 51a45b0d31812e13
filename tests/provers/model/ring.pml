/* The whole protocol of shmring as a model for spin: see docs/model.md. check.py runs it, one small
 * instance after the other, and breaks it on purpose. */

/* An instance sets: SLOTS, PLACES, CONSUMERS, FRAMES (offered in all), BATCH, KILLS, HOLDS (frames that a
 * consumer may keep while it takes the next), FIRST and SECOND (the consumers: see below), and of
 * WARM, ABORTS, DROPS, SILENCE, LEAVES, LATEST, LIVES, OBSERVED, SLIDES (the producer is a driver with two
 * buffers) what it wants. */

#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef SPARES
#define SPARES 0
#endif
#ifndef LIVES
#define LIVES 0
#endif
#ifdef OBSERVED
#define PROCESSES (CONSUMERS + 2)
#else
#define PROCESSES (CONSUMERS + 1)
#endif

/* Mutants that change a value; those that move or drop a step stand where the step is. */
#ifdef GATE_OFF_BY_ONE
#define BEYOND_THE_GATE 1
#else
#define BEYOND_THE_GATE 0
#endif
#ifdef SWAP_KEEPS_THE_STAMP
#define SWAP_INVALIDATES 0
#else
#define SWAP_INVALIDATES 1
#endif
#ifdef SWAP_LOOKS_AT_PINS_ONCE
#define SWAP_LOOKS_AGAIN 0
#else
#define SWAP_LOOKS_AGAIN 1
#endif
#ifdef SWAP_REMEMBERS_STAMP
#define SWAP_FORGETS_STAMP 0
#else
#define SWAP_FORGETS_STAMP 1
#endif
#ifdef CLAIM_IGNORES_PINS
#define CLAIM_LOOKS_AT_PINS 0
#else
#define CLAIM_LOOKS_AT_PINS 1
#endif
#ifdef RUN_IGNORES_PINS
#define RUN_LOOKS_AT_PINS 0
#else
#define RUN_LOOKS_AT_PINS 1
#endif
#ifdef RUN_IGNORES_LIMIT
#define IGNORES_LIMIT 1
#else
#define IGNORES_LIMIT 0
#endif
#ifdef ABORT_RESTORES_STAMP
#define ABORT_PUTS_BACK 1
#else
#define ABORT_PUTS_BACK 0
#endif
#ifdef LOSSY_LOOKS_ONCE
#define LOSSY_LOOKS_AGAIN 0
#else
#define LOSSY_LOOKS_AGAIN 1
#endif
#ifdef PIN_AFTER_SECOND_LOOK
#define PIN_IS_LATE 1
#else
#define PIN_IS_LATE 0
#endif
#ifdef COUNT_END_TRUSTS_ANY_EPOCH
#define COUNT_END_TRUSTS_NEXT_SEQ 1
#else
#define COUNT_END_TRUSTS_NEXT_SEQ 0
#endif
#ifdef JOIN_TRUSTS_HISTORY
#define JOIN_SEARCHES_STAMPS 0
#else
#define JOIN_SEARCHES_STAMPS 1
#endif
#ifdef SPARE_IGNORES_PINS
#define SPARE_IS_LOOKED_AT 0
#else
#define SPARE_IS_LOOKED_AT 1
#endif
#ifdef CLAIM_IGNORES_OWNERS
#define OWNERS_COUNT 0
#else
#define OWNERS_COUNT 1
#endif
#ifdef NEWCOMER_LOOKS_ONCE
#define NEWCOMER_LOOKS_AGAIN 0
#else
#define NEWCOMER_LOOKS_AGAIN 1
#endif

byte aborts = ABORTS;
byte lives = LIVES;

#include "block.pml"
#include "places.pml"
#include "producer.pml"
#include "consumer.pml"
#ifdef GROUP
#include "member.pml"
#endif

/* The next frame, by its stamp or by head. */
#define THERE (head > next || entry[next % SLOTS].stamp == PUBLISHED(next))

proctype Producer()
{
    byte me = PRODUCER;
    byte limit, seen_epoch, seen_active, saved[BATCH], gate, found, kind, turn, count, published, first, first_seq;
    byte back, freed, taken, given, stamp, taken_slots, settled, floor_seq;
    bit lossy_active, joined, pinned, swapped, ring_full, prepared, got_lock, sees_sleeper, cas_done, ahead;
#if BATCH > 1
    byte most;
#endif
#ifdef SLIDES
    byte out;
#endif
#ifdef GROUP
    byte word;
    bit group, was_member;
#endif

begin:
    open();
next_frame:
    if
    :: next_seq < FRAMES -> goto try
    :: next_seq >= FRAMES ->
#ifdef SLIDES
        if
        :: count > 0 -> publish() /* nothing: what the driver has goes back */
        :: else
        fi;
#endif
        close();
        goto gone
#ifdef SILENCE
    :: goto gone /* lives on, holds its lock, does nothing more */
#endif
#ifdef CLOSES_EARLY
    :: next_seq < FRAMES && epoch < 2 -> close(); goto begin
#endif
    fi;
try:
#ifdef SLIDES
    atomic { out = count };
    claim();
    atomic { out = 0 };
    if
    :: ring_full && count > 0 -> ring_full = 0; goto fill
    :: !ring_full && count < 2 -> goto try
    :: else
    fi;
#else
    claim();
#endif
    if
    :: ring_full && !prepared ->
        ring_full = 0;
        reap_all();
        if
        :: prepare(SPACE); prepared = 1; goto try
#ifdef DROPS
        :: STEP(next_seq++); goto next_frame
#endif
        fi
    :: ring_full && prepared ->
        atomic { ring_full = 0; prepared = 0 };
        SLEEP(SPACE, SOMEBODY_IS_DEAD, NOTHING_TO_CLAIM);
        goto try
    :: !ring_full ->
        atomic { prepared = 0; event[SPACE].knows = event[SPACE].knows & ~BIT(me) };
#ifdef SLIDES
fill:
        if
        :: count > 1 -> requeue()
        :: true
        fi;
#endif
        write();
        if
#ifdef SLIDES
        :: published = 1
#else
        :: published = count
#endif
#if BATCH > 1
        :: count > 1 -> published = 1
#endif
        :: aborts > 0 -> aborts--; published = 0
        fi;
        publish();
        goto next_frame
    fi;

killed:
    atomic {
        limit = 0; seen_epoch = 0; seen_active = 0; gate = 0; found = 0; kind = 0; turn = 0; count = 0; published = 0;
        first = 0; first_seq = 0; back = 0; freed = 0; taken = 0; given = 0; stamp = 0;
        taken_slots = 0; settled = 0; floor_seq = 0; lossy_active = 0; joined = 0; pinned = 0; swapped = 0;
        ring_full = 0; prepared = 0; got_lock = 0; sees_sleeper = 0; cas_done = 0; saved[0] = 0; ahead = 0;
#if BATCH > 1
        saved[1] = 0; most = 0;
#endif
#ifdef SLIDES
        out = 0;
#endif
#ifdef GROUP
        word = 0; group = 0; was_member = 0;
#endif
    };
    if
    :: goto begin /* another one takes over */
    :: true
    fi;
gone:
    finish()
}

proctype Consumer(byte me; bit lossless; byte start; bit resident)
{
    byte mine = NONE;
    byte next, known, cursor, expected, fresh, aim, newest, seq, of_epoch, oldest, round, turn, state, now_state;
    byte slot = NONE, older = NONE, older_at = NONE, newer = NONE, newer_at = NONE;
    byte held[ALL_SLOTS], pin_count[ALL_SLOTS];
    bit delivered, took, intact, stuck, awaits, got_lock, sees_sleeper, cas_done;
#ifdef GROUP
    byte word;
    bit was_member;
#endif

    if
    :: resident -> atomic { mine = me - 1; resident = 0; start = 0 }
    :: else ->
begin:
        find_place();
        if
        :: mine == NONE -> goto gone
        :: else
        fi;
        join()
    fi;

work:
    if
    :: HELD <= HOLDS && !stuck -> goto fetch
#ifdef LATEST
    :: HELD <= HOLDS && !stuck ->
        STEP(
            known = head;
            if
            :: known > next + 1 -> next = known - 1; aim = next
            :: else
            fi);
        goto fetch
#endif
    :: HOLDING_0 -> release(0); stuck = 0; goto work
    :: HOLDING_1 -> release(1); stuck = 0; goto work
#if ALL_SLOTS > 2
    :: HOLDING_2 -> release(2); stuck = 0; goto work
#endif
#ifdef LEAVES
    :: leave(); goto departed
#endif
#ifdef SILENCE
    :: goto gone
#endif
    fi;

fetch:
    take();
    if
    :: took -> took = 0; goto work
    :: else
    fi;

    STEP(state = producer_state);
    STEP(of_epoch = epoch);
#ifdef HEAD_BEFORE_STATE
    STEP(intact = THERE);
    STEP(now_state = producer_state; assert(intact || !ENDED(now_state) || next == head_at_close));
#else
    STEP(now_state = producer_state);
    STEP(intact = THERE; assert(intact || !ENDED(now_state) || next == head_at_close));
#endif
    if
    :: intact -> atomic { intact = 0; state = 0; now_state = 0; of_epoch = 0 }; goto fetch
    :: !intact && now_state == CLOSED ->
        count_end();
        leave();
        goto departed
    :: !intact && now_state == FAILED && !awaits -> /* ProducerFailed */
        count_end();
        if
        :: leave(); goto departed
        :: atomic { awaits = 1; state = 0; now_state = 0; of_epoch = 0 }; goto fetch
        fi
    :: atomic { !intact && now_state == LIVE && !awaits && producer_lock == 0 };
        STEP(got_lock = producer_state == LIVE);
        STEP(got_lock = got_lock && producer_lock == 0);
        STEP(intact = THERE);
        if
        :: got_lock && !intact -> /* ProducerDied */
            got_lock = 0;
            count_end();
            if
            :: leave(); goto departed
            :: atomic { awaits = 1; state = 0; now_state = 0; of_epoch = 0 }; goto fetch
            fi
        :: else -> atomic { got_lock = 0; intact = 0; state = 0; now_state = 0; of_epoch = 0 }; goto fetch
        fi
    :: !intact && now_state != CLOSED && (now_state != FAILED || awaits) -> atomic { now_state = 0; of_epoch = 0 }
    fi;

    hold_too_much();
    if
    :: stuck && lossless -> stop_lagging(); hold_too_much()
    :: else
    fi;
    if
    :: stuck -> state = 0; goto work
    :: else
    fi;
#ifdef LOOKS_BEFORE_THE_BIT
    STEP(intact = head > next);
    STEP(intact = intact || producer_state != state);
    prepare(DATA);
#else
    prepare(DATA);
    STEP(intact = head > next);
    STEP(intact = intact || producer_state != state);
#endif
    if
    :: !intact ->
        SLEEP(DATA, producer_lock == 0 && producer_state == LIVE && !awaits,
              head <= next && producer_state == state)
    :: else -> atomic { event[DATA].knows = event[DATA].knows & ~BIT(me) }
    fi;
    atomic { intact = 0; state = 0 };
    goto fetch;

killed:
departed:
    atomic {
        mine = NONE; next = 0; known = 0; cursor = 0; expected = 0; fresh = 0; aim = 0; newest = 0; seq = 0;
        of_epoch = 0; oldest = 0; round = 0; turn = 0; state = 0; now_state = 0; slot = NONE; older = NONE;
        older_at = NONE; newer = NONE; newer_at = NONE; delivered = 0; took = 0; intact = 0; stuck = 0; awaits = 0;
        got_lock = 0; sees_sleeper = 0; cas_done = 0; start = 0;
#ifdef GROUP
        word = 0; was_member = 0;
#endif
        for (i : 0 .. ALL_SLOTS - 1) {
            held[i] = 0;
            pin_count[i] = 0
        };
        i = 0
    };
    if
    :: lives > 0 -> /* somebody else comes */
        atomic { lives-- };
        if
        :: start = SOME_OLDEST
        :: start = NEWEST
        :: start = NEXT
        fi;
        goto begin
    :: true
    fi;
gone:
    finish()
}

#ifdef OBSERVED
/* A private copy: no place, no pin, no trace. */
proctype Observer()
{
    byte me = OBSERVER;
    byte position, slot, seq, of_epoch, left, right;
    bit intact;

    do
    :: STEP(position = head);
        if
        :: position >= 1 -> position = position - 1
        :: position >= 2 -> position = position - 2
#if SLOTS > 2
        :: position >= 3 -> position = position - 3
#endif
        :: goto gone
        fi;
        STEP(intact = entry[position % SLOTS].stamp == PUBLISHED(position));
        if
        :: intact ->
            STEP(slot = entry[position % SLOTS].slot);
            STEP(seq = record[slot].seq; of_epoch = record[slot].epoch);
            STEP(left = left_half[slot]);
#ifdef OBSERVER_LOOKS_TOO_EARLY
            STEP(intact = entry[position % SLOTS].stamp == PUBLISHED(position));
            STEP(right = right_half[slot]);
#else
            STEP(right = right_half[slot]);
#ifndef OBSERVER_LOOKS_ONCE
            STEP(intact = entry[position % SLOTS].stamp == PUBLISHED(position));
#endif
#endif
            atomic {
                assert(!intact || (left == identity_of[position] && right == left &&
                                   seq * 4 + of_epoch == left))
            }
        :: else
        fi;
        atomic { position = 0; slot = 0; seq = 0; of_epoch = 0; left = 0; right = 0; intact = 0 }
    od;
killed:
gone:
    finish()
}
#endif

#ifdef GROUP
#define OWNED_BY_NOBODY(slot, which) assert(owner[slot].who != HAS(which))
#else
#define OWNED_BY_NOBODY(slot, which) skip
#endif

/* Comes when all is over: reaps, and looks whether anything is left of anyone who is gone. */
proctype Auditor()
{
    byte me = AUDITOR;
    byte turn;
    bit got_lock, sees_sleeper, cas_done;
#ifdef GROUP
    byte word;
    bit was_member;
#endif

end_wait:
    finished == PROCESSES;
begin:
    reap_all();
    atomic {
        for (i : 0 .. PLACES - 1) {
            if
            :: place_lock[i] == 0 ->
                assert(place[i].state == FREE && !(active_bits & BIT(i)));
                for (j : 0 .. ALL_SLOTS - 1) {
                    assert(!(record[j].pins & BIT(i)));
                    OWNED_BY_NOBODY(j, i)
                }
            :: else
            fi
        };
        for (i : 0 .. SLOTS - 1) {
            assert(!ENDED(producer_state) || entry[i].stamp % 2 == 0);
            assert(!WHOLE(i, claimed) || (INTACT(entry[i].slot, identity_of[(entry[i].stamp - 2) / 2]) &&
                                 record[entry[i].slot].position == entry[i].stamp / 2))
        };
        i = 0;
        j = 0
    };
    goto over;
killed:
    atomic { turn = 0; got_lock = 0; sees_sleeper = 0; cas_done = 0 };
#ifdef GROUP
    atomic { word = 0; was_member = 0 };
#endif
    goto begin;
over:
    skip
}

inline settle_in(who, policy)
{
    place[who].state = policy;
    place[who].cursor = (policy == MEMBER -> NONE : 0);
    active_bits = active_bits | BIT(who);
    place_lock[who] = who + 2
}

init {
    atomic {
        d_step {
            for (i : 0 .. SLOTS - 1) {
                entry[i].slot = i
            };
            i = 0;
            awake = PROCESSES;
            if
            :: FIRST_RESIDES -> settle_in(0, FIRST_POLICY)
            :: else
            fi;
#if CONSUMERS > 1
            if
            :: SECOND_RESIDES -> settle_in(1, SECOND_POLICY)
            :: else
            fi
#endif
        };
        run Producer();
#if FIRST_POLICY == MEMBER
        run Member(1, FIRST_RESIDES);
#else
        run Consumer(1, FIRST_POLICY == LOSSLESS, FIRST_START, FIRST_RESIDES);
#endif
#if CONSUMERS > 1
#if SECOND_POLICY == MEMBER
        run Member(2, SECOND_RESIDES);
#else
        run Consumer(2, SECOND_POLICY == LOSSLESS, SECOND_START, SECOND_RESIDES);
#endif
#endif
#ifdef OBSERVED
        run Observer();
#endif
        run Auditor()
    }
}
