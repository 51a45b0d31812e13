"""A ring as a dataset: each frame to one worker of a DataLoader."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from multiprocessing import util
from typing import Any, Literal

from torch.utils.data import IterableDataset, get_worker_info

from shmring import _core, errors
from shmring._ring import Ring
from shmring._schema import check_int
from shmring.torch._member import Member
from shmring.torch._samples import sample_of
from shmring.torch._tensor import check_dtype

__all__ = ["RingDataset"]


class RingDataset(IterableDataset):  # type: ignore[misc]
    """A ring as a dataset for ``torch.utils.data.DataLoader``: each frame is a sample, for one worker.

    It joins the ring at once, so that no frame from here on is missed, and begins a group whose members are
    the workers. Iteration ends when the producer has closed and every frame was taken. A context manager; if
    you leave it to the garbage collector, it leaves the ring then.

    Parameters
    ----------
    ring : Ring or str
        A ring, or the name of one that exists.
    transform : callable, optional
        Makes a sample of a `Frame`, in the worker. Default: the frame as a tensor; if the ring has meta, the
        tensor and the meta, a structured one as a dict. Both are copies. If your samples are views, they hold
        their slots until the batch is made.
    in_flight : int, optional
        Frames that each worker keeps until they have surely reached the training: with ``batch_size *
        prefetch_factor`` (DataLoader's default for the latter is 2), a killed worker loses none. Default:
        half of the ring's slots, shared among the workers; without workers, 1.
    timeout : float, optional
        Seconds to wait for each frame; None waits forever.
    start : {"oldest", "newest", "next"}
        The first frame, as in ``Ring.consumer``.
    wait_for_takeover : bool
        Wait for a next producer when the producer dies or fails, rather than raise.
    group : str, optional
        Share the frames with other members of the group of this name, such as the workers of other
        trainings; then give `in_flight`, too. Default: a group of this dataset alone.
    at_most_once : bool
        Rather lose what was on its way from a killed worker than get anything twice.

    Raises
    ------
    RingNotFound, RingAccessDenied, TooManyConsumers
        There is no such ring, or no way to join it. Each worker is a consumer, and the dataset one more.
    TypeError
        torch lacks the dtype of the ring, and there is no `transform`.

    Notes
    -----
    While you iterate: `RingEmpty` (no frame in time), `ProducerDied`, `ProducerFailed`, and what `transform`
    raises. They come through the DataLoader, from a worker with its traceback. The frame of which
    `transform` made no sample counts as done.

    When an iteration ends early, by a killed worker, an exception or a ``break``, the frames on their way
    come again in the next iteration over the same dataset, in front. `transform` sees them as
    ``frame.redelivered`` if it is another worker that gets them. Some of them had just arrived.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> from shmring.torch import RingDataset
    >>> from torch.utils.data import DataLoader
    >>> ring = shmring.Ring.create(shape=(2, 3), dtype="f4", slots=8)
    >>> with ring, ring.producer() as out, RingDataset(ring) as dataset:
    ...     _ = out.put_many(np.ones((6, 2, 3), "f4"))
    ...     out.close()
    ...     for batch in DataLoader(dataset, batch_size=4):
    ...         print(tuple(batch.shape))
    (4, 2, 3)
    (2, 2, 3)
    """

    group: str
    """The group that takes the frames."""

    def __init__(
        self,
        ring: Ring | str,
        *,
        transform: Callable[[_core.Frame], Any] | None = None,
        in_flight: int | None = None,
        timeout: float | None = None,
        start: Literal["oldest", "newest", "next"] = "oldest",
        wait_for_takeover: bool = False,
        group: str | None = None,
        at_most_once: bool = False,
    ) -> None:
        _core.check_timeout(timeout)
        if in_flight is not None:
            in_flight = check_int("in_flight", in_flight, 0, _core.MAX_SLOTS)
        if in_flight and at_most_once:
            raise ValueError(
                f"in_flight={in_flight} keeps frames to have them again, at_most_once=True not to"
            )
        self._transform = transform
        self._in_flight = 0 if at_most_once else in_flight
        self._timeout = timeout
        self._alone = group is None
        self.group = f"dataset-{secrets.token_hex(4)}" if group is None else group
        self._membership: dict[str, Any] = {
            "group": self.group,
            "at_most_once": at_most_once,
            "start": start,
            "wait_for_takeover": wait_for_takeover,
        }
        self._closed = False
        self._member: Member | None = None  # of a worker
        self._anchor: _core.Consumer | None = None  # keeps the group together between iterations
        self._own_ring = isinstance(ring, str)
        self._ring: Ring | None = Ring.attach(ring) if isinstance(ring, str) else check_ring(ring)
        self._again = self._ring.__reduce__()  # how to attach to it in another process
        try:
            if transform is None:
                check_dtype(self._ring.dtype)
            self._anchor = self._ring.consumer(label="RingDataset", **self._membership)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Any]:
        """Take frames until the end of the stream, in a worker or, without workers, in this process."""
        if self._closed:
            raise errors.RingClosed(f"this RingDataset is closed; make another one of {self._again[1][0]!r}")
        info = get_worker_info()
        return self._here() if info is None else self._samples(self._worker(info.id, info.num_workers))

    def _here(self) -> Iterator[Any]:
        """Take samples in this process: an iteration without workers."""
        member = self._join(0, "RingDataset")
        try:
            yield from self._samples(member)
        finally:
            member.close()

    def _worker(self, number: int, workers: int) -> Member:
        """Return the member of this worker, which stays to its end: its last frames may be on their way."""
        if self._member is not None and not self._member.ended:
            self._member.repeat()
            return self._member
        if self._member is not None:
            self._member.close()
        self._member = self._join(workers, f"RingDataset worker {number}", parent=os.getppid())
        util.Finalize(None, self._member.leave, exitpriority=0)
        return self._member

    def _samples(self, member: Member) -> Iterator[Any]:
        transform = self._transform or sample_of
        while (frame := member.take(self._timeout)) is not None:
            try:
                sample = transform(frame)
            except BaseException:
                frame.release()
                raise
            member.give(frame)
            yield sample

    def close(self) -> None:
        """Leave the ring. May be called twice. Frames that no worker has are then the producer's again."""
        self._closed = True
        if self._anchor is not None:
            self._anchor.close()
        if self._own_ring and self._ring is not None:
            self._ring.close()

    def __enter__(self) -> RingDataset:
        """Return self."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Leave the ring without a warning: a DataLoader does not close its dataset."""
        if getattr(self, "_ring", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without handles."""
        return {**self.__dict__, "_ring": None, "_own_ring": True, "_anchor": None, "_member": None}

    def _join(self, workers: int, label: str, parent: int | None = None) -> Member:
        """Become a member of the group: in one of so many workers, or in this process for 0."""
        ring = self._attach() if self._ring is None else self._ring
        keep = self._share(ring.slots + ring.spares, workers)
        consumer = ring.consumer(label=label, **self._membership)
        return Member(ring, consumer, keep, self._membership["wait_for_takeover"], parent)

    def _attach(self) -> Ring:
        """Attach in a process that got this dataset as a pickle."""
        attach, arguments = self._again
        ring: Ring = attach(*arguments)
        self._ring = ring
        return ring

    def _share(self, slots: int, workers: int) -> int:
        """How many frames one of the workers keeps."""
        if self._in_flight is None and workers and not self._alone:
            raise ValueError(
                f"group={self.group!r} may have members elsewhere: say with in_flight=... how many frames "
                f"each worker keeps until they have arrived (batch_size * prefetch_factor), so that all "
                f"members together leave slots to the producer; the ring has {slots}"
            )
        if self._in_flight is None:
            return slots // (2 * workers) if workers else 1
        needed = max(workers, 1) * max(self._in_flight, 1) + 1
        if needed > slots:
            raise ValueError(
                f"{max(workers, 1)} workers with in_flight={self._in_flight} need {needed} slots, and the "
                f"ring has {slots}, spares included: create it with more (spares=...), or take a smaller "
                f"in_flight, batch_size or prefetch_factor"
            )
        return self._in_flight


def check_ring(ring: Any) -> Ring:
    """Return the ring; TypeError for anything else."""
    if not isinstance(ring, Ring):
        raise TypeError(f"RingDataset takes a Ring or the name of one, not {type(ring).__name__}")
    return ring
