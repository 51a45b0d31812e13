"""The protocol in plain Python, one step at a time: what docs/protocol.md says each call leaves behind.

It follows what one order of memory decides: cursors, pins, stamps, swaps. The frames of these rings fit in
the cache, so there is no warm reuse. Concurrency is the matter of the litmus tests and of the model.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass

FOR_EVER = 1 << 64


@dataclass(eq=False)
class Hold:
    """Frames that a consumer keeps, and their slots."""

    position: int
    slots: list[int]
    pinned: bool

    @property
    def end(self) -> int:
        return self.position + len(self.slots)


class Ring:
    """The block, and its producer."""

    def __init__(self, slots: int):
        self.slots = slots
        self.stamps: list[tuple[str, int] | None] = [None] * slots  # by entry
        self.slot_of = list(range(slots))
        self.consumers: list[Consumer] = []  # active
        self.holders: list[Consumer] = []  # who may have pins
        self.head = self.claimed = self.swaps = self.joins = 0
        self.take_over()

    def published(self, position: int) -> bool:
        return self.stamps[position % self.slots] == ("published", position)

    @property
    def oldest(self) -> int:
        return max(0, self.claimed - self.slots)

    def pinned(self, slot: int) -> bool:
        return any(one.pins[slot] for one in self.holders)

    # ---- the producer

    def take_over(self) -> None:
        self.limit = self.head  # the first claim rescans
        self.known: object = None
        self.gated = self.lossy = False
        self.count = 0
        self.ahead: list[tuple[str, int] | None] = []  # the stamp below a mark that no claim made

    def rescan(self) -> None:
        self.known = (self.joins, tuple(self.consumers))
        gates = [one.cursor for one in self.consumers if one.lossless]
        self.limit = min(gates, default=FOR_EVER) + self.slots
        self.gated = bool(gates)
        self.lossy = any(not one.lossless for one in self.consumers)

    def look_for_newcomers(self) -> None:
        if self.known != (self.joins, tuple(self.consumers)):
            self.rescan()

    def mark_entries(self, start: int, end: int) -> list[tuple[str, int] | None]:
        """What the stamps were."""
        self.claimed = max(self.claimed, self.head + end)
        saved = []
        for position in range(self.head + start, self.head + end):
            saved.append(self.stamps[position % self.slots])
            self.stamps[position % self.slots] = ("writing", position)
        return saved

    def mark(self, start: int, end: int) -> list[tuple[str, int] | None]:
        saved = self.mark_entries(start, end)
        self.look_for_newcomers()
        return saved

    def mark_ahead(self) -> None:
        if self.gated and not self.lossy and self.head < self.limit:
            self.ahead = self.mark_entries(0, 1)

    def unmark_ahead(self) -> None:
        self.unmark(0, self.ahead)
        self.ahead = []

    def mark_first(self) -> list[tuple[str, int] | None]:
        if not self.ahead:
            return self.mark(0, 1)
        saved, self.ahead = self.ahead, []
        self.look_for_newcomers()
        return saved

    def unmark(self, start: int, saved: list[tuple[str, int] | None]) -> None:
        for i, stamp in enumerate(saved, self.head + start):
            self.stamps[i % self.slots] = stamp

    def swap(self, other: int, later: int) -> bool:
        mine = self.head % self.slots
        if self.pinned(self.slot_of[other]) or later >= self.limit:
            return False
        self.stamps[other] = None
        self.slot_of[mine], self.slot_of[other] = self.slot_of[other], self.slot_of[mine]
        self.swaps += 1
        return True

    def rejoin_run(self) -> bool:
        """Whether the slot that follows the slot of the frame before was swapped in."""
        mine = self.head % self.slots
        wanted = (self.slot_of[mine - 1] + 1) % self.slots
        if self.slot_of[mine] == wanted:
            return False
        other = self.slot_of.index(wanted)
        ahead = (other - mine) % self.slots
        if ahead >= self.slots - self.count or (self.lossy and ahead > self.slots // 2):
            return False
        return self.swap(other, self.head + ahead)

    def settle(self) -> tuple[bool, bool]:
        """Whether the claimed entry has a slot that nobody holds; whether its old frame went away."""
        swapped = self.rejoin_run()
        if not self.pinned(self.slot_of[self.head % self.slots]):
            return True, swapped
        if self.limit - self.head < self.slots:
            self.rescan()
        for later in range(self.head + 1, self.head + self.slots - self.count):
            if self.swap(later % self.slots, later):
                return True, True
        return False, swapped

    def claim_entry(self) -> bool:
        saved = self.mark_first()
        free, swapped = (False, False) if self.head >= self.limit else self.settle()
        if not free:
            self.unmark(0, [None] if swapped else saved)
        return free

    def claim(self, want: int) -> int:
        """Frames claimed; 0: the ring is full."""
        wished = min(want, self.slots)
        if self.limit - self.head < wished:
            self.rescan()
        if self.head >= self.limit:
            self.unmark_ahead()
            return 0
        if not self.claim_entry():
            return 0
        most = min(wished, self.limit - self.head)
        saved = self.mark(1, most)
        run, slot = 1, self.slot_of[self.head % self.slots]
        while run < most and self.head + run < self.limit:
            slot = (slot + 1) % self.slots
            if self.slot_of[(self.head + run) % self.slots] != slot or self.pinned(slot):
                break
            run += 1
        self.unmark(run, saved[run - 1 :])
        self.count = run
        return run

    def claim_more(self) -> bool:
        """One more, behind what is claimed; False: there is no space."""
        if self.count == 0:
            return self.claim(1) == 1
        head = self.head
        self.head += self.count
        if self.head >= self.limit:
            self.rescan()
        claimed = self.head < self.limit and self.claim_entry()
        self.head = head
        self.count += claimed
        return claimed

    def publish_oldest(self) -> None:
        self.stamps[self.head % self.slots] = ("published", self.head)
        self.head += 1
        self.count -= 1
        if self.count == 0:
            self.mark_ahead()

    def requeue_oldest(self) -> None:
        entries = [(self.head + i) % self.slots for i in range(self.count)]
        slots = [self.slot_of[entry] for entry in entries]
        for entry, slot in zip(entries, [*slots[1:], slots[0]], strict=True):
            self.slot_of[entry] = slot

    def publish(self, count: int) -> None:
        for i in range(self.count):
            position = self.head + i
            self.stamps[position % self.slots] = ("published", position) if i < count else None
        self.head += count
        self.count = 0
        if count:
            self.mark_ahead()


class Consumer:
    """A place in the table, from its join on."""

    def __init__(self, ring: Ring, lossless: bool, start: str):
        self.ring, self.lossless = ring, lossless
        most = {"oldest": ring.slots, "newest": 1, "next": 0}[start]
        self.next = ring.head
        while self.next > ring.oldest and ring.head - self.next < most and ring.published(self.next - 1):
            self.next -= 1
        self.cursor = self.next
        self.pins: Counter[int] = Counter()  # by slot
        self.held = 0
        self.older: Hold | None = None
        self.newer: Hold | None = None
        self.wants_runs = False
        self.max_held = self.share()
        ring.joins += 1
        ring.consumers.append(self)
        ring.holders.append(self)

    def share(self) -> int:
        """Slots that it may hold: half of what the other lossy consumers leave, or two at least."""
        if self.lossless:
            return sys.maxsize
        all_that_may = self.ring.slots - (2 if self.ring.slots > 3 else 1)
        others = [one for one in self.ring.holders if not one.lossless or one not in self.ring.consumers]
        taken = sum(one.max_held if one in self.ring.consumers else one.held for one in others)
        return max(min(2, all_that_may), max(all_that_may - taken, 0) // 2)

    def may_take(self, least: int, most: int) -> int:
        """How many frames a consumer of this policy may take for what it holds; fewer than `least`: none."""
        pinned = sum(count > 0 for count in self.pins.values())
        if self.lossless or pinned + most <= self.max_held:
            return most
        if pinned + least <= self.max_held:
            return self.max_held - pinned
        return least if self.slots_needed(least) <= self.max_held else 0

    # ---- holds

    def pin(self, hold: Hold) -> None:
        self.pins.update(hold.slots)
        hold.pinned = True

    def store_cursor(self) -> None:
        self.cursor = min([self.next] + [one.position for one in (self.older, self.newer) if one])

    def pin_lagging(self) -> None:
        for one in (self.older, self.newer):
            if one is not None:
                self.pin(one)
        self.older = self.newer = None

    def stop_lagging(self) -> None:
        self.pin_lagging()
        self.store_cursor()

    def release(self, hold: Hold) -> None:
        self.held -= len(hold.slots)
        if hold.pinned:
            self.pins.subtract(hold.slots)
        elif hold is self.older:
            self.older = None
            self.store_cursor()
        else:
            self.newer = None
            self.stop_lagging()

    def leave(self) -> None:
        self.stop_lagging()
        self.ring.consumers.remove(self)

    def want_runs(self) -> None:
        self.ring.joins += not self.wants_runs
        self.wants_runs = True

    def holds_too_much(self, least: int) -> bool:
        """Whether `least` frames can never come; a lossless consumer then turns its lag into pins."""
        most = self.ring.slots if self.lossless else self.max_held
        if self.slots_needed(least) > most and self.lossless:
            self.stop_lagging()
        return self.slots_needed(least) > most

    def slots_needed(self, least: int) -> int:
        start = self.cursor if self.lossless else self.next
        mine = {slot for slot, count in self.pins.items() if count}
        unread = {
            self.ring.slot_of[p % self.ring.slots]
            for p in range(start, min(self.next + least, self.ring.head))
            if self.lossless or self.ring.published(p)
        }
        return self.next + least - start + len(mine) - len(mine & unread)

    # ---- reading

    def run(self, most: int) -> int:
        """Frames from next on that are adjacent in memory."""
        entry = self.next % self.ring.slots
        slot, length = self.ring.slot_of[entry], 0
        while length < min(most, self.ring.head - self.next):
            position = self.next + length
            if self.ring.slot_of[position % self.ring.slots] != (slot + length) % self.ring.slots:
                break
            if not self.lossless and not self.ring.published(position):
                break
            length += 1
        return length

    def take(self, count: int, step: int = 0) -> Hold | None:
        """Take the frames from next on; None: they are scattered and were copied."""
        hold = None
        if self.run(count) == count:
            slots = [self.ring.slot_of[(self.next + i) % self.ring.slots] for i in range(count)]
            hold = Hold(self.next, slots, False)
        self.next += step or count
        if hold is not None:
            self.held += count
        if hold is not None and self.lossless:
            if self.newer is not None and self.newer.end < hold.position:
                self.pin_lagging()
            if self.older is not None:
                self.pin(self.older)
            self.older, self.newer = self.newer, hold
            if hold.end < self.next:
                self.pin_lagging()
        elif hold is not None:
            self.pin(hold)
        else:
            self.pin_lagging()  # what is held; nothing of what was copied
        self.store_cursor()
        return hold
