/* Reap and retire: shmring_clear_pins, shmring_retire_place, shmring_reap. */

#ifdef REAP_EVICTS_THE_LIVING
#define MAY_REAP(which) 1
#else
#define MAY_REAP(which) place_lock[which] == 0
#endif

inline clear_pins(which)
{
    turn = 0;
    do
    :: turn < ALL_SLOTS && record[turn].pins & BIT(which) ->
        STEP(record[turn].pins = record[turn].pins & ~BIT(which); turn++)
    :: turn < ALL_SLOTS && !(record[turn].pins & BIT(which)) -> turn++
    :: turn == ALL_SLOTS -> turn = 0; break
    od
}

#ifdef GROUP
inline announce_to_group()
{
    STEP(group_knows = 0; NEWS(DATA));
    notify(DATA)
}

/* What a dead member had is put up for the others. */
inline give_up_owned(which)
{
    turn = 0;
    do
    :: turn < ALL_SLOTS ->
        STEP(word = (owner[turn].who == HAS(which) -> owner[turn].position : 0));
        if
        :: word != 0 ->
            STEP(
                if
                :: owner[turn].who == HAS(which) && owner[turn].position == word -> /* the CAS */
                    owner[turn].who = REDO
                :: else
                fi)
        :: else
        fi;
        turn++
    :: else -> break
    od;
    atomic { turn = 0; word = 0 };
#ifdef REAP_WITHOUT_EVENT
    STEP(NEWS(DATA));
    notify(DATA)
#else
    announce_to_group()
#endif
}
#endif

inline clear_holds(which)
{
#ifdef GROUP
    if
    :: place[which].state == MEMBER -> give_up_owned(which)
    :: else
    fi;
#endif
    clear_pins(which)
}

inline retire(which, to)
{
#ifdef RETIRE_STATE_FIRST
    STEP(place[which].state = to);
    STEP(active_bits = active_bits & ~BIT(which); NEWS(SPACE));
#else
    STEP(active_bits = active_bits & ~BIT(which); NEWS(SPACE));
    STEP(place[which].state = to);
#endif
#ifdef RETIRE_UNANNOUNCED
    owes[SPACE] = owes[SPACE] & ~BIT(me)
#else
    notify(SPACE)
#endif
}

/* Evicts the one that held the place. I hold its lock. */
inline evict(which)
{
#ifdef REAP_STATE_FIRST
#ifdef GROUP
    was_member = place[which].state == MEMBER;
#endif
    retire(which, FREE);
#ifdef GROUP
    if
    :: was_member -> was_member = 0; give_up_owned(which)
    :: else
    fi;
#endif
    clear_pins(which)
#else
#ifndef REAP_KEEPS_PINS
    clear_holds(which);
#endif
    retire(which, FREE)
#endif
}

inline reap(which)
{
    STEP(got_lock = place[which].state != FREE);
    if
    :: got_lock ->
        STEP(
            got_lock = MAY_REAP(which);
            place_lock[which] = (got_lock -> me + 1 : place_lock[which]))
    :: else
    fi;
    if
    :: got_lock && place[which].state != FREE -> evict(which)
    :: else
    fi;
    if
    :: got_lock -> STEP(place_lock[which] = 0; got_lock = 0)
    :: else
    fi
}

inline reap_all()
{
    reap(0);
#if PLACES > 1
    reap(1);
#endif
#if PLACES > 2
    reap(2)
#endif
}
