"""The small rings that the model is run for, and the changes to it that must not go unnoticed."""

from dataclasses import dataclass

LOSSLESS, LOSSY, MEMBER = 2, 3, 5
OLDEST, NEWEST, NEXT = 0, 1, 2
Defines = dict[str, int]


def one(policy: int, **more: int) -> Defines:
    """A ring of two slots with one consumer, there from the beginning."""
    base = {"SLOTS": 2, "PLACES": 1, "CONSUMERS": 1, "BATCH": 1, "HOLDS": 0, "FRAMES": 2, "KILLS": 1}
    return {**base, "FIRST_POLICY": policy, "FIRST_RESIDES": 1, "FIRST_START": OLDEST, **more}


def two(first: int, second: int, **more: int) -> Defines:
    """A ring of two slots and two consumers; the second joins later if SECOND_RESIDES is 0."""
    places = {"PLACES": 2, "CONSUMERS": 2, "KILLS": 0}
    return {
        **one(first),
        **places,
        "SECOND_POLICY": second,
        "SECOND_RESIDES": 1,
        "SECOND_START": OLDEST,
        **more,
    }


def group(**more: int) -> Defines:
    """A ring of two slots and a spare one, with two members of a group."""
    return two(MEMBER, MEMBER, **{"SPARES": 1, "GROUP": 1, **more})


def alone(**more: int) -> Defines:
    """A ring of one slot, with a group of one."""
    return one(MEMBER, **{"SLOTS": 1, "KILLS": 0, "GROUP": 1, **more})


@dataclass(frozen=True)
class Instance:
    """A ring, what of the protocol it is there for, and whether the short form runs it."""

    shows: str
    defines: Defines
    quick: bool = True


