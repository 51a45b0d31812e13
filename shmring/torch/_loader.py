"""A DataLoader whose workers load into rings."""

from __future__ import annotations

import itertools
import pickle
import time
import weakref
from typing import Any

import torch.multiprocessing
from torch.utils.data import DataLoader, IterableDataset, IterDataPipe, MapDataPipe

from shmring._core import check_flag
from shmring._schema import check_int
from shmring.errors import RingEmpty
from shmring.torch import _internals
from shmring.torch._team import Arrival, Team
from shmring.torch._worker import Job

__all__ = ["BatchTimeout", "RingLoader"]

MOST_HELD = 1 << 16


class BatchTimeout(RingEmpty, RuntimeError):
    """A RingLoader got no batch within its `timeout`."""


class RingLoader(DataLoader):  # type: ignore[misc]  # torch has no types here
    """A ``torch.utils.data.DataLoader`` whose workers put their batches into rings.

    Takes what DataLoader takes, and gives the same batches in the same order, from the same random numbers.
    The tensors and arrays of a batch are views of a slot: nothing is copied on the way, and there is no
    segment of shared memory for each tensor. You may change them in place. The slot is yours until the last
    tensor, array or view of the batch is gone.

    Parameters
    ----------
    *args, **options
        What DataLoader takes: dataset, batch_size, shuffle, sampler, num_workers, collate_fn and so on. With
        ``num_workers=0``, its default, and for data pipes it does what DataLoader does.
    max_held : int
        Batches of each worker that you can have at the same time without a copy; the one that a loop gets
        and the one before it are two. Of those beyond, you get copies, so that the worker can continue. More
        than two make each worker's ring larger, by a batch each.
    replace_workers : bool
        Whether another process takes over when a worker is killed or ends. No sample is lost or comes twice;
        the new worker begins with the random numbers that the first one began with. Not for an
        IterableDataset, which would begin again.

    Raises
    ------
    WorkerDied
        While iterating: a worker was killed. The message says which, how, and what it was loading.
    BatchTimeout
        While iterating: no batch came within `timeout` seconds.

    Examples
    --------
    >>> import torch
    >>> from shmring.torch import RingLoader
    >>> dataset = torch.utils.data.TensorDataset(torch.arange(6.0))
    >>> for (batch,) in RingLoader(dataset, batch_size=4, num_workers=1):
    ...     print(batch.sub_(1))
    tensor([-1.,  0.,  1.,  2.])
    tensor([3., 4.])
    """

    _iterator: Any  # of persistent workers

    def __init__(self, *args: Any, max_held: int = 2, replace_workers: bool = False, **options: Any) -> None:
        self.max_held = check_int("max_held", max_held, 0, MOST_HELD)
        self.replace_workers = check_flag("replace_workers", replace_workers)
        super().__init__(*args, **options)
        if self.prefetch_factor == 0:
            raise ValueError("prefetch_factor=0 would never load anything; it is at least 1, by default 2")
        if replace_workers and isinstance(self.dataset, IterableDataset):
            raise ValueError(
                "replace_workers=True needs a dataset with indices: a new worker would begin an "
                "IterableDataset again"
            )

    def __iter__(self) -> Any:
        if isinstance(self._iterator, RingIterator) and self._iterator.is_broken:
            self._iterator = None  # a worker died
        return super().__iter__()

    def _get_iterator(self) -> Any:
        if self.num_workers == 0 or isinstance(self.dataset, (IterDataPipe, MapDataPipe)):
            return super()._get_iterator()
        self.check_worker_number_rationality()
        return RingIterator(self)


