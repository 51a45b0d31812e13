/* Members of a group: each frame to one of them, the next one that asks. */

/* ---- join ---- */

inline lock_groups()
{
    STEP(group_lock == 0; group_lock = me + 1)
}

inline unlock_groups()
{
    STEP(group_lock = 0)
}

#ifdef JOIN_COUNTS_NEWCOMERS
#define COUNTS_AS_MEMBER(which) (place[which].state == ENTERING)
#else
#define COUNTS_AS_MEMBER(which) 0
#endif

/* Whether somebody else is joined to the group; the owner of that place may be dead. */
inline look_for_members()
{
    others = 0;
    round = 0;
    do
    :: round < PLACES ->
        if
        :: round != mine ->
            STEP(intact = (active_bits & BIT(round)) != 0);
            if
            :: intact -> STEP(others = others || place[round].state == MEMBER || COUNTS_AS_MEMBER(round); intact = 0)
            :: else
            fi
        :: else
        fi;
        round++
    :: else -> round = 0; break
    od
}

/* What members of the last group had is nobody's. */
inline clean_owners()
{
    slot = 0;
    do
    :: slot < ALL_SLOTS ->
#ifdef JOIN_KEEPS_POSITIONS
        STEP(owner[slot].who = DONE; slot++)
#else
        STEP(owner[slot].position = 0; owner[slot].who = DONE; slot++)
#endif
    :: else -> slot = NONE; break
    od
}

/* The group is new: it begins where a newcomer does. */
inline begin_group()
{
    /* The checks count from here. */
    atomic {
        for (i : 0 .. FRAMES + 1) {
            handed[i] = 0;
            completed[i] = 0
        };
        i = 0
    };
#ifndef JOIN_KEEPS_OWNERS
    clean_owners();
#endif
    if
    :: STEP(group_next = next; group_start = next)
#ifdef STARTS
    :: next < known -> STEP(group_next = known - 1; group_start = known - 1)
    :: next < known -> STEP(group_next = known; group_start = known)
#endif
    fi
}

#ifdef JOIN_GATES_AS_MEMBER_AT_ONCE
#define FIRST_STATE MEMBER
#else
#define FIRST_STATE ENTERING
#endif

inline join_group()
{
    lock_groups();
    find_place();
    if
    :: mine != NONE ->
        STEP(place[mine].state = JOINING);
        STEP(cursor = claimed - MIN(claimed, SLOTS));
        STEP(place[mine].cursor = cursor);
        STEP(place[mine].state = FIRST_STATE);
#ifndef MEMBER_JOINS_UNSEEN
        STEP(active_bits = active_bits | BIT(mine));
        STEP(join_count++);
#endif
        choose_start();
        look_for_members();
        if
        :: others -> others = 0
        :: else -> begin_group()
        fi;
#ifdef MEMBER_JOINS_UNSEEN
        STEP(active_bits = active_bits | BIT(mine));
        STEP(join_count++);
#endif
        STEP(place[mine].state = MEMBER);
        STEP(place[mine].cursor = NONE; NEWS(SPACE));
        notify(SPACE)
    :: else
    fi;
    unlock_groups();
    atomic { next = 0; known = 0; expected = 0; oldest = 0; cursor = 0 }
}

/* ---- take ---- */

/* Moves the group past a position that has an owner. */
inline pass()
{
    STEP(
        if
        :: group_next == next -> group_next++; passed = 1; NEWS(SPACE)
        :: else
        fi);
    if
    :: passed ->
        passed = 0;
#ifdef PASS_UNANNOUNCED
        owes[SPACE] = owes[SPACE] & ~BIT(me)
#else
        notify(SPACE)
#endif
    :: else
    fi
}

/* The frame of position `next` is mine: the right one, whole, and nobody is done with it. */
#define IS_MINE \
    assert(INTACT(slot, identity_of[next])); \
    assert(record[slot].position == next + 1); \
    assert(!completed[next])

