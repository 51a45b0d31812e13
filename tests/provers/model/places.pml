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
    :: turn < SLOTS && entry[turn].pins & BIT(which) ->
        STEP(entry[turn].pins = entry[turn].pins & ~BIT(which); turn++)
    :: turn < SLOTS && !(entry[turn].pins & BIT(which)) -> turn++
    :: turn == SLOTS -> turn = 0; break
    od
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
    retire(which, FREE);
    clear_pins(which)
#else
#ifndef REAP_KEEPS_PINS
    clear_pins(which);
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
