"""The re-checks that mutants.py removes, and the mutants that may survive, each with its reason."""

# Name, the check that is tried first, and the texts, each found once in the headers, with what replaces them.
RECHECKS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "stamps after F10",
        "copy_overwritten",
        [
            (
                "return stamp == shmring_published_stamp(position) ? SHMRING_OK : SHMRING_EMPTY;",
                "return SHMRING_OK;",
            )
        ],
    ),
    (
        "newcomers after F6",
        "copy_put_back",
        [("    if (shmring_joined_since_rescan(p))\n        shmring_rescan(p);\n}", "}")],
    ),
    (
        "newcomers after F7",
        "join_swapped",
        [
            (
                "    if (shmring_joined_since_rescan(p))\n        shmring_rescan(p);\n    if (later",
                "    if (later",
            )
        ],
    ),
    (
        "pins after F7",
        "pin",
        [("if (later >= p->limit || shmring_read_pins(p, taken) != 0) {", "if (later >= p->limit) {")],
    ),
    (
        "limit after F7",
        "join_swapped",
        [
            (
                "if (later >= p->limit || shmring_read_pins(p, taken) != 0) {",
                "if (shmring_read_pins(p, taken) != 0) {",
            )
        ],
    ),
    (
        "swap puts back",
        "selftest",
        [("shmring_store_release(&theirs->stamp, stamp);", "(void)stamp;")],
    ),
    (
        "claim puts back",
        "selftest",
        [("shmring_store_release(&shmring_entry_at(p->block, index)->stamp, p->saved[i]);", "(void)0;")],
    ),
    (
        "pins after F6",
        "keep",
        [
            (
                "if (shmring_read_pins(p, p->slot_of[p->index]) == 0 && p->head < p->limit)",
                "if (p->head < p->limit)",
            )
        ],
    ),
    (
        "pins of a batch",
        "pin_batch",
        [
            (
                "if (p->slot_of[index] != slot || shmring_read_pins(p, slot) != 0)",
                "if (p->slot_of[index] != slot)",
            )
        ],
    ),
    # In claim and in settle: each of the two looks makes the other one unneeded.
    (
        "limit after F6",
        "copy_put_back",
        [
            (
                "if (p->head >= p->limit || shmring_secure_slot(p) != SHMRING_OK) {",
                "if (shmring_secure_slot(p) != SHMRING_OK) {",
            ),
            (
                "if (shmring_read_pins(p, p->slot_of[p->index]) == 0 && p->head < p->limit)",
                "if (shmring_read_pins(p, p->slot_of[p->index]) == 0)",
            ),
        ],
    ),
    (
        "claimed never back",
        "selftest",
        [("if (end > p->claimed) {", "if (end != p->claimed) {")],
    ),
    (
        "stamps zeroed",
        "steps",
        [
            (
                "shmring_store_relaxed(&entry->stamp, 0u); /* [relaxed: readers look below head only] */",
                "(void)0;",
            )
        ],
    ),
    (
        "pin before cursor",
        "keep",
        [("shmring_pin_hold(c, c->older); /* alive two takes later", "(void)0; /* alive two takes later")],
    ),
    (
        "seq after F10",
        "join_lossy",
        [
            (
                "if (stamp == shmring_published_stamp(position))\n            return;",
                "(void)stamp;\n        return;",
            )
        ],
    ),
    ("bit and epoch", "two_sleepers", [("value + 1u", "value & ~1u")]),
]

LOCKED = "the lock of the kernel that follows or precedes it orders the same"

# Label, function, and which one of that label in the function.
SURVIVORS: dict[tuple[str, str, int], str] = {
    ("A2", "shmring_collect_as", 0): "whoever knows that the frame is below head has acquired head (A1)",
    ("A2", "shmring_take_lossy", 0): "only the value counts; F8 stands before it",
    ("A7", "shmring_take_lossy", 0): "only a lower bound of where to go on; what is there is looked at anew",
    ("A2", "shmring_choose_start", 0): "the entry is below a head acquired just before (A1)",
    ("A7", "shmring_choose_start", 0): (
        "F9 with F2 and F6 gives the same: the producer stored a head that is missed here after F9, so that "
        "the claim which would overwrite what lies behind it sees the newcomer"
    ),
    ("A5", "shmring_reap", 0): LOCKED,
    ("A5", "shmring_occupy_place", 0): LOCKED,
    ("A1", "shmring_producer_open", 0): LOCKED,
    ("A7", "shmring_producer_open", 0): LOCKED,
    ("A1", "shmring_guess_start", 0): "a guess that is too low only holds the producer back for longer",
    ("A7", "shmring_guess_start", 0): "a guess that is too low only holds the producer back for longer",
    ("R5", "shmring_join", 0): "JOINING publishes nothing that anyone reads",
    ("R3", "shmring_join", 0): "F9 stands between everything that it could order and it",
    ("A10", "shmring_active_consumers", 0): "a number; who acts on it rescans (A10 there)",
    ("A4", "shmring_joined_since_rescan", 0): "whoever finds it changed rescans, and acquires it there",
    ("R2", "shmring_restore_stamps", 0): "F6 stands between the publish of that frame and it",
    ("R2", "shmring_swap", 0): "F7 stands between the publish of that frame and it",
    ("R7", "shmring_mark_writing", 0): "F2 or F5 stands between every store to head and it",
}