INSTANCES = {
    "lossless": Instance(
        "lossless reads, holds by cursor and by pin, leave, takeover, reap",
        one(LOSSLESS, FRAMES=3, HOLDS=1, LEAVES=1),
    ),
    "lossy": Instance(
        "pins, laps, swaps away from held slots, leave while holding, takeover, reap",
        one(LOSSY, FRAMES=3, HOLDS=1, LEAVES=1),
    ),
    "takeover": Instance("the one who takes over is killed as well", one(LOSSY, FRAMES=2, KILLS=2)),
    "newcomers": Instance(
        "joins (oldest, newest, next) at the place of one who left or died",
        one(LOSSLESS, FRAMES=3, LIVES=1, LEAVES=1),
    ),
    "drops": Instance(
        "drop, skip to the latest, silence",
        one(LOSSLESS, FRAMES=3, KILLS=0, DROPS=1, LATEST=1, HOLDS=1, SILENCE=1),
    ),
    "observer": Instance(
        "private copies beside laps, swaps and aborts",
        one(LOSSY, FRAMES=3, KILLS=0, HOLDS=1, OBSERVED=1, ABORTS=1),
    ),
    "reopened": Instance("close, and the next producer continues", one(LOSSLESS, FRAMES=2, CLOSES_EARLY=1)),
    "failed": Instance(
        "a producer that fails, and consumers that wait for the next one",
        one(LOSSLESS, FRAMES=2, CLOSES_EARLY=1, FAILS=1),
    ),
    "batch": Instance(
        "batches of two, cut short, aborted", one(LOSSY, FRAMES=3, KILLS=0, BATCH=2, HOLDS=1, ABORTS=1)
    ),
    "lossy newcomer": Instance(
        "a lossy newcomer is lapped while it chooses its start",
        one(LOSSY, FRAMES=3, KILLS=0, FIRST_RESIDES=0),
    ),
    "batch newcomer": Instance(
        "a lossless consumer joins while a batch is claimed",
        one(LOSSLESS, FRAMES=4, KILLS=0, BATCH=2, FIRST_RESIDES=0),
    ),
    "adjacent drops": Instance(
        "a swap for the sake of a run, and then FULL",
        one(LOSSY, SLOTS=3, FRAMES=5, KILLS=0, HOLDS=2, DROPS=1),
    ),
    "two sleepers": Instance(
        "two who sleep on one eventcount, and a producer that falls silent",
        two(LOSSLESS, LOSSLESS, FRAMES=1, SILENCE=1),
    ),
    "reaper killed": Instance(
        "one killed who holds a pin, and then the one that reaps or takes over",
        one(LOSSY, FRAMES=1, KILLS=2),
    ),
    "lossy drops": Instance(
        "every slot pinned: FULL after the mark, and the producer drops",
        one(LOSSY, FRAMES=4, KILLS=0, DROPS=1, HOLDS=1),
    ),
    "both": Instance("one consumer of each policy", two(LOSSLESS, LOSSY, FRAMES=3)),
    "warm": Instance(
        "warm reuse while a lossless newcomer joins",
        two(LOSSLESS, LOSSLESS, FRAMES=2, WARM=1, SECOND_RESIDES=0),
    ),
    "contest": Instance(
        "two newcomers and a reaper at one place",
        two(LOSSLESS, LOSSY, PLACES=1, FRAMES=1, KILLS=1, FIRST_RESIDES=0, SECOND_RESIDES=0),
    ),
    "adjacent": Instance(
        "three slots: swaps for the sake of a run", one(LOSSY, SLOTS=3, FRAMES=4, KILLS=0, HOLDS=1)
    ),
    "both, killed": Instance(
        "one consumer of each policy, one of all killed", two(LOSSLESS, LOSSY, KILLS=1), quick=False
    ),
    "warm, killed": Instance(
        "as warm, one of all killed", two(LOSSLESS, LOSSLESS, WARM=1, SECOND_RESIDES=0, KILLS=1), quick=False
    ),
    "batch, killed": Instance("as batch, one killed", one(LOSSY, FRAMES=3, BATCH=2, HOLDS=1)),
    "adjacent, killed": Instance("as adjacent, one killed", one(LOSSY, SLOTS=3, FRAMES=3, HOLDS=1)),
    "buffers": Instance(
        "a driver with two buffers, one filled again, beside held frames",
        one(LOSSY, SLOTS=3, FRAMES=3, KILLS=0, HOLDS=1, SLIDES=1),
    ),
    "buffers, killed": Instance(
        "a driver with two buffers, one of all killed", one(LOSSY, FRAMES=2, HOLDS=1, SLIDES=1)
    ),
    "buffers, newcomer": Instance(
        "a lossless consumer joins while a driver has buffers",
        one(LOSSLESS, SLOTS=3, FRAMES=3, KILLS=0, FIRST_RESIDES=0, SLIDES=1),
    ),
    "spare": Instance(
        "a held slot goes among the spares, once", one(LOSSY, SPARES=1, FRAMES=4, KILLS=0, HOLDS=1)
    ),
    "members": Instance("two members share the frames", group(FRAMES=2)),
    "members, lapped": Instance(
        "one slot and a spare one: entries move on while a member looks at them", group(SLOTS=1, FRAMES=2)
    ),
    "member killed": Instance(
        "what a killed member had goes to the other", group(SLOTS=1, FRAMES=1, KILLS=1, PRODUCER_LIVES=1)
    ),
    "group joined": Instance(
        "a member joins a group that is there, or that ends",
        group(SLOTS=1, FRAMES=1, LEAVES=1, SECOND_RESIDES=0),
    ),
    "group renewed": Instance(
        "the last member is gone or dead, and the group begins again",
        one(MEMBER, SPARES=1, LIVES=1, LEAVES=1, GROUP=1),
    ),
    "group and lossy": Instance(
        "a group of one beside a lossy consumer", group(SLOTS=1, FRAMES=2, SECOND_POLICY=LOSSY)
    ),
    "member leaves": Instance("a member keeps a frame beyond its leave", alone(SPARES=1, LEAVES=1)),
    "newcomer killed": Instance(
        "a newcomer to a group is killed, and another one comes",
        alone(PLACES=2, KILLS=1, LIVES=1, PRODUCER_LIVES=1, FIRST_RESIDES=0),
    ),
    "joined, killed": Instance(
        "a member is killed, and a newcomer comes before anybody reaps it",
        alone(PLACES=2, KILLS=1, LIVES=1, PRODUCER_LIVES=1),
    ),
    "group again": Instance(
        "a group of one ends, and begins again before its old end",
        alone(SPARES=1, FRAMES=3, LIVES=1, LEAVES=1),
    ),
    "silent member": Instance("a member keeps a frame forever", alone(SPARES=1, SILENCE=1)),
    "group taken over": Instance(
        "a member and the producer killed",
        alone(KILLS=2),
    ),
    "group and lossless": Instance(
        "a group of one beside a lossless consumer", group(SLOTS=1, SECOND_POLICY=LOSSLESS), quick=False
    ),
    "lapped, killed": Instance(
        "as members, lapped; a member killed", group(SLOTS=1, KILLS=1, PRODUCER_LIVES=1), quick=False
    ),
    "any killed": Instance("two members, one of all killed", group(SLOTS=1, FRAMES=1, KILLS=1), quick=False),
}

