/* Consumers: join, read, hold, release, wait, leave. */

/* ---- pins, cursor, holds ---- */

inline pin(slot)
{
    if
    :: pin_count[slot] == 0 -> STEP(record[slot].pins = record[slot].pins | BIT(mine); pin_count[slot]++)
    :: else -> pin_count[slot]++
    fi
}

inline unpin(slot)
{
    if
    :: pin_count[slot] == 1 ->
        STEP(record[slot].pins = record[slot].pins & ~BIT(mine); pin_count[slot] = 0; NEWS(SPACE))
    :: else -> pin_count[slot]--
    fi
}

inline notify_unpinned()
{
#ifdef UNPIN_UNANNOUNCED
    owes[SPACE] = owes[SPACE] & ~BIT(me)
#else
    notify(SPACE)
#endif
}

/* The lowest position that is still read without a pin. */
#ifdef CURSOR_DOES_NOT_LAG
#define LOWEST_UNPINNED next
#else
#define LOWEST_UNPINNED MIN(next, MIN(newer_at, older_at))
#endif

inline store_cursor()
{
    if
    :: lossless && LOWEST_UNPINNED != cursor ->
        STEP(cursor = LOWEST_UNPINNED; place[mine].cursor = cursor; NEWS(SPACE));
#ifdef CURSOR_UNANNOUNCED
        owes[SPACE] = owes[SPACE] & ~BIT(me)
#else
        notify(SPACE)
#endif
    :: else
    fi
}

inline pin_older()
{
    if
    :: older != NONE ->
        pin(older);
        atomic { older = NONE; older_at = NONE }
    :: else
    fi
}

inline pin_newer()
{
    if
    :: newer != NONE ->
        pin(newer);
        atomic { newer = NONE; newer_at = NONE }
    :: else
    fi
}

inline stop_lagging()
{
#ifdef CURSOR_BEFORE_PINS
    atomic { older_at = NONE; newer_at = NONE };
    store_cursor();
#endif
    pin_older();
    pin_newer();
    store_cursor()
}

#define INTACT(slot, identity) (left_half[slot] == (identity) && right_half[slot] == (identity))

/* A held frame is the same from the take to here. */
inline check_held(slot)
{
    assert(INTACT(slot, held[slot]))
}

inline release(slot)
{
    atomic { check_held(slot); held[slot] = 0 };
    if
    :: pin_count[slot] > 0 -> unpin(slot); notify_unpinned()
    :: pin_count[slot] == 0 && older == slot ->
        atomic { older = NONE; older_at = NONE };
        store_cursor()
    :: else -> /* it is the newer one */
        atomic { newer = NONE; newer_at = NONE };
        stop_lagging()
    fi
}

#define HOLDING_0 (held[0] != 0)
#define HOLDING_1 (held[1] != 0)
#if ALL_SLOTS > 2
#define HOLDING_2 (held[2] != 0)
#else
#define HOLDING_2 0
#endif
#define HELD (HOLDING_0 + HOLDING_1 + HOLDING_2)

/* ---- take ---- */

/* The frame of position `next` is mine, in slot `slot`: the right one, whole, none skipped, none counted
 * twice. What the seqs do not account for was passed over on purpose, or was never published. */
inline accept()
{
    assert(seq * 4 + of_epoch == identity_of[next]);
    assert(INTACT(slot, identity_of[next]));
    assert(held[slot] == 0);
    assert(seq >= expected || !delivered);
#ifdef LATEST
    assert(!lossless || MIN(seq - MIN(expected, seq), MIN(aim, next) - MIN(fresh, MIN(aim, next))) == next - fresh);
    fresh = next + 1;
#endif
    held[slot] = identity_of[next];
    delivered = 1;
    expected = seq + 1;
    next++;
    slot = NONE;
    seq = 0;
    of_epoch = 0;
    took = 1
}

