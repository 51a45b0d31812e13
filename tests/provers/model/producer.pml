/* The producer: take over, claim, swap, write, publish, abort, drop, wait for space, close.
 * Only the producer writes head, next_seq, claimed and the entries (but for their pins), so what the code
 * keeps in local copies of them is read from the block here. */

/* The next position to claim: with SLIDES, behind the `out` frames that are claimed already. */
#ifdef SLIDES
#define TAIL (head + out)
#define OUT out
#else
#define TAIL head
#define OUT 0
#endif
#define AT(ahead) ((TAIL + (ahead)) % SLOTS) /* the entry of a position from there on */
#ifdef SWAP_TAKES_BUFFERS
#define OTHERS SLOTS
#else
#define OTHERS (SLOTS - OUT) /* entries that a swap may look at */
#endif

/* Whether the frames behind those that are published stay claimed. */
#ifdef SLIDES
#define KEEPS_OTHERS (published > 0)
#define STILL_CLAIMED (published > 0 -> count - published : 0)
#else
#define KEEPS_OTHERS 0
#define STILL_CLAIMED 0
#endif

/* ---- the gate ---- */

#ifdef GROUP
#define GATES(kind) (kind == LOSSLESS || kind == MEMBER || kind == ENTERING)
/* A newcomer may have found a group, whose next may be below its provisional cursor: claims that were taken back
 * raised claimed. */
#ifdef ENTERING_GATES_BY_CURSOR
#define ENTERING_GATES_ALONE (kind == ENTERING)
#else
#define ENTERING_GATES_ALONE 0
#endif
#define IN_A_GROUP(kind) (kind == MEMBER || kind == ENTERING)
#define GROUP_IS_SEEN group = group || kind == MEMBER || kind == ENTERS
#define FORGET_GROUP group = 0
#ifdef GROUP_DOES_NOT_GATE
#define GROUP_GATE NONE
#else
#define GROUP_GATE group_next
#endif
#ifdef OWNERS_DO_NOT_COUNT_WHILE_ENTERING
#define ENTERS NONE
#else
#define ENTERS ENTERING
#endif
#else
#define GATES(kind) (kind == LOSSLESS)
#define GROUP_IS_SEEN skip
#define FORGET_GROUP skip
#endif

inline skip_absent()
{
    do
    :: turn < PLACES && !(found & BIT(turn)) -> turn++
    :: else -> break
    od
}

#ifdef GROUP
/* After the cursor: a newcomer stores the group's next, then that its cursor gates no more. */
inline read_next()
{
    if
    :: IN_A_GROUP(kind) && !ENTERING_GATES_ALONE -> STEP(gate = MIN(gate, GROUP_GATE))
    :: else
    fi
}
#endif

inline look_at_table()
{
#ifndef RESCAN_READS_EPOCH_LAST
    STEP(seen_epoch = join_count);
#endif
    STEP(found = active_bits; seen_active = found; gate = NONE; lossy_active = 0; FORGET_GROUP; turn = 0; skip_absent());
    do
    :: turn < PLACES ->
        STEP(
            kind = place[turn].state;
            lossy_active = (kind == LOSSY -> 1 : lossy_active);
            GROUP_IS_SEEN;
            if
            :: GATES(kind)
            :: else -> turn++; skip_absent()
            fi);
        if
        :: GATES(kind) ->
#ifdef GROUP
#ifdef NEXT_BEFORE_CURSOR
            read_next();
#endif
            STEP(gate = MIN(gate, place[turn].cursor));
#ifndef NEXT_BEFORE_CURSOR
            read_next();
#endif
            atomic { turn++; kind = 0; skip_absent() }
#else
            STEP(gate = MIN(gate, place[turn].cursor); turn++; kind = 0; skip_absent())
#endif
        :: else -> kind = 0
        fi
    :: else -> break
    od;
#ifdef RESCAN_READS_EPOCH_LAST
    STEP(seen_epoch = join_count);
#endif
}

