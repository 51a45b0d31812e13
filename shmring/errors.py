"""The errors of shmring: one tree, each also a standard type."""

import errno

__all__ = [
    "ForkedHandle",
    "HandleBusy",
    "NoSpace",
    "ProducerDied",
    "ProducerExists",
    "ProducerFailed",
    "RingAccessDenied",
    "RingClosed",
    "RingCorrupt",
    "RingEmpty",
    "RingExists",
    "RingFull",
    "RingIncompatible",
    "RingNotFound",
    "RingNotReady",
    "ShmringError",
    "SlotsHeld",
    "TooFewConsumers",
    "TooManyConsumers",
]


class ShmringError(Exception):
    """The root of every error that shmring raises for what it found (not for wrong arguments)."""

    def __str__(self) -> str:
        """Return the message alone; OSError would put an errno in front of it."""
        return str(self.args[0]) if self.args else ""


class RingExists(ShmringError, FileExistsError):
    """The name belongs to a live ring, or to a block that is not a ring."""

    errno = errno.EEXIST


class RingNotFound(ShmringError, FileNotFoundError):
    """No ring has that name, or only another ring than the one asked for."""

    errno = errno.ENOENT


class RingAccessDenied(ShmringError, PermissionError):
    """The block's file mode, or a read-only file system, does not let this user in."""

    errno = errno.EACCES


class RingNotReady(ShmringError, TimeoutError):
    """The block exists, but was not initialised within the timeout."""

    errno = errno.ETIMEDOUT


class RingIncompatible(ShmringError, ValueError):
    """The block is not a ring, or has another version or other frames than asked for."""


class RingCorrupt(ShmringError, RuntimeError):
    """The block contradicts itself: it is truncated or was overwritten."""


class NoSpace(ShmringError, OSError):
    """The shared-memory file system, or a memory or file limit, has no room for a block of that size."""

    errno = errno.ENOSPC


class RingFull(ShmringError, TimeoutError):
    """The producer found no space in time; the message names the consumers that hold it up."""

    errno = errno.ETIMEDOUT


class RingEmpty(ShmringError, TimeoutError):
    """The consumer found no frame in time."""

    errno = errno.ETIMEDOUT


class RingClosed(ShmringError, EOFError):
    """The producer ended the stream and every frame was read, or the handle was closed."""


class ProducerExists(ShmringError, RuntimeError):
    """The ring already has a live producer."""


class ProducerDied(ShmringError, ConnectionError):
    """The producer's process ended without closing; every published frame was read."""

    errno = errno.ECONNRESET  # not EPIPE: programs take that for their own reader leaving, and are silent


class ProducerFailed(ProducerDied):
    """The producer ended the stream because of an error; every published frame was read."""

    failure: str = ""
    """What the producer reported about the error."""


class TooManyConsumers(ShmringError, RuntimeError):
    """Living consumers have every place, or every group, or the slots that this one asked for."""


class TooFewConsumers(ShmringError, TimeoutError):
    """Not enough consumers joined in time."""

    errno = errno.ETIMEDOUT


class SlotsHeld(ShmringError, RuntimeError):
    """A wait that only the waiting thread could end: it holds, or has not read, the frames in the way."""


class ForkedHandle(ShmringError, RuntimeError):
    """The handle was opened before a fork and belongs to the parent process."""


class HandleBusy(ShmringError, RuntimeError):
    """Another thread is inside a call on this handle."""