/* Frames that a dead member had come first. */
inline take_again()
{
    STEP(took = !(group_knows & BIT(me)); group_knows = group_knows | BIT(me));
    if
    :: took ->
        atomic { took = 0; slot = 0 };
        do
        :: slot < ALL_SLOTS && !took ->
            STEP(word = (owner[slot].who == REDO -> owner[slot].position : 0));
            if
            :: word != 0 ->
                STEP(
                    if
                    :: owner[slot].who == REDO && owner[slot].position == word -> /* the CAS */
                        owner[slot].who = HAS(mine);
                        took = 1;
                        next = word - 1;
                        group_knows = group_knows & ~BIT(me); /* there may be more */
                        assert(kills < KILLS);
                        IS_MINE
                    :: else -> slot++
                    fi);
                word = 0
            :: else -> slot++
            fi
        :: else -> break
        od;
        slot = (took -> slot : NONE)
    :: else
    fi
}

#ifdef TAKE_DOES_NOT_VALIDATE
#define IS_THERE 1
#else
#define IS_THERE (record[slot].position == next + 1)
#endif

/* A member that waits at the end may wait for this frame. */
inline announce_end()
{
    STEP(took = producer_state != LIVE);
    if
    :: took ->
        took = 0;
#ifndef END_UNANNOUNCED
        announce_to_group()
#else
        skip
#endif
    :: else
    fi
}

/* Claims the frame in the slot and keeps it, in one, if it is the one of this position. */
inline own()
{
    STEP(word = owner[slot].position; who = owner[slot].who);
    if
    :: word >= next + 1 ->
#ifndef NOBODY_HELPS
        pass();
#endif
        skip
    :: else ->
        STEP(intact = IS_THERE);
        if
        :: intact ->
            intact = 0;
            STEP(
                if
                :: owner[slot].position == word && owner[slot].who == who -> /* the CAS */
                    owner[slot].position = next + 1;
                    owner[slot].who = HAS(mine);
                    took = 1;
                    assert(!handed[next]);
                    handed[next] = 1;
                    IS_MINE
                :: else
                fi);
            if
            :: took -> pass()
            :: else
            fi
        :: else
        fi
    fi;
    atomic { word = 0; who = 0 }
}

/* took, or known <= next: nothing is there. Or neither: somebody was faster. */
inline take_new()
{
    STEP(next = group_next);
    STEP(known = (entry[next % SLOTS].stamp == PUBLISHED(next) -> next + 1 : 0));
    if
    :: known == 0 -> STEP(known = head)
    :: else
    fi;
    if
    :: known > next + SLOTS -> STEP(assert(group_next != next)) /* else the block is corrupt */
    :: else
    fi;
    if
    :: known > next ->
#ifdef TAKE_LOOKS_AT_STAMP
        STEP(intact = entry[next % SLOTS].stamp == PUBLISHED(next));
        if
        :: intact -> intact = 0; STEP(slot = entry[next % SLOTS].slot); own()
        :: else
        fi
#else
        STEP(slot = entry[next % SLOTS].slot);
        own()
#endif
    :: else
    fi;
    slot = (took -> slot : NONE)
}

/* ---- done ---- */

inline complete()
{
    assert(INTACT(slot, identity_of[next]));
    assert(owner[slot].position == next + 1 && owner[slot].who == HAS(mine));
    assert(!completed[next]);
    completed[next] = 1;
    owner[slot].who = DONE
}

inline release_owned()
{
    STEP(complete(); slot = NONE; NEWS(SPACE));
#ifdef DISOWN_UNANNOUNCED
    atomic { owes[SPACE] = owes[SPACE] & ~BIT(me) };
#else
    notify(SPACE);
#endif
    announce_end()
}

/* Leaves with the frame that it has, or without one. */
inline leave_group()
{
    if
    :: slot != NONE ->
#ifdef LETS_GO_BEFORE_PIN
        STEP(complete());
        STEP(record[slot].pins = record[slot].pins | BIT(mine));
#else
        STEP(record[slot].pins = record[slot].pins | BIT(mine));
        STEP(complete());
#endif
        announce_end();
        retire(mine, LEFT);
        STEP(
            assert(INTACT(slot, identity_of[next]));
            record[slot].pins = record[slot].pins & ~BIT(mine);
            slot = NONE;
            NEWS(SPACE));
        notify(SPACE)
    :: else
    fi;
    retire(mine, FREE);
    STEP(place_lock[mine] = 0)
}

/* ---- wait ---- */