/* A member may come and another one go while the table is read, so that neither is seen: then again. */
inline rescan()
{
    look_at_table();
#ifdef GROUP
#ifndef RESCAN_LOOKS_ONCE
    do
    :: STEP(joined = join_count != seen_epoch);
        if
        :: joined -> joined = 0; look_at_table()
        :: else -> break
        fi
    od;
#endif
#endif
    atomic { limit = (gate == NONE -> NONE : gate + SLOTS + BEYOND_THE_GATE); found = 0; turn = 0 }
}

/* active, then join_count: a newcomer's bit comes first. */
inline look_for_newcomers()
{
    STEP(joined = active_bits != seen_active);
    STEP(joined = joined || join_count != seen_epoch);
    if
    :: joined -> joined = 0; rescan()
    :: else
    fi
}

/* ---- marks ---- */

inline mark_entries(from, to)
{
#ifndef CLAIMED_NOT_RAISED
    if
    :: TAIL + to > claimed -> STEP(claimed = TAIL + to)
    :: else
    fi;
#endif
    turn = from;
    do
    :: turn < to ->
        STEP(saved[turn] = entry[AT(turn)].stamp; entry[AT(turn)].stamp = WRITING(TAIL + turn); turn++)
    :: else -> turn = 0; break
    od
}

inline mark(from, to)
{
    mark_entries(from, to);
#ifndef MARK_DOES_NOT_LOOK_FOR_NEWCOMERS
    look_for_newcomers()
#endif
}

inline unmark(from, to)
{
    turn = from;
    do
    :: turn < to -> STEP(entry[AT(turn)].stamp = saved[turn]; saved[turn] = 0; turn++)
    :: else -> turn = 0; break
    od
}

/* At the end of a publish, for the next claim, where that can cost nobody a frame. */
inline mark_ahead()
{
    if
    :: STILL_CLAIMED == 0 && gate != NONE && !lossy_active && head < limit -> mark_entries(0, 1); ahead = 1
    :: else
    fi
}

inline unmark_ahead()
{
    if
    :: ahead -> ahead = 0; unmark(0, 1)
    :: else
    fi
}

inline mark_first()
{
    if
    :: ahead ->
        ahead = 0;
#ifndef MARK_AHEAD_TRUSTS_THE_GATE
        look_for_newcomers()
#endif
    :: else -> mark(0, 1)
    fi
}

/* ---- holds ---- */

/* Owners first: a member that leaves pins before it lets go. */
inline look_at_holds(where, looks)
{
#ifdef GROUP
#ifdef PINS_BEFORE_OWNERS
    STEP(pinned = looks && record[where].pins != 0);
    if
    :: !pinned && group -> STEP(pinned = looks && owner[where].who != DONE)
    :: else
    fi
#else
    if
    :: group && OWNERS_COUNT -> STEP(pinned = looks && owner[where].who != DONE)
    :: else
    fi;
    if
    :: !pinned -> STEP(pinned = looks && record[where].pins != 0)
    :: else
    fi
#endif
#else
    STEP(pinned = looks && record[where].pins != 0)
#endif
}

/* ---- spare slots: those that no entry names ---- */

#if SLOTS == 1
#define NAMED(which) (entry[0].slot == (which))
#elif SLOTS == 2
#define NAMED(which) (entry[0].slot == (which) || entry[1].slot == (which))
#else
#define NAMED(which) (entry[0].slot == (which) || entry[1].slot == (which) || entry[2].slot == (which))
#endif

/* Gives the claimed entry the spare slot, unless that is held. No other entry is touched. */
inline take_spare(spare)
{
    look_at_holds(spare, SPARE_IS_LOOKED_AT);
    if
    :: pinned -> pinned = 0
    :: else -> STEP(entry[AT(0)].slot = spare; saved[0] = 0); swapped = 1
    fi
}

inline take_any_spare()
{
    taken = 0;
    do
    :: taken < ALL_SLOTS && !swapped && NAMED(taken) -> taken++
    :: taken < ALL_SLOTS && !swapped && !NAMED(taken) -> take_spare(taken); taken++
    :: taken == ALL_SLOTS || swapped -> break
    od;
    taken = 0
}

/* ---- swap ---- */