inline take_lossless()
{
    STEP(slot = entry[next % SLOTS].slot);
    STEP(seq = record[slot].seq; of_epoch = record[slot].epoch; d_step { j = slot; accept() }; newest = j; j = 0);
#ifdef LATEST
    if
    :: newer != NONE && newer_at + 2 < next -> pin_older(); pin_newer() /* a jump */
    :: else
    fi;
#endif
#ifdef CURSOR_BEFORE_PINS
    atomic { older_at = newer_at; newer_at = next - 1 };
    store_cursor();
    if
    :: older != NONE -> pin(older)
    :: else
    fi;
    atomic { older = newer; newer = newest; newest = 0 }
#else
    pin_older();
    atomic { older = newer; older_at = newer_at; newer = newest; newer_at = next - 1; newest = 0 };
    store_cursor()
#endif
}

/* Pin, then look again whether the frame is still there; else continue with the oldest left. */
inline take_lossy()
{
    STEP(intact = entry[next % SLOTS].stamp == PUBLISHED(next));
    if
    :: intact ->
        STEP(slot = entry[next % SLOTS].slot);
#ifndef PIN_AFTER_SECOND_LOOK
        pin(slot);
#endif
        STEP(seq = record[slot].seq; of_epoch = record[slot].epoch);
        STEP(
            intact = !LOSSY_LOOKS_AGAIN || entry[next % SLOTS].stamp == PUBLISHED(next);
            if
            :: intact && !PIN_IS_LATE -> d_step { accept() }
            :: else -> seq = 0; of_epoch = 0
            fi);
#ifdef PIN_AFTER_SECOND_LOOK
        if
        :: intact -> pin(slot); atomic { seq = identity_of[next] / 4; of_epoch = identity_of[next] % 4; accept() }
        :: else -> pin_count[slot]++; unpin(slot)
        fi;
#else
        if
        :: !intact -> unpin(slot); notify_unpinned()
        :: else
        fi
#endif
    :: else
    fi;
    if
    :: !intact -> STEP(assert(claimed >= known); next = MAX(next + 1, claimed - MIN(claimed, SLOTS)); slot = NONE)
    :: else
    fi;
    intact = 0
}

/* Takes one frame; took says whether there was one. */
inline take()
{
    took = 0;
    do
    :: !took && known <= next ->
        STEP(known = (entry[next % SLOTS].stamp == PUBLISHED(next) -> next + 1 : known));
        if
        :: known <= next -> STEP(known = MAX(known, head))
        :: else
        fi;
        if
        :: known <= next -> break
        :: else
        fi
    :: !took && known > next ->
        if
        :: lossless -> take_lossless()
        :: else -> take_lossy()
        fi
    :: took -> break
    od
}

/* What next_seq (in seq) and head (in newest) say is the end. The count waits while frames can still be read;
 * without windows those can only be the next producer's. */
inline count_up_to_the_end()
{
    if
    :: seq > expected && (next >= newest || fresh >= newest) ->
        expected = seq;
#ifdef LATEST
        fresh = MAX(fresh, newest)
#endif
    :: else
    fi
}

/* Frames that were offered after the last one taken, when the producer of the epoch seen offers no more. */
inline count_end()
{
    STEP(seq = next_seq);
    STEP(newest = head);
    STEP(
        if
        :: epoch == of_epoch || COUNT_END_TRUSTS_NEXT_SEQ -> count_up_to_the_end()
        :: else
        fi;
        seq = 0;
        newest = 0)
}

/* ---- join ---- */

#define SOME_OLDEST 0
#define NEWEST 1
#define NEXT 2

inline find_place()
{
    mine = NONE;
    round = 0;
    do
    :: mine == NONE && round < 2 * PLACES -> /* first the free ones, then the dead ones' too */
        STEP(got_lock = place[round % PLACES].state == FREE || round >= PLACES);
        if
        :: got_lock ->
            STEP(
                got_lock = place_lock[round % PLACES] == 0;
                place_lock[round % PLACES] = (got_lock -> me + 1 : place_lock[round % PLACES]))
        :: else
        fi;
        if
        :: got_lock ->
            atomic { mine = round % PLACES; got_lock = 0 };
            if
            :: place[mine].state != FREE -> evict(mine)
            :: else
            fi
        :: else -> round++
        fi
    :: else -> round = 0; break
    od
}

