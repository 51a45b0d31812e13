/* The block, the kernel's part (locks, futexes, death), and what only the checks know.
 *
 * One STEP is one access to shared memory, or one call of the kernel. Before each the process can be
 * killed: its locks fall, its memory is forgotten, the block stays as it is.
 */

#define BIT(who) (1 << (who))
#define MIN(a, b) ((a) < (b) -> (a) : (b))
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define NONE 100 /* no position, no slot: above all of them */

#define WRITING(position) (2 * (position) + 1)
#define PUBLISHED(position) (2 * (position) + 2)
#define IDENTITY(seq, epoch) ((seq) * 4 + (epoch)) /* what both halves of a frame's slot say; never 0 */

/* Participants; consumer i is process 1 + i, observers and the auditor come behind the consumers. */
#define PRODUCER 0
#define OBSERVER (CONSUMERS + 1)
#define AUDITOR (CONSUMERS + 2)

/* ---- the block ---- */

#define ABSENT 0 /* of the producer's state: nobody was there yet */
#define LIVE 1
#define CLOSED 2
#define FAILED 3
#define ENDED(state) ((state) == CLOSED || (state) == FAILED)

#define FREE 0
#define JOINING 1
#define LOSSLESS 2
#define LOSSY 3
#define LEFT 4
#define MEMBER 5
#define ENTERING 6 /* a newcomer to a group, which alone does not keep it alive */

#define DATA 0
#define SPACE 1

#define ALL_SLOTS (SLOTS + SPARES)

typedef Entry { byte stamp; byte slot };
typedef Record { byte position; byte seq; byte epoch; byte pins }; /* position: 1 + that of the frame, or 0 */
typedef Place { byte state; byte cursor };

Entry entry[SLOTS];
Record record[ALL_SLOTS]; /* by slot */
byte left_half[ALL_SLOTS];
byte right_half[ALL_SLOTS];
Place place[PLACES];
byte head, next_seq, claimed, active_bits, join_count, producer_state, epoch;

/* An eventcount: bit 0, and who knows the epoch of now. That replaces the epoch itself, which only ever
 * matters by "is it still the one that I saw". */
typedef Event { bit bit0; byte knows; byte asleep };
Event event[2];

#ifdef GROUP
/* An owner word: 1 + the position, and who. 0 as a position: nobody ever had the slot's frame. */
#define DONE 0
#define REDO 1
#define HAS(which) (2 + (which))
typedef Owner { byte position; byte who };

Owner owner[ALL_SLOTS];
byte group_next;
byte group_knows; /* of the group's events: who knows the count of now */
#endif

/* ---- the kernel ---- */

byte producer_lock; /* 0 free, else who + 1 */
byte place_lock[PLACES];
#ifdef GROUP
byte group_lock;
#endif
byte kills = KILLS;

/* ---- known to the checks only ---- */

byte identity_of[FRAMES + 2]; /* position -> the frame that was published there */
byte head_at_close;
byte awake; /* participants that are neither asleep nor finished */
byte finished;
#ifdef GROUP
byte group_start;
byte handed[FRAMES + 2];     /* 1: a member got it for the first time */
byte completed[FRAMES + 2]; /* 1: a member was done with it */
#endif
byte owes[2];      /* per event: who stored news and has not woken anyone yet */
byte may_slice[2]; /* per event: whom a killed waker owed a wake-up, for the 100 ms slice to heal */
hidden byte i;
hidden byte j;

/* The locks and the sleep of who dies. */
inline die()
{
    kills--;
    producer_lock = (producer_lock == me + 1 -> 0 : producer_lock);
#ifdef GROUP
    group_lock = (group_lock == me + 1 -> 0 : group_lock);
    group_knows = group_knows & ~BIT(me);
#endif
    for (i : 0 .. PLACES - 1) {
        place_lock[i] = (place_lock[i] == me + 1 -> 0 : place_lock[i]);
    }
    for (i : DATA .. SPACE) {
        awake = awake + (event[i].asleep & BIT(me) -> 1 : 0);
        event[i].asleep = event[i].asleep & ~BIT(me);
        event[i].knows = event[i].knows & ~BIT(me);
        may_slice[i] = (owes[i] & BIT(me) -> 255 : may_slice[i]);
        owes[i] = owes[i] & ~BIT(me);
    }
    i = 0
}