inline swap(other, later)
{
    swapped = 0;
    taken = entry[other].slot;
    look_at_holds(taken, 1);
    if
    :: !pinned ->
        STEP(stamp = entry[other].stamp; entry[other].stamp = (SWAP_INVALIDATES -> 0 : stamp));
#ifndef SWAP_DOES_NOT_LOOK_FOR_NEWCOMERS
        look_for_newcomers();
#endif
        if
        :: later < limit -> look_at_holds(taken, SWAP_LOOKS_AGAIN)
        :: else -> pinned = 1
        fi;
        if
        :: pinned -> STEP(entry[other].stamp = stamp)
        :: else ->
            STEP(given = entry[AT(0)].slot; entry[other].slot = given);
            STEP(entry[AT(0)].slot = taken; saved[0] = (SWAP_FORGETS_STAMP -> 0 : saved[0]));
            STEP(entry[other].stamp = 0); /* nothing, unless the swap did not do it before */
            swapped = 1
        fi
    :: else
    fi;
    atomic { taken = 0; given = 0; stamp = 0; pinned = 0 }
}

/* Warm reuse: the slots freed last. */
inline take_warm()
{
    back = 1;
    do
    :: back <= 2 && back <= gate && gate - back + SLOTS > TAIL && gate - back < head ->
        if
        :: entry[(gate - back) % SLOTS].stamp == PUBLISHED(gate - back) ->
            freed = gate - back;
            swap(freed % SLOTS, freed + SLOTS);
            freed = 0
        :: else
        fi;
        if
        :: swapped -> break
        :: else -> back++
        fi
    :: else -> break
    od;
    back = 0
}

inline reuse_warm()
{
    rescan();
    if
    :: gate != NONE && !lossy_active -> take_warm()
    :: else
    fi;
    swapped = 0
}

/* Adjacency: the slot that follows the slot of the frame before. */
#define BEFORE entry[AT(SLOTS - 1)].slot
#define WANTED (BEFORE < SLOTS -> (BEFORE + 1) % SLOTS : NONE) /* none follows a spare slot */

inline rejoin_run()
{
    if
    :: WANTED == NONE || entry[AT(0)].slot == WANTED
#if SPARES > 0
    :: WANTED != NONE && !NAMED(WANTED) ->
        given = WANTED;
        take_spare(given);
        atomic { given = 0; swapped = 0 }
#endif
    :: WANTED != NONE && entry[AT(0)].slot != WANTED && NAMED(WANTED) ->
        atomic {
            back = 1;
            do
            :: entry[AT(back)].slot != WANTED -> back++
            :: else -> break
            od
        };
        if
        :: back < OTHERS && TAIL + back < limit && (!lossy_active || back <= SLOTS / 2) -> swap(AT(back), TAIL + back)
        :: else
        fi;
        back = 0;
        swapped = 0
    fi
}

/* Makes sure that nobody holds the slot of the claimed entry. */
inline settle()
{
#ifdef WARM
    if
    :: gate != NONE && !lossy_active -> reuse_warm() /* the ring exceeds the cache, copies go through it */
    :: rejoin_run()
    fi;
#else
    rejoin_run();
#endif
    look_at_holds(entry[AT(0)].slot, CLAIM_LOOKS_AT_PINS);
#if SPARES > 0
    if
    :: pinned && TAIL < limit -> pinned = 0; take_any_spare(); pinned = !swapped; swapped = 0
    :: else
    fi;
#endif
    if
    :: !pinned && TAIL < limit
    :: else ->
        pinned = 0;
        if
        :: limit >= TAIL && limit - TAIL < SLOTS -> rescan()
        :: else
        fi;
        back = 1;
        ring_full = 1;
        do
        :: ring_full && back < OTHERS && TAIL + back < limit ->
            swap(AT(back), TAIL + back);
            ring_full = !swapped;
            swapped = 0;
            back++
        :: else -> back = 0; break
        od
    fi;
    pinned = 0
}

/* ---- claim ---- */