/* A position that my first one cannot be below: it holds the producer back meanwhile. */
inline first_guess()
{
    if
    :: start == SOME_OLDEST -> STEP(cursor = claimed - MIN(claimed, SLOTS))
    :: start == NEXT -> STEP(cursor = head)
    :: start == NEWEST -> STEP(cursor = head - MIN(head, 1))
    fi
}

/* From there to head every entry is intact. */
inline choose_start()
{
    do
    :: true ->
#ifndef JOIN_LOOKS_BEFORE_IT_IS_SEEN
        STEP(oldest = claimed - MIN(claimed, SLOTS));
        STEP(known = head; next = known);
#endif
        STEP(expected = next_seq);
        do
        :: next > oldest && known - next < (start == NEXT -> 0 : (start == NEWEST -> 1 : SLOTS)) ->
            STEP(intact = !JOIN_SEARCHES_STAMPS || entry[(next - 1) % SLOTS].stamp == PUBLISHED(next - 1));
            if
            :: intact ->
                STEP(newest = entry[(next - 1) % SLOTS].slot);
                STEP(expected = record[newest].seq; next--; intact = 0; newest = 0)
            :: else -> break
            fi
        :: else -> break
        od;
        if
        :: lossless || next == known -> break
        :: else ->
            STEP(intact = !NEWCOMER_LOOKS_AGAIN || entry[next % SLOTS].stamp == PUBLISHED(next));
            if
            :: intact -> intact = 0; break
            :: else
            fi
        fi
    od
}

inline become_known()
{
#ifdef STATE_BEFORE_CURSOR
    STEP(place[mine].state = (lossless -> LOSSLESS : LOSSY));
    STEP(active_bits = active_bits | BIT(mine));
#ifndef JOIN_UNCOUNTED
    STEP(join_count++);
#endif
    STEP(place[mine].cursor = cursor)
#else
    STEP(place[mine].cursor = cursor);
    STEP(place[mine].state = (lossless -> LOSSLESS : LOSSY));
    STEP(active_bits = active_bits | BIT(mine));
#ifndef JOIN_UNCOUNTED
    STEP(join_count++)
#endif
#endif
}

inline join()
{
    STEP(place[mine].state = JOINING);
    first_guess();
#ifdef JOIN_LOOKS_BEFORE_IT_IS_SEEN
    STEP(oldest = claimed - MIN(claimed, SLOTS));
    STEP(known = head; next = known);
#endif
    become_known();
    choose_start();
    atomic {
        assert(next == known || expected == identity_of[next] / 4); /* losses are counted from the right seq */
        start = 0;
        oldest = 0;
        fresh = next;
        aim = next
    };
    STEP(cursor = next; place[mine].cursor = cursor; NEWS(SPACE));
    notify(SPACE)
}

/* ---- leave ---- */

inline leave()
{
    if
    :: HELD > 0 ->
#ifdef LEAVES_BEFORE_PINS
        retire(mine, LEFT);
        stop_lagging();
#else
        stop_lagging();
        retire(mine, LEFT);
#endif
        do
        :: HOLDING_0 -> release(0)
        :: HOLDING_1 -> release(1)
#if ALL_SLOTS > 2
        :: HOLDING_2 -> release(2)
#endif
        :: HELD == 0 -> break
        od
    :: else
    fi;
    retire(mine, FREE);
    STEP(place_lock[mine] = 0)
}

/* ---- wait ---- */

/* What the consumer's own holds leave no room for can never come. */
inline hold_too_much()
{
    atomic {
        j = next + 1 - (lossless -> cursor : next);
        for (i : 0 .. ALL_SLOTS - 1) {
            j = j + (pin_count[i] > 0 -> 1 : 0)
        };
        stuck = j > ALL_SLOTS || next + 1 - (lossless -> cursor : next) > SLOTS;
        i = 0;
        j = 0
    }
}
