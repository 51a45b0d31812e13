"""The Python API against a model in plain Python: random programs over several handles of one process.

The model knows positions, seqs and who holds what, and predicts every result. What the documentation promises
(how many frames fit, what is lost) it says by itself; what the protocol decides (how many slots of a claim
are adjacent, what a swap left of the history) it takes from support/ring_model.py. Every frame that is held,
and every view of one, is compared with its only right content after every step.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import shmring
from support import ring_model
from support.blocks import fresh_name
from support.frames import WORDS, fill, payload

pytestmark = pytest.mark.slow

PLACES = 4
ANY = st.integers(0, 11)


@dataclass
class Reader:
    """What the model knows of one consumer."""

    handle: shmring.Consumer
    core: ring_model.Consumer
    lossless: bool
    aim: int  # latest or windows passed over what comes before this position and was not delivered
    expected: int  # seq that was not yet delivered, lost or skipped
    lost: int = 0
    skipped: int = 0
    delivered: int = 0

    @property
    def next(self) -> int:
        return self.core.next

    def miss(self, end: int, position_of: dict[int, int]) -> int:
        """Account for the frames below seq `end` that did not come; how many of them are lost."""
        missing = range(self.expected, end)
        passed = sum(position_of.get(seq, self.aim) < self.aim for seq in missing)
        self.skipped += passed
        self.lost += len(missing) - passed
        self.expected = max(self.expected, end)
        return len(missing) - passed

    def count(self, seqs: list[int], position_of: dict[int, int]) -> int:
        """Account for frames that came; how many were lost before and between them."""
        lost = 0
        for seq in seqs:
            if seq >= self.expected:  # else a window before had it
                lost += self.miss(seq, position_of)
                self.delivered += 1
                self.expected = seq + 1
        return lost


@dataclass
class Holding:
    """A Frame or Batch, with views of it, as long as any of them lives."""

    reader: Reader
    frame: shmring.Frame | shmring.Batch | None
    positions: list[int]
    seqs: list[int]
    core: ring_model.Hold | None  # None: a copy
    views: list[np.ndarray] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return bool(self.views) or (self.frame is not None and not self.frame.released)

    def check(self) -> None:
        arrays = list(self.views)
        if self.frame is not None and not self.frame.released:
            arrays.append(
                self.frame.array if isinstance(self.frame, shmring.Batch) else self.frame.array[None]
            )
        for array in arrays:
            assert not array.flags.writeable
            for found, seq in zip(array, self.seqs, strict=True):
                assert np.array_equal(found, payload(seq)), f"frame {seq} changed while it was held"


class RingMachine(RuleBasedStateMachine):
    """One ring; at most one producer, PLACES consumers, one observer."""

    def __init__(self):
        super().__init__()
        self.ring: shmring.Ring | None = None

    @initialize(slots=st.integers(2, 6), attached=st.booleans())
    def create(self, slots, attached):
        self.name = fresh_name()
        self.ring = shmring.Ring.create(self.name, shape=(WORDS,), dtype="u8", slots=slots, consumers=PLACES)
        self.other = shmring.Ring.attach(self.name) if attached else self.ring
        self.slots = slots
        self.seq_of: list[int] = []  # position -> seq
        self.position_of: dict[int, int] = {}  # seq -> position
        self.core = ring_model.Ring(slots)
        self.next_seq = self.dropped = self.epoch = 0
        self.producer: shmring.Producer | None = None
        self.slot: shmring.Slot | None = None
        self.state = "none"
        self.readers: list[Reader] = []
        self.left: list[Reader] = []
        self.holdings: list[Holding] = []
        self.observer = self.other.observer()
        self.seen_position = 0
        self.seen_seq: int | None = None

    # ---- what the model says

    @property
    def head(self) -> int:
        return len(self.seq_of)

    def occupied(self) -> int:
        """Slots that may not be overwritten: unread by a lossless consumer, or held by anyone."""
        gate = min((one.next for one in self.readers if one.lossless), default=self.head)
        held = {p for one in self.holdings if one.core for p in one.positions}
        return len(held | set(range(gate, self.head)))

    def held_by(self, reader: Reader) -> list[int]:
        mine = [one for one in self.holdings if one.reader is reader and one.core]
        return [p for one in mine for p in one.positions]

    def publish(self, count: int) -> None:
        self.note_published(count)
        self.core.publish(count)

    def note_published(self, count: int) -> None:
        for seq in range(self.next_seq, self.next_seq + count):
            self.position_of[seq] = self.head
            self.seq_of.append(seq)
        self.next_seq += count

    def pick(self, things: list, n: int):
        return things[n % len(things)]

    # ---- the producer

    @precondition(lambda self: self.producer is None)
    @rule(on_full=st.sampled_from(["wait", "drop", "raise"]))
    def open_producer(self, on_full):
        self.producer = self.other.producer(on_full=on_full)
        self.core.take_over()
        self.on_full = on_full
        self.state = "live"
        self.epoch += 1
        assert (self.producer.epoch, self.producer.next_seq) == (self.epoch, self.next_seq)

    @precondition(lambda self: self.producer is not None)
    @rule()
    def second_producer(self):
        with pytest.raises(shmring.ProducerExists):
            self.ring.producer()

    @precondition(lambda self: self.producer is not None)
    @rule()
    def close_producer(self):
        self.producer.close()
        self.core.publish(0)
        self.core.unmark_ahead()
        self.producer = self.slot = None
        self.state = "closed"

    @precondition(lambda self: self.producer is not None and self.slot is None)
    @rule()
    def put(self):
        frame, full = payload(self.next_seq), self.occupied() >= self.slots
        assert self.core.claim(1) == (not full)
        if full and self.on_full != "drop":
            with pytest.raises(shmring.RingFull):
                self.producer.put(frame, timeout=0)
        elif full:
            assert self.producer.put(frame) is False
            self.next_seq += 1
            self.dropped += 1
        else:
            assert self.producer.put(frame, timeout=0) is True
            self.publish(1)

    @precondition(lambda self: self.producer is not None and self.slot is None)
    @rule(count=st.integers(1, 9))
    def put_many(self, count):
        frames = np.stack([payload(self.next_seq + i) for i in range(count)])
        room = max(0, self.slots - self.occupied()) if self.gated() else count
        if room:  # what a consumer passes over before it is published is overwritten at once
            room += max(0, min((one.next for one in self.readers if one.lossless), default=0) - self.head)
        expected = min(count, room)
        assert self.put_by_model(count) == expected
        if expected == 0 and self.on_full != "drop":
            with pytest.raises(shmring.RingFull):
                self.producer.put_many(frames, timeout=0)
            return
        assert self.producer.put_many(frames, timeout=0) == expected
        if self.on_full == "drop":
            self.next_seq += count - expected
            self.dropped += count - expected

    def put_by_model(self, count: int) -> int:
        done = 0
        while done < count and (claimed := self.core.claim(count - done)):
            self.publish(claimed)
            done += claimed
        return done

    def gated(self) -> bool:
        """Whether anything can make this ring full before `count` frames are in."""
        return any(one.lossless for one in self.readers) or self.occupied() >= self.slots

    @precondition(lambda self: self.producer is not None and self.slot is None)
    @rule(n=st.integers(1, 7))
    def claim(self, n):
        room, expected = self.slots - self.occupied(), self.core.claim(n)
        assert (expected > 0) == (room > 0)
        if room <= 0 and self.on_full != "drop":
            with pytest.raises(shmring.RingFull):
                self.producer.claim(n, timeout=0)
            return
        slot = self.producer.claim(n, timeout=0)
        assert slot.dropped is (room <= 0)
        assert slot.seq == self.next_seq
        assert slot.count == (min(n, self.slots) if slot.dropped else expected)
        assert slot.dropped or slot.count <= room
        self.slot = slot
        fill(slot) if n == 1 else self.fill_many(slot)
        with pytest.raises(ValueError, match="open"):
            self.producer.put(payload(0))

    def fill_many(self, slot) -> None:
        for i in range(slot.count):
            slot.array[i] = payload(slot.seq + i)

    @precondition(lambda self: self.slot is not None)
    @rule(keep=ANY, abort=st.booleans())
    def finish_claim(self, keep, abort):
        slot, self.slot = self.slot, None
        array, count = slot.array, 0 if abort else keep % (slot.count + 1)
        slot.abort() if abort else slot.publish(count)
        assert not array.flags.writeable
        if slot.dropped:
            self.next_seq += count
            self.dropped += count
            return
        self.publish(count)

    @precondition(lambda self: self.producer is not None and self.slot is None)
    @rule(n=st.integers(1, 5), damaged=st.lists(st.booleans(), min_size=1, max_size=9))
    def drive(self, n, damaged):
        """A driver with several buffers; some of what comes in them is damaged."""
        most = min(n, self.slots - 1)
        with self.producer.buffers(most) as queue:
            for one in damaged:
                if not self.refill(queue, most):
                    break
                queue.oldest[...] = payload(self.next_seq)
                self.end_oldest(queue, one)
        self.core.publish(0)

    def refill(self, queue, most: int) -> bool:
        if self.core.count == 0 and self.core.claim(1) == 0:
            with pytest.raises(shmring.RingFull):
                queue.refill(0)
            return False
        while self.core.count < most and self.core.claim_more():
            pass
        queue.refill(0)
        assert len(queue) == self.core.count
        return True

    def end_oldest(self, queue, damaged: bool) -> None:
        if damaged:
            queue.drop()
        else:
            published = self.on_full != "drop" or self.core.claim_more()
            assert queue.publish() is published
            damaged = not published
        if damaged:
            self.core.requeue_oldest()
            self.next_seq += 1
            self.dropped += 1
        else:
            self.note_published(1)
            self.core.publish_oldest()

    # ---- consumers

    @rule(lossless=st.booleans(), start=st.sampled_from(["oldest", "newest", "next"]))
    def join(self, lossless, start):
        if len(self.readers) + len(self.left) == PLACES:
            with pytest.raises(shmring.TooManyConsumers):
                self.ring.consumer(lossless=lossless, start=start)
            return
        handle = self.pick([self.ring, self.other], len(self.readers)).consumer(
            lossless=lossless, start=start
        )
        core = ring_model.Consumer(self.core, lossless, start)
        first, lag = core.next, self.head - core.next
        assert handle.lag == lag <= {"oldest": self.slots, "newest": 1, "next": 0}[start]
        expected = self.seq_of[first] if lag else self.next_seq
        self.readers.append(Reader(handle, core, lossless, first, expected))

    @precondition(lambda self: self.readers)
    @rule(n=ANY)
    def leave(self, n):
        reader = self.pick(self.readers, n)
        reader.handle.close()
        reader.core.leave()
        self.readers.remove(reader)
        if self.held_by(reader):
            self.left.append(reader)
        with pytest.raises(shmring.RingClosed):
            reader.handle.get(0)

    def nothing_there(self, reader: Reader, call, *, least: int = 1) -> None:
        """`call` finds fewer than `least` frames: the error that says why."""
        if self.state == "closed":
            with pytest.raises(shmring.RingClosed):
                call()
            self.count_end(reader)
            return
        needed = {*self.held_by(reader), *range(reader.next, reader.next + least)}
        stuck = len(needed) > (self.slots if reader.lossless else reader.core.max_held)
        assert reader.core.holds_too_much(least) is stuck
        with pytest.raises(shmring.SlotsHeld if stuck else shmring.RingEmpty):
            call()

    def count_end(self, reader: Reader) -> None:
        """Every frame was delivered: what was offered after the last one is lost."""
        reader.miss(self.next_seq, self.position_of)

    def past_what_is_gone(self, reader: Reader, least: int) -> int:
        """Where a lossy read arrives, which continues as long as `least` frames may follow."""
        position = reader.next
        while not reader.lossless and self.head - position >= least and not self.core.published(position):
            position = max(position + 1, self.core.oldest)
        return position

    def skip_until(self, reader: Reader, least: int) -> None:
        reader.core.next = self.past_what_is_gone(reader, least)

    def took(self, reader: Reader, held, seqs: list[int], count: int, step: int = 0) -> None:
        """A frame, batch or window came: is it the right one?"""
        first = reader.next
        assert seqs == self.seq_of[first : first + count]
        assert held.lost == reader.count(seqs, self.position_of)
        assert held.epoch >= 1
        core = reader.core.take(count, step)
        if step:
            reader.aim = reader.next
        assert (isinstance(held, shmring.Batch) and held.copied) is (core is None)
        self.holdings.append(Holding(reader, held, list(range(first, first + count)), seqs, core))

    @precondition(lambda self: self.readers)
    @rule(n=ANY, how=st.sampled_from(["try_get", "get", "latest", "next"]))
    def take_one(self, n, how):
        reader = self.pick(self.readers, n)
        take = {
            "try_get": reader.handle.try_get,
            "get": lambda: reader.handle.get(0),
            "latest": lambda: reader.handle.latest(0),
            "next": lambda: next(reader.handle),
        }[how]
        if how == "next" and self.past_what_is_gone(reader, 1) >= self.head:
            return  # it would wait
        if how == "latest" and self.head - reader.next > 1:
            reader.core.next = reader.aim = self.head - 1
        if reader.next < self.head and not reader.core.may_take(1, 1):
            with pytest.raises(shmring.SlotsHeld):
                take()
            return
        self.skip_until(reader, 1)
        if reader.next < self.head:
            frame = take()
            self.took(reader, frame, [frame.seq], 1)
        elif how == "try_get" and self.state != "closed" and not reader.core.holds_too_much(1):
            assert take() is None
        else:
            self.nothing_there(reader, take)

    @precondition(lambda self: self.readers)
    @rule(n=ANY, most=st.integers(1, 7), least=st.integers(1, 3))
    def take_batch(self, n, most, least):
        reader = self.pick(self.readers, n)
        asked = least = min(least, most, self.slots)
        wished = most
        if least > reader.core.max_held:
            with pytest.raises(ValueError, match="may hold"):
                reader.handle.batch(wished, asked, timeout=0)
            return
        reader.core.want_runs()
        most = reader.core.may_take(least, most)
        if self.head - reader.next >= least > most:
            with pytest.raises(shmring.SlotsHeld):
                reader.handle.batch(wished, asked, timeout=0)
            return
        if self.head - reader.next >= least:
            self.skip_until(reader, least)
        if self.state == "closed" and 0 < self.head - reader.next < least:
            least = 1  # the end of the stream: what is left
            most = reader.core.may_take(least, wished)
            if not most:
                with pytest.raises(shmring.SlotsHeld):
                    reader.handle.batch(wished, asked, timeout=0)
                return
            if self.seq_of[-1] < reader.expected:  # windows had what is left
                self.count_end(reader)
            self.skip_until(reader, least)
        if self.head - reader.next < least:
            self.nothing_there(reader, lambda: reader.handle.batch(wished, asked, timeout=0), least=least)
            return
        batch = reader.handle.batch(wished, asked, timeout=0)
        count = reader.core.run(most)
        after = reader.next + count
        more = count < most and after < self.head and (reader.lossless or self.core.published(after))
        assert batch.interrupted is more
        assert not batch.copied
        self.took(reader, batch, [int(seq) for seq in batch.seqs], count)

    @precondition(lambda self: self.readers)
    @rule(n=ANY, length=st.integers(1, 4), step=st.integers(1, 4))
    def take_window(self, n, length, step):
        reader = self.pick([one for one in self.readers if one.lossless] or self.readers, n)
        if length + step > self.slots:
            with pytest.raises(ValueError, match="slots"):
                reader.handle.windows(length, step)
        elif length + min(length, step) > reader.core.max_held:
            with pytest.raises(ValueError, match="may hold"):
                reader.handle.windows(length, step)
        elif reader.lossless and self.head - reader.next >= length:
            reader.core.want_runs()
            window = next(reader.handle.windows(length, step))
            self.took(reader, window, [int(seq) for seq in window.seqs], length, step)

    # ---- holds

    @precondition(lambda self: self.holdings)
    @rule(n=ANY, kind=st.sampled_from(["array", "slice", "memoryview", "view"]))
    def keep_view(self, n, kind):
        holding = self.pick(self.holdings, n)
        if holding.frame is None or holding.frame.released:
            return
        array = holding.frame.array
        views = {
            "array": lambda: array,
            "slice": lambda: array[...],
            "memoryview": lambda: np.asarray(memoryview(holding.frame)),
            "view": lambda: array.view(),
        }
        view = views[kind]()
        holding.views.append(view if isinstance(holding.frame, shmring.Batch) else view[None])

    @precondition(lambda self: self.holdings)
    @rule(n=ANY, how=st.sampled_from(["release", "forget", "with"]))
    def release(self, n, how):
        holding = self.pick(self.holdings, n)
        if holding.frame is None:
            return
        if how == "forget":
            holding.frame = None
        elif how == "release":
            holding.frame.release()
        else:
            with holding.frame:
                pass
        self.end_dead()

    @precondition(lambda self: self.holdings)
    @rule(n=ANY)
    def drop_views(self, n):
        self.pick(self.holdings, n).views.clear()
        self.end_dead()

    def end_dead(self) -> None:
        for one in self.holdings:
            if one.core and not one.alive:
                one.reader.core.release(one.core)
        self.holdings = [one for one in self.holdings if one.alive]
        self.left = [one for one in self.left if self.held_by(one)]

    # ---- the observer, and a new attachment

    @rule(newest=st.booleans())
    def observe(self, newest):
        look = self.observer.latest if newest else self.observer.get
        first = max(self.seen_position, self.head - self.slots)
        if newest:
            first = max(first, self.head - 1)
        there = [p for p in range(first, self.head) if self.core.published(p)]
        if not there:
            with pytest.raises(shmring.RingClosed if self.state == "closed" else shmring.RingEmpty):
                look(0)
            return
        copy, position = look(0), there[0]
        assert copy.seq == self.seq_of[position]
        assert np.array_equal(copy.array, payload(copy.seq))
        assert copy.lost == (0 if self.seen_seq is None else copy.seq - self.seen_seq)
        self.seen_position, self.seen_seq = position + 1, copy.seq + 1

    @rule()
    def attach_and_go(self):
        with shmring.Ring.attach(self.name) as ring:
            assert (ring.slots, ring.shape) == (self.slots, self.ring.shape)
            with contextlib.suppress(shmring.TooManyConsumers), ring.consumer(start="next") as consumer:
                assert consumer.lag == 0
                self.core.joins += 1

    # ---- what always holds

    @invariant()
    def every_held_frame_is_whole(self):
        if self.ring is not None:
            for holding in self.holdings:
                holding.check()

    @invariant()
    def the_numbers_agree(self):
        if self.ring is None:
            return
        stats = self.ring.stats()
        assert (stats.published, stats.next_seq, stats.dropped) == (self.head, self.next_seq, self.dropped)
        assert stats.swaps == self.core.swaps
        assert (stats.producer.state, stats.producer.epoch) == (self.state, self.epoch)
        rows = {one.place: one for one in stats.consumers}
        assert len(rows) == len(self.readers) + len(self.left)
        for reader in self.readers:
            handle, row = reader.handle, rows[reader.handle.place]
            mine = (reader.lost, reader.skipped, reader.delivered)
            assert (handle.lost, handle.skipped, handle.delivered) == mine
            assert handle.lag == max(0, self.head - reader.next)
            assert handle.held == len(self.held_by(reader))
            assert row.policy == ("lossless" if reader.lossless else "lossy")
            assert row.alive
            assert (row.lag, row.delivered) == (handle.lag, handle.delivered)
        for reader in self.left:
            assert rows[reader.handle.place].policy == "left"
            assert reader.handle.held == len(self.held_by(reader))

    def teardown(self):
        if self.ring is None:
            return
        for holding in self.holdings:
            holding.check()
        self.slot = None
        self.holdings.clear()
        for reader in self.readers:
            reader.handle.close()
        self.observer.close()
        self.ring.unlink()
        self.other.close()
        self.ring.close()


QUICK = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class TestTheApiAgainstTheModel(RingMachine.TestCase):
    settings = QUICK


@pytest.mark.stress
@pytest.mark.timeout(900)
class TestTheApiAgainstTheModelForLong(RingMachine.TestCase):
    settings = settings(QUICK, max_examples=600, stateful_step_count=80, derandomize=False, print_blob=True)