/* Entries 1 .. that are adjacent in memory and free. */
inline count_run(marked)
{
    count = 1;
    do
    :: count < marked && head + count < limit + IGNORES_LIMIT &&
       entry[AT(0)].slot < SLOTS && entry[AT(count)].slot == (entry[AT(0)].slot + count) % SLOTS ->
        look_at_holds(entry[AT(count)].slot, RUN_LOOKS_AT_PINS);
        if
        :: pinned -> pinned = 0; break
        :: else -> count++
        fi
    :: else -> break
    od
}

inline claim()
{
    ring_full = 0;
    if
    :: TAIL >= limit || limit - TAIL < BATCH -> rescan()
    :: else
    fi;
    if
    :: TAIL >= limit -> unmark_ahead(); ring_full = 1
    :: else ->
#ifdef PINS_BEFORE_MARK
        look_at_holds(entry[AT(0)].slot, 1);
        mark_first();
        if
        :: TAIL >= limit || pinned -> ring_full = 1; pinned = 0
        :: else
        fi;
#else
        mark_first();
        if
        :: TAIL >= limit -> ring_full = 1
        :: else -> settle()
        fi;
#endif
        if
        :: ring_full ->
#ifndef FULL_LEAVES_MARK
            unmark(0, 1)
#else
            saved[0] = 0
#endif
        :: else ->
#if BATCH > 1
            most = MIN(BATCH, limit - head);
            mark(1, most);
            count_run(most);
#ifndef SHORT_BATCH_LEAVES_MARKS
            unmark(count, most);
#endif
            atomic { most = 0; saved[1] = 0; saved[0] = (ABORT_PUTS_BACK -> saved[0] : 0) }
#else
            atomic { count = OUT + 1; saved[0] = (ABORT_PUTS_BACK -> saved[0] : 0) }
#endif
        fi
    fi
}

/* ---- write, publish ---- */

inline write()
{
    turn = 0;
    do
    :: turn < count ->
        STEP(left_half[entry[AT(turn)].slot] = IDENTITY(next_seq + turn, epoch));
        STEP(right_half[entry[AT(turn)].slot] = IDENTITY(next_seq + turn, epoch); turn++)
    :: else -> turn = 0; break
    od
}

/* For the checks: what is published where; seq goes up with the position, whichever the producer. */
inline note(position, of_seq)
{
    identity_of[position] = IDENTITY(of_seq, epoch);
    assert(position == 0 || identity_of[position] / 4 > identity_of[position - 1] / 4)
}

inline store_head()
{
    STEP(d_step { head = head + published; NEWS(DATA) })
}

#define RECORD(ahead) record[entry[(first + (ahead)) % SLOTS].slot]

inline store_entries()
{
    do
    :: turn < published ->
        STEP(
            assert(entry[(first + turn) % SLOTS].stamp == WRITING(first + turn));
            RECORD(turn).position = first + turn + 1;
            RECORD(turn).seq = first_seq + turn;
            RECORD(turn).epoch = epoch);
        STEP(
            d_step {
                note(first + turn, first_seq + turn);
                entry[(first + turn) % SLOTS].stamp = PUBLISHED(first + turn);
                turn++
            })
    :: turn >= published && turn < count && !KEEPS_OTHERS -> /* written to, but not published */
        STEP(entry[(first + turn) % SLOTS].stamp = (ABORT_PUTS_BACK -> saved[turn] : 0); turn++)
    :: else -> turn = 0; break
    od
}

/* The first `published` frames of the claim; 0 is an abort. */
inline publish()
{
    atomic { first = head; first_seq = next_seq };
#ifndef HEAD_BEFORE_STAMP
    store_entries();
#endif
    if
    :: published > 0 ->
        STEP(next_seq = next_seq + published);
#ifdef LOOKS_FOR_SLEEPERS_BEFORE_HEAD
        notify(DATA);
        store_head();
        atomic { owes[DATA] = owes[DATA] & ~BIT(me) };
#else
        store_head();
#ifdef HEAD_BEFORE_STAMP
        store_entries();
#endif
        mark_ahead();
        notify(DATA);
#endif
    :: else
    fi;
    atomic { first = 0; first_seq = 0; count = STILL_CLAIMED; published = 0; saved[0] = (ahead -> saved[0] : 0) }
}

