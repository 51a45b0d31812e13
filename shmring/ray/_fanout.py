"""Ray's own transport, from the source to all sinks: each batch is one object in Ray's store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import ray

from shmring import Batch, Consumer, Ring
from shmring.ray._frames import pack
from shmring.ray._sink import Origin, Turn
from shmring.ray._target import Lost
from shmring.ray._way import SLICE, Closing, Destination, Ended, Limits, Way, ask, look_ahead

__all__ = ["Fanout"]

LOOK = 0.01  # seconds between two looks at whether the sinks are there for the first frame
RETRY = 0.5  # seconds between two tries to reach a sink


class Branch(Way):
    """One sink: which batches it has not acknowledged, and whether it is there."""

    def __init__(self, ring: Ring, to: Destination) -> None:
        super().__init__(ring, to)
        self.on_their_way: deque[Any] = deque()
        self._turn = Turn(0, 0)
        self._answer: Any = None
        self._asked_at = 0.0

    @property
    def window(self) -> int:
        """Batches on their way."""
        return len(self.on_their_way)

    def is_back(self) -> bool:
        """Whether a sink that was out of contact answers again; never waits."""
        if self._answer is None:
            if time.monotonic() - self._asked_at < RETRY:
                return False
            self._asked_at = time.monotonic()
            self._answer = self.to.sink.ping.remote()
        if not ray.wait([self._answer], timeout=0)[0]:
            return False
        answer, self._answer = self._answer, None
        ask(answer)
        return True

    def join(self, first_seq: int, origin: Origin) -> None:
        """Let the sink take part."""
        self._turn = self.open(first_seq, origin).turn
        self.runs()

    def take_turn(self) -> Turn:
        """Return the next turn at the sink."""
        turn = self._turn
        self._turn = Turn(turn.session, turn.number + 1)
        return turn

    def lose(self, error: Exception) -> None:
        """Forget what was on its way."""
        self.on_their_way.clear()
        super().lose(error)

    @contextlib.contextmanager
    def contact(self) -> Iterator[None]:
        """Around what this sink is asked: the others continue, whatever it answers."""
        try:
            yield
        except Lost as error:
            self.lose(error)
        except Exception as error:
            self.fail(error)

    def acknowledge(self) -> None:
        """Take in what the sink has published, as far as it has answered."""
        while self.on_their_way and ray.wait([self.on_their_way[0]], timeout=0)[0]:
            count = ask(self.on_their_way.popleft())
            self.progress.arrived(count)


class Fanout:
    """Sends every frame to all sinks, in one thread."""

    def __init__(self, ring: Ring, to: list[Destination], limits: Limits, origin: Origin) -> None:
        self.branches = [Branch(ring, one) for one in to]
        self._ring, self._limits, self._origin = ring, limits, origin
        self._closing = Closing(ring)
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shmring mirror", daemon=True)
        self._thread.start()

    def close(self, how: Ended) -> None:
        """Send what is published by now and end; does not wait."""
        self._closing.ask(how)

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, which comes at the latest now."""
        self._thread.join(seconds)
        self._give_up.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            lossless = any(branch.to.lossless for branch in self.branches)
            with self._ring.consumer(lossless=lossless, label="mirror") as consumer:
                self._forward(consumer)
        except Exception as error:
            for branch in self.branches:
                branch.fail(error)

    def _forward(self, consumer: Consumer) -> None:
        """Send frames until the stream has ended."""
        next_seq, some = look_ahead(self._ring, consumer, self._limits.frames)
        while any(one.state == "starting" for one in self.branches) and not self._give_up.wait(LOOK):
            self._join_sinks(next_seq)
        while not self._give_up.is_set():
            self._join_sinks(next_seq)
            if isinstance(some, Batch):
                next_seq = int(some.seqs[-1]) + 1
                self._send(some)
            elif some is not None:
                self._end(some)
                return
            some = self._closing.take(consumer, self._limits.frames) if self._has_room() else None

    def _join_sinks(self, next_seq: int) -> None:
        """Let those sinks that are not there take part from this frame on, if they can."""
        for branch in self.branches:
            if branch.state in ("starting", "out of contact"):
                with branch.contact():
                    if branch.is_back():
                        branch.join(next_seq, self._origin)

    def _send(self, batch: Batch) -> None:
        """Send frames to every sink whose window has room."""
        takers = [one for one in self._running() if one.window < self._limits.window]
        if takers:
            columns, payload = pack(batch)
            frames = ray.put(payload)
            for branch in takers:
                branch.on_their_way.append(branch.to.sink.write.remote(branch.take_turn(), columns, frames))
        batch.release()

    def _running(self) -> list[Branch]:
        return [branch for branch in self.branches if branch.state == "running"]

    def _has_room(self) -> bool:
        """Whether no lossless sink has a full window, after a wait for that."""
        full = self._full()
        if full:
            ray.wait([branch.on_their_way[0] for branch in full], timeout=SLICE)
        for branch in self._running():
            with branch.contact():
                branch.acknowledge()
        return not self._full()

    def _full(self) -> list[Branch]:
        return [one for one in self._running() if one.to.lossless and one.window >= self._limits.window]

    def _end(self, end: Ended) -> None:
        """Let every sink that is there end its stream, behind its last frame."""
        ends = {}
        for branch in self._running():
            ends[branch] = branch.to.sink.finish.remote(branch.take_turn(), *end)
        while ends and not self._give_up.is_set():
            ray.wait(list(ends.values()), num_returns=len(ends), timeout=SLICE)
            for branch, answer in list(ends.items()):
                if ray.wait([answer], timeout=0)[0]:
                    del ends[branch]
                    with branch.contact():
                        branch.progress.arrived(ask(answer))
                        branch.on_their_way.clear()
                        branch.ended, branch.state = end.how, "ended"