#define FREE_FOR_ALL(where) (owner[where].who == DONE || owner[where].who == HAS(mine))
#if ALL_SLOTS == 1
#define SHARED_OUT !FREE_FOR_ALL(0)
#elif ALL_SLOTS == 2
#define SHARED_OUT (!FREE_FOR_ALL(0) || !FREE_FOR_ALL(1))
#else
#define SHARED_OUT (!FREE_FOR_ALL(0) || !FREE_FOR_ALL(1) || !FREE_FOR_ALL(2))
#endif

/* Whether a frame of the group may still be put up again. */
inline look_at_owners()
{
    others = 0;
    slot = 0;
    do
    :: slot < ALL_SLOTS -> STEP(others = others || !FREE_FOR_ALL(slot); slot++)
    :: else -> slot = NONE; break
    od
}

inline reap_member(which)
{
    if
    :: place[which].state == MEMBER && MAY_REAP(which) -> reap(which)
    :: else
    fi
}

inline reap_members()
{
#if PLACES > 1
    if
    :: mine == 0 -> reap_member(1)
    :: else -> reap_member(0)
    fi
#else
    skip
#endif
}

/* The end of the stream for this group: each of its frames was worked on. */
inline check_end()
{
    atomic {
        for (i : 0 .. FRAMES + 1) {
            assert(i < group_start || i >= next || completed[i])
        };
        assert(died || next == head_at_close);
        i = 0
    }
}

proctype Member(byte me; bit resident)
{
    byte mine = NONE;
    byte next, known, cursor, expected, oldest, newest, round, turn, state, of_epoch, word, who;
    byte slot = NONE;
    bit lossless = 1, start, took, intact, others, died, passed, was_member, got_lock, sees_sleeper, cas_done;

    if
    :: resident -> atomic { mine = me - 1; resident = 0 }
    :: else ->
begin:
        join_group();
        if
        :: mine == NONE -> goto gone
        :: else -> reap_members()
        fi
    fi;

work:
    if
    :: true
#ifdef LEAVES
    :: leave_group(); goto departed
#endif
    fi;
    STEP(of_epoch = epoch);
    STEP(state = producer_state; died = state == LIVE && producer_lock == 0);
    take_again();
    if
    :: took
    :: else ->
        take_new();
        if
        :: !took && known > next -> atomic { next = 0; known = 0; state = 0; of_epoch = 0; died = 0 }; goto work
        :: else
        fi
    fi;
    if
    :: took ->
        atomic { took = 0; known = 0; state = 0; of_epoch = 0; died = 0 };
        if
        :: true
#ifdef LEAVES
        :: leave_group(); goto departed
#endif
#ifdef SILENCE
        :: goto gone /* lives on with the frame, does nothing more */
#endif
        fi;
        release_owned();
        next = 0;
        goto work
    :: else -> known = 0
    fi;
    if
    :: ENDED(state) || died -> /* known from before head was looked at */
        look_at_owners();
#ifdef END_IGNORES_OWNERS
        others = 0;
#endif
        if
        :: !others ->
            check_end();
            leave_group();
            goto departed
        :: else -> others = 0; reap_members()
        fi
    :: else -> reap_members()
    fi;
    died = 0;
    prepare(DATA);
    STEP(intact = head > next);
    STEP(intact = intact || producer_state != state);
#ifndef WAIT_IGNORES_EPOCH
    STEP(intact = intact || epoch != of_epoch);
#endif
    STEP(intact = intact || !(group_knows & BIT(me)));
    if
    :: !intact ->
        SLEEP(DATA, (producer_lock == 0 && producer_state == LIVE) || SOMEBODY_IS_DEAD,
              head <= group_next && producer_state == state && group_knows & BIT(me) &&
              (!ENDED(state) || SHARED_OUT))
    :: else -> atomic { event[DATA].knows = event[DATA].knows & ~BIT(me) }
    fi;
    atomic { intact = 0; state = 0; of_epoch = 0; next = 0 };
    goto work;

killed:
departed:
    atomic {
        mine = NONE; next = 0; known = 0; cursor = 0; expected = 0; oldest = 0; newest = 0; round = 0; turn = 0;
        state = 0; of_epoch = 0; died = 0; word = 0; who = 0; slot = NONE; took = 0; intact = 0; others = 0; passed = 0;
        was_member = 0; got_lock = 0; sees_sleeper = 0; cas_done = 0; group_knows = group_knows & ~BIT(me)
    };
    if
    :: lives > 0 -> lives--; goto begin /* somebody else comes */
    :: true
    fi;
gone:
    finish()
}