class RingIterator(_internals.LoaderIterator):  # type: ignore[misc]
    """Iterates over the batches of a RingLoader."""

    def __init__(self, loader: RingLoader) -> None:
        super().__init__(loader)
        self._in_order = getattr(loader, "in_order", True)  # since torch 2.6
        self._prefetch = loader.prefetch_factor
        self._max_held = loader.max_held
        job = Job(
            kind=self._dataset_kind,
            dataset=self._dataset,
            auto_collation=self._auto_collation,
            collate_fn=self._collate_fn,
            drop_last=self._drop_last,
            base_seed=self._base_seed,
            worker_init_fn=loader.worker_init_fn,
            num_workers=self._num_workers,
            # As many untaken batches, the one taken last, and one that the producer has in hand.
            slots=self._prefetch + 2,
            spares=max(0, self._max_held - 2),
        )
        context = loader.multiprocessing_context or torch.multiprocessing
        self._team = Team(context, job, replaces=loader.replace_workers)
        self._finalizer = weakref.finalize(self, self._team.close)
        self._arrived: dict[int, Arrival] = {}
        self._reset(loader, first_iter=True)

    @property
    def is_broken(self) -> bool:
        """Whether a worker died, so that it cannot begin another epoch."""
        return bool(self._team.ruin)

    def __next__(self) -> Any:
        if self._dataset_kind != _internals.MAP or _internals.profiler_is_on():
            return super().__next__()
        batch = self._next_data()  # what it does besides takes longer than this
        self._num_yielded += 1
        return batch

    def _reset(self, loader: RingLoader, first_iter: bool = False) -> None:
        super()._reset(loader, first_iter)
        if not first_iter:
            self._settle()
            self._team.restart()
        self._sent = self._due = 0  # numbers of tasks
        self._is_active = [True] * self._num_workers  # False once its IterableDataset has ended
        self._pending = [0] * self._num_workers  # tasks of each that have not come out
        self._owner: dict[int, int] = {}  # the worker of each of these
        self._turns = itertools.cycle(range(self._num_workers))
        for _ in range(self._prefetch * self._num_workers):
            self._give_next()

    def _settle(self) -> None:
        """Wait for what the workers still have of an epoch that was left early, and drop it."""
        while self._team.is_busy:
            self._team.wait(None, self._note)
        for arrival in self._arrived.values():
            arrival.discard()
        self._arrived.clear()

    def _give_next(self) -> None:
        """Give the next task to the worker whose turn it is, unless all have enough."""
        for worker_id in itertools.islice(self._turns, self._num_workers):
            if self._is_active[worker_id] and self._pending[worker_id] < self._prefetch:
                break
        else:
            return
        try:
            index = self._next_index()
        except StopIteration:
            return
        self._team.give(worker_id, self._sent, index)
        self._owner[self._sent] = worker_id
        self._pending[worker_id] += 1
        self._sent += 1

    def _note(self, worker_id: int, arrival: Arrival) -> None:
        self._arrived[arrival.number] = arrival
        if arrival.is_end:
            self._is_active[worker_id] = False

    def _next_data(self) -> Any:
        deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
        while self._owner:
            arrival = None if self._team.ruin else self._next_arrival()
            if arrival is None:
                if not self._team.wait(deadline, self._note):
                    raise self._no_batch()
                continue
            self._pending[self._owner.pop(arrival.number)] -= 1
            self._give_next()
            if not arrival.is_end:
                return self._open(arrival)
        if not self._persistent_workers:
            self._finalizer()
        raise StopIteration

    def _next_arrival(self) -> Arrival | None:
        """Return what comes out next, if it is there."""
        if self._in_order:
            arrival = self._arrived.pop(self._due, None)
            self._due += arrival is not None
            return arrival
        return self._arrived.pop(next(iter(self._arrived))) if self._arrived else None

    def _open(self, arrival: Arrival) -> Any:
        if arrival.failure:
            pickle.loads(arrival.failure).reraise()
        batch = arrival.open(self._max_held)
        return _internals.pin_memory(batch, self._pin_memory_device) if self._pin_memory else batch

    def _no_batch(self) -> BatchTimeout:
        number = self._due if self._in_order else min(self._owner)
        return BatchTimeout(
            f"no batch in {self._timeout} s: {self._team.at_work_on(number)}. Raise timeout, or load less at "
            f"a time"
        )
