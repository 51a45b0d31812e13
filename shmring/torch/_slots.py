"""The ring of a worker: without a name, so that nothing is left to remove, whichever process is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shmring import _blocks, _core, _presence
from shmring._format import check_format
from shmring._ring import Ring
from shmring._schema import choose_geometry

if TYPE_CHECKING:
    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

__all__ = ["Intake", "lend", "make_ring"]

USERS_ONLY = 0o600


def make_ring(label: str, nbytes: int, slots: int, spares: int) -> tuple[Ring, int]:
    """Return a nameless ring of slots with at least `nbytes`, and a descriptor for the other process."""
    frame_format = check_format((nbytes,), "u1", None, False)
    geometry = choose_geometry(frame_format, slots, spares, 1, None)
    fd, presence = _blocks.create_nameless(label, USERS_ONLY, geometry, None)
    return Ring._adopt(label, fd, presence)._register(), fd


class Intake:
    """The trainer's end of such a ring: its only consumer, which may write to the frames that it holds."""

    def __init__(self, label: str, fd: int) -> None:
        self._ring = Ring._adopt(label, fd, _presence.enter(fd))._register()
        block = _core.Block(fd, _core.PRODUCE, label)  # mapped for writing
        block.prefault(False)
        self._frames = _core.open_consumer(
            self._ring, block, self._ring._schema, True, "oldest", "trainer", None, None, False
        )
        self._frames._join(self._ring._lock_file(), "oldest", False)
        self._arrived = 0
        self._retired = False
        self.closed = False

    @property
    def held(self) -> int:
        """Slots that batches of the trainer are on."""
        return self._frames.held

    def arrive(self) -> None:
        """Note that the worker has published one more frame."""
        self._arrived += 1

    def take(self) -> _core.Frame:
        """Return the oldest frame that has arrived and was not taken."""
        frame = self._frames.get(timeout=0)
        self._arrived -= 1
        self._close_if_done()
        return frame

    def retire(self) -> None:
        """Close it once all that has arrived is taken."""
        self._retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retired and self._arrived == 0:
            self.close()

    def close(self) -> None:
        """Leave the ring. Frames that are held stay valid."""
        self.closed = True
        self._frames.close()
        self._ring.close()


class Loan:
    """The memory of a frame, writable, for numpy: its array keeps this object, which keeps the slot."""

    def __init__(self, frame: _core.Frame) -> None:
        self._array = frame.array
        interface = self._array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def lend(frame: _core.Frame) -> Bytes:
    """Return a writable array on a frame of an `Intake`, which holds the slot while it lives."""
    return np.asarray(Loan(frame))