# mutant -> (what it breaks, the instance that shows it). Each is a macro of the .pml files.
MUTANTS = {
    "GATE_OFF_BY_ONE": ("the gate lets one position too many through", "lossless"),
    "MARK_DOES_NOT_LOOK_FOR_NEWCOMERS": ("no look at join_count after the mark", "newcomers"),
    "SWAP_DOES_NOT_LOOK_FOR_NEWCOMERS": ("no look at join_count in a swap (ADR 4)", "newcomers"),
    "RESCAN_READS_EPOCH_LAST": ("join_count is read after the places", "newcomers"),
    "CLAIM_IGNORES_PINS": ("the claimed slot's pins are not looked at", "lossy"),
    "PINS_BEFORE_MARK": ("pins are looked at before the mark", "lossy"),
    "SWAP_LOOKS_AT_PINS_ONCE": ("no second look at pins in a swap", "lossy"),
    "SWAP_KEEPS_THE_STAMP": ("the other entry stays valid while the slots are exchanged", "observer"),
    "SWAP_REMEMBERS_STAMP": ("FULL after a swap puts the old stamp back", "adjacent drops"),
    "RUN_IGNORES_PINS": ("the rest of a batch takes pinned slots", "batch"),
    "RUN_IGNORES_LIMIT": ("a batch runs beyond the limit", "batch newcomer"),
    "SHORT_BATCH_LEAVES_MARKS": ("what is cut off a batch stays marked", "batch"),
    "FULL_LEAVES_MARK": ("FULL does not put the stamp back", "lossy drops"),
    "ABORT_RESTORES_STAMP": ("an abort makes the overwritten frame valid again", "observer"),
    "HEAD_BEFORE_STAMP": ("head is stored before the entries", "lossless"),
    "LOOKS_FOR_SLEEPERS_BEFORE_HEAD": ("the producer looks for sleepers, then stores head", "lossless"),
    "BIT_CLEARED_WITHOUT_EPOCH": ("a wake clears the sleep bit in the same epoch", "two sleepers"),
    "LOOKS_BEFORE_THE_BIT": ("a sleeper looks at head, then sets the bit", "lossless"),
    "OPEN_UNANNOUNCED": ("a takeover wakes nobody", "drops"),
    "CLOSE_UNANNOUNCED": ("a close wakes nobody", "lossless"),
    "HEAD_BEFORE_STATE": ("a consumer looks at head, then whether the producer closed", "lossless"),
    "COUNT_END_TRUSTS_ANY_EPOCH": ("next_seq of the next producer counts as lost", "lossless"),
    "TAKEOVER_KEEPS_HEAD": ("a takeover takes back what a stamp published", "lossless"),
    "MARK_AHEAD_TRUSTS_THE_GATE": ("a claim that was marked ahead does not look for newcomers", "newcomers"),
    "TAKEOVER_KEEPS_STAMPS": ("a takeover leaves half-done stamps", "lossless"),
    "TAKEOVER_KEEPS_PERMUTATION": ("a takeover leaves two entries with one slot", "lossy"),
    "TAKEOVER_LOWERS_CLAIMED": ("a takeover sets claimed back to head", "newcomers"),
    "CLAIMED_NOT_RAISED": ("a claim does not raise claimed", "newcomers"),
    "REAP_STATE_FIRST": ("a reaper frees the place, then clears the pins", "reaper killed"),
    "REAP_KEEPS_PINS": ("a reaper leaves the pins", "lossy"),
    "REAP_EVICTS_THE_LIVING": ("a reaper does not ask for the lock", "lossless"),
    "RETIRE_STATE_FIRST": ("a place is FREE before its bit in active falls", "newcomers"),
    "RETIRE_UNANNOUNCED": ("who leaves wakes nobody", "lossless"),
    "CURSOR_BEFORE_PINS": ("the cursor passes a kept frame before its pin is set", "lossless"),
    "CURSOR_DOES_NOT_LAG": ("the cursor does not wait for the last frames", "lossless"),
    "CURSOR_UNANNOUNCED": ("a cursor store wakes nobody", "lossless"),
    "UNPIN_UNANNOUNCED": ("an unpin wakes nobody", "lossy"),
    "LOSSY_LOOKS_ONCE": ("no second look at the stamp after the pin", "lossy"),
    "PIN_AFTER_SECOND_LOOK": ("the second look at the stamp comes before the pin", "lossy"),
    "LEAVES_BEFORE_PINS": ("who leaves stops gating before its frames are pinned", "lossless"),
    "JOIN_LOOKS_BEFORE_IT_IS_SEEN": ("a newcomer reads claimed and head before it is known", "newcomers"),
    "JOIN_UNCOUNTED": ("a join does not raise join_count", "newcomers"),
    "STATE_BEFORE_CURSOR": ("the state counts before the provisional cursor is there", "newcomers"),
    "JOIN_TRUSTS_HISTORY": ("a newcomer does not search the stamps", "newcomers"),
    "NEWCOMER_LOOKS_ONCE": ("a lossy newcomer does not look at its first stamp again", "lossy newcomer"),
    "OBSERVER_LOOKS_ONCE": ("a private copy has no second look", "observer"),
    "SWAP_TAKES_BUFFERS": ("a swap takes the slot of a buffer that the driver has", "buffers"),
    "SPARE_IGNORES_PINS": ("a spare slot is taken while somebody holds it", "spare"),
    "CLAIM_IGNORES_OWNERS": ("the claimed slot's owner words are not looked at", "members, lapped"),
    "PINS_BEFORE_OWNERS": ("the claim looks at pins, then at owner words", "member leaves"),
    "LETS_GO_BEFORE_PIN": ("a member that leaves lets go, then pins", "member leaves"),
    "GROUP_DOES_NOT_GATE": ("the group's next holds nobody back", "members, lapped"),
    "TAKE_DOES_NOT_VALIDATE": ("a member does not look at the record before its claim", "members, lapped"),
    "RESCAN_LOOKS_ONCE": ("a rescan trusts a table that changes while it reads", "newcomer killed"),
    "ENTERING_GATES_BY_CURSOR": ("a newcomer to a group gates by its cursor alone", "newcomer killed"),
    "NEXT_BEFORE_CURSOR": (
        "a rescan reads the next of a group, then the cursor of its newcomer",
        "group again",
    ),
    "PASS_UNANNOUNCED": ("a new next wakes no producer", "silent member"),
    "DISOWN_UNANNOUNCED": ("a released frame wakes no producer", "group taken over"),
    "END_UNANNOUNCED": ("the last release wakes no member that waits at the end", "members"),
    "END_IGNORES_OWNERS": ("a member ends while another one has a frame", "members"),
    "WAIT_IGNORES_EPOCH": ("two ends of a stream look like one", "any killed"),
    "REAP_WITHOUT_EVENT": ("what a dead member had is put up unannounced", "member killed"),
    "TAKEOVER_KEEPS_RECORDS": ("what was never published keeps its position", "group taken over"),
    "JOIN_KEEPS_OWNERS": ("a new group leaves the last one's owner words", "group renewed"),
    "JOIN_KEEPS_POSITIONS": ("a new group leaves the positions in the owner words", "group renewed"),
    "JOIN_COUNTS_NEWCOMERS": ("a newcomer that died passes for a group", "newcomer killed"),
    "JOIN_GATES_AS_MEMBER_AT_ONCE": ("a newcomer is a member before next is there", "newcomer killed"),
    "OWNERS_DO_NOT_COUNT_WHILE_ENTERING": ("a newcomer's group does not hold slots yet", "joined, killed"),
    "MEMBER_JOINS_UNSEEN": ("a newcomer to a group has no provisional cursor", "newcomer killed"),
    "OBSERVER_LOOKS_TOO_EARLY": ("its second look comes before the last read", "observer"),
}