#ifdef SLIDES
/* The first of two buffers is to be filled again, behind the other. */
inline requeue()
{
    STEP(given = entry[AT(0)].slot; entry[AT(0)].slot = entry[AT(1)].slot);
    STEP(entry[AT(1)].slot = given; given = 0)
}
#endif

/* ---- takeover ---- */

#define WHOLE(index, end) \
    (entry[index].stamp != 0 && entry[index].stamp % 2 == 0 && (entry[index].stamp - 2) / 2 < end && \
     (entry[index].stamp - 2) / 2 % SLOTS == index)

/* Which slots are spoken for, and by which entries: first those in use, then the others in their order. */
inline read_permutation()
{
    atomic {
        taken_slots = 0;
        settled = 0;
        for (i : 0 .. SLOTS - 1) {
            if
            :: WHOLE(i, first) ->
                assert(!(taken_slots & BIT(entry[i].slot))); /* two in use with one slot: RingCorrupt */
                taken_slots = taken_slots | BIT(entry[i].slot);
                settled = settled | BIT(i);
                floor_seq = MAX(floor_seq, record[entry[i].slot].seq + 1)
            :: else
            fi
        };
        for (i : 0 .. SLOTS - 1) {
            if
            :: !(settled & BIT(i)) && !(taken_slots & BIT(entry[i].slot)) ->
                taken_slots = taken_slots | BIT(entry[i].slot);
                settled = settled | BIT(i)
            :: else
            fi
        };
        i = 0
    }
}

#ifdef GROUP
/* A frame that was written but never published must not pass for one that a member may take. */
inline forget_unpublished()
{
#ifndef TAKEOVER_KEEPS_RECORDS
    turn = 0;
    do
    :: turn < ALL_SLOTS ->
        if
        :: record[turn].position > first -> STEP(record[turn].position = 0)
        :: else
        fi;
        turn++
    :: else -> break
    od;
    turn = 0;
#endif
    d_step {
        for (i : 0 .. ALL_SLOTS - 1) { /* a position is that of the frame in the slot, and was published */
            assert(record[i].position == 0 ||
                   (record[i].position <= first && record[i].seq * 4 + record[i].epoch == identity_of[record[i].position - 1]))
        };
        i = 0
    }
}
#endif

/* What a dead producer published without storing head: a consumer may have taken it. */
inline find_head()
{
    first = head;
#ifndef TAKEOVER_KEEPS_HEAD
    do
    :: first < claimed && entry[first % SLOTS].stamp == PUBLISHED(first) -> first++
    :: else -> break
    od
#endif
}

inline rebuild()
{
    find_head();
    read_permutation();
#ifndef TAKEOVER_KEEPS_STAMPS
    turn = 0;
    do
    :: turn < SLOTS ->
        if
        :: !WHOLE(turn, first) && entry[turn].stamp != 0 -> STEP(entry[turn].stamp = 0; turn++)
        :: else -> turn++
        fi
    :: else -> break
    od;
#endif
#ifndef TAKEOVER_KEEPS_PERMUTATION
    turn = 0;
    do
    :: turn < SLOTS && settled & BIT(turn) -> turn++
    :: turn < SLOTS && !(settled & BIT(turn)) ->
        STEP(
            d_step {
                i = 0;
                do
                :: taken_slots & BIT(i) -> i++
                :: else -> break
                od;
                entry[turn].slot = i;
                taken_slots = taken_slots | BIT(i);
                settled = settled | BIT(turn);
                i = 0
            })
    :: turn >= SLOTS -> break
    od;
#endif
    atomic {
        turn = 0;
        taken_slots = 0;
        settled = 0;
        for (i : 0 .. SLOTS - 1) {
            assert(!(taken_slots & BIT(entry[i].slot))); /* no slot is leaked */
            assert(entry[i].stamp == 0 || WHOLE(i, first)); /* nothing half-done is left to surface */
            taken_slots = taken_slots | BIT(entry[i].slot)
        };
        i = 0;
        taken_slots = 0
    }
#ifdef GROUP
    ;forget_unpublished()
#endif
}

