"""The re-checks that mutants.py removes, and the mutants that may survive, each with its reason."""

SECURED = (
    "if (p->head < p->limit && (!shmring_is_held(p, p->slot_of[p->index]) || shmring_take_any_spare(p)))"
)

# Name, the check that is tried first, and the texts, each found once in the headers, with what replaces them.
RECHECKS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "stamps after recheck",
        "copy_overwritten",
        [
            (
                "return stamp == shmring_published_stamp(position) ? SHMRING_OK : SHMRING_EMPTY;",
                "return SHMRING_OK;",
            )
        ],
    ),
    (
        "newcomers after mark",
        "copy_put_back",
        [("    if (shmring_joined_since_rescan(p))\n        shmring_rescan(p);\n}", "}")],
    ),
    (
        "newcomers after mark ahead",
        "selftest",
        [("    else if (shmring_joined_since_rescan(p))\n        shmring_rescan(p);\n", "")],
    ),
    (
        "full puts back a mark ahead",
        "selftest",
        [("        shmring_unmark_ahead(p);\n        return SHMRING_FULL;", "        return SHMRING_FULL;")],
    ),
    (
        "end puts back a mark ahead",
        "selftest",
        [
            (
                "    shmring_unmark_ahead(p);\n    shmring_end_stream(p, SHMRING_PRODUCER_CLOSED);",
                "    shmring_end_stream(p, SHMRING_PRODUCER_CLOSED);",
            )
        ],
    ),
    (
        "no mark ahead of lossy consumers",
        "selftest",
        [(" && !p->lossy_active && p->head < p->limit &&", " && p->head < p->limit &&")],
    ),
    (
        "no mark ahead past the limit",
        "selftest",
        [(" && !p->lossy_active && p->head < p->limit &&", " && !p->lossy_active &&")],
    ),
    (
        "head found by the stamps",
        "selftest",
        [("    shmring_find_head(p);\n", "")],
    ),
    (
        "newcomers after swap",
        "join_swapped",
        [
            (
                "    if (shmring_joined_since_rescan(p))\n        shmring_rescan(p);\n    if (later",
                "    if (later",
            )
        ],
    ),
    (
        "pins after swap",
        "pin",
        [("if (later >= p->limit || shmring_is_held(p, taken)) {", "if (later >= p->limit) {")],
    ),
    (
        "limit after swap",
        "join_swapped",
        [
            (
                "if (later >= p->limit || shmring_is_held(p, taken)) {",
                "if (shmring_is_held(p, taken)) {",
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
        "pins after mark",
        "keep",
        [
            (
                SECURED,
                "if (p->head < p->limit)",
            )
        ],
    ),
    (
        "pins of a batch",
        "pin_batch",
        [
            (
                "if (slot_of[index] != slot || shmring_is_held_in(&block, groups, slot))",
                "if (slot_of[index] != slot)",
            )
        ],
    ),
    # In claim and in settle: each of the two looks makes the other one unneeded.
    (
        "limit after mark",
        "copy_put_back",
        [
            (
                "if (p->head < p->limit && shmring_secure_slot(p) == SHMRING_OK)",
                "if (shmring_secure_slot(p) == SHMRING_OK)",
            ),
            (
                SECURED,
                "if (!shmring_is_held(p, p->slot_of[p->index]) || shmring_take_any_spare(p))",
            ),
        ],
    ),
    (
        "swaps spare buffers",
        "selftest",
        [("const uint64_t end = p->head + slots - p->count;", "const uint64_t end = p->head + slots;")],
    ),
    (
        "runs spare buffers",
        "selftest",
        [("if (later >= p->head + slots - p->count)", "if (later >= p->head + slots)")],
    ),
    (
        "claimed never back",
        "selftest",
        [("if (end > p->claimed) {", "if (end != p->claimed) {")],
    ),
    (
        "stamps zeroed",
        "selftest",
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
        "seq after recheck",
        "join_lossy",
        [
            (
                "if (stamp == shmring_published_stamp(position))\n            return;",
                "(void)stamp;\n        return;",
            )
        ],
    ),
    ("bit and epoch", "two_sleepers", [("value + 1u", "value & ~1u")]),
    (
        "pins of a spare slot",
        "selftest",
        [("if (shmring_is_held(p, p->slot_of[spare]))\n        return 0;", "")],
    ),
    (
        "record of the slot",
        "selftest",
        [
            (
                "shmring_read_record(&out, i, &block.geometry, shmring_record_at(&block, slot));",
                "shmring_read_record(&out, i, &block.geometry, entry);",
            )
        ],
    ),
    (
        "record of the slot, copied",
        "selftest",
        [
            (
                "shmring_read_record(taken, 0, &block->geometry, shmring_record_at(block, slot));",
                "shmring_read_record(taken, 0, &block->geometry, entry);",
            )
        ],
    ),
    (
        "record before owner",
        "selftest",
        [
            (
                "if (found != position || !shmring_cas_release(",
                "(void)found;\n        if (!shmring_cas_release(",
            )
        ],
    ),
    (
        "position forgotten",
        "selftest",
        [("if (shmring_load_relaxed(position) >= p->head)", "if (0)")],
    ),
    (
        "share kept to",
        "selftest",
        [("if (shmring_share_left(c) < share) {", "if (0) {")],
    ),
    (
        "share taken back",
        "selftest",
        [("shmring_store_share(c, c->max_held);\n        return 0;", "return 0;")],
    ),
    (
        "share of those who left",
        "selftest",
        [("if (kind == SHMRING_PLACE_LEFT)\n        return shmring_load_stat(&row->held);", "")],
    ),
    (
        "share of the dead",
        "selftest",
        [
            (
                "|| !shmring_lock_held(c->lock_fd, SHMRING_LOCK_PLACE(other))",
                "",
            )
        ],
    ),
    (
        "share in each round",
        "window_lapped",
        [
            (
                "const uint64_t room = shmring_may_take(c, least, most < slots ? most : slots);",
                "const uint64_t room = round == 0 ? shmring_may_take(c, least, most) : most;",
            )
        ],
    ),
    (
        "slot of two holds",
        "selftest",
        [("if (--c->pin_counts[slot] != 0)\n        return;", "--c->pin_counts[slot];")],
    ),
]

LOCKED = "the lock of the kernel that follows or precedes it orders the same"

# Label, function, and which one of that label in the function.
AGAIN = "only where to begin: each take looks again"
CONTINUED = "a compare-and-swap continues the release of the word that it replaces"
HELD_AT_WORST = "an old owner word makes a slot count as held, no more"
SURVIVORS: dict[tuple[str, str, int], str] = {
    ("acquire join_count", "shmring_rescan", 0): "only the value counts; a scan that follows acquires it",
    ("acquire state", "shmring_reap_members", 0): "a hint: shmring_reap looks again, under the place's lock",
    (
        "acquire active",
        "shmring_has_members",
        0,
    ): "only the bits count, and this process changed the word itself",
    ("acquire state", "shmring_has_members", 0): LOCKED,
    ("release state", "shmring_become_member", 0): LOCKED,
    (
        "acquire producer_state",
        "shmring_announce_disowned",
        0,
    ): "only the value counts: may the end be waited for",
    ("acquire state", "shmring_share_of", 0): "the share fence comes between the other's share and it",
    ("acquire next", "shmring_join_group", 0): AGAIN,
    ("acquire next", "shmring_next_position", 0): AGAIN,
    ("acquire next", "shmring_scan_places", 0): "the mark fence comes between it and the look at owners",
    ("acquire next", "shmring_take_new", 0): "what is read there is acquired with head",
    ("acquire next", "shmring_take_new", 1): "what is read there is acquired with head",
    (
        "acquire owner",
        "shmring_is_shared_out",
        0,
    ): "only the value counts, and a change of it comes with events",
    ("acquire owner", "shmring_own", 0): (
        "only the word itself counts: after next, which is stored later, nobody reads an older one"
    ),
    ("release owner", "shmring_own", 0): LOCKED,
    ("acquire owner", "shmring_give_up_owned", 0): LOCKED,
    ("release owner", "shmring_give_up_owned", 0): CONTINUED,
    ("release owner", "shmring_take_again", 0): CONTINUED,
    ("release owner", "shmring_begin_group", 0): HELD_AT_WORST,
    ("release next", "shmring_begin_group", 0): (
        "members find it under the lock of the groups; to the producer " + HELD_AT_WORST
    ),
    ("acquire events", "shmring_is_news", 0): "only a reason to look; the take that follows acquires it",
    (
        "acquire stamp",
        "shmring_collect_as",
        0,
    ): "a reader that knows that the frame is below head has acquired head",
    ("acquire stamp", "shmring_take_lossy", 0): "only the value counts; the pin fence comes before it",
    (
        "acquire claimed",
        "shmring_take_lossy",
        0,
    ): "only a lower bound of where to continue; what is there is checked again",
    ("acquire stamp", "shmring_choose_start", 0): "the entry is below a head acquired just before",
    ("acquire claimed", "shmring_choose_start", 0): (
        "the fence join with publish and mark gives the same: a head that is missed here was stored after "
        "the join, so that the claim which would overwrite what lies behind it sees the newcomer"
    ),
    ("acquire state", "shmring_reap", 0): LOCKED,
    ("acquire state", "shmring_occupy_place", 0): LOCKED,
    ("acquire head", "shmring_producer_open", 0): LOCKED,
    ("release head", "shmring_producer_open", 0): (
        "what it publishes was written by a producer that died between a stamp and head, and in a litmus "
        "test nobody dies there; the C selftest has the value"
    ),
    ("acquire claimed", "shmring_producer_open", 0): LOCKED,
    (
        "acquire head",
        "shmring_guess_start",
        0,
    ): "a guess that is too low only holds the producer back for longer",
    (
        "acquire claimed",
        "shmring_guess_start",
        0,
    ): "a guess that is too low only holds the producer back for longer",
    ("release state", "shmring_begin_join", 0): "JOINING publishes nothing that anyone reads",
    (
        "release cursor",
        "shmring_end_join",
        0,
    ): "the join fence comes between everything that it could order and it",
    (
        "acquire active",
        "shmring_active_consumers",
        0,
    ): "a number; a producer that acts on it rescans, and acquires active there",
    (
        "acquire join_count",
        "shmring_joined_since_rescan",
        0,
    ): "a producer that finds it changed rescans, and acquires it there",
    (
        "release stamp",
        "shmring_restore_stamps",
        0,
    ): "the mark fence comes between the publish of that frame and it",
    ("release stamp", "shmring_swap", 0): "the swap fence comes between the publish of that frame and it",
    (
        "release claimed",
        "shmring_mark_entries",
        0,
    ): "the fence publish or announce comes between every store to head and it",
}