#ifdef PRODUCER_LIVES
#define MORTAL (me != PRODUCER)
#else
#define MORTAL 1
#endif
#define MAY_DIE atomic { kills > 0 && MORTAL; d_step { die() }; goto killed }
#define STEP(...) \
    if \
    :: MAY_DIE \
    :: atomic { __VA_ARGS__ } \
    fi

inline finish()
{
    atomic { awake--; finished++ }
}

/* ---- eventcounts ---- */

#define NEWS(e) owes[e] = owes[e] | BIT(me)

#ifdef BIT_CLEARED_WITHOUT_EPOCH
#define NEXT_EPOCH(e) event[e].knows & ~BIT(me)
#else
#define NEXT_EPOCH(e) 0
#endif

/* Somebody sleeps? Then the next epoch, and wake everyone. */
inline notify(e)
{
    STEP(
        sees_sleeper = event[e].bit0;
        event[e].knows = (sees_sleeper -> event[e].knows | BIT(me) : event[e].knows);
        owes[e] = (sees_sleeper -> owes[e] : owes[e] & ~BIT(me)));
    do
    :: sees_sleeper ->
        STEP(
            if
            :: event[e].bit0 && event[e].knows & BIT(me) -> /* the CAS */
                event[e].bit0 = 0;
                cas_done = 1;
                event[e].knows = NEXT_EPOCH(e)
            :: else ->
                sees_sleeper = event[e].bit0;
                event[e].knows = (sees_sleeper -> event[e].knows | BIT(me) : event[e].knows & ~BIT(me));
                owes[e] = (sees_sleeper -> owes[e] : owes[e] & ~BIT(me))
            fi);
        if
        :: cas_done ->
            STEP(
                d_step {
                    for (i : 0 .. CONSUMERS) {
                        awake = awake + (event[e].asleep & BIT(i) -> 1 : 0)
                    };
                    i = 0;
                    event[e].asleep = 0;
                    owes[e] = owes[e] & ~BIT(me);
                    cas_done = 0;
                    sees_sleeper = 0
                })
        :: else
        fi
    :: else -> break
    od
}

inline prepare(e)
{
    STEP(
        d_step {
            event[e].bit0 = 1;
            event[e].knows = event[e].knows | BIT(me);
            may_slice[e] = may_slice[e] & ~BIT(me)
        })
}

/* futex: compares and sleeps in one. `healed` says that a death explains the sleep, which the slice ends;
 * `justified` that there is nothing to be awake for. */
#define SLEEP(e, healed, justified) \
    STEP( \
        d_step { \
            if \
            :: event[e].bit0 && event[e].knows & BIT(me) -> \
                event[e].asleep = event[e].asleep | BIT(me); \
                awake-- \
            :: else \
            fi; \
            event[e].knows = event[e].knows & ~BIT(me) \
        }); \
    do \
    :: MAY_DIE \
    :: atomic { !(event[e].asleep & BIT(me)); break } \
    :: atomic { \
            event[e].asleep & BIT(me) && (may_slice[e] & BIT(me) || (healed)); \
            d_step { \
                event[e].asleep = event[e].asleep & ~BIT(me); \
                may_slice[e] = may_slice[e] & ~BIT(me); \
                awake++ \
            }; \
            break \
        } \
    :: atomic { /* everybody else sleeps or is gone: nobody will wake me */ \
            event[e].asleep & BIT(me) && awake == 0 && !(may_slice[e] & BIT(me) || (healed)); \
            assert(justified) \
        } \
    od