inline open()
{
    STEP(assert(producer_lock == 0); producer_lock = me + 1);
    assert(claimed >= head);
    rebuild();
#ifdef TAKEOVER_LOWERS_CLAIMED
    STEP(claimed = head);
#endif
    if
    :: floor_seq > next_seq -> STEP(next_seq = floor_seq)
    :: else
    fi;
    if
    :: first > head -> STEP(d_step { head = first; NEWS(DATA) })
    :: else
    fi;
    atomic { floor_seq = 0; first = 0 };
    STEP(producer_state = LIVE; limit = head; NEWS(DATA));
    STEP(epoch++);
#ifdef OPEN_UNANNOUNCED
    atomic { owes[DATA] = owes[DATA] & ~BIT(me) }
#else
    notify(DATA)
#endif
}

inline close()
{
    unmark_ahead();
#ifdef FAILS
    if
    :: STEP(d_step { producer_state = FAILED; head_at_close = head; NEWS(DATA) })
    :: STEP(d_step { producer_state = CLOSED; head_at_close = head; NEWS(DATA) })
    fi;
#else
    STEP(d_step { producer_state = CLOSED; head_at_close = head; NEWS(DATA) });
#endif
#ifdef CLOSE_UNANNOUNCED
    atomic { owes[DATA] = owes[DATA] & ~BIT(me) };
#else
    notify(DATA);
#endif
    STEP(producer_lock = 0)
}

/* ---- wait ---- */

/* A place whose owner is dead: the slice ends the sleep, and the producer reaps. */
#define OWNER_IS_DEAD(which) (place[which].state != FREE && place_lock[which] == 0)
#if PLACES == 1
#define SOMEBODY_IS_DEAD OWNER_IS_DEAD(0)
#else
#define SOMEBODY_IS_DEAD (OWNER_IS_DEAD(0) || OWNER_IS_DEAD(1))
#endif

/* What the best informed claim would find, for the check of a sleep. */
#ifdef GROUP
#define GATE_OF(which) \
    (active_bits & BIT(which) && GATES(place[which].state) -> \
     MIN(place[which].cursor, (IN_A_GROUP(place[which].state) -> group_next : NONE)) : NONE)
#define IN_GROUP(which) (active_bits & BIT(which) && (place[which].state == MEMBER || place[which].state == ENTERING))
#if PLACES == 1
#define GROUP_IS_THERE IN_GROUP(0)
#else
#define GROUP_IS_THERE (IN_GROUP(0) || IN_GROUP(1))
#endif
#define IS_HELD(slot) (record[slot].pins != 0 || (owner[slot].who != DONE && GROUP_IS_THERE))
#else
#define GATE_OF(which) \
    (active_bits & BIT(which) && place[which].state == LOSSLESS -> place[which].cursor : NONE)
#define IS_HELD(slot) (record[slot].pins != 0)
#endif
#if PLACES == 1
#define GATE GATE_OF(0)
#else
#define GATE MIN(GATE_OF(0), GATE_OF(1))
#endif
#define CLAIMABLE(ahead) (head + (ahead) < GATE + SLOTS && !IS_HELD(entry[AT(ahead)].slot))
#if SPARES > 0
#define FREE_SPARE(slot) (head < GATE + SLOTS && !NAMED(slot) && !IS_HELD(slot))
#else
#define FREE_SPARE(slot) 0
#endif
#if SLOTS == 1
#define NOTHING_TO_CLAIM (!CLAIMABLE(0) && !FREE_SPARE(0) && !FREE_SPARE(SLOTS))
#elif SLOTS == 2
#define NOTHING_TO_CLAIM (!CLAIMABLE(0) && !CLAIMABLE(1) && !FREE_SPARE(0) && !FREE_SPARE(1) && !FREE_SPARE(SLOTS))
#else
#define NOTHING_TO_CLAIM \
    (!CLAIMABLE(0) && !CLAIMABLE(1) && !CLAIMABLE(2) && \
     !FREE_SPARE(0) && !FREE_SPARE(1) && !FREE_SPARE(2) && !FREE_SPARE(SLOTS))
#endif
